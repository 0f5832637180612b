"""The recipe of train-test similarity: its images, its prunings, its trainings and its verdicts."""

import dataclasses
import json

import numpy as np
import pytest

from shiftproof.corruptions import corrupt
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.models import Encoder, Preprocess
from shiftproof.similarity import Certificate, Proof, Pruning, SimilarityGap
from shiftproof_reproduce import (
    embedded_pieces,
    fashion,
    pruned_trainings,
    train_test_paper,
    train_test_similarity,
    train_test_tables,
)
from shiftproof_reproduce.embedded_pieces import PieceFolder
from shiftproof_reproduce.pruned_trainings import Answers, draw_balanced
from shiftproof_reproduce.published import ROWS, read_test_sets
from shiftproof_reproduce.shifted_fashion import (
    draw_test_piece,
    draw_training_pieces,
    make_images,
    read_labels,
)
from shiftproof_reproduce.train_test_similarity import Measured, Plan, SearchResults, name_training
from support.tiny_fashion import TRAINING, write_fashion

PLAN = Plan(
    large=120,
    reference=40,
    test=20,
    tests=("clean", "gaussian_noise", "contrast"),
    pruned=("gaussian_noise", "contrast"),
    side=28,
    neighbors=3,
    training=dataclasses.replace(TRAINING, batch_size=40),
    seen=80,
    seeds=(0, 1),
)


def blocks(inputs):
    """The means of 7 x 7 blocks and a constant, so that no vector is zero."""
    cut = inputs[:, 0].reshape(len(inputs), 7, 4, 7, 4)
    return np.c_[cut.mean((2, 4)).reshape(len(inputs), 49), np.full(len(inputs), 0.1)]


def encoder(side):
    return Encoder(blocks, Preprocess((side, side), None, mean=(0.3,) * 3, std=(1,) * 3))


def reproduce(out, data, plan=PLAN):
    return train_test_similarity.reproduce(
        out, data=data, plan=plan, workers=0, show_progress=False
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_fashion(tmp_path_factory.mktemp("fashion"))


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """A finished folder and its result."""
    out = tmp_path_factory.mktemp("recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded_pieces, "_load_encoder", encoder)
        return out, reproduce(out, data)


# ---------------------------------------------------------------- images


def test_no_image_is_in_both_training_sets():
    pieces = draw_training_pieces(
        1000, large=600, reference=400, clean=0.5, ways=["fog", "snow"], seed=0
    )
    large, reference = pieces["large"], pieces["reference"]
    assert sorted([*large.rows, *reference.rows]) == list(range(1000))
    assert set(reference.ways) == {"clean"}
    counts = {way: large.ways.count(way) for way in ("clean", "fog", "snow")}
    assert sum(counts.values()) == 600
    # Five standard deviations of a binomial draw.
    assert abs(counts["clean"] - 300) < 62
    assert abs(counts["fog"] - 150) < 53
    assert set(large.severities) == {1, 2, 3, 4, 5}


def test_test_sets_hold_the_same_images_each_in_its_way(data):
    read = fashion.load(data)
    clean, fog = (
        draw_test_piece(len(read.test_images), 10, way, severity=4, seed=0)
        for way in ("clean", "fog")
    )
    assert fog.rows.tolist() == clean.rows.tolist()
    assert read_labels(read, fog).tolist() == read.test_labels[clean.rows].tolist()
    assert (make_images(read, clean, seed=0) == read.test_images[clean.rows]).all()
    row = int(fog.rows[0])
    expected = corrupt(read.test_images[row], "fog", severity=4, seed=0, key=f"test-{row:05}")
    assert (make_images(read, fog, seed=0)[0] == expected).all()
    assert (make_images(read, fog, seed=1)[0] != expected).any()


def test_a_style_leaves_a_grey_image_of_its_size(data):
    read = fashion.load(data)
    piece = draw_test_piece(len(read.test_images), 2, "stylised", severity=1, seed=0)
    made = make_images(read, piece, seed=0)
    assert made.shape == (2, 28, 28)
    assert made.dtype == np.uint8
    assert (made != read.test_images[piece.rows]).mean() > 0.5


@pytest.mark.parametrize(("count", "seen"), [(7, 20), (30, 20), (5, 5)])
def test_all_images_are_shown_as_often(count, seen):
    shown = np.bincount(draw_balanced(count, seen, seed=3), minlength=count)
    assert shown.sum() == seen
    assert shown.max() - shown.min() <= 1


# ---------------------------------------------------------------- the whole


def test_what_is_pruned_is_what_the_rules_say(done):
    out, _ = done
    place = PieceFolder(out / "runs")
    found = train_test_similarity.search(place, PLAN)
    large, reference = place.vectors("large"), place.vectors("reference")
    gone = []
    for name in PLAN.pruned:
        test = place.vectors(name)
        near = large @ test.T
        closer = (near > (reference @ test.T).max(0)).any(1)
        gone.append(closer)
        assert 0 < closer.sum() < len(large)
        assert (found.kept[name_training(name, "gap-matched")] == ~closer).all()
        left = int((~closer).sum())
        order = np.argsort(near.max(1))
        for rule, chosen in (("near", order[:left]), ("far", order[-left:])):
            kept = np.flatnonzero(found.kept[name_training(name, rule)])
            assert kept.tolist() == sorted(chosen.tolist())
        assert found.kept[name_training(name, "random")].sum() == left
        assert found.proofs[name].holds
    union = gone[0] | gone[1]
    assert (found.kept[name_training("combined", "gap-matched")] == ~union).all()
    assert found.kept[name_training("combined", "random")].sum() == (~union).sum()
    assert found.kept["all"].all()
    assert not found.kept["the reference alone"].any()


def test_tables_hold_what_the_trainings_answered(done):
    out, result = done
    table = result.table("accuracies")
    assert table.rows[:2] == ["Gaussian noise", "Contrast"]
    answers = [
        np.load(out / "runs" / "answers" / f"gaussian-noise-gap-matched-{seed}.npy")
        for seed in PLAN.seeds
    ]
    assert answers[0].shape == (3, 20)
    mean = np.mean([answer[1].mean() for answer in answers])
    value = table.values[0][table.columns.index("gap-matched")]
    assert value.value == pytest.approx(mean, abs=1e-6)
    sketch = table.values[table.rows.index("ImageNet-Sketch, published")]
    assert sketch[table.columns.index("gap-matched")].value == pytest.approx(0.448)
    assert sketch[table.columns.index("as many, near")] is None
    shares = result.table("removed")
    # 8,342,783 of 200 million.
    published_share = shares.values[shares.rows.index("ImageNet-Sketch, published")][0].value
    assert published_share == pytest.approx(0.0417, abs=1e-4)
    assert "0 of 40 test images" in shares.note
    assert result.table("similarity").rows == ["Clean", "Gaussian noise", "Contrast"]
    assert {finding.name for finding in result.findings} >= {"within", "near-contrast"}


def test_what_is_there_is_not_repeated(done, data, monkeypatch):
    out, result = done
    monkeypatch.setattr(embedded_pieces, "_load_encoder", None)
    calls = []
    train = pruned_trainings.train

    def counted(*arguments, **options):
        calls.append(arguments[2].name)
        return train(*arguments, **options)

    monkeypatch.setattr(pruned_trainings, "train", counted)
    again = reproduce(out, data)
    assert calls == []
    assert (again.tables, again.findings) == (result.tables, result.findings)
    (out / "runs" / "answers" / "all-1.json").unlink()
    (out / "runs" / "trainings" / "all-1.pt").unlink()
    again = reproduce(out, data)
    assert calls == ["all-1.pt"]
    assert (again.tables, again.findings) == (result.tables, result.findings)


def test_another_plan_needs_another_folder(done, data):
    out, _ = done
    with pytest.raises(RunMismatchError, match="plan: severity was 3, now 2"):
        reproduce(out, data, dataclasses.replace(PLAN, severity=2))


def test_a_folder_of_other_things_is_left_alone(data, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "mine.txt").write_text("not a run")
    with pytest.raises(InputError, match=r"is not empty and holds no run \(no settings\.json\)"):
        reproduce(tmp_path, data)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["mine.txt"]


# ---------------------------------------------------------------- verdicts


def answered(accuracy, count=100, **others):
    """Accuracies: the same on clean images and in fog, and others where they are named."""
    shares = {"fog": accuracy, "clean": accuracy, **others}
    return Answers(
        {name: np.arange(count) < round(share * count) for name, share in shares.items()}, 1.0
    )


def measured(**accuracies):
    """Two repetitions of each training, a point apart; what is not named is at 60 %."""
    names = ["all", "the reference alone", "combined: gap-matched", "combined: random"]
    names += [name_training("fog", rule) for rule in ("gap-matched", "random", "near", "far")]
    answers = {}
    for name in names:
        key = name.removeprefix("fog: ").replace("-", "_").replace(" ", "_")
        value = accuracies.get(key, 0.6)
        answers[name] = [answered(value), answered(value + 0.01)]
    certificate = Certificate("fp32", 0.0, 2, 1, 0, 0, 0, 0, 0)
    near = np.linspace(0.5, 0.9, 100)[::-1]
    gap = SimilarityGap(near, np.zeros((100, 1), np.int64), near, near - 0.1, certificate)
    removed = {"fog": np.array([True, False, False, False])}
    pruning = Pruning(removed, {"fog": near}, np.zeros(4, bool), {"fog": certificate})
    proofs = {"fog": Proof(near - 0.1, near - 0.1, certificate)}
    found = SearchResults({"clean": gap, "fog": gap}, pruning, proofs, {})
    return Measured(found, answers, {})


SMALL = Plan(tests=("clean", "fog"), pruned=("fog",), large=4, seeds=(0, 1))


def verdicts(**accuracies):
    found = train_test_tables.make_findings(measured(**accuracies), SMALL)
    return {finding.name: finding for finding in found}


def test_most_of_the_gain_stays():
    found = verdicts(all=0.8, the_reference_alone=0.4, gap_matched=0.7)["stays-fog"]
    # 30 of 40 points.
    assert found.figure.value == pytest.approx(0.75)
    assert found.holds == "yes"
    assert found.source.endswith("85 % on ImageNet-Sketch")
    assert verdicts(all=0.8, the_reference_alone=0.4, gap_matched=0.5)["stays-fog"].holds == "no"


def test_similar_images_count_for_more_only_where_pruning_them_costs_more():
    assert verdicts(gap_matched=0.5, random=0.6)["count-fog"].holds == "yes"
    assert verdicts(gap_matched=0.6, random=0.6)["count-fog"].holds == "undecided"
    assert verdicts(gap_matched=0.7, random=0.6)["count-fog"].holds == "no"
    assert verdicts(near=0.5, random=0.6)["near-fog"].holds == "yes"
    assert verdicts(near=0.7, random=0.6)["near-fog"].holds == "no"


def test_far_pruning_may_cost_a_point():
    assert verdicts(far=0.6, random=0.6)["far-fog"].holds == "yes"
    assert verdicts(far=0.55, random=0.6)["far-fog"].holds == "no"


def test_the_gain_follows_the_gap_over_test_sets():
    one = measured()
    gap = one.found.gaps["fog"]
    for name, closer in (("snow", 0.2), ("frost", 0.3)):
        near = dataclasses.replace(gap, similarity=gap.similarity + closer)
        one.found.gaps[name] = near
    # Gaps of 0.1, 0.3 and 0.4 and gains of 0.1, 0.3 and 0.4: on a line.
    one.answers["all"] = [answered(0.5, snow=0.7, frost=0.8)]
    one.answers["the reference alone"] = [answered(0.4, snow=0.4, frost=0.4)]
    plan = dataclasses.replace(SMALL, tests=("clean", "fog", "snow", "frost"))
    for name in set(one.answers) - {"all", "the reference alone"}:
        one.answers[name] = one.answers[name][:1]
    found = {each.name: each for each in train_test_tables.make_findings(one, plan)}
    assert found["across"].figure.value == pytest.approx(1.0)
    assert found["across"].holds == "yes"
    assert "over 3 test sets" in found["across"].ours


def test_a_correlation_over_few_test_sets_is_undecided():
    random = np.random.default_rng(1)
    first = random.normal(size=20)
    second = 0.2 * first + random.normal(size=20)
    found = train_test_tables.correlate(first, second)
    assert found.value == pytest.approx(np.corrcoef(first, second)[0, 1], abs=1e-6)
    # Fisher's interval: the artanh of r has a deviation of 1 / sqrt(n - 3).
    low, high = np.tanh(np.arctanh(found.value) + np.array([-1.96, 1.96]) / np.sqrt(17))
    assert found.low == pytest.approx(low, abs=0.15)
    assert found.high == pytest.approx(high, abs=0.15)


def test_what_is_right_is_closer():
    # The images are right from the first on, and the first are the closest.
    within = verdicts(all=0.5)["within"]
    assert within.figure.value == pytest.approx(1.0)
    assert within.holds == "yes"
    # The other way round, as a pair is counted in another function than the table's.
    far = measured(all=0.5)
    for each in far.answers["all"]:
        each.right.update({name: right[::-1] for name, right in each.right.items()})
    found = {each.name: each for each in train_test_tables.make_findings(far, SMALL)}["within"]
    assert (found.figure.value, found.holds) == (pytest.approx(0.0), "no")


# ---------------------------------------------------------------- published, and the scale paper


def test_published_figures():
    rows = read_test_sets()
    assert [each.removed for each in rows.values()] == [
        377_340, 8_342_783, 138_852, 5_735_749, 274_325, 266_025, 12_400_000,
    ]  # fmt: skip
    assert (rows["r"].all, rows["r"].combined) == (pytest.approx(0.729), pytest.approx(0.679))
    assert rows["r"].pruned is None
    assert rows["sketch"].reference == pytest.approx(0.14)
    assert ROWS == 200_000_000


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_scale_paper_sets_published_shares_beside_ones_own(tmp_path):
    random = np.random.default_rng(0)
    train, reference, sketch, mine = (
        unit(random.normal(size=(count, 16))) for count in (300, 30, 20, 10)
    )
    root = tmp_path / "embeddings"
    (root / "tests").mkdir(parents=True)
    for name, rows in (
        ("train", train), ("reference", reference), ("tests/ImageNet-Sketch", sketch),
        ("tests/mine", mine),
    ):  # fmt: skip
        np.save(root / f"{name}.npy", rows)
    result = train_test_paper.reproduce(tmp_path / "out", data=root, workers=0)
    table = result.table("removed")
    assert table.rows == ["ImageNet-Sketch", "mine", "combined"]
    gone = [(train @ test.T > (reference @ test.T).max(0)).any(1) for test in (sketch, mine)]
    shares = [each.mean() for each in (*gone, gone[0] | gone[1])]
    assert [row[0].value for row in table.values] == pytest.approx(shares, abs=1e-6)
    assert [row[1] and row[1].value for row in table.values] == [
        pytest.approx(0.041714, abs=1e-6),
        None,
        pytest.approx(0.062),
    ]
    gap = (train @ sketch.T).max(0).mean() - (reference @ sketch.T).max(0).mean()
    shown = result.table("similarity")
    assert shown.values[0][shown.columns.index("gap")].value == pytest.approx(gap, abs=1e-5)
    assert result.findings[-1].holds == "no"
    assert json.loads((tmp_path / "out/runs/audit/run.json").read_text())["kind"] == "similarity"


@pytest.mark.parametrize(
    ("there", "options", "message"),
    [
        ((), {}, "lacks some of them"),
        (("train.npy", "reference.npy"), {}, "holds a folder or .npy file per test set"),
        ((), {"model": "demo"}, "leave out --model"),
        ((), {"data": None}, "The scale small needs none"),
    ],
)
def test_what_the_scale_paper_needs_is_said(there, options, message, tmp_path):
    for name in there:
        np.save(tmp_path / name, np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match=message):
        train_test_paper.reproduce(tmp_path / "out", **{"data": tmp_path, **options})
    assert not (tmp_path / "out").exists()
