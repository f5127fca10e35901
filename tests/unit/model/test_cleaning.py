"""``clean`` goes on behind what cannot be removed."""

from __future__ import annotations

import pytest

from kaptain_magics.model import Workspace, cleaning


@pytest.mark.usefixtures("home")
def test_one_that_cannot_be_removed_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    removed = []

    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "first")

    def look(_: Workspace) -> object:
        yield cleaning._Leftover("first", refuse)
        yield cleaning._Leftover("second", lambda: removed.append("second"))
        raise OSError(5, "Input/output error", "third")

    monkeypatch.setattr(cleaning, "_folders", look)
    lines = Workspace().clean(force=True)
    assert lines[0].startswith("first: cannot be removed now: ")
    assert lines[1] == "second"
    assert removed == ["second"]
    assert "cannot be checked now" in lines[2]
