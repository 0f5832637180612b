"""The examples of docs/zero-shot.md and docs/models.md run, and the tables of models have no gap."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from shiftproof.cli import run
from shiftproof.models import (
    CLASSIFIER_LOADERS,
    DETECTOR_LOADERS,
    ENCODER_LOADERS,
    SEGMENTER_LOADERS,
    TEXT_LOADERS,
)
from support.photos_by_class import write_photos_by_class

DOCS = Path(__file__).parents[2] / "docs"


def rows_of_the_table():
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    section = text.partition("## Which sources work with which commands")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_cell_says_yes_or_why_not():
    head, _, *rows = rows_of_the_table()
    assert {len(row) for row in rows} == {len(head)}
    for row in rows:
        for cell in row[1:]:
            assert re.match(r"(yes|with `detect`)|no: .{8,}", cell), row


@pytest.mark.parametrize(
    ("loaders", "column"),
    [(CLASSIFIER_LOADERS, 1), (ENCODER_LOADERS, 3), (TEXT_LOADERS, 4), (DETECTOR_LOADERS, 5)],
)
def test_the_table_says_yes_of_the_sources_that_there_are(loaders, column):
    _, _, *rows = rows_of_the_table()
    said = {
        match[1]
        for row in rows
        if (match := re.match(r"`(\w+)`", row[0])) and row[column].startswith("yes")
    }
    assert said == set(loaders), (
        f"{sorted(said ^ set(loaders))}: docs/models.md has a row of each source, with yes in the column "
        "of each verb that takes it"
    )


@pytest.mark.parametrize(
    ("page", "loaders"),
    [
        ("README.md", CLASSIFIER_LOADERS),
        ("docs/detection.md", DETECTOR_LOADERS),
        ("docs/segmentation.md", SEGMENTER_LOADERS),
        ("docs/embed.md", ENCODER_LOADERS),
    ],
)
def test_the_models_of_a_page_are_of_the_sources_that_there_are(page, loaders):
    text = (DOCS.parent / page).read_text(encoding="utf-8")
    sources = set(
        re.findall(r"`(\w+):[^`\n]*`", "\n".join(re.findall(r"^\|.*", text, re.MULTILINE)))
    )
    unnamed = set(loaders) - sources - {"demo"}
    assert not unnamed, f"{page}: its table of models does not name {sorted(unnamed)}"


def test_the_python_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    text = (DOCS / "zero-shot.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/zero-shot.md", "exec"), names)
    assert names["logits"].shape == (1, 3)
    expected = (names["classifier"].predict(names["images"]).argmax(1) == names["labels"]).mean()
    assert names["accuracy"].value == pytest.approx(expected)


def test_the_command_with_a_function_of_ones_own_prints_what_its_page_says(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    module, shown = re.search(
        r"```python\n(# my_nets\.py\n.*?)```.*?```text\n(.*?)```", text, re.DOTALL
    ).groups()
    Path("my_nets.py").write_text(module, encoding="utf-8")
    sys.modules.pop("my_nets", None)
    write_photos_by_class(Path("photos"))
    command, _, expected = shown.partition("\n")
    assert run([*shlex.split(command)[2:], "--workers", "0"]) == 0
    sys.modules.pop("my_nets")
    said = capsys.readouterr()
    assert (said.err + said.out).split() == expected.split()
