"""`shiftproof.toml`: what it gives to verbs, who wins, and what is said of a wrong line."""

import json

import pytest
from PIL import Image

from shiftproof import cli
from shiftproof.cli import config
from shiftproof.cli.verbs import VERBS, load_verb


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda text: (tmp_path / "shiftproof.toml").write_text(text, encoding="utf-8")


def complaint(capsys):
    return " ".join(capsys.readouterr().err.split())


def test_a_verb_takes_its_defaults_from_the_file_and_says_so(write, capsys, tmp_path):
    write('device = "cpu"\n[corrupt]\ncorruptions = "contrast"\nseverities = [1, 3]\nworkers = 0\n')
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert cli.run(["corrupt", "a.png", "out"]) == 0
    assert "gives --corruptions contrast, --severities 1,3, --workers 0 (--no-config" in complaint(
        capsys
    )
    assert [path.name for path in sorted((tmp_path / "out" / "contrast").iterdir())] == ["1", "3"]


def test_what_is_typed_wins_and_is_not_said_to_come_from_the_file(write, capsys, tmp_path):
    write('[corrupt]\ncorruptions = "contrast"\nseverities = [1, 3]\nworkers = 0\n')
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert cli.run(["corrupt", "a.png", "out", "--severities", "2"]) == 0
    output = complaint(capsys)
    assert "--severities" not in output
    assert "--corruptions contrast" in output
    assert [path.name for path in (tmp_path / "out" / "contrast").iterdir()] == ["2"]


@pytest.mark.parametrize("words", [["--no-config", "doctor"], ["doctor", "--no-config"]])
def test_no_config_leaves_it_aside_wherever_it_is_typed(write, capsys, words):
    write("[doctor]\njson = true\n")
    assert cli.run(["doctor"]) == 0
    assert json.loads(capsys.readouterr().out)["shiftproof"]
    assert cli.run(words) == 0
    output = capsys.readouterr()
    assert output.out.startswith("shiftproof ")
    assert "shiftproof.toml" not in output.err


def test_lists_and_switches_become_what_the_options_take(write):
    write('adapt = "lame"\n[bench]\nmodel = ["a", "b"]\nseverities = [1, 3]\ndry-run = true\n')
    assert config.read_defaults(load_verb("bench"), list(VERBS), load_verb) == {
        "model": ["a", "b"], "severities": "1,3", "dry_run": True, "adapt": "lame",
    }  # fmt: skip


def test_a_table_is_for_its_verb_alone(write):
    write("seed = 3\n[bench]\nseed = 4\n")
    read = config.read_defaults
    assert read(load_verb("bench"), list(VERBS), load_verb) == {"seed": "4"}
    assert read(load_verb("detect"), list(VERBS), load_verb) == {"seed": "3"}
    assert read(load_verb("doctor"), list(VERBS), load_verb) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('modle = "x"', "line 1: 'modle' is not an option of any verb. Did you mean 'model'?"),
        ("\n[bnch]", "line 2: [bnch] is not a verb. Did you mean 'bench'?"),
        ("[plan]\ndmi = 3", "line 2: 'dmi' is not an option of `plan`. Did you mean 'dim'?"),
        ("[plan]\n# rows\ndim = true", "line 3: dim expects a value, got True."),
        ("[plan]\njson = 3", "line 2: json expects true or false, got 3."),
        (
            "[plan]\ndim = [\n[1]\n]",
            "line 2: dim expects text, a number or a list of them, got [1].",
        ),
        ('[plan]\ndim = "wide"', "shiftproof.toml, line 2, dim:"),
        ('dim = "wide"\n[plan]\njson = true', "shiftproof.toml, line 1, dim:"),
        ("[plan", "shiftproof.toml, line 1, column 6: not valid TOML"),
    ],
)
def test_a_wrong_line_is_bad_input_and_named(write, capsys, text, said):
    write(text)
    assert cli.run(["plan", "--train-rows", "1M", "--test-rows", "10"]) == 2
    assert said in complaint(capsys)


def test_a_wrong_value_that_was_typed_is_not_blamed_on_the_file(write, capsys):
    write("[plan]\ndim = 512\n")
    assert cli.run(["plan", "--train-rows", "1M", "--test-rows", "10", "--dim", "wide"]) == 2
    assert "shiftproof.toml" not in complaint(capsys)


def test_help_and_a_file_in_another_folder_are_none_of_its_business(write, capsys, tmp_path):
    write("[plan")
    assert cli.run(["plan", "--help"]) == 0
    write("[plan]\ndim = 512\n")
    (tmp_path / "below").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path / "below")
        assert config.read_defaults(load_verb("plan"), list(VERBS), load_verb) == {}


def test_every_option_of_every_verb_can_stand_in_the_file():
    for verb in VERBS:
        command = load_verb(verb)
        typed = {
            name
            for option in command.params
            if option.param_type_name == "option" and not option.hidden
            for name in option.opts
            if name.startswith("--") and name != "--help"
        }
        assert {f"--{name}" for name in config.list_options(command)} == typed


@pytest.mark.parametrize(
    "words", [["--seed", "1.5"], ["--seed=1.5"], ["--precision", "x1.5"], ["--workers=-1.5"]]
)
def test_a_number_that_is_none_is_shown(write, capsys, words):
    assert cli.run(["bench", "--model", "demo", "--data", "demo", *words]) == 2
    assert "1.5'" in complaint(capsys)


def test_a_number_of_the_file_that_is_none_is_shown(write, capsys):
    write("[bench]\nseed = 1.5\n")
    assert cli.run(["bench", "--model", "demo", "--data", "demo", "--out", "run"]) == 2
    output = complaint(capsys)
    assert "shiftproof.toml, line 2, seed: " in output
    assert "1.5'" in output
