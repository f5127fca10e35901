"""Where the credentials of S3 come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from kaptain_magics.errors import CredentialsError
from kaptain_magics.storage.credentials import storage_env


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """A home folder with the files of the AWS tools."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = file-id\naws_secret_access_key = file-secret%x\n"
        "[minio]\naws_access_key_id = minio-id\naws_secret_access_key = minio-secret\naws_session_token = minio-token\n"
        "s3_force_path_style = true\n"
        "[half]\naws_access_key_id = half-id\n"
    )
    (tmp_path / ".aws/config").write_text(
        "[default]\nregion = eu-west-1\n"
        "[profile minio]\nregion = local\nendpoint_url = http://127.0.0.1:9000\ns3 =\n  addressing_style = path\n"
    )
    return tmp_path


def test_the_environment_stands_above_files(user: Path) -> None:
    env = {"HOME": str(user), "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "S3_ENDPOINT": "host:1"}
    found = storage_env({**env, "UNRELATED": "x"})
    assert found == {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-west-1",
        "S3_ENDPOINT": "host:1",
    }


def test_the_default_profile(user: Path) -> None:
    assert storage_env({"HOME": str(user)}) == {
        "AWS_ACCESS_KEY_ID": "file-id",
        "AWS_SECRET_ACCESS_KEY": "file-secret%x",
        "AWS_REGION": "eu-west-1",
    }


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_a_named_profile(user: Path, name: str) -> None:
    assert storage_env({"HOME": str(user), name: "minio"}) == {
        "AWS_ACCESS_KEY_ID": "minio-id",
        "AWS_SECRET_ACCESS_KEY": "minio-secret",
        "AWS_SESSION_TOKEN": "minio-token",
        "AWS_REGION": "local",
        "S3_ENDPOINT": "http://127.0.0.1:9000",
        "S3_FORCE_PATH_STYLE": "true",
    }


def test_a_profile_does_not_mix_with_keys_of_the_environment(user: Path) -> None:
    found = storage_env(
        {"HOME": str(user), "AWS_PROFILE": "minio", "AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s"}
    )
    assert (found["AWS_ACCESS_KEY_ID"], found.get("AWS_SESSION_TOKEN")) == ("i", None)


def test_other_names_of_the_environment(tmp_path: Path) -> None:
    found = storage_env(
        {
            "HOME": str(tmp_path),
            "AWS_DEFAULT_REGION": "r",
            "AWS_ENDPOINT_URL": "http://a",
            "AWS_ENDPOINT_URL_S3": "http://b",
        }
    )
    assert found == {"AWS_REGION": "r", "S3_ENDPOINT": "http://b"}


def test_a_file_of_ones_own(user: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine"
    path.write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\nregion=x\n")
    assert storage_env({"AWS_SHARED_CREDENTIALS_FILE": str(path), "HOME": str(user)})["AWS_ACCESS_KEY_ID"] == "a"


def test_nothing_anywhere(tmp_path: Path) -> None:
    assert storage_env({"HOME": str(tmp_path)}) == {}


@pytest.mark.parametrize(
    ("env", "words", "hint"),
    [
        ({"AWS_PROFILE": "mino"}, "no AWS profile 'mino'", "did you mean 'minio'?"),
        ({"AWS_PROFILE": "zzz"}, "no AWS profile 'zzz'", "default"),
        ({"AWS_PROFILE": "half"}, "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY", "both"),
        ({"AWS_ACCESS_KEY_ID": "half-id"}, "without AWS_SECRET_ACCESS_KEY", "both"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "/no/file"}, "no credentials file /no/file", "aws configure"),
        ({"AWS_CONFIG_FILE": "/dev"}, "/dev cannot be read", "permissions"),
    ],
)
def test_refusals(user: Path, env: dict[str, str], words: str, hint: str) -> None:
    with pytest.raises(CredentialsError) as error:
        storage_env({"HOME": str(user), **env})
    assert words in error.value.message
    assert hint in error.value.hint


@pytest.mark.parametrize("text", ["very-secret without a section", "[default]\nvery-secret\n", b"[default]\n\xff\xfe"])
def test_a_broken_file_is_not_quoted(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "credentials"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(CredentialsError, match="not a valid file") as error:
        storage_env({"AWS_SHARED_CREDENTIALS_FILE": str(path), "HOME": str(tmp_path)})
    assert "very-secret" not in str(error.value)


def test_its_text_shows_no_secret(user: Path) -> None:
    found = storage_env({"HOME": str(user), "AWS_PROFILE": "minio"})
    for text in (repr(found), str(found), f"{found}"):
        assert "minio-secret" not in text
        assert "minio-token" not in text
        assert "minio-id" not in text
        assert "http://127.0.0.1:9000" in text
