"""docs/adaptation-methods.md: its code runs, its strings are adapters, its table is measured."""

import json
import re
import runpy
from pathlib import Path

from shiftproof.adapt import make_adapter
from support.norm_networks import classifier_of, network

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adaptation-methods.md").read_text(encoding="utf-8")


def test_its_code_gives_its_output(capsys, monkeypatch):
    """With a small network of five classes in the place of the demo's thousand, which takes long."""
    small = classifier_of(network("batch"))
    monkeypatch.setattr("shiftproof.models.load_classifier", lambda name: small)
    code, shown = re.findall(r"```(?:python|text)\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(code, "docs/adaptation-methods.md", "exec"), {})
    assert capsys.readouterr().out.replace("(1, 5)", "(1, 1000)") == shown


def test_its_option_strings_make_adapters():
    specs = set(re.findall(r"`((?:cotta|rotta|note|memo|batchnorm):[^`]*)`", PAGE))
    assert len(specs) > 12
    for spec in specs:
        make_adapter(spec.replace("=P", "=1"), classifier_of(network("batch")))


def test_its_table_is_generated_from_the_measurements(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "adaptation_methods.py"))
    path = ROOT / "benchmarks" / "results" / "adaptation_methods.json"
    assert benchmark["summary"](json.loads(path.read_text(encoding="utf-8"))) in PAGE
