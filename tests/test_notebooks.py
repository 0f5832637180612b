"""Every notebook of the examples runs from an empty folder, and its values show themselves."""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples" / "notebooks").glob("*.ipynb"))

SAME_EVERYWHERE = {"2_detector", "3_similarity"}
"""Those whose numbers no version of torch can move."""


def run_cell(source, names):
    """Run a cell as a notebook does, and return the value of its last expression, if it is one."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return (
        None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    )


def show(value):
    """Return in which forms a value shows itself."""
    forms = {"text/html": "_repr_html_", "image/png": "_repr_png_"}
    return {name for name, method in forms.items() if getattr(value, method, lambda: None)()}


def of_kind(outputs, kind):
    return [one for one in outputs if one["output_type"] == kind]


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["1_classifier", "2_detector", "3_similarity"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_prints_what_stands_in_it(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        value = run_cell("".join(cell["source"]), names)
        printed = capsys.readouterr().out
        streams = of_kind(cell["outputs"], "stream")
        if path.stem in SAME_EVERYWHERE:
            assert printed == "".join("".join(one["text"]) for one in streams)
        assert bool(printed) == bool(streams)
        for shown in of_kind(cell["outputs"], "execute_result"):
            kept = set(shown["data"]) & {"text/html", "image/png"}
            assert kept <= show(value)
