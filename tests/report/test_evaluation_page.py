"""The page and the table of an evaluation."""

import copy
import io
import json

import pytest
from rich.console import Console

from shiftproof.report import print_table, table_csv, table_latex, write_report
from support.browser_visits import CHROMIUM, visit
from support.page_reading import parse


def interval(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def accuracies(*values):
    return {
        name: {"accuracy": interval(value), "top5": interval(value + 0.1)}
        for name, value in zip(("val", "sketch<b>"), values, strict=True)
    }


SCORES = {
    "format": 2,
    "kind": "evaluation",
    "measure": "accuracy",
    "interval": {"level": 0.95, "method": "paired", "replicates": 1000, "seed": 0},
    "sets": [
        {"name": "val", "total": 500, "used": 499, "classes": 1000, "labels": None,
         "broken": [{"id": "a.png", "cells": 1, "first_cell": "val", "reason": "cut"}]},
        {"name": "sketch<b>", "total": 60, "used": 60, "classes": 200, "labels": "imagenet-r"},
    ],
    "models": [
        {"name": "one", "title": "open_clip:one", "sets": accuracies(0.633, 0.5),
         "mean": interval(0.5665)},
        {"name": "two", "title": "open_clip:two", "sets": accuracies(0.7, 0.5),
         "mean": interval(0.6)},
    ],
    "differences": [
        {"name": "two", "against": "one", "mean": interval(0.0335),
         "sets": {"val": {"accuracy": interval(0.067), "top5": interval(0.067)},
                  "sketch<b>": {"accuracy": interval(0.0), "top5": interval(0.0)}}},
    ],
    "audit": {
        "name": "laion", "train_rows": 400000, "reference_rows": 1000, "missing": [],
        "sets": {
            "val": {"test": "imagenet-val", "rows": 500, "matched": 400, "similarity": interval(0.82),
                    "near_duplicates": interval(0.05), "gap": interval(0.031),
                    "share_closer": interval(0.6)},
            "sketch<b>": {"test": "sketch", "rows": 60, "matched": 0, "similarity": interval(0.9),
                          "near_duplicates": interval(0.3), "gap": interval(0.1),
                          "share_closer": interval(0.9)},
        },
        "by_similarity": [
            {"model": name, "test": "val", "advantage": 0.61,
             "bins": [{"similarity": at, "accuracy": interval(at), "images": 50}
                      for at in (0.6, 0.7, 0.8)]}
            for name in ("one", "two")
        ],
    },
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    def write(content=SCORES):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        head = {"format": 1, "kind": "evaluation", "settings": {"models": {}, "data": {}}}
        (folder / "run.json").write_text(json.dumps(head))
        (folder / "scores.json").write_text(json.dumps(content))
        return folder

    return write


def test_the_page_says_and_shows_it(run):
    page = parse(write_report(run()).read_text(encoding="utf-8"))
    text = page.text
    assert "The accuracy of open_clip:one is 63.3\N{NO-BREAK SPACE}% on val" in page.everything
    assert "two is better on val (+6.7) than one, in percentage points." in text
    rows = page.by_id("overview").all("tr")
    assert [row.one("th").text for row in rows[1:]] == ["val", "sketch<b>", "Mean"]
    assert "60 images, 200 classes, those of imagenet-r" in text
    similarity = page.by_id("similarity")
    chart = similarity.one("svg", "scatter")
    spoken = chart.attributes["aria-label"]
    assert "one, val: 63.3" in spoken
    assert "two, sketch<b>: 50.0" in spoken
    # Two models at two similarities: the marks rise with the accuracy and move right with closeness.
    circles, squares = chart.all("circle"), chart.all("rect")
    assert [float(mark.attributes["cx"]) for mark in circles] == sorted(
        float(mark.attributes["cx"]) for mark in circles
    )
    assert float(circles[0].attributes["cy"]) > float(squares[0].attributes["y"])
    assert len(page.by_id("within").all("svg", "scatter")) == 1
    assert "in one 61.0\N{NO-BREAK SPACE}% and two 61.0" in page.by_id("within").everything
    assert "400 of 500 rows of the audit are images of this evaluation" in text
    assert "sketch<b>: no row of the audit has the name of an image" in text
    assert "only 60 images" in text
    assert "a.png" in page.by_id("broken").text


def test_without_an_audit_there_is_no_chart_of_it(run):
    content = {**copy.deepcopy(SCORES), "audit": None}
    page = parse(write_report(run(content)).read_text(encoding="utf-8"))
    assert not [
        node for node in page.walk() if node.attributes.get("id") in ("similarity", "within")
    ]


def test_two_evaluations_have_a_part_each(run):
    page = parse(write_report([run(), run()]).read_text(encoding="utf-8"))
    assert [one.attributes["id"] for one in page.all("article")] == ["p1-top", "p2-top"]
    assert page.by_id("p1-overview").text == page.by_id("p2-overview").text


def test_tables():
    lines = table_csv(SCORES).splitlines()
    assert lines[0] == "row,group,measure,one,one_low,one_high,two,two_low,two_high," + (
        "two-one,two-one_low,two-one_high"
    )
    assert lines[1].startswith("val,accuracy,accuracy,0.633,0.613,0.653,0.7,")
    assert lines[3].startswith("mean,,accuracy,0.5665,")
    assert "63.3" in table_latex(SCORES)
    console = Console(file=io.StringIO(), width=90)
    print_table(SCORES, console)
    printed = " ".join(console.file.getvalue().split())
    assert "val: nearest training row 0.82, gap +0.031" in printed
    assert "1 broken file left out" in printed


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here")
def test_a_browser_has_nothing_to_complain_of(run, tmp_path):
    seen = visit(write_report(run()), tmp_path / "browser")
    assert seen.console == []
    assert seen.requests == []


def test_the_next_step_is_an_audit_where_there_is_none(run):
    content = copy.deepcopy(SCORES)
    assert "next" not in [one.attributes["id"] for one in page_sections(run(content))]
    content["audit"] = None
    for figure in content["differences"][0]["sets"].values():
        figure["accuracy"] = {"value": 0.01, "low": -0.02, "high": 0.04}
    steps = next(one for one in page_sections(run(content)) if one.attributes["id"] == "next").text
    assert "shiftproof report EVALUATION AUDIT" in steps
    assert "No significant difference of two from one on any test set" in steps


def page_sections(folder):
    return parse(write_report(folder).read_text(encoding="utf-8")).all("section")
