"""Names of jobs, studies and endpoints fit every target, and stay different."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.core.names import LONGEST_ID, check_model_id, endpoint_name, new_job_name, sanitize
from kaptain_magics.errors import InvalidPropertyError
from kaptain_magics.magics.readers import model_id as read_model_id
from kaptain_magics.model import Model

SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # DNS-1035; KServe's and Katib's rule too
LONG = "prod/customer-churn-of-the-whole-of-europe-in-the-year-2026"


@given(st.text(min_size=1, max_size=250))
def test_any_text_becomes_a_name(text: str) -> None:
    for name, longest in (
        (sanitize(text), 63),
        (endpoint_name(text) + "-predictor-00001-private", 63),  # Knative's services
        (new_job_name(text, "tune"), 40),  # Katib's limit
        (new_job_name(text, "tune") + "-00000000", 63),  # a trial
        (new_job_name(text, "job") + "-worker-12", 63),
    ):
        assert SERVICE.fullmatch(name), name
        assert len(name) <= longest
    assert endpoint_name(endpoint_name(text)) == endpoint_name(text)


@pytest.mark.parametrize(
    ("model_id", "name"),
    [("dev/mnist", "dev-mnist"), ("2026/churn", "m-2026-churn"), ("Dev/My_Model.v2", "dev-my-model-v2"), ("-", "m")],
)
def test_a_short_name_can_be_read(model_id: str, name: str) -> None:
    assert endpoint_name(model_id) == name


def test_what_is_shortened_stays_different() -> None:
    ids = [f"{LONG}-{letter}" for letter in string.ascii_lowercase] + ["dev/модель", "dev/модели", "dev/"]
    assert len({endpoint_name(model_id) for model_id in ids}) == len(ids)
    assert endpoint_name(ids[0]).startswith("prod-customer-churn")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a" * 300, f"at most {LONGEST_ID} bytes, this one 300"),
        ("ж" * 101, "this one 202"),
        ("dev/a\nb", "no line breaks"),
        ("dev/\x07", "no control characters"),
        ("dev\u2028x", "no line breaks"),
        ("", "as in dev/mnist"),
        ("../x", "as in dev/mnist"),
    ],
)
def test_an_absurd_id_is_refused_at_once(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_model_id(text)
    with pytest.raises(ValueError, match=r"."):
        read_model_id(text)
    with pytest.raises(InvalidPropertyError) as refused:
        Model(text)
    assert said in refused.value.hint
    assert len(refused.value.message) < 100


@pytest.mark.parametrize("text", ["a" * LONGEST_ID, "dev/модель", "2026/churn", "x y/z"])
def test_any_other_id_is_taken(text: str) -> None:
    assert check_model_id(text) == text
