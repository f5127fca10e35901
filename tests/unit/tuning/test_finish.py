"""What a study leaves in the object store, also when it is finished twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.core.events import ArtifactSaved, Noted, TrialChanged
from kaptain_magics.core.states import TrialState
from kaptain_magics.errors import ObjectMissingError
from kaptain_magics.storage import ObjectStore, open_store
from kaptain_magics.tuning.finish import best_trials, keep_best, remove_intermediates, trials_uri, tuned_uri


@pytest.fixture
def base(tmp_path: Path) -> str:
    return (tmp_path / "store" / "dev" / "m").as_uri()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store((tmp_path / "store").as_uri(), {})


def trial(number: int, uri: str, best: bool = False) -> TrialChanged:
    return TrialChanged(
        number=number, name=f"t{number}", state=TrialState.SUCCEEDED, parameters={}, artifact_uri=uri, best=best
    )


def saved(store: ObjectStore, tmp_path: Path, uri: str, text: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir(exist_ok=True)
    (folder / "model.joblib").write_text(text)
    store.put(folder, uri, framework="sklearn", format="joblib")


def names(store: ObjectStore, uri: str) -> list[str]:
    return [entry[0] for entry in store.list(uri)]


def test_the_best_is_kept_and_the_others_are_removed_as_often_as_one_likes(studies, store, base, tmp_path) -> None:
    spec = studies.spec(domains={})
    trials = [trial(n, f"{trials_uri(base, spec)}/t{n}", best=n != 1) for n in range(3)]
    for one in trials:
        saved(store, tmp_path, one.artifact_uri, f"model {one.number}")
    best, pareto = best_trials([trials[0], Noted(text="x"), *trials[1:]], spec)
    assert (best, pareto) == (trials[2], ())

    place = tuned_uri(base, spec)
    for _ in range(2):
        kept = keep_best(store, best, place)
        assert isinstance(kept, ArtifactSaved)
        assert (kept.uri, kept.framework, kept.format, kept.size) == (place, "sklearn", "joblib", 7)
        assert list(kept.files) == ["model.joblib"]
        assert store.read(f"{place}/model.joblib") == b"model 2"
        remove_intermediates(store, trials_uri(base, spec))
        assert not store.exists(trials_uri(base, spec))
    assert sorted(names(store, f"{base}/tuned")) == [
        f"{place[-32:]}/kaptain-manifest.json",
        f"{place[-32:]}/model.joblib",
    ]
    assert keep_best(store, trial(2, place), place) == kept  # a study that goes on knows it by its place


def test_a_study_that_goes_on_keeps_an_earlier_best_in_a_place_of_its_own(studies, store, base, tmp_path) -> None:
    before, after = studies.spec(domains={}, run_id="a"), studies.spec(domains={}, run_id="b")
    assert tuned_uri(base, before) != tuned_uri(base, after)
    saved(store, tmp_path, tuned_uri(base, before), "model")
    kept = keep_best(store, trial(0, tuned_uri(base, before)), tuned_uri(base, after))
    assert kept.uri == tuned_uri(base, after)
    assert store.exists(tuned_uri(base, before))


def test_a_model_that_is_gone_is_reported_to_be(studies, store, base) -> None:
    spec = studies.spec(domains={})
    with pytest.raises(ObjectMissingError):
        keep_best(store, trial(0, f"{trials_uri(base, spec)}/t0"), tuned_uri(base, spec))
    remove_intermediates(store, trials_uri(base, spec))
    assert best_trials([], spec) == (None, ())
