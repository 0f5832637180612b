"""The files that ARCHITECTURE.md names exist, and define the names that it gives."""

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
NAMES_IN_FILES = re.compile(r"((?:`\w+`(?:,| and)? )+)(?:(?:of|in) |\()`([\w/]+\.py)`")
"""Names, and the file that is said to define them: `VERBS` in `cli/verbs.py`."""


def find_files(name: str) -> list[Path]:
    """Return the files of a name, which may omit parent folders."""
    here = [ROOT / name] if (ROOT / name).is_file() else []
    return here + [ROOT / file for file in FILES if file.endswith(f"/{name}")]


@pytest.mark.parametrize("name", NAMED)
def test_named_files_exist(name):
    assert find_files(name), f"ARCHITECTURE.md names {name}, which does not exist"


@pytest.mark.parametrize(("names", "file"), NAMES_IN_FILES.findall(TEXT))
def test_names_are_defined_in_their_files(names, file):
    text = "\n".join(path.read_text(encoding="utf-8") for path in find_files(file))
    for name in re.findall(r"\w+", names.replace(" and", "")):
        assert re.search(rf"\b{name}\b", text), f"ARCHITECTURE.md: there is no {name} in {file}"


def test_all_names_of_the_text_are_somewhere_in_the_code():
    folders = ("src", "tests", "pages", "scripts", "benchmarks")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    found = {path.stem for path in paths} | {part for path in paths for part in path.parts}
    for path in (*paths, ROOT / "pyproject.toml"):
        if path != Path(__file__):
            found.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    named = set(re.findall(r"`(\w+)`", TEXT))
    assert not named - found, "ARCHITECTURE.md has names that no code has"
