import json
import sys

import pytest

import shiftproof_reproduce as recipes
from shiftproof import cli
from shiftproof_reproduce import fashion, table


def run(*arguments):
    return cli.run([str(word) for word in arguments])


@pytest.fixture
def finished(bn, monkeypatch):
    """The first recipe, which comes to a result that is there already; and that."""
    _, result = bn

    def give_back(out, *, data, show_progress):
        out.mkdir(exist_ok=True)
        return result

    recipe = recipes.Recipe("in small, for this test", give_back, give_back)
    monkeypatch.setitem(table.RECIPES, "bn-adaptation", recipe)
    return result


def test_writes_the_folder_and_shows_the_findings(finished, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("reproduce", "bn-adaptation", "--out", out) == 0
    shown = capsys.readouterr().out
    assert "N = 16" in shown
    assert "Batch statistics lower the error" in " ".join(shown.split())
    assert recipes.read_result(out / "result.json") == finished
    assert (out / "README.md").read_text(encoding="utf-8") == recipes.render(finished)["README.md"]
    assert run("reproduce", "bn-adaptation", "--out", out, "--json") == 0
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
