"""The Python of docs/similarity.md runs, and so do its commands, on the files that it makes."""

import re
import shlex
from pathlib import Path

import numpy as np

from shiftproof import cli
from shiftproof.similarity import plan

PAGE = Path(__file__).parents[2] / "docs" / "similarity.md"


def test_it_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rates = plan.Rates(top_k=2e8, nearest=4e8, prune=4e8, preparation=1e-4)
    monkeypatch.setattr(plan, "calibrate", lambda *_, **__: rates)
    text = PAGE.read_text(encoding="utf-8")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "docs/similarity.md", "exec"), names)
    np.testing.assert_allclose(names["total"]["sum"], names["train"].astype(float).sum(axis=0))
    commands = re.findall(r"^shiftproof (.*)$", text, re.MULTILINE)
    assert {words.split()[0] for words in commands} >= {
        "audit", "prune", "dedup", "coreset", "subset",
    }  # fmt: skip
    for words in commands:
        assert cli.run(shlex.split(words)) == 0, f"{words}\n{capsys.readouterr().err}"
    for made in ("audit/scores.json", "kept/keep.npy", "core/keys.parquet", "shared/scores.json"):
        assert (tmp_path / made).is_file()
