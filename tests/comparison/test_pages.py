"""The Python of the pages on comparing, integrations and notebooks runs, and prints what they say."""

import re
import shlex
from pathlib import Path

import pytest

from shiftproof import cli
from support.simulated_runs import draw_tables, write_run

DOCS = Path(__file__).parents[2] / "docs"

BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    tables = draw_tables(400, hope=0.05)
    write_run(tmp_path / "before", {"source": tables["source"]}, title="onnx:a.onnx")
    write_run(tmp_path / "after", {"source": tables["BN"]}, title="onnx:b.onnx")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("page", "count"), [("compare.md", 1), ("integrations.md", 3), ("notebooks.md", 1)]
)
def test_it_prints_what_it_says(page, count, capsys):
    names = {}
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(blocks) == count
    for code, output in blocks:
        exec(compile(code, f"docs/{page}", "exec"), names)
        assert capsys.readouterr().out == output, code


@pytest.mark.usefixtures("folders")
def test_the_terminal_shows_what_the_page_says(capsys):
    page = (DOCS / "compare.md").read_text(encoding="utf-8")
    command, output = re.search(
        r"\n(shiftproof compare .*?)\n```\n\n```text\n(.*?)```", page, re.DOTALL
    ).groups()
    assert cli.run(shlex.split(command)[1:]) == 0
    assert capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ") == output
