"""The Python of docs/runs.md and docs/report.md runs, and prints what stands below it."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"

BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.mark.parametrize(("page", "count"), [("runs.md", 6), ("report.md", 1)])
def test_it_prints_what_it_says(folders, monkeypatch, capsys, page, count):
    monkeypatch.chdir(folders)
    names = {}
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(blocks) == count
    for code, output in blocks:
        exec(compile(code, f"docs/{page}", "exec"), names)
        assert capsys.readouterr().out == output, code
