"""What every target does with a job.

An instance is a module with a fixture ``rig`` and a subclass::

    @pytest.fixture(scope="module")
    def rig(tmp_path_factory) -> Rig: ...

    class TestMyTarget(JobTargetSuite): ...
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest

from kaptain_magics.core.events import AnyEvent, ArtifactSaved, Displayed, Event, FileWritten, LogWritten
from kaptain_magics.core.resources import Resources
from kaptain_magics.core.scripts import Binding
from kaptain_magics.core.states import RunState
from kaptain_magics.runtime.threads import THREAD_VARIABLES
from kaptain_magics.script.inputs import find_inputs
from kaptain_magics.targets.base import Target
from kaptain_magics.testing.job_rig import (
    FOLLOWER,
    FOREVER,
    Rig,
    assert_stream,
    log_of,
    metrics_of,
    outcome,
    states_of,
)


class JobTargetSuite:
    """The tests; subclass it beside a ``rig`` fixture."""

    @pytest.fixture
    def target(self, rig: Rig) -> Target:
        return rig.open()

    # ---- ends ----------------------------------------------------------------------------------------------------

    def test_a_job_succeeds_with_its_log_whole_and_in_order(self, rig: Rig, target: Target) -> None:
        done = outcome(target, rig.job("for i in range(3000):\n    print('line', i)"))
        assert done.last.state is RunState.SUCCEEDED
        assert done.last.exit_code == 0
        assert RunState.RUNNING in states_of(done.events)
        assert done.log == "".join(f"line {i}\n" for i in range(3000))

    def test_both_streams_come_in_the_order_they_were_written(self, rig: Rig, target: Target) -> None:
        source = """
            import sys
            for i in range(200):
                print("out", i, file=sys.stdout, flush=True)
                print("err", i, file=sys.stderr, flush=True)
        """
        assert outcome(target, rig.job(source)).log == "".join(f"out {i}\nerr {i}\n" for i in range(200))

    def test_a_silent_job_succeeds(self, rig: Rig, target: Target) -> None:
        done = outcome(target, rig.job("x = 1"))
        assert done.last.state is RunState.SUCCEEDED
        assert done.log == ""

    def test_an_exit_code_is_kept(self, rig: Rig, target: Target) -> None:
        done = outcome(target, rig.job("import sys\nprint('before')\nsys.exit(3)"))
        assert (done.last.state, done.last.exit_code) == (RunState.FAILED, 3)
        assert "3" in done.last.reason
        assert done.log == "before\n"

    def test_a_traceback_shows_the_line_of_the_script(self, rig: Rig, target: Target) -> None:
        done = outcome(target, rig.job("def train():\n    raise ValueError('broken input')\n\n\ntrain()\n"))
        assert (done.last.state, done.last.exit_code) == (RunState.FAILED, 1)
        assert "ValueError: broken input" in done.log
        assert "training.py" in done.log
        assert "line 5" in done.log

    def test_a_syntax_error_is_a_failure_with_its_line(self, rig: Rig, target: Target) -> None:
        done = outcome(target, rig.job("x = 1\ny = = 2\n"))
        assert done.last.state is RunState.FAILED
        assert "line 2" in done.log

    def test_a_killed_process_names_its_signal(self, rig: Rig, target: Target) -> None:
        done = outcome(target, rig.job("import os\nprint('here', flush=True)\nos.kill(os.getpid(), 9)"))
        assert (done.last.state, done.last.exit_code) == (RunState.FAILED, -9)
        assert "kill" in done.last.reason.lower()
        assert done.log == "here\n"

    # ---- what a job sees -----------------------------------------------------------------------------------------

    def test_environment_of_a_job(self, rig: Rig, target: Target) -> None:
        source = """
            import os
            for name in ("PLAIN", "SPACED", "MODEL_LIFECYCLE_PHASE", "KAPTAIN_RUN_ID", "TRAINED_MODEL_UPLOAD_PATH"):
                print(name, os.environ[name])
        """
        job = rig.job(source, env={"PLAIN": "1", "SPACED": "a b 'c' \"d\" $HOME ü"}, phase="tune", trial=4)
        assert outcome(target, job).log.splitlines() == [
            "PLAIN 1",
            "SPACED a b 'c' \"d\" $HOME ü",
            "MODEL_LIFECYCLE_PHASE tune",
            f"KAPTAIN_RUN_ID {job.run_id}",
            f"TRAINED_MODEL_UPLOAD_PATH {job.upload_uri}",
        ]

    def test_libraries_keep_to_the_cores_of_the_job(self, rig: Rig, target: Target) -> None:
        source = f"import os\nprint([os.environ.get(name) for name in {THREAD_VARIABLES!r}])"
        half = Resources.simple(cpu="500m")
        assert outcome(target, rig.job(source, resources=half)).log == "['1', '1', '1', '1']\n"
        log = outcome(target, rig.job(source, resources=half, env={"OMP_NUM_THREADS": "3"})).log
        assert log == "['3', '1', '1', '1']\n"  # a person's own number is kept

    def test_hyperparameters_reach_the_command_line_and_assignments(self, rig: Rig, target: Target) -> None:
        source = """
            import sys
            rate = 0.5
            depth: int = 1
            print(sys.argv[1:], rate, depth)
        """
        job = rig.job(
            source,
            parameters={"--gamma": 1e-3, "name": "zwei Wörter", "fast": "true", "rate": 0.25, "depth": 7},
            bindings={"fast": Binding.SWITCH, "rate": Binding.ASSIGNMENT, "depth": Binding.ASSIGNMENT},
            args=("--data", "a b.csv", "--empty", ""),
        )
        expected = ["--gamma", "0.001", "--name", "zwei Wörter", "--fast", "--data", "a b.csv", "--empty", ""]
        assert outcome(target, job).log == f"{expected} 0.25 7\n"

    def test_files_and_folders_lie_beside_the_script(self, rig: Rig, target: Target, tmp_path: Path) -> None:
        (tmp_path / "größe.csv").write_text("1,2\n", encoding="utf-8")
        (tmp_path / "data" / "deep").mkdir(parents=True)
        (tmp_path / "data" / "deep" / "blob.bin").write_bytes(bytes(range(256)))
        (tmp_path / "helpers_of_suite.py").write_text("VALUE = 42\n")
        source = """
            from pathlib import Path
            import helpers_of_suite
            print(helpers_of_suite.VALUE, Path("größe.csv").read_text(encoding="utf-8").strip())
            print(len(Path("data/deep/blob.bin").read_bytes()))
            print(Path("training.py").exists(), Path(__file__).resolve().parent == Path.cwd())
            Path("made.txt").write_text("here")
            Path("data/made.txt").write_text("here")
            print(Path("made.txt").read_text())
        """
        files = tuple(str(tmp_path / name) for name in ("größe.csv", "data", "helpers_of_suite.py"))
        done = outcome(target, rig.job(source, files=files))
        assert done.log == "42 1,2\n256\nTrue True\nhere\n"
        assert not (tmp_path / "data" / "made.txt").exists()

    def test_what_lies_beside_the_notebook_is_at_its_place(self, rig: Rig, target: Target, tmp_path: Path) -> None:
        notebook = tmp_path / "notebooks"
        for name in ("rows.csv", "results/old.txt", "data/deep/one.csv", "../raw/above.csv"):
            (notebook / name).parent.mkdir(parents=True, exist_ok=True)
            (notebook / name).write_text(name)
        (notebook / "helper_beside.py").write_text("VALUE = 42\n")
        source = """
            from pathlib import Path
            import helper_beside
            print(helper_beside.VALUE, open("rows.csv").read(), open("../raw/above.csv").read())
            print([open(path).read() for path in sorted(Path("data").glob("*/*.csv"))])
            print(Path(__file__).resolve().parent == Path.cwd(), Path.cwd().name)
            open("results/new.txt", "w").write("here")
            open("rows.csv", "w").write("here")
            print(open("results/new.txt").read(), open("rows.csv").read())
        """
        job = rig.job(source)
        script = msgspec.structs.replace(job.script, folders=(str(notebook),))
        inputs = find_inputs(script)
        job = msgspec.structs.replace(job, script=script, inputs=inputs.items, place=inputs.place)
        log = outcome(target, job).log
        assert log == "42 rows.csv ../raw/above.csv\n['data/deep/one.csv']\nTrue notebooks\nhere here\n"
        assert (notebook / "rows.csv").read_text() == "rows.csv"
        assert not (notebook / "results" / "new.txt").exists()

    # ---- output --------------------------------------------------------------------------------------------------

    def test_any_character_and_any_byte_passes(self, rig: Rig, target: Target) -> None:
        source = """
            import sys
            print("Grüße 🚀 日本語 \\x1b[31mred\\x1b[0m \\u2028 tab\\tend")
            sys.stdout.flush()
            sys.stdout.buffer.write(b"raw " + bytes(range(256)) + b"\\n")
            sys.stdout.buffer.write("no newline at the end: ü".encode())
        """
        log = outcome(target, rig.job(source)).log
        assert log.startswith("Grüße 🚀 日本語 \x1b[31mred\x1b[0m \u2028 tab\tend\nraw ")
        assert log.endswith("no newline at the end: ü")

    def test_four_megabytes_of_output_arrive_whole(self, rig: Rig, target: Target) -> None:
        source = """
            import sys
            for i in range(40_000):
                sys.stdout.write(f"{i:08d} " + "ü" * 45 + "\\n")
            sys.stdout.write("x" * 300_000 + "\\n")
        """
        expected = "".join(f"{i:08d} " + "ü" * 45 + "\n" for i in range(40_000)) + "x" * 300_000 + "\n"
        log = outcome(target, rig.job(source)).log
        assert len(log) == len(expected)
        assert hashlib.sha256(log.encode()).hexdigest() == hashlib.sha256(expected.encode()).hexdigest()

    # ---- results -------------------------------------------------------------------------------------------------

    def test_metrics_of_the_sdk_and_of_plain_output(self, rig: Rig, target: Target) -> None:
        source = """
            from kaptain.platform.metadata_util import MetadataUtil
            print("accuracy=0.25")
            print("epoch 1: loss=1.5e-1 other=3")
            MetadataUtil.record_metrics({"score": 0.5, "text": "0.75"})
        """
        done = outcome(target, rig.job(source, metric_names=("accuracy", "loss", "score", "text")))
        reported = {name: value for name, value, _ in metrics_of(done.events)}
        assert reported == {"accuracy": 0.25, "loss": 0.15, "score": 0.5, "text": 0.75}
        assert len(metrics_of(done.events)) == 4
        assert "accuracy=0.25\nepoch 1: loss=1.5e-1 other=3\n" in done.log
        assert "::kaptain::" not in done.log

    def test_what_a_cell_shows_arrives_with_its_content(self, rig: Rig, target: Target) -> None:
        source = """
            from pathlib import Path
            class Picture:
                def _repr_png_(self):
                    return bytes(range(256)) * 400
            class Table:
                def _repr_html_(self):
                    return "<table><tr><td>ü</td></tr></table>"
            Path("out").mkdir()
            Path("out/rows.csv").write_text("x,y")
            display(Picture(), Table())
            print("shown")
            6 * 7
        """
        job = rig.job(source)
        done = outcome(target, msgspec.structs.replace(job, script=msgspec.structs.replace(job.script, cell=True)))
        assert done.log == "shown\n"
        shown = {event.key: event for event in done.events if isinstance(event, Displayed)}
        assert [(event.mime, event.data) for event in shown.values()] == [
            ("image/png", bytes(range(256)) * 400),
            ("text/html", "<table><tr><td>ü</td></tr></table>".encode()),
            ("text/plain", b""),
        ]
        assert shown["3"].text == "42"
        written = [(event.path, event.data) for event in done.events if isinstance(event, FileWritten)]
        assert written in ([], [("out/rows.csv", b"x,y")])  # where the disk outlives the job it is left there
        assert written or (Path(job.folder) / "work" / "out" / "rows.csv").read_text() == "x,y"

    def test_a_saved_model_is_whole_in_the_store(self, rig: Rig, target: Target) -> None:
        source = """
            from pathlib import Path
            from kaptain.platform.model_export_util import ModelExportUtil
            Path("model.bin").write_bytes(b"weights" * 100_000)
            ModelExportUtil().upload_model("model.bin")
            print("Export completed.")
        """
        done = outcome(target, rig.job(source))
        assert done.last.state is RunState.SUCCEEDED
        saved = [event for event in done.events if isinstance(event, ArtifactSaved)]
        assert [event.uri for event in saved] == [done.job.upload_uri]
        content = rig.read(f"{done.job.upload_uri}/model.bin")
        assert content == b"weights" * 100_000
        assert saved[0].files["model.bin"] == hashlib.sha256(content).hexdigest()
        assert saved[0].size >= len(content)
        assert rig.read(f"{done.job.upload_uri}/kaptain-manifest.json")

    # ---- stopping ------------------------------------------------------------------------------------------------

    def test_output_comes_while_the_job_runs_and_stop_ends_it(self, rig: Rig, target: Target) -> None:
        job = rig.job(FOREVER)
        ref = target.submit(job)
        events: list[Event] = []
        for event in target.follow(ref):
            events.append(event)
            if isinstance(event, LogWritten) and "ready" in log_of(job, events):
                target.stop(ref)
        assert_stream(events)
        assert states_of(events)[-1] is RunState.STOPPED
        target.stop(ref)

    def test_stop_right_after_submit(self, rig: Rig, target: Target) -> None:
        ref = target.submit(rig.job(FOREVER))
        target.stop(ref)
        events = list(target.follow(ref))
        assert_stream(events)
        assert states_of(events)[-1] is RunState.STOPPED

    def test_stop_leaves_an_ended_job_alone(self, rig: Rig, target: Target) -> None:
        done = outcome(target, rig.job("print('done')"))
        target.stop(done.ref)
        assert done.last.state is RunState.SUCCEEDED

    def test_a_timeout_ends_a_job_as_failed(self, rig: Rig, target: Target) -> None:
        done = outcome(target, rig.job(FOREVER, timeout=4.0))
        assert done.last.state is RunState.FAILED
        assert "4" in done.last.reason
        assert done.log == "ready\n"

    # ---- following -----------------------------------------------------------------------------------------------

    def test_following_goes_on_behind_a_cursor(self, rig: Rig, target: Target) -> None:
        source = """
            import time
            for i in range(60):
                print("Zeile ü", i, flush=True)
                time.sleep(0.02)
            print("accuracy=0.5")
        """
        job = rig.job(source)
        ref = target.submit(job)
        first: list[Event] = []
        stream = target.follow(ref)
        for event in stream:
            first.append(event)
            if log_of(job, first).count("\n") >= 5:
                break
        close = getattr(stream, "close", None)
        if close is not None:
            close()
        after = max(event.cursor for event in first)
        rest = list(rig.open().follow(ref, after))
        assert_stream(rest)
        expected = "".join(f"Zeile ü {i}\n" for i in range(60)) + "accuracy=0.5\n"
        assert log_of(job, [*first, *rest]) == expected
        assert ("accuracy", 0.5, None) in metrics_of(rest)

    def test_another_process_follows_the_same_job(self, rig: Rig, target: Target) -> None:
        source = """
            import time
            for i in range(20):
                print("shared", i, flush=True)
                time.sleep(0.05)
        """
        job = rig.job(source)
        ref = target.submit(job)
        command = [sys.executable, "-c", FOLLOWER, rig.name]
        command += [msgspec.json.encode(value, enc_hook=str).decode() for value in (rig.config, ref)]
        other = subprocess.run(
            [*command, "0"], capture_output=True, timeout=240, env={**os.environ, **rig.environment}, check=False
        )
        assert other.returncode == 0, other.stderr.decode()
        events: list[Event] = [msgspec.json.decode(line, type=AnyEvent) for line in other.stdout.splitlines()]
        assert_stream(events)
        assert states_of(events)[-1] is RunState.SUCCEEDED
        assert log_of(job, events) == "".join(f"shared {i}\n" for i in range(20))

    def test_jobs_run_side_by_side(self, rig: Rig, target: Target) -> None:
        jobs = [
            rig.job(f"import time\nprint('job', {n}, flush=True)\ntime.sleep(0.5)\nprint('end', {n})") for n in range(3)
        ]
        refs = [target.submit(job) for job in jobs]
        streams: dict[int, list[Event]] = {}

        def follow(number: int) -> None:
            streams[number] = list(target.follow(refs[number]))

        threads = [threading.Thread(target=follow, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=240)
        for number, job in enumerate(jobs):
            assert_stream(streams[number])
            assert log_of(job, streams[number]) == f"job {number}\nend {number}\n"

    # ---- afterwards ----------------------------------------------------------------------------------------------

    def test_check_finds_the_target_usable(self, target: Target) -> None:
        assert [check for check in target.check() if not check.ok] == []

    def test_render_shows_no_secret(self, rig: Rig, target: Target) -> None:
        shown = target.render(rig.job("print(1)", env={"PLAIN": "given-value"}, env_names=("NOT_SET_HERE",)))
        assert "given-value" not in shown
        assert "PLAIN" in shown
        assert "NOT_SET_HERE" in shown
        for name, value in rig.config.storage_env.items():
            if "SECRET" in name or "TOKEN" in name:
                assert value not in shown

    def test_z_nothing_is_left_behind(self, rig: Rig, target: Target) -> None:
        outcome(target, rig.job("print('last')"))
        assert rig.leftovers() == []
