"""The Python of docs/embed.md runs."""

import re
from pathlib import Path

from shiftproof.models import ENCODER_LOADERS

PAGE = Path(__file__).parents[2] / "docs" / "embed.md"


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, "docs/embed.md", "exec"), names)
    assert names["vectors"].shape == (1, 1280)
    assert capsys.readouterr().out.strip() == "25 3 {}"


def test_every_source_of_encoders_is_named():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{source}" in text for source in ENCODER_LOADERS)
