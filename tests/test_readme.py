"""What the README says is run."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("default", "error::FutureWarning")
def test_the_python_blocks_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "readme.py"
    script.write_text("\n".join(blocks("python")), encoding="utf-8")
    runpy.run_path(str(script), run_name="__main__")
    assert "value" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        line.split("&&")[-1].strip()
        for block in blocks("bash")
        for line in block.splitlines()
        if "shiftproof " in line
    ],
)
def test_the_commands_are_spelt_as_the_command_line_knows_them(command):
    from typer.main import get_command

    from shiftproof.cli import app

    program, verb, *arguments = shlex.split(command)
    assert program == "shiftproof"
    parser = get_command(app).commands[verb]
    parser.make_context(verb, list(arguments))


def test_the_commands_that_ci_reads_are_there():
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert 'python -m pip install -e ".[demo]" && shiftproof demo' in lines
    assert 'python -m pip install -e ".[dev]" && python -m pytest' in lines


def test_links_to_files_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
