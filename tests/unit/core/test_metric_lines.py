"""What counts as a metric in a script's output, by our reader and by the expressions for Katib's collector."""

from __future__ import annotations

import re
import time

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.core.metric_lines import MetricLines, explain_missing, katib_filters
from kaptain_magics.core.scripts import Parameter, Script
from kaptain_magics.core.specs import JobSpec

METRICS = [
    "accuracy=0.93",
    "  accuracy = 1.\r",
    "epoch=1 val_loss=1.2e-3 accuracy=.5",
    "loss=0.1, accuracy=0.9",
    "loss=0.1; accuracy=0.9",
    "loss=0.1 | accuracy=0.9",
    "loss=0.1 - accuracy=0.9",
    "loss=nan accuracy=0.4",
    "accuracy=0.1 accuracy=0.9",
    "epoch 1: accuracy=0.5, loss=1",
    "Epoch 3/10: accuracy=0.5",
    "Epoch [1/10], Step [100/600], accuracy=0.3",
    "INFO:root:accuracy=0.93",
    "2026-05-01 12:00:00,123 - train - INFO - accuracy=0.93",
    "2026-05-01T12:00:00Z INFO     accuracy=0.9213 loss=1",
    "2026-05-01T12:00:00.123456+00:00 accuracy=0.9",
    "2026-05-01 12:00:00.123 | INFO     | __main__:<module>:5 - accuracy=0.9",
    "[2026-05-01 12:00:00] INFO: accuracy=0.9",
    "[12:00:01] accuracy=0.9",
    "\r 45%|####5     | 45/100 [00:00<00:00, 433.22it/s]accuracy=0.9",
    "  0%|      | 0/3 [00:00<?, ?it/s]\rfit:  33%|###3   | 1/3 [00:00<00:00, 9.1it/s, loss=0.3]accuracy=0.9",
]
OTHERS = [
    "url=http://a.b/?x=3&accuracy=7",
    "GET /?accuracy=7",
    "SVC(accuracy=0.001)",
    "SVC(C=1, accuracy=0.1)",
    " 45%|####5     | 45/100 [00:01<00:01, 43.2it/s, loss=0.3, accuracy=0.9]",
    "10/10 - 0s 5ms/step - loss: 0.3 - accuracy: 0.9",
    "10/10 [=====] - 0s 5ms/step - loss: 0.3 - accuracy=0.9",
    "test accuracy=0.93",
    "accuracy: 0.93",
    "accuracy=93 %",
    "accuracy=0.93%",
    "accuracy=0.5x",
    "accuracy=0.9 (best)",
    "accuracy==0.9",
    "accuracy=",
    "my.accuracy=9",
    "val_accuracy=7",
    "Best parameters: accuracy=0.3",
    "INFO the best accuracy=0.3",
    "{'accuracy'=0.9}",
]


def ours(line: str) -> list[float]:
    return [value for _, value in MetricLines(["accuracy"]).find(f"{line}\n".encode()) if value == value]


def katibs(line: str, names: tuple[str, ...] = ("accuracy",)) -> list[tuple[str, float]]:
    """What Katib's collector does with a line; its expressions are RE2's."""
    found = []
    for text in ";".join(katib_filters(names)).split(";"):  # as its webhook hands them to the collector
        assert re.search(r"\(.*\).*\(.*\)", text)  # what its webhook demands
        found += [(m.group(1), float(m.group(2))) for m in re2.compile(text).finditer(line)]
    return found


@pytest.mark.parametrize("line", METRICS)
def test_lines_of_metrics(line: str) -> None:
    (value,) = ours(line)
    assert katibs(line) == [("accuracy", value)]


@pytest.mark.parametrize("line", OTHERS)
def test_other_lines_are_no_metrics(line: str) -> None:
    assert ours(line) == []
    assert katibs(line) == []


WORDS = "accuracy|loss|=| = |1|0.5|-3e2|nan|,|;|-|:|epoch |1/3|INFO|root|12:00:01|(|)|?|&|[|]|\t|\r|5%| |x|é"
PIECES = st.sampled_from([*WORDS.split("|"), "|"])


@given(st.lists(PIECES, max_size=14).map("".join))
def test_katibs_collector_reads_what_we_read(line: str) -> None:
    assert [value for _, value in katibs(line)] == ours(line)


def test_any_objective_has_its_expression() -> None:
    names = ("val/loss", "f1 (macro)", "acc@1", "a.b", "größe", "val")
    line = " ".join(f"{name}={number}" for number, name in enumerate(names))
    assert dict(katibs(line, names)) == {name: number for number, name in enumerate(names)}
    assert dict(MetricLines(names).find(f"{line}\n".encode())) == {name: number for number, name in enumerate(names)}
    assert katibs("axb=1", names) == []


def test_a_printed_hyperparameter_is_no_metric() -> None:
    script = Script(name="t.py", source="", parameters=(Parameter("lr", "assignment", "0.1"), Parameter("n", "option")))
    job = JobSpec(
        name="j", run_id="r", model_id="m", script=script, framework="sklearn", parameters={"--n-jobs": "2", "lr": 0.2}
    )
    lines = MetricLines(settings=job.settings)
    assert list(lines.find(b"lr=0.2, n_jobs=2\nlr=0.1 loss=3\n")) == [("lr", 0.1), ("loss", 3.0)]


LONG = ["1" + " " * 60_000, "a=1 " * 15_000 + "x", "\r" * 60_000, "INFO : " * 9_000, "5%|a\r" * 12_000]


@pytest.mark.parametrize("line", [f"{line}=" for line in LONG], ids=range(len(LONG)))
def test_no_line_takes_long(line: str) -> None:
    lines = MetricLines(["accuracy"])
    start = time.process_time()
    assert list(lines.find(f"{line}\n".encode())) == []
    assert time.process_time() - start < 2.0


@pytest.mark.parametrize(
    ("text", "reason", "hint"),
    [
        ("fit\naccuracy: 0.93\nbye", "seen: none; this line looks like it: accuracy: 0.93", "name=value pairs counts"),
        ("SVC(gamma=0.1)\n", "seen: none", 'log_metrics(accuracy=...) or print(f"accuracy={...}")'),
        ("Accuracy = 0.9\n", "seen: Accuracy", "did you mean 'Accuracy'?"),
        (
            "Test Accuracy is 0.9\nloss=1 f1=2\n",
            "seen: loss, f1; this line looks like it: Test Accuracy is 0.9",
            "print",
        ),
        ("url=http://x/?accuracy=7\n", "looks like it: url=http://x/?accuracy=7", "nothing but name=value"),
        ("accuracy=tensor(0.93)\n", "looks like it: accuracy=tensor(0.93)", "print"),
        ("\x1b[32maccuracy=0.9\x1b[0m\n", "looks like it: accuracy=0.9", "print"),
        ("inaccuracy: 0.9\n", "seen: none", "kaptain.log_metrics"),
        ("accuracy=nan\n", "was printed, but not as a finite number", ""),
    ],
)
def test_a_missing_metric_is_explained(text: str, reason: str, hint: str) -> None:
    found = explain_missing("accuracy", text)
    assert reason in found[0]
    assert hint in found[1]


def test_names_that_are_no_identifiers_are_spelled_as_python_takes_them() -> None:
    assert 'kaptain.log_metrics({"eval-logloss": ...})' in explain_missing("eval-logloss", "")[1]
