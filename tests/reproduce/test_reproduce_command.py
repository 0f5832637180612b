import sys

import pytest

from shiftproof_reproduce import fashion
from support.command import run


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
    monkeypatch.setattr(fashion, "DATA_FOLDERS", (tmp_path / "nowhere",))
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
