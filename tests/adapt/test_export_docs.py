"""docs/export.md: its code gives its output, and its tables are those that were measured."""

import json
import re
import runpy
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def test_its_code_gives_its_output(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "docs"}
    blocks = re.findall(r"```python\n(.*?)```\s+```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    for code, shown in blocks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's exporter and ONNX Runtime's quantizer
            exec(compile(code, "docs/export.md", "exec"), names)
        assert capsys.readouterr().out.replace("np.True_", "True").endswith(shown)


def test_its_tables_are_generated_from_the_measurements(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "adapting_graphs.py"))
    path = ROOT / "benchmarks" / "results" / "adapting_graphs.json"
    measured = json.loads(path.read_text(encoding="utf-8"))
    for name in ("times", "noise"):
        assert benchmark[f"table_of_{name}"](measured) in PAGE
