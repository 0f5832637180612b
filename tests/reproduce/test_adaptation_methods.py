"""The comparison of adaptation methods in small: from images to advice."""

import dataclasses

import numpy as np
import pytest

from shiftproof.errors import InputError
from shiftproof.runs import Run
from shiftproof_reproduce import RECIPES, adaptation_methods, reproduce
from shiftproof_reproduce.adaptation_plan import ALL, METHODS, STREAMS, Method, Plan
from shiftproof_reproduce.adaptation_sources import Training
from shiftproof_reproduce.adaptation_tables import CLAIMS

NAMES = ("batchnorm", "ent", "lame")
ALONE = Method(name="bn", title="BN", spec="batchnorm:prior={}", tries=("0", "1", "2"), alone=True)
PLAN = Plan(
    training=Training(epochs=2, train=256, batch_size=32),
    good_enough={"fashion": 0.99},
    data=("fashion",),
    nets=("resnet",),
    methods=(*(method for method in METHODS if method.name in NAMES), ALONE),
    streams=tuple(
        dataclasses.replace(stream, batch=min(stream.batch, 8), images=16)
        for stream in STREAMS
        if stream.name in ("online", "single")
    ),
    corruptions=("gaussian_noise", "contrast"),
    holdout=("saturate",),
    severity=5,
    holdout_images=8,
)


@pytest.fixture(scope="module")
def made(fashion_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("methods")
    result = adaptation_methods.reproduce(out, data=fashion_folder, plan=PLAN, show_progress=False)
    return out, result


def wrong(out, stream, method):
    """(cells, images): read from the records, without what the tables are made with."""
    run = Run(out / "runs" / "fashion-resnet" / stream / method)
    cells = [run.cell(method, name, 1) for name in PLAN.corruptions]
    return np.array([cell.prediction != cell.target for cell in cells])


def test_a_change_is_counted_by_hand(made):
    out, result = made
    table = result.table("fashion-resnet")
    assert table.columns == ["online", "single images"]
    for row, method in ((0, "batchnorm"), (2, "lame")):
        expected = wrong(out, "online", method).mean() - wrong(out, "online", "source").mean()
        assert table.values[row][0].value == pytest.approx(expected, abs=1e-6)
    assert table.values[0][0].value != 0
    assert table.rows[3] == "BN"
    assert table.values[3][0] is None  # each image by itself: one column tells all
    assert table.values[3][1] is not None


def test_what_is_tried_is_chosen_on_the_holdout(made):
    out, result = made
    for method in PLAN.methods:
        assert len(method.tries) == 3
        errors = {}
        for tried in method.tries:
            run = Run(out / "runs" / "fashion-resnet" / "holdout" / f"{method.name}={tried}")
            cell = run.cell(method.name, "saturate", 1)
            errors[tried] = (cell.prediction != cell.target).mean()
        chosen = result.settings["chosen"][f"fashion-resnet/{method.name}"]
        assert errors[chosen] == min(errors.values())


def test_a_method_more_leaves_the_others_alone(made, fashion_folder):
    out, result = made
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*.parquet")}
    more = next(method for method in METHODS if method.name == "t3a")
    plan = dataclasses.replace(PLAN, methods=(*PLAN.methods, more))
    again = adaptation_methods.reproduce(out, data=fashion_folder, plan=plan, show_progress=False)
    after = {path: path.stat().st_mtime_ns for path in out.glob("runs/**/*.parquet")}
    assert {path: stamp for path, stamp in after.items() if path in before} == before
    assert {path.parent.name for path in set(after) - set(before)} == {"t3a"}
    assert again.table("fashion-resnet").rows == [
        *result.table("fashion-resnet").rows, "T3A"
    ]  # fmt: skip


def test_the_advice_is_the_least_error_that_harms_no_clean_image(made):
    _, result = made
    advice, table = result.table("advice"), result.table("fashion-resnet")
    for place, row in enumerate(advice.rows):
        title = row.rpartition(": ")[2]
        if title == "the source":
            assert advice.values[place] == [None, None]
            continue
        change, clean = advice.values[place]
        assert clean.value <= 0.01
        assert change == table.values[table.rows.index(title)][place]
        assert change.value < 0


def test_rates_are_in_proportion_to_the_batch():
    ent = next(method for method in METHODS if method.name == "ent")
    assert ent.fill("0.05", batch=32, usual=32) == "ent:prior=measured,lr=0.05"
    assert ent.fill("0.05", batch=1, usual=32) == "ent:prior=measured,lr=0.0015625"
    cotta = next(method for method in METHODS if method.name == "cotta")
    assert cotta.fill("0.0005", batch=1, usual=32) == "cotta:augmentations=4,prior=0,lr=0.0005"


def test_claims_are_of_methods_and_streams_that_there_are():
    methods = {method.name: method for method in METHODS}
    assert len(methods) == len(METHODS)
    for claim in CLAIMS:
        assert claim.stream in {stream.name for stream in STREAMS}
        for name in {claim.method, claim.against} - {"source"}:
            assert set(claim.nets) <= set(methods[name].nets)
    assert all(set(method.nets) <= set(ALL) for method in METHODS)


def test_there_is_no_papers_scale(tmp_path):
    with pytest.raises(InputError, match=r"adaptation-methods has no scale paper; .*bn-adaptation"):
        reproduce("adaptation-methods", out=tmp_path / "out", scale="paper")
    assert RECIPES["adaptation-methods"].paper is None


def test_a_network_that_is_left_out_is_told_and_compared_elsewhere():
    plan = dataclasses.replace(Plan(), left_out={("glyphs", "vit"): "it does not learn them"})
    assert plan.list_nets("glyphs") == [net for net in ALL if net != "vit"]
    assert plan.list_nets("fashion") == list(ALL)
    assert plan.list_data("vit") == ["fashion"]
    sentence = adaptation_methods._describe_left_out(plan)
    assert "ViT" in sentence
    assert "it does not learn them" in sentence
