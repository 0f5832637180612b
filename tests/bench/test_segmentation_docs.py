"""The Python of docs/segmentation.md runs, in a folder of its own."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "segmentation.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("skimage")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.S):
        exec(compile(block, "docs/segmentation.md", "exec"), names)
    shown = capsys.readouterr().out.splitlines()
    clean, fog = (float(word) for word in shown[0].split())
    # What the output on the page says of the first model, clean.
    row = next(line for line in PAGE.splitlines() if line.startswith("Clean "))
    assert f"{100 * clean:.1f}" == row.split()[1]
    assert fog < clean
    assert f"```text\n{shown[-1]}\n```" in PAGE


def test_pictures_and_pages_that_are_linked_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
