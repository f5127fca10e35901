"""A dry run for a cluster shows no secret, nor its base64."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.planted import MARKS, Everything, dry_runs, nowhere
from tests.shell import Notebook


@pytest.mark.cluster
def test_a_dry_run_for_kubernetes(
    notebook: Notebook, everything: Everything, monkeypatch: pytest.MonkeyPatch, kubeconfig: Path
) -> None:
    Path("train.py").write_text("n = 1\nprint(f'score={n}')\n")
    monkeypatch.setenv("KAPTAIN_KUBECONFIG", str(kubeconfig))
    shown = dry_runs(notebook, everything, "kubernetes", monkeypatch)
    assert "secretKeyRef" in shown
    encoded = {name: base64.b64encode(mark.encode()).decode().rstrip("=")[:-2] for name, mark in MARKS.items()}
    nowhere(everything, MARKS | {f"{name} in base64": text for name, text in encoded.items()})
