"""ARCHITECTURE.md leads where it says: its files are there, and hold the names that it gives."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
FILES = [
    path.relative_to(ROOT).as_posix()
    for folder in ("src", "tests", "docs")
    for path in (ROOT / folder).rglob("*.*")
]
NAMED = sorted(set(re.findall(r"`([\w/]+\.(?:py|md|js))`", TEXT)))
HELD = re.compile(r"((?:`\w+`(?:,| and)? )+)(?:(?:of|in) |\()`([\w/]+\.py)`")
"""Names, and the file in which they are said to stand: `VERBS` in `cli/verbs.py`."""


def find_files(name: str) -> list[Path]:
    """The files of a name, which may leave out the folders above."""
    here = [ROOT / name] if (ROOT / name).is_file() else []
    return here + [ROOT / file for file in FILES if file.endswith(f"/{name}")]


@pytest.mark.parametrize("name", NAMED)
def test_a_file_that_it_names_is_there(name):
    assert find_files(name), f"ARCHITECTURE.md names {name}, which is not there: name what is"


@pytest.mark.parametrize(("names", "file"), HELD.findall(TEXT))
def test_a_name_stands_in_the_file_that_is_said(names, file):
    text = "\n".join(path.read_text(encoding="utf-8") for path in find_files(file))
    for name in re.findall(r"\w+", names.replace(" and", "")):
        assert re.search(rf"\b{name}\b", text), f"ARCHITECTURE.md: there is no {name} in {file}"
