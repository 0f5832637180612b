"""The table as CSV, as LaTeX and in a terminal: the same figures, safe to paste."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from shiftproof.errors import BrokenFileError
from shiftproof.report import print_table, table_csv, table_latex, write_report
from support.page_reading import parse
from support.report_runs import COMMON, scores, write_run


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def printed(content: dict[str, Any], width: int = 80) -> list[str]:
    target = io.StringIO()
    print_table(content, Console(file=target, width=width, color_system=None))
    return target.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 200])
def test_figures_are_whole_on_a_terminal_of_any_width(width: int) -> None:
    """As printed on a wide one; only the titles of rows are broken between words."""
    content = scores()
    wide, narrow = printed(content, 500), printed(content, width)
    ends = [line[-60:].split() for line in wide if line.startswith(("Gaussian noise", "Fog"))]
    assert len(ends) == 2
    assert all(len(words) >= 6 for words in ends)
    for words in ends:
        assert any(line.split()[-6:] == words[-6:] for line in narrow)


@pytest.mark.parametrize("title", ["Transverse chromatic abberation", "Single frequency greyscale"])
def test_the_longest_titles_of_corruptions_are_whole(title: str) -> None:
    content = scores()
    text = json.dumps(content).replace('"fog"', json.dumps(title.lower().replace(" ", "_")))
    assert any(line.startswith(title) for line in printed(json.loads(text), 100))


# ---------------------------------------------------------------- CSV


def test_csv_holds_the_figures_in_full_precision() -> None:
    content = scores()
    rows = {row["row"]: row for row in read_csv(table_csv(content))}
    assert list(rows) == ["clean", *COMMON, "mean", "mce", "relative_mce", "rpc"]
    source, adapted = content["models"]
    (difference,) = content["differences"]
    for number, name in enumerate(COMMON):
        for column, scored in (("source", source), ("BN", adapted), ("BN-source", difference)):
            for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high")):
                expected = scored["corruptions"][number]["figures"]["error"][end]
                assert float(rows[name][column + suffix]) == expected
    assert float(rows["mce"]["BN"]) == adapted["summary"]["mce"]["value"]
    assert rows["fog"]["group"] == "weather"
    assert rows["fog"]["measure"] == "error"
    assert rows["mce"]["measure"] == "mce"


def test_csv_of_every_cell_stands_on_the_page(tmp_path: Path) -> None:
    content = scores()
    page = parse(write_report(write_run(tmp_path / "run", content, sheets=0)).read_text("utf-8"))
    assert page.by_id("csv-0").raw == table_csv(content)
    assert page.by_id("latex-0").raw == table_latex(content)
    rows = read_csv(page.by_id("cells-0").raw)
    assert len(rows) == 3 * 76
    cell = content["models"][1]["cells"][42]
    (row,) = [
        row
        for row in rows
        if (row["model"], row["against"]) == ("BN", "")
        and (row["corruption"], row["severity"]) == (cell["corruption"], str(cell["severity"]))
    ]
    for name in ("error", "top5_error", "calibration_error", "loss"):
        ends = [float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"])]
        assert ends == [cell["figures"][name][end] for end in ("value", "low", "high")]
    assert row["images"] == "20"


def test_csv_leaves_out_what_does_not_apply() -> None:
    rows = {row["row"]: row for row in read_csv(table_csv(scores(labeled=False)))}
    assert "clean" not in rows
    assert "mce" not in rows
    assert rows["fog"]["measure"] == "disagreement"


def test_csv_never_begins_a_cell_like_a_formula() -> None:
    content = scores(models=("=1+1", "@x"), corruptions=("-fog", "+snow", 'a,b"c'), severities=(1,))
    text = table_csv(content)
    rows = list(csv.reader(io.StringIO(text)))
    assert [row[0] for row in rows] == [
        "row",
        "clean",
        "'-fog",
        "'+snow",
        'a,b"c',
        "mean",
        "rpc",
    ]
    for cell in (cell for row in rows for cell in row):
        assert not re.match(r"[=+@\t]|-\D", cell)


# ---------------------------------------------------------------- LaTeX


def body(latex: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)&", line.strip().removesuffix(r"\\"))]
        for line in latex.splitlines()
        if line.endswith(r"\\")
    ]


@pytest.mark.parametrize("models", [("source",), ("source", "BN"), ("source", "BN", "ENT")])
def test_latex_holds_the_figures(models: tuple[str, ...]) -> None:
    content = scores(models=models)
    latex = table_latex(content)
    rows = body(latex)
    columns = 2 * len(models) - 1
    assert {len(row) for row in rows} == {1 + columns}
    assert rf"\begin{{tabular}}{{l{'r' * columns}}}" in latex
    by_name = {row[0]: row[1:] for row in rows}
    for number, name in enumerate(COMMON):
        figure = content["models"][0]["corruptions"][number]["figures"]["error"]
        title = name.replace("_", " ").replace("jpeg", "JPEG")
        assert by_name[title[0].upper() + title[1:]][0] == (
            f"{100 * figure['value']:.1f} {{\\footnotesize "
            f"({100 * figure['low']:.1f}--{100 * figure['high']:.1f})}}"
        )
    assert "mCE" in by_name
    for command in (r"\toprule", r"\midrule", r"\bottomrule", r"\usepackage{booktabs}"):
        assert command in latex


def test_latex_is_balanced_whatever_the_names() -> None:
    nasty = r"a_b%c&d#e$f{g}h~i^j\k<l>"
    latex = table_latex(scores(models=(nasty, "BN"), corruptions=(nasty, "fog"), severities=(2,)))
    bare = latex.replace("% needs", "")
    for escaped in (r"\_", r"\%", r"\&", r"\#", r"\$", r"\{", r"\}"):
        assert escaped in bare
        bare = bare.replace(escaped, "")
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not set("%#_~^") & set(bare)
    assert {len(row) for row in body(latex)} == {4}
    assert r"\textbackslash{}k" in latex


def test_latex_says_when_there_are_no_labels() -> None:
    assert r"\caption{Disagreement with the clean prediction in \%" in table_latex(
        scores(labeled=False)
    )


# ---------------------------------------------------------------- terminal


@pytest.mark.parametrize("models", [("source",), ("source", "BN"), ("source", "BN", "ENT", "RPL")])
@pytest.mark.parametrize("images", [20, 50_000])
def test_the_terminal_table_fits_80_columns(models: tuple[str, ...], images: int) -> None:
    content = scores(models=models, images=images)
    lines = printed(content)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "…" not in text
    for model in content["models"]:
        for key in ("clean", "mean", "mce", "rpc"):
            figure = model["summary"][key]
            assert f"{100 * figure['value']:.1f} {100 * figure['low']:.1f}-" in text
    for difference in content["differences"]:
        figure = difference["summary"]["mean"]
        ends = f"{100 * figure['low']:+.1f} to {100 * figure['high']:+.1f}"
        assert f"{100 * figure['value']:+.1f} {ends}" in text


def test_the_terminal_table_holds_every_corruption() -> None:
    content = scores()
    lines = printed(content)
    for number, name in enumerate(COMMON):
        figure = content["models"][1]["corruptions"][number]["figures"]["error"]
        title = name.replace("_", " ").replace("jpeg", "JPEG")
        (line,) = [line for line in lines if line.lower().startswith(f"{title.lower()} ")]
        assert f" {100 * figure['value']:.1f} {100 * figure['low']:.1f}-" in line


def test_the_terminal_table_says_what_it_is() -> None:
    text = " ".join(" ".join(printed(scores(severities=(3,)))).split())
    assert "error in %, 20 images, severity 3, 95 % intervals" in text
    assert "no mCE: it needs all 15 benchmark corruptions" in text
    assert "few images" in text
    text = " ".join(" ".join(printed(scores(labeled=False))).split())
    assert "disagreement with the clean prediction in %" in text
    assert "no mCE: the images have no labels" in text


def test_the_terminal_gets_no_control_characters_and_no_markup() -> None:
    names = ("a\x1b[31mb", "[red]c[/red]", "x\u202ey")
    content = scores(models=("source", "\x07BN[/]"), corruptions=names, severities=(1,))
    text = "\n".join(printed(content))
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[red]c[/red]" in text


def test_plain_names_need_nothing_but_ascii() -> None:
    assert "\n".join(printed(scores())).isascii()


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("write", [table_csv, table_latex, lambda s: printed(s)])
def test_damaged_scores_are_refused(write: Any) -> None:
    content = scores()
    content["models"][0]["summary"] = None
    with pytest.raises(BrokenFileError, match=r"an object at models\[0\]\.summary"):
        write(content)


def test_scores_from_json_are_the_same_as_from_memory() -> None:
    content = scores()
    assert table_csv(json.loads(json.dumps(content))) == table_csv(content)
