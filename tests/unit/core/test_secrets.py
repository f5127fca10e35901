"""Passwords in addresses are found, left out and masked."""

from __future__ import annotations

import pytest

from kaptain_magics.core.secrets import holds_password, masked, scrubbed, without_login, without_passwords


@pytest.mark.parametrize(
    ("address", "bare"),
    [
        ("postgresql://ada:hunter2@db:5432/runs", "postgresql://ada@db:5432/runs"),
        ("mysql+pymysql://ada:hunter2@db/runs?ssl=1", "mysql+pymysql://ada@db/runs?ssl=1"),
        ("postgresql://db/runs?user=ada&password=hunter2&ssl=1", "postgresql://db/runs?user=ada&ssl=1"),
        ("https://ada:hunter2@mlflow.example.com/x", "https://mlflow.example.com/x"),
        ("https://hunter2@mlflow.example.com", "https://mlflow.example.com"),
        ("http://mlflow?api_key=hunter2", "http://mlflow"),
        ("own @ git+https://hunter2@host/own.git", "own @ git+https://host/own.git"),
    ],
)
def test_a_password_is_found_and_left_out(address: str, bare: str) -> None:
    assert holds_password(address)
    assert without_login(address) == bare
    assert not holds_password(bare)
    for shown in (without_passwords(address), scrubbed(f"cannot reach {address} with hunter2", address)):
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    "address",
    [
        *("", "sqlite:///mlflow.db", "postgresql://ada@db/runs", "git+ssh://git@host/own.git", "file:///a@b"),
        *("https://host/a@b", "https://host?mail=a@b", "https://me:${TOKEN}@host/simple", "pkg @ https://host/p.whl"),
    ],
)
def test_what_holds_none_stays_as_it_is(address: str) -> None:
    assert not holds_password(address)
    assert without_login(address) == address


def test_a_password_is_masked_as_it_is_meant_too() -> None:
    uri = "postgresql://ada:p%40ss-word@db/runs"
    said = scrubbed("password authentication failed: p@ss-word (p%40ss-word)", uri)
    assert "ss-word" not in said
    assert said.startswith("password authentication failed: ***")


def test_a_login_may_hold_an_at() -> None:
    assert without_login("https://ada:a@hunter2@host") == "https://host"
    assert without_passwords("https://ada:a@hunter2@host") == "https://***@host"


def test_every_variable_is_masked() -> None:
    assert masked(["PLAIN", "API_KEY"]) == {"PLAIN": "********", "API_KEY": "********"}
