"""Which way an objective goes: stated, or by the words of its name."""

from __future__ import annotations

import pytest

from kaptain_magics.core.objectives import describe_objectives, infer, read_objectives, split_direction
from kaptain_magics.core.states import Direction
from kaptain_magics.errors import ObjectiveError

SHRINK = """
loss val_loss valLoss train/loss Loss LOSS test-loss eval.loss MSE RMSE valMSE RMSELoss mae mean_squared_error error err
error_rate top5_error mape msle rmsle log_loss logloss eval-logloss nll perplexity ppl wer cer fid deviance brier_score
eer hamming_loss hinge cross_entropy binary_crossentropy l1 l2 multi_logloss binary_error max_error false_positive_rate
negative_log_likelihood neg_log_likelihood inference_time latency_ms duration runtime cost kl_divergence aic
"""
GROW = """
accuracy acc f1 f1_score auc roc_auc precision recall r2 map@50 bleu score reward explained_variance explained_deviance
neg_mean_squared_error neg_log_loss neg_root_mean_squared_error neg_brier_score negMeanAbsoluteError log_likelihood
d2_absolute_error_score d2_log_loss_score lossless glossy terror timely information_gain x silhouette
"""


@pytest.mark.parametrize("name", SHRINK.split())
def test_names_that_are_to_shrink(name: str) -> None:
    assert infer(name) is Direction.MINIMIZE


@pytest.mark.parametrize("name", GROW.split())
def test_names_that_are_to_grow(name: str) -> None:
    assert infer(name) is Direction.MAXIMIZE


def directions(*texts: str, **options: Direction) -> list[str]:
    return [f"{o.name}:{o.direction}" for o in read_objectives(texts, **options)]


def test_a_stated_direction_wins() -> None:
    assert directions("loss:max", "accuracy:minimise", "mae") == ["loss:maximize", "accuracy:minimize", "mae:minimize"]
    assert directions("loss", "f1", direction=Direction.MAXIMIZE) == ["loss:maximize", "f1:maximize"]
    assert split_direction("val:loss") == ("val:loss", None)
    assert split_direction(" loss : MIN ") == ("loss", Direction.MINIMIZE)


def test_contradictions_are_refused() -> None:
    with pytest.raises(ObjectiveError, match="loss cannot be both minimized and maximized"):
        read_objectives(["loss:min"], Direction.MAXIMIZE)
    with pytest.raises(ObjectiveError, match="loss is named twice"):
        read_objectives(["loss", "loss:min"])
    for nothing in ([], [""], [":min"]):
        with pytest.raises(ObjectiveError):
            read_objectives(nothing)


def test_what_was_taken_is_shown_with_the_way_to_override_it() -> None:
    assert describe_objectives(read_objectives(["val_loss"])) == (
        "The study minimizes val_loss (as its name suggests; val_loss:max would maximize it)."
    )
    assert describe_objectives(read_objectives(["loss:max", "mae", "f1"])) == (
        "The study maximizes loss (as asked). "
        "Only reported, not optimized: mae (lower is better), f1 (higher is better); "
        "--pareto optimizes all of them together."
    )
    assert describe_objectives(read_objectives(["loss", "f1"]), pareto=True) == (
        "The study minimizes loss and maximizes f1, together: "
        "the trials that no other one beats in all of them are its Pareto set."
    )
