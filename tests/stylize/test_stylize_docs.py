"""The page on stylised data: its code runs, its commands are spelt right, its table is measured."""

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "stylize.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for block in blocks("python"):
        exec(compile(block, "docs/stylize.md", "exec"), names)
    assert names["painted"].shape == (120, 160, 3)
    assert names["augmented"].shape == (120, 160, 3)


@pytest.mark.parametrize(
    "command", [line.split("#")[0] for block in blocks("bash") for line in block.splitlines()]
)
def test_commands_are_spelt_as_the_command_line_knows_them(command):
    from typer.main import get_command

    from shiftproof.cli import app

    program, verb, *arguments = shlex.split(command)
    assert (program, verb) == ("shiftproof", "stylize")
    get_command(app).commands[verb].make_context(verb, arguments)


def test_the_table_is_generated_from_the_measurements(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "stylize.py"))
    path = ROOT / "benchmarks" / "results" / "stylize.json"
    assert benchmark["summary"](json.loads(path.read_text(encoding="utf-8"))).strip() in PAGE


def test_the_files_it_leads_to_are_there():
    for target in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
