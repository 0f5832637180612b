"""The Python of docs/probe.md runs, and every factor of its table is one."""

import re
from pathlib import Path

from shiftproof.probe.factors import AUGMENTATIONS, FACTORS

PAGE = (Path(__file__).parents[2] / "docs" / "probe.md").read_text(encoding="utf-8")


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "docs/probe.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert second.startswith("brightness kept")
    assert first.startswith("flip ")
    assert "kept" not in first


def test_the_table_names_factors_in_their_groups():
    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    named = {
        name: group
        for group, text in rows
        for name in re.findall(r"`(\w+)`", text)
        if name not in ("pixelate", "jpeg_compression")
    }
    assert len(named) == 6 + 8 + 2 + 4
    assert all(FACTORS[name].group == group for name, group in named.items())
    assert len(AUGMENTATIONS) == 12
