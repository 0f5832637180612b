import functools
import json
import shutil
import sys

import pytest

import shiftproof_reproduce as recipes
from shiftproof import cli
from shiftproof_reproduce import bn_adaptation, fashion, table
from support.tiny_fashion import BN_PLAN


def run(*arguments):
    return cli.run([str(word) for word in arguments])


@pytest.fixture
def small(monkeypatch):
    """The first recipe at a size that takes seconds."""
    quick = functools.partial(bn_adaptation.reproduce, plan=BN_PLAN)
    monkeypatch.setitem(
        table.RECIPES, "bn-adaptation", recipes.Recipe("in small, for this test", quick, quick)
    )


def test_writes_the_folder_and_shows_the_findings(small, bn, fashion_folder, tmp_path, capsys):
    data, out = fashion_folder, tmp_path / "out"
    # The trainings and runs are there; all that is made of them is made anew.
    shutil.copytree(bn[0], out, ignore=shutil.ignore_patterns("README.md", "result.json"))
    assert run("reproduce", "bn-adaptation", "--out", out, "--data", data) == 0
    shown = capsys.readouterr().out
    assert "N = 16" in shown
    assert "Batch statistics lower the error" in " ".join(shown.split())
    result = recipes.read_result(out / "result.json")
    assert (out / "README.md").read_text(encoding="utf-8") == recipes.render(result)["README.md"]
    assert run("reproduce", "bn-adaptation", "--out", out, "--data", data, "--json") == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == "bn-adaptation"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bn-adaptaton"], "Did you mean 'bn-adaptation'"),
        (["bn-adaptation", "--scale", "smal"], "Did you mean 'small'"),
        (["bn-adaptation", "--scale", "paper"], "needs ImageNet-C on disk"),
        (["self-learning"], "dataset-fashion-mnist"),
        (["self-learning", "--scale", "paper", "--download"], "leave out"),
    ],
)
def test_errors_say_what_to_do(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fashion, "PLACES", (tmp_path / "nowhere",))
    assert run("reproduce", *arguments, "--out", tmp_path / "out") == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_says_so_where_the_experiments_are_not_installed(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shiftproof_reproduce", None)
    assert run("reproduce", "bn-adaptation", "--out", tmp_path / "out") != 0
    said = " ".join(capsys.readouterr().err.split())
    assert "shiftproof_reproduce, which comes with shiftproof, is missing" in said
    assert "Traceback" not in said


def test_a_file_is_no_folder(tmp_path, capsys):
    out = tmp_path / "out"
    out.write_text("mine")
    assert run("reproduce", "bn-adaptation", "--out", out) == 2
    assert "is a file; expected a folder" in capsys.readouterr().err
