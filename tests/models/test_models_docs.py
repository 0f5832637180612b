"""The Python of docs/zero-shot.md runs, and docs/models.md leaves no cell without a reason."""

import re
from pathlib import Path

import pytest

from shiftproof.models import CLASSIFIER_LOADERS, DETECTOR_LOADERS, ENCODER_LOADERS, TEXT_LOADERS

DOCS = Path(__file__).parents[2] / "docs"


def rows_of_the_table():
    text = (DOCS / "models.md").read_text(encoding="utf-8")
    section = text.partition("## Which sources go with which verbs")[2].partition("\n## ")[0]
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
    assert said == set(loaders)


def test_the_python_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    text = (DOCS / "zero-shot.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/zero-shot.md", "exec"), names)
    assert names["logits"].shape == (1, 3)
    expected = (names["classifier"].predict(names["images"]).argmax(1) == names["labels"]).mean()
    assert names["accuracy"].value == pytest.approx(expected)
