"""What `--help` shows: all that must be typed, on a narrow terminal, too."""

import importlib
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin

import pytest
from typer.main import get_command

from shiftproof import cli
from shiftproof.cli import url_arguments
from shiftproof.cli.option_groups import expand_groups
from shiftproof.cli.verbs import PANELS, VERBS, load_verb

FRAME = re.compile(r"[│╭╮╰╯─]")


def show_help(words, width, monkeypatch, capsys):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", width)
    assert cli.run([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("verb", VERBS)
def test_no_word_of_a_verbs_help_is_cut(verb, width, monkeypatch, capsys):
    shown = show_help([verb], width, monkeypatch, capsys)
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= width
    shown = FRAME.sub(" ", shown)
    words = {*shown.split(), *shown.replace(",", " ").split()}
    command = load_verb(verb)
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        written = [*(parameter.help or "").replace("\\[", "[").split()]
        if parameter.param_type_name == "option":
            written += parameter.opts
        assert not set(written) - words, parameter.name


def test_the_verbs_stand_in_one_screen_each_in_one_line(monkeypatch, capsys):
    output = show_help([], 80, monkeypatch, capsys)
    assert len(output.splitlines()) < 60, (
        "the verbs no longer fit one screen: make yours an option of another verb, or let this limit grow"
    )
    for verb, sentence in VERBS.items():
        assert re.search(rf"│ {verb} +{re.escape(sentence)} +│", output), verb


def test_the_everyday_verbs_stand_on_the_first_screen_of_24_lines(monkeypatch, capsys):
    first = show_help([], 80, monkeypatch, capsys).splitlines()[:24]
    everyday = next(iter(PANELS.values()))
    assert len(everyday) == 5
    for verb in everyday:
        assert any(line.startswith(f"│ {verb} ") for line in first), verb


def test_the_verbs_stand_in_few_panels_by_what_one_wants_to_do(monkeypatch, capsys):
    shown = show_help([], 80, monkeypatch, capsys)
    assert len(PANELS) <= 7
    titles = re.findall(r"^╭─ (.+?) ─+╮$", shown, re.MULTILINE)
    assert titles == ["Options", *PANELS]


def test_every_verb_is_one_file_of_the_folder():
    for verb in VERBS:
        module = importlib.import_module(f"shiftproof.cli.{verb}")
        assert inspect.getsourcefile(module).endswith(f"cli/{verb}.py")
        assert load_verb(verb).name == verb


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_ends_its_help_with_examples_that_parse(verb):
    epilog = load_verb(verb).epilog
    start, _, examples = epilog.partition(":  ")
    assert start in ("Example", "Examples")
    for example in examples.split("  ·  "):
        program, name, *words = shlex.split(example)
        assert (program, name) == ("shiftproof", verb)
        get_command(cli.app).commands[verb].make_context(verb, words)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_takes_a_handful_of_parameters_and_shares_the_rest(verb):
    module = importlib.import_module(f"shiftproof.cli.{verb}")
    assert len(inspect.signature(getattr(module, verb)).parameters) <= 15


def test_options_of_one_name_are_spelt_alike():
    seen = {}
    for verb in VERBS:
        for parameter in load_verb(verb).params:
            for name in set(parameter.opts) & {"--workers", "--seed", "--split", "--json"}:
                seen.setdefault(name, set()).add((tuple(parameter.opts), parameter.default))
    assert {name: len(spellings) for name, spellings in seen.items()} == dict.fromkeys(seen, 1)
    devices = {
        parameter.default
        for verb in VERBS
        for parameter in load_verb(verb).params
        if "--device" in parameter.opts
    }
    assert devices == {"auto"}


def list_hints():
    """The verb, the parameter's name and the types of its value, for every parameter."""
    for verb in VERBS:
        function = getattr(importlib.import_module(f"shiftproof.cli.{verb}"), verb)
        for name, parameter in inspect.signature(expand_groups(function)).parameters.items():
            hint = parameter.annotation
            hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
            yield verb, name, [hint, *get_args(hint)]


def list_choices():
    """The values of each option that takes some alone, by its name; ``VERB NAME`` where they differ."""
    found = {}
    for verb, name, hints in list_hints():
        for hint in hints:
            if get_origin(hint) is Literal:
                found[f"{verb} {name}" if name == "rule" else name] = get_args(hint)
    return found


def test_choices_are_those_of_the_tables():
    from shiftproof.bench.cells.on_device import CorruptOn
    from shiftproof.bench.cells.views import Encode
    from shiftproof.bench.tasks.detection.measures import MEASURES
    from shiftproof.classes import LABEL_SETS
    from shiftproof.corruptions import scale
    from shiftproof.data.copies.writing import ImageFormat
    from shiftproof.data.detection.packed import BOX_FORMATS
    from shiftproof.models.dtypes import DTYPES
    from shiftproof.similarity.dedup import KeepingRule
    from shiftproof.similarity.keeping import Rule
    from shiftproof.similarity.search.options import PRECISIONS
    from shiftproof.similarity.sources import UnusableRows
    from shiftproof_reproduce.table import Scale

    choices = list_choices()
    tables = {
        "box_format": BOX_FORMATS,
        "corrupt_on": get_args(CorruptOn),
        "dedup rule": get_args(KeepingRule),
        "dtype": DTYPES,
        "encode": get_args(Encode),
        "image_format": get_args(ImageFormat),
        "labels": ("none", *LABEL_SETS),
        "measure": ("auto", *MEASURES),
        "precision": PRECISIONS,
        "prune rule": get_args(Rule),
        "scale": get_args(Scale),
        "unusable": get_args(UnusableRows),
    }
    for name, values in tables.items():
        assert set(choices.pop(name)) == set(values), f"--{name}: expected its table's {values}"
    for name in choices.pop("constants"):
        assert scale(name)
    assert set(choices) == {"method", "table", "task"}, "name the table of a new choice above"


def test_every_choice_is_named_in_the_help_of_its_option():
    for verb, name, hints in list_hints():
        [help_text] = [one.help for one in load_verb(verb).params if one.name == name]
        for hint in hints:
            if get_origin(hint) is Literal and name != "labels":
                missing = [value for value in get_args(hint) if value not in help_text]
                assert not missing, f"{verb} --{name}: its help does not name {missing}"


TABLES = [
    ("bench", "model", "shiftproof.models.CLASSIFIER_LOADERS"),
    ("evaluate", "model", "shiftproof.models.CLASSIFIER_LOADERS"),
    ("detect", "model", "shiftproof.models.DETECTOR_LOADERS"),
    ("segment", "model", "shiftproof.models.SEGMENTER_LOADERS"),
    ("embed", "model", "shiftproof.models.ENCODER_LOADERS"),
    ("probe", "model", "shiftproof.models.ENCODER_LOADERS"),
    ("detect", "adapt", "shiftproof.adapt.dense.methods.METHODS"),
    ("log", "to", "shiftproof.integrations.TRACKERS"),
    ("reproduce", "recipe", "shiftproof_reproduce.RECIPES"),
]


@pytest.mark.parametrize(("verb", "name", "table"), TABLES, ids=lambda words: words)
def test_help_names_every_row_of_its_table(verb, name, table):
    module, _, rows = table.rpartition(".")
    [help_text] = [one.help for one in load_verb(verb).params if one.name == name]
    unnamed = set(getattr(importlib.import_module(module), rows)) - set(
        re.findall(r"[\w-]+", help_text)
    )
    assert not unnamed, f"the help of `{verb}` {name} does not name {sorted(unnamed)} of {table}"


def test_every_path_may_be_a_url():
    known = (
        url_arguments._FETCHED | url_arguments._FOLDERS | {name for _, name in url_arguments._FILES}
    )
    found = {f"{verb} {name}" for verb, name, hints in list_hints() if Path in hints}
    unknown = {one for one in found if one.split()[1] not in known}
    assert not unknown, (
        f"{sorted(unknown)}: say in cli/url_arguments.py whether it is read or written"
    )


def test_help_of_all_imports_no_verb():
    code = (
        "import sys; from shiftproof import cli; cli.run(['--help']);"
        "print(sorted(name for name in ('numpy', 'numba', 'shiftproof.cli.bench') "
        "if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


REFUSED = """
report gone
compare gone lost
conditions gone --metadata table.csv --by weather
log gone --to tensorboard
dedup gone --out o
prune gone --test a=lost --out o
audit gone --test a=lost --out o
subset gone --keep keep.npy --out o
data gone
corrupt gone o
stylize gone o --styles lost
score --data gone --predictions lost --out o
export timm:resnet18 o.onnx --calibrate gone
detect --model torchvision:fasterrcnn_resnet50_fpn --data gone --out o
segment --model torchvision:deeplabv3_resnet50 --data gone --out o
"""
"""A command of each verb that asks for its data before its model, whose data is not there; those that
read runs first, then those that read rows."""


def test_a_refusal_does_not_wait_for_what_measures(tmp_path):
    code = (
        "import sys; from shiftproof import cli\n"
        "for line in sys.stdin.read().split('\\n'):\n"
        "    if line: print(cli.run(line.split()), *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=REFUSED,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    output = {
        verb.split()[0]: words.split()
        for verb, words in zip(
            REFUSED.strip().split("\n"), done.stdout.strip().split("\n"), strict=True
        )
    }
    assert {verb: words[0] for verb, words in output.items()} == dict.fromkeys(output, "2")
    slow = {"torch", "torchvision", "timm", "numba", "cv2", "pyarrow", "scipy", "jinja2", "ssl"}
    assert slow & set(output["segment"]) == set()
    measuring = {f"shiftproof.{name}" for name in ("bench", "report", "comparison", "adapt")}
    assert (measuring | {"loky", "shiftproof.corruptions.table"}) & set(output["log"]) == set()
    assert "loky" not in output["subset"]
