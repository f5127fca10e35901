"""``--requirements`` takes a file or the packages themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kaptain_magics.errors import ScriptError
from kaptain_magics.script import read_requirements


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("numpy", ["numpy"]),
        ("numpy,pandas", ["numpy", "pandas"]),
        ("numpy pandas", ["numpy", "pandas"]),
        ("numpy>=1.26,<3, pandas[excel,html]>=2", ["numpy>=1.26,<3", "pandas[excel,html]>=2"]),
        ("numpy >= 1.26 , < 3", ["numpy>=1.26,<3"]),
        ("scikit-learn~=1.4 ruamel.yaml==0.*", ["scikit-learn~=1.4", "ruamel.yaml==0.*"]),
        ('tomli; python_version < "3.11", numpy', ['tomli; python_version < "3.11"', "numpy"]),
        ("pkg @ https://example.com/pkg.whl", ["pkg@https://example.com/pkg.whl"]),
        ("", []),
    ],
)
def test_lists(text: str, lines: list[str]) -> None:
    assert list(read_requirements(text)) == lines


def test_files(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("numpy>=1.26  # arrays\n\n")
    (tmp_path / "requirements.txt").write_text(
        "# ours\n-r base.txt\n--extra-index-url https://example.com/simple\n./local\n"
        "scikit-learn>0.24.2 \\\n  --hash=sha256:aa\n"
    )
    assert read_requirements("requirements.txt", tmp_path) == (
        "numpy>=1.26",
        "--extra-index-url https://example.com/simple",
        "./local",
        "scikit-learn>0.24.2    --hash=sha256:aa",
    )
    (tmp_path / "needs").write_text("xgboost")
    assert read_requirements(str(tmp_path / "needs")) == ("xgboost",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("requirement.txt", "did you mean 'requirements.txt'?"),
        ("./none.txt", "there is no requirements file"),
        ("loop.txt", "includes itself with -r"),
        ("bad.txt", "line 2: 'what is this' is not a valid requirement"),
        ("binary.txt", "is not UTF-8 text"),
        ("/", "cannot be read"),
        ("~nobody-of-that-name/needs.txt", "is not a valid path"),
        ("a\0.txt", "is not a valid path"),
        ("!!", "is not a valid requirement"),
        ("numpy==", "is not a valid requirement"),
    ],
)
def test_what_is_no_requirement_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "requirements.txt").write_text("numpy")
    (tmp_path / "loop.txt").write_text("-r loop.txt")
    (tmp_path / "bad.txt").write_text("numpy\nwhat is this\n")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScriptError) as caught:
        read_requirements(text, tmp_path)
    assert message in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_gives_lines_or_an_error(text: str) -> None:
    try:
        read_requirements(text, "/nonexistent")
    except ScriptError as error:
        said = error
    else:
        return
    assert said.hint
