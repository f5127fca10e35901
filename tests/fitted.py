"""Models trained and saved by a script as a job runs it, with what they answered in its process."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

TITANIC = '''
import pickle
import numpy as np
import pandas as pd

rng = np.random.default_rng(3)
n = 240
frame = pd.DataFrame(
    {
        "name": [f"Passenger {i}" for i in range(n)],
        "passenger class": rng.integers(1, 4, n),
        "sex": pd.Categorical(rng.choice(["male", "female"], n)),
        "age": np.where(rng.random(n) < 0.2, np.nan, rng.uniform(1, 80, n)),
        "fare": rng.gamma(2.0, 15.0, n).astype("float32"),
        "deck": pd.Categorical(np.where(rng.random(n) < 0.3, None, rng.choice(list("ABC"), n)), categories=list("CBA")),
        "embarked": np.where(rng.random(n) < 0.1, None, rng.choice(["S", "C", "Q"], n)).astype(object),
        "alone": rng.random(n) < 0.5,
        "siblings": pd.array(np.where(rng.random(n) < 0.1, None, rng.integers(0, 4, n)), dtype="Int64"),
        "boarded": pd.Timestamp("1912-04-10", tz="Europe/London") + pd.to_timedelta(rng.integers(0, 5, n), unit="D"),
    },
    index=rng.permutation(n) + 1000,
)
chance = 1 / (1 + np.exp(2.0 * (frame["sex"] == "male") + 0.5 * frame["passenger class"] - 2.5))
survived = np.where(rng.random(n) < chance, "yes", "no")
rows = frame[:60]


def answers(**found):
    """Keep what the model answers here, for the rows of the request."""
    with open("answers.pkl", "wb") as file:
        pickle.dump({"rows": rows, **{name: np.asarray(value) for name, value in found.items()}}, file)
'''
"""The beginning of a script: a frame of passengers with columns of every kind, and who survived."""


def train(folder: Path, source: str) -> tuple[Path, dict[str, Any], str]:
    """Run a script that begins with ``TITANIC``, saves a model and calls ``answers``.

    Returns:
        The model's folder; the request's ``rows`` with the answers by name; what the script wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cell.py").write_text(TITANIC + source)
    (folder / "program.json").write_text(json.dumps({"script": str(folder / "cell.py")}))
    env = os.environ | {"TRAINED_MODEL_UPLOAD_PATH": (folder / "model").as_uri()}
    command = [sys.executable, "-m", "kaptain_magics.runtime.launch", "program.json"]
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    return folder / "model", pickle.loads((folder / "answers.pkl").read_bytes()), ended.stdout + ended.stderr
