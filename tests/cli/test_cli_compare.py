"""``shiftproof compare`` as it is typed: exit codes, what is written, and warnings."""

import json
from xml.etree import ElementTree

import pytest

from shiftproof import cli
from support.simulated_runs import draw_tables, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    write_run(folder / "before", {"source": draw_tables(200, hope=0.02)["source"]})
    write_run(folder / "after", {"source": draw_tables(200, hope=0.1, seed=3)["source"]})
    return folder


def compare(runs, *words, baseline="before", candidate="after"):
    return cli.run(["compare", *(str(one) for one in (runs / baseline, runs / candidate, *words))])


def test_a_failing_gate_leaves_with_3_and_a_holding_one_with_0(runs, capsys):
    assert compare(runs) == 0
    assert compare(runs, "--fail-if", "mean > +1") == 3
    assert "The gate fails: 1 of 1 check." in capsys.readouterr().out
    assert compare(runs, "--fail-if", "mean > +90", "--fail-if", "clean > 90", "--strict") == 0
    assert "The gate holds: 2 checks." in capsys.readouterr().out


def test_bad_input_leaves_with_2_and_writes_nothing(runs, tmp_path, capsys):
    words = ("--junit", tmp_path / "gate.xml", "--markdown", tmp_path / "gate.md")
    assert compare(runs, "--fail-if", "fgo > +1", *words) == 2
    assert "Did you mean 'fog'" in capsys.readouterr().err
    assert compare(runs, *words, candidate="nowhere") == 2
    assert list(tmp_path.iterdir()) == []


def test_the_files_say_what_failed(runs, tmp_path, capsys):
    junit, markdown = tmp_path / "sub" / "gate.xml", tmp_path / "gate.md"
    words = ("--fail-if", "mean > +1", "--fail-if", "any > +90", "--junit", junit)
    assert compare(runs, *words, "--markdown", markdown, "--json") == 3
    output = json.loads(capsys.readouterr().out)
    assert output["failed"]
    assert [one["failed"] for one in output["checks"]] == [True, False, False]
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    names = [case.get("name") for case in suite.iter("testcase")]
    assert names == ["mean > +1", "any > +90: fog", "any > +90: contrast"]
    failure = suite.find("testcase/failure")
    assert failure.get("message").startswith("fails: mean > +1  Error under corruption changed by")
    text = markdown.read_text(encoding="utf-8")
    assert text.startswith("### Robustness: the gate fails\n")
    [row] = [line for line in text.splitlines() if "`mean > +1`" in line]
    assert row.endswith("❌ fails |")


def change_settings(run, change):
    path = run / "run.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("what", "key", "values"),
    [
        ("seed (", "settings", ({"seed": 0}, {"seed": 1})),
        ("data (", "settings", ({"data": {"fingerprint": "a"}}, {"data": {"fingerprint": "b"}})),
        ("how frost is made (", "settings",
         ({"corruptions": {"frost": "frost"}}, {"corruptions": {"frost": "frost, drawn textures"}})),
        ("other software", "provenance", ({"libraries": {"numpy": "1.26"}}, {"libraries": {"numpy": "2"}})),
        ("other software", "provenance", ({"device": "cpu"}, {"device": "cuda"})),
    ],
)  # fmt: skip
def test_what_is_not_like_for_like_is_said_on_the_terminal_and_in_the_summary(
    tmp_path, capsys, what, key, values
):
    table = {"source": draw_tables(30)["source"]}
    for name, value in zip(("one", "two"), values, strict=True):
        run = write_run(tmp_path / name, table)
        change_settings(run, lambda content, value=value: content.setdefault(key, {}).update(value))
    words = ("--markdown", tmp_path / "gate.md", "--fail-if", "mean > +0")
    assert compare(tmp_path, *words, baseline="one", candidate="two") == 0
    output = " ".join(capsys.readouterr().err.split())
    assert "warning: " in output
    assert what in output
    assert "Not comparable" in (tmp_path / "gate.md").read_text(encoding="utf-8")


def test_runs_that_are_alike_give_no_warning(runs, capsys):
    compare(runs)
    assert "warning" not in capsys.readouterr().err
