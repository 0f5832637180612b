"""The Python of docs/conditions.md runs, and prints what the page says."""

import re
from pathlib import Path

from support import finished_runs

PAGE = (Path(__file__).parents[2] / "docs" / "conditions.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_prints_what_stands_there(tmp_path, monkeypatch, capsys):
    finished_runs.run_classifier(tmp_path, tmp_path / "classifier")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    code, printed = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, flags=re.S)[0]
    exec(compile(code, "docs/conditions.md", "exec"), {})
    assert capsys.readouterr().out == printed
