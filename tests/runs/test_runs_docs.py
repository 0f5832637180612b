"""The Python of docs/runs.md runs, and prints what stands below it."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "runs.md"

BLOCK = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def test_it_prints_what_it_says(folders, monkeypatch, capsys):
    monkeypatch.chdir(folders)
    names = {}
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) == 6
    for code, said in blocks:
        exec(compile(code, "docs/runs.md", "exec"), names)
        assert capsys.readouterr().out == said, code
