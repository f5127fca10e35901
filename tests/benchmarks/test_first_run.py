"""What a person waits for: a kernel's first run, further ones, a gigabyte that is sent, 100,000 rows predicted."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import until

pytestmark = pytest.mark.benchmark
ROUNDS = 5
_IMPORTS = "import pandas as pd\nfrom sklearn.linear_model import LogisticRegression\n"
_SCRIPT = _IMPORTS + "print('work done')\n"


def _bare(source: str, folder: Path) -> float:
    """Seconds of a plain Python with this script."""
    (folder / "script.py").write_text(source)
    started = time.perf_counter()
    subprocess.run([sys.executable, "script.py"], cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


class Kernel:
    """A real kernel with the extension."""

    def __init__(self) -> None:
        from jupyter_client.manager import start_new_kernel

        self.manager, self.client = start_new_kernel()
        self.run("%load_ext kaptain_magics")

    def run(self, code: str) -> float:
        started = time.perf_counter()
        reply = self.client.execute_interactive(code, output_hook=lambda _: None, timeout=300)
        assert reply["content"]["status"] == "ok", reply["content"]
        return time.perf_counter() - started

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel()


@pytest.fixture
def kernel(
    home: Path, workers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Kernel]]:
    """Starts kernels, in a folder and with workers of the test's own."""
    monkeypatch.chdir(tmp_path)
    kernels: list[Kernel] = []

    def start() -> Kernel:
        kernels.append(Kernel())
        return kernels[-1]

    yield start
    for one in kernels:
        one.close()


def test_first_and_warm_run(
    kernel: Callable[[], Kernel], workers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trivial, whole = (
        min(_bare(source, tmp_path) for _ in range(ROUNDS)) for source in ("print('work done')\n", _SCRIPT)
    )
    rows: list[tuple[str, float]] = []
    cold = kernel()
    rows.append(("first run, nothing readied", cold.run(f"%%kaptain_train dev/cold\n{_SCRIPT}")))
    monkeypatch.setenv("KAPTAIN_PREWARM", "true")
    monkeypatch.setenv("KAPTAIN_HOME", str(tmp_path / "fresh"))
    _end_workers(workers)
    notebook = kernel()
    notebook.run(_IMPORTS)
    until(lambda: any('"sklearn.linear_model"' in _text(path) for path in workers.rglob("*.json")), 120, what="a seed")
    until(
        lambda: any('"seed": null' in _text(path) for path in workers.rglob("*.json")),
        120,
        what="a supervisor's worker",
    )
    time.sleep(3.0)  # what the workers import later
    rows.append(("first run, readied", notebook.run(f"%%kaptain_train dev/first\n{_SCRIPT}")))
    warm = [notebook.run(f"%%kaptain_train dev/first\n{_SCRIPT}") for _ in range(ROUNDS)]
    rows.append(("warm run", statistics.median(warm)))
    print(
        f"\n{'a cell that imports pandas and scikit-learn':46}{'seconds':>9}{'over the script without its imports':>38}"
    )
    for name, seconds in [("python script.py", whole), ("the same without its imports", trivial), *rows]:
        print(f"{name:46}{seconds:9.3f}{seconds - trivial:+38.3f}")


def test_a_gigabyte_is_sent(kernel: Callable[[], Kernel], tmp_path: Path) -> None:
    notebook = kernel()
    notebook.run("import numpy as np\nbig = np.random.default_rng(0).random((1 << 30) // 8)\nsmall = np.zeros(8)")
    cell = "import numpy as np\nprint(len(data))\n"
    notebook.run("%%kaptain_train dev/sent --send small\nimport numpy as np\nprint(len(small))\n")
    plain = notebook.run("%%kaptain_train dev/sent --send small\nimport numpy as np\nprint(len(small))\n")
    sent = notebook.run(f"%%kaptain_train dev/sent --send big\n{cell.replace('data', 'big')}") - plain
    copy = (
        "import pickle\n"
        f"with open({str(tmp_path / 'copy')!r}, 'wb') as file: pickle.dump(big, file, protocol=5)\n"
        f"with open({str(tmp_path / 'copy')!r}, 'rb') as file: again = pickle.load(file)\n"
    )
    bare = notebook.run(copy)
    print(
        f"\n1 GiB sent: {sent:.2f} s over a small value; written and read by pickle: {bare:.2f} s; {sent / bare:.1f} x"
    )


def test_rows_are_predicted(kernel: Callable[[], Kernel], tmp_path: Path) -> None:
    notebook = kernel()
    notebook.run(
        "%%kaptain_train dev/rows --model clf\nimport numpy as np\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "rng = np.random.default_rng(0)\nX = rng.random((1000, 10))\nclf = LogisticRegression().fit(X, X[:, 0] > 0.5)\n"
    )
    notebook.run("endpoint = %kaptain_deploy dev/rows")
    notebook.run("import numpy as np, pickle, socket, threading\nrows = np.random.default_rng(1).random((100_000, 10))")
    notebook.run("endpoint.predict(rows[:10])")
    ours = min(notebook.run("answer = endpoint.predict(rows)") for _ in range(ROUNDS))
    notebook.run("endpoint.undeploy()")
    notebook.run("from sklearn.linear_model import LogisticRegression")
    notebook.run("model = LogisticRegression().fit(rows[:1000], rows[:1000, 0] > 0.5)")
    memory = min(notebook.run("model.predict(rows)") for _ in range(ROUNDS))
    notebook.run(_COPY)
    wire = min(notebook.run("over_a_socket(rows.tobytes())") for _ in range(ROUNDS))
    bare = memory + wire
    print(f"\n100,000 rows of 10 numbers: {ours * 1e3:.0f} ms; in memory {memory * 1e3:.0f} ms, and their bytes over a")
    print(f"socket {wire * 1e3:.0f} ms: {ours / bare:.1f} x")


_COPY = """
def over_a_socket(data):
    here, there = socket.socketpair()
    thread = threading.Thread(target=here.sendall, args=(data,))
    thread.start()
    left = len(data)
    while left:
        left -= len(there.recv(1 << 20))
    thread.join()
    here.close()
    there.close()
"""


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _end_workers(folder: Path) -> None:
    from tests.workers import end, workers_of

    until(lambda: not [end(process) for process in workers_of(folder)], what="the end of the workers")
    for path in folder.rglob("*.json"):
        path.unlink()
