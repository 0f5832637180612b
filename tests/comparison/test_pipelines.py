"""The GitHub action and the GitLab job: their files are read, and their shell steps run in bash."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

import shiftproof
from shiftproof import cli
from support.simulated_runs import draw_tables, write_run
from support.tiny import NAMES, write_photos

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not there")


@pytest.fixture
def programs(tmp_path):
    """A folder in front of PATH: shiftproof as it is here, and a pip that only notes its words."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, lines in {
        "shiftproof": f'exec "{sys.executable}" -m shiftproof "$@"',
        "python": 'echo "$@" >> "$PIP_WORDS"',
    }.items():
        (folder / name).write_text(f"#!/bin/bash\n{lines}\n")
        (folder / name).chmod(0o755)
    return {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin",
        "PYTHONPATH": str(Path(shiftproof.__file__).parents[1]),
        "PIP_WORDS": str(tmp_path / "pip.txt"),
    }


def run_bash(script, folder, variables):
    # As both services do it: a step ends at the first command that fails.
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def fill(text, inputs):
    """Put the inputs where GitHub does, and refuse any other expression."""
    known = {f"inputs.{name}": inputs.get(name, entry.get("default", ""))
             for name, entry in ACTION["inputs"].items()}  # fmt: skip
    known["github.action_path"] = str(ROOT)
    return re.sub(r"\$\{\{\s*(.*?)\s*\}\}", lambda found: known[found[1]], text)


def run_step(name, folder, programs, inputs):
    step = STEPS[name]
    assert step["shell"] == "bash"
    assert "${{" not in step["run"]  # text of others never stands in the script
    files = {"GITHUB_OUTPUT": folder / "output", "GITHUB_STEP_SUMMARY": folder / "summary"}
    for file in files.values():
        file.touch()
    own = {name: fill(value, inputs) for name, value in step["env"].items()}
    variables = {**programs, **own, **{name: str(file) for name, file in files.items()}}
    done = run_bash(step["run"], folder, variables)
    output = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return done, output, files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "before", {"source": draw_tables(200, hope=0.02)["source"]})
    write_run(folder / "after", {"source": draw_tables(200, hope=0.1, seed=3)["source"]})
    return {"baseline": str(folder / "before"), "candidate": str(folder / "after")}


def test_the_action_is_composite_without_secrets():
    assert ACTION["runs"]["using"] == "composite"
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert "secrets." not in text
    assert "github.token" not in text
    outputs = set(re.findall(r'echo "([a-z]+)=', STEPS["Compare the runs"]["run"]))
    assert outputs == set(ACTION["outputs"])


def test_the_workflow_on_the_page_gives_inputs_that_the_action_has():
    page = (ROOT / "docs" / "compare.md").read_text(encoding="utf-8")
    [block] = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    [gate] = [step for step in yaml.safe_load(block)["jobs"]["robustness"]["steps"] if "with" in step
              and step["uses"].startswith("shiftproof/")]  # fmt: skip
    needed = {name for name, entry in ACTION["inputs"].items() if entry.get("required")}
    assert needed <= set(gate["with"]) <= set(ACTION["inputs"])


def test_the_action_fails_with_a_significant_loss_and_appends_the_summary(runs, tmp_path, programs):
    inputs = {**runs, "fail-if": "  mean > +1.0\n\n  any > +90\n"}
    done, output, summary = run_step("Compare the runs", tmp_path, programs, inputs)
    assert done.returncode == 3, done.stderr
    assert output == {"failed": "true", "json": "shiftproof-gate.json"}
    assert summary.startswith("### Robustness: the gate fails")
    assert len(json.loads((tmp_path / output["json"]).read_text())["checks"]) == 3
    assert (
        ElementTree.parse(tmp_path / "shiftproof-gate.xml").getroot().find(".//failure") is not None
    )


def test_the_action_passes_and_does_not_execute_its_inputs(runs, tmp_path, programs):
    inputs = {**runs, "candidate": runs["baseline"], "strict": "true", "model": "source",
              "fail-if": "clean > +50", "markdown": "$(touch hurt).md"}  # fmt: skip
    done, output, _ = run_step("Compare the runs", tmp_path, programs, inputs)
    assert done.returncode == 0, done.stderr
    assert output == {"failed": "false", "json": "$(touch hurt).json"}
    assert not (tmp_path / "hurt").exists()


def test_the_action_refuses_inputs_without_a_condition(runs, tmp_path, programs):
    done, output, _ = run_step("Compare the runs", tmp_path, programs, {**runs, "fail-if": " \n"})
    assert (done.returncode, output) == (2, {})
    assert "fail-if has no condition" in done.stdout


def test_the_action_writes_nothing_if_a_run_is_missing(runs, tmp_path, programs):
    inputs = {**runs, "candidate": str(tmp_path / "nowhere"), "fail-if": "mean > +1.0"}
    done, output, _ = run_step("Compare the runs", tmp_path, programs, inputs)
    assert (done.returncode, output) == (2, {})
    assert "nowhere" in done.stderr
    assert not (tmp_path / "shiftproof-gate.json").exists()


def test_the_action_installs_the_requirement_or_a_missing_package(tmp_path, programs):
    words = Path(programs["PIP_WORDS"])
    run_step("Install shiftproof", tmp_path, programs, {})
    assert not words.exists()
    run_step("Install shiftproof", tmp_path, programs, {"requirement": "shiftproof==1.0"})
    assert words.read_text() == "-m pip install shiftproof==1.0\n"
    (tmp_path / "bin" / "shiftproof").unlink()
    run_step("Install shiftproof", tmp_path, programs, {})
    assert words.read_text().splitlines()[1] == f"-m pip install {ROOT}"


def write_model(path, weight):
    """A graph that averages over the positions and multiplies by a matrix."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
         helper.make_node("Flatten", ["mean"], ["flat"]),
         helper.make_node("MatMul", ["flat", "weight"], ["logits"])],
        "mean",
        [value("image", TensorProto.FLOAT, ["n", 3, 24, 24])],
        [value("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )  # fmt: skip
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )


def test_the_gitlab_job_measures_and_compares(tmp_path, programs, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [(_, job)] = yaml.safe_load((ROOT / "examples/gitlab-ci.yml").read_text("utf-8")).items()
    write_photos(tmp_path / "photos")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES))
    write_model(tmp_path / "model.onnx", np.eye(3))
    model = job["variables"]["MODEL"] + "&mean=0.5,0.5,0.5&std=0.1,0.1,0.1"
    grid = "--corruptions contrast --severities 1 --workers 0"
    words = ["bench", "-m", model, "-d", job["variables"]["DATA"], *grid.split()]
    assert cli.run([*words, "-o", str(tmp_path / "robustness" / "baseline")]) == 0
    write_model(tmp_path / "model.onnx", np.roll(np.eye(3), 1, axis=0))  # a model that is worse
    own = {**job["variables"], "MODEL": model, "GRID": grid}
    done = run_bash("\n".join(job["script"]), tmp_path, {**programs, **own})
    assert done.returncode == 3, done.stderr
    assert Path(programs["PIP_WORDS"]).read_text() == f"-m pip install {own['REQUIREMENT']}\n"
    reports = job["artifacts"]
    suite = ElementTree.parse(tmp_path / reports["reports"]["junit"]).getroot()[0]
    assert suite.get("failures") == "1"
    assert all((tmp_path / path).exists() for path in reports["paths"])
