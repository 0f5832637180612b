"""``shiftproof audit`` on the command line, and what it leaves."""

import json
import re

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shiftproof import load_run
from support.command import run
from support.similar_rows import products
from support.vector_folders import unit_vectors, vectors

SKETCH, ART = unit_vectors(60, 1), unit_vectors(40, 2)
TRAIN = np.concatenate([unit_vectors(300, 3), SKETCH[[7, 9]]])
REFERENCE = unit_vectors(200, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("audit")
    vectors(root / "train", TRAIN[:200], TRAIN[200:])
    vectors(root / "sketch", SKETCH, label=lambda _, row: row % 11)
    vectors(root / "art", ART)
    vectors(root / "imagenet", REFERENCE)
    (root / "pictures" / "0").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(root / "pictures" / "0" / "7.png")
    return root


def words_of(root, out):
    return (
        "audit", root / "train", "--test", f"sketch={root / 'sketch'}", "--test", root / "art",
        "--reference", root / "imagenet", "--out", out, "--part-rows", "200", "--k", 3,
        "--images", f"sketch={root / 'pictures'}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def audited(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    assert run(*words_of(folder, out), "--workers", 0) == 0
    return out


@pytest.fixture(scope="module")
def scores(audited):
    return json.loads((audited / "scores.json").read_text())


def test_the_figures_are_those_of_all_products(scores):
    sketch, art = scores["sets"]
    assert (sketch["name"], art["name"]) == ("sketch", "art")
    for found, rows in ((sketch, SKETCH), (art, ART)):
        near, far = products(rows, TRAIN).max(axis=1), products(rows, REFERENCE).max(axis=1)
        assert found["rows"] == len(rows)
        assert found["similarity"]["value"] == pytest.approx(near.mean(), abs=1e-9)
        assert found["gap"]["value"] == pytest.approx((near - far).mean(), abs=1e-9)
        assert found["gap"]["low"] < found["gap"]["value"] < found["gap"]["high"]
        assert found["share_closer"]["value"] == pytest.approx((near > far).mean())
        density = np.sort(products(rows, TRAIN), axis=1)[:, -3:].mean()
        assert found["density"]["value"] == pytest.approx(density, abs=1e-9)
        counts, _ = np.histogram(np.clip(near, -1, 1), bins=200, range=(-1, 1))
        assert found["histogram"]["train"] == counts.tolist()
        assert found["cumulative"]["reference"][-1] == 1
        of_train = np.clip(products(TRAIN, rows).max(axis=1).astype(np.float32), -1, 1)
        assert sum(found["train_histogram"]) == len(TRAIN)
        assert found["train_histogram"] == np.histogram(of_train, 200, (-1, 1))[0].tolist()
        removed = (products(rows, TRAIN) > far[:, None]).any(axis=0)
        assert found["pruned"]["rows"] == removed.sum()
    assert sketch["near_duplicates"]["value"] == pytest.approx(2 / 60)
    assert scores["train"] == {"rows": 302, "skipped": 0, "width": 32, "shards": 2}


def test_a_narrow_terminal_cuts_no_word_and_no_figure(folder, audited, monkeypatch, capsys):
    printed = []
    for columns in ("40", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert run(*words_of(folder, audited), "--workers", 0) == 0
        printed.append(capsys.readouterr().out)
    narrow, wide = (re.findall(r"\d+\.\d+%? to -?\d+\.\d+%?", text) for text in printed)
    assert narrow == wide
    assert len(wide) > 8
    assert "…" not in printed[0]


def test_what_pruning_for_one_set_costs_the_other(scores):
    removed = []
    for rows in (SKETCH, ART):
        limits = products(rows, REFERENCE).max(axis=1)
        removed.append((products(rows, TRAIN) > limits[:, None]).any(axis=0))
    assert scores["pruning"]["combined"] == (removed[0] | removed[1]).sum()
    share = (removed[0] & removed[1]).sum() / removed[1].sum()
    assert scores["pruning"]["shared"][0][1] == pytest.approx(share)


def test_scores_name_no_place_of_this_machine(scores, folder):
    assert str(folder) not in json.dumps(scores)


def test_leaks_are_named_and_their_images_found(scores, folder):
    sketch, art = scores["sets"]
    first, second = sketch["leakage"][:2]
    assert {(first["row"], first["train"][0]["row"]), (second["row"], second["train"][0]["row"])} == {
        (7, 300), (9, 301),
    }  # fmt: skip
    seven = first if first["row"] == 7 else second
    assert seven["key"] == "0/7.png"
    assert seven["path"] == "0/7.png"
    assert seven["label"] == "7"
    assert seven["train"][0] == {
        "row": 300, "shard": "img_emb_1.npy", "place": 100, "key": "1/100.png", "path": None,
        "similarity": pytest.approx(1, abs=0.01),
    }  # fmt: skip
    assert len(sketch["leakage"]) == 24
    assert all(entry["path"] is None for entry in art["leakage"])


def test_rows_a_little_longer_than_one_make_a_run_that_opens(tmp_path):
    rows = np.float32(1.005) * TRAIN[:40]
    vectors(tmp_path / "train", rows)
    vectors(tmp_path / "test", rows[:20])
    words = ("audit", tmp_path / "train", "--test", tmp_path / "test", "--out", tmp_path / "run")
    assert run(*words, "--workers", 0) == 0
    [found] = load_run(tmp_path / "run").scores.sets
    assert found.similarity.value == pytest.approx(1.005**2, abs=1e-3)


def test_classes_come_in_the_order_of_their_numbers(scores):
    sketch, art = scores["sets"]
    assert [one["label"] for one in sketch["classes"]] == [str(label) for label in range(11)]
    near = products(SKETCH, TRAIN).max(axis=1)
    assert sketch["classes"][10]["similarity"] == pytest.approx(near[10::11].mean())
    assert sketch["classes"][10]["rows"] == 5
    assert art["classes"] == []


def test_records(audited):
    table = pq.read_table(audited / "records" / "tests" / "sketch.parquet")
    np.testing.assert_allclose(table["similarity"], products(SKETCH, TRAIN).max(axis=1))
    assert table["key"][3].as_py() == "0/3.png"
    near = np.load(audited / "records" / "train" / "art.npy")
    np.testing.assert_allclose(near, products(TRAIN, ART).max(axis=1), rtol=1e-6)
    index = np.load(audited / "records" / "train" / "art.index.npy")
    np.testing.assert_array_equal(index, products(TRAIN, ART).argmax(axis=1))
    removed = np.load(audited / "records" / "removed" / "sketch.npy")
    assert (removed.dtype, removed.shape) == (np.bool_, (302,))


def test_workers_of_a_scheduler_end_with_the_same_bytes(folder, audited, tmp_path, capsys):
    words = words_of(folder, tmp_path / "run")
    assert run(*words, "-w", 0, "--worker", 0, "--of", 2) == 0
    assert "share is done" in capsys.readouterr().out
    assert not (tmp_path / "run" / "scores.json").exists()
    assert (
        run(*words, "-w", 0, "--worker", 1, "--of", 2) == 0
    )  # it merges, and then prunes its share
    assert run(*words, "-w", 0, "--worker", 0, "--of", 2) == 0
    assert (tmp_path / "run" / "scores.json").read_bytes() == (audited / "scores.json").read_bytes()
    output = capsys.readouterr().out
    assert re.search(r"sketch +60 rows", output)
    assert re.search(r"with a near-duplicate in training +3\.3% +0\.0% to ", output)
    assert (tmp_path / "run" / "report.html").is_file()
    assert "a gap is not a cause" in output.replace("\n", " ")


def test_only_the_folders_that_were_named_are_looked_into(folder, audited, tmp_path, capsys):
    assert '<img src="data:image/jpeg' in (audited / "report.html").read_text()
    page = tmp_path / "page.html"
    assert run("report", audited, "--out", page) == 0
    assert "<img" not in page.read_text()
    assert "--images FOLDER" in page.read_text()
    assert run("report", audited, "--out", page, "--images", folder / "pictures") == 0
    assert page.read_bytes() == (audited / "report.html").read_bytes()
    assert run("report", audited, "--json", "--images", folder) == 2
    assert "--images are for the page" in capsys.readouterr().err.replace("\n", " ")


def test_another_audit_is_refused(folder, audited, capsys):
    words = words_of(folder, audited)
    assert run(*words, "--duplicates", 0.9) == 2
    assert "duplicates was 0.95, now 0.9" in capsys.readouterr().err.replace("\n", " ")


def test_without_a_reference(folder, tmp_path):
    words = ("audit", folder / "train", "-t", folder / "art", "-o", tmp_path / "run", "-w", 0)
    assert run(*words) == 0
    scores = json.loads((tmp_path / "run" / "scores.json").read_text())
    assert scores["pruning"] is None
    assert scores["sets"][0]["gap"] is None
    assert scores["sets"][0]["histogram"]["reference"] is None


def test_rows_that_cannot_be_used(folder, tmp_path, capsys):
    rows = TRAIN.copy()
    rows[:4] = 0
    np.save(tmp_path / "train.npy", rows)
    np.save(tmp_path / "nothing.npy", np.zeros((5, 32), np.float16))
    words = ("-t", folder / "art", "-w", 0, "--unusable", "skip")
    assert run("audit", tmp_path / "train.npy", *words, "-o", tmp_path / "run") == 0
    assert "4 training rows could not be used" in capsys.readouterr().out
    more = ("--reference", tmp_path / "nothing.npy", "-o", tmp_path / "other")
    assert run("audit", tmp_path / "train.npy", *words, *more) == 2
    assert "None of the reference rows can be used" in capsys.readouterr().err.replace("\n", " ")


def test_a_plan(capsys, monkeypatch):
    from shiftproof.similarity import plan

    rates = plan.Rates(top_k=2e8, nearest=4e8, prune=4e8, preparation=1e-4)
    monkeypatch.setattr(plan, "calibrate", lambda *_, **__: rates)
    words = ("plan", "--train-rows", "400M", "--dim", 640, "--test-rows", "170k")
    assert run(*words, "--workers", 2, "--gpu-rate", "1e14", "--json") == 0
    output = json.loads(capsys.readouterr().out)
    pairs = 400e6 * 170e3
    assert output["products"] == 2 * pairs
    assert output["operations"] == 2 * pairs * 2 * 640
    assert output["gpu_hours"] == pytest.approx(2 * pairs * 2 * 640 / 1e14 / 3600)
    searching = (pairs / 2e8 + pairs / 4e8) / 3600
    assert searching < output["core_hours"] < 1.2 * searching
    assert output["read"] == 2 * 400e6 * 640 * 2
    assert output["part_rows"] * 170e3 * (1 / 2e8 + 1 / 4e8) == pytest.approx(600, rel=0.01)
    assert run(*words) == 0
    assert "--part-rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "asked", "measured"),
    [("170k", "auto", "int8"), ("10k", "auto", "fp32"), ("10k", "bf16", "bf16")],
)
def test_the_calibration_is_of_what_would_be_chosen(capsys, monkeypatch, rows, asked, measured):
    from shiftproof.similarity import plan
    from shiftproof.similarity.search import kernels

    seen = []
    rates = plan.Rates(top_k=2e8, nearest=4e8, prune=4e8, preparation=1e-4)
    monkeypatch.setattr(plan, "calibrate", lambda *_, **how: seen.append(how) or rates)
    monkeypatch.setattr(kernels, "fastest_kind", lambda: "avx2")
    words = ("plan", "--train-rows", "4M", "--dim", 640, "--sets", 6)
    assert run(*words, "--test-rows", rows, "--precision", asked) == 0
    assert seen == [{"precision": measured}]


def test_the_calibration_measures(monkeypatch):
    from shiftproof.similarity import plan

    monkeypatch.setattr(plan, "_TRAIN_ROWS", 6000)
    monkeypatch.setattr(plan, "_TEST_ROWS", 300)
    rates = plan.calibrate(32)
    assert min(rates.top_k, rates.nearest, rates.prune) > 1e5
    assert rates.preparation > 0


BAD = {
    "zero": (np.zeros((3, 32), np.float16), "row 0 is all zeros"),
    "long": (np.full((3, 32), 0.5, np.float16), "expected rows of length 1"),
    "nan": (np.full((3, 32), np.nan, np.float16), "holds NaN"),
    "narrow": (unit_vectors(3, 9, 16), "The training rows have width 32, the rows of bad 16"),
    "whole-numbers": (np.ones((3, 32), np.int8), "float16 or float32"),
    "empty": (np.zeros((0, 32), np.float16), "holds no rows"),
    "objects": (np.array([[{}] * 32], dtype=object), "holds Python objects"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_test_sets(folder, tmp_path, name, capsys):
    rows, message = BAD[name]
    np.save(tmp_path / "bad.npy", rows, allow_pickle=True)
    words = ("audit", folder / "train", "-t", tmp_path / "bad.npy", "-o", tmp_path / "run", "-w", 0)
    assert run(*words) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--duplicates", 1.5), "threshold in -1..1"),
        (("--memory", "lots"), "memory such as 4GB"),
        (("--memory", "1MB"), "too few"),
        (("--worker", 3, "--of", 3), "Expected worker 0 to 2 of 3"),
        (("--worker", 0), "--worker and --of belong together"),
        (("--engine", "dask"), "Unknown engine 'dask'. Known: local, ray."),
        (("--address", "auto"), "--engine ray only"),
        (("--precision", "fp8"), "'fp8' is not one of 'auto', 'int8', 'fp32'"),
        (("--device", "gpu"), "Unknown device 'gpu'"),
        (("--precision", "int8", "--device", "cuda"), "products of int8 are the processor's"),
        (("--unusable", "mend"), "'mend' is not one of 'refuse', 'skip'"),
        (("--test", "a/b=x.npy"), "x.npy"),
        (("--part-rows", "many"), "number of rows such as"),
    ],
)
def test_bad_options(folder, tmp_path, words, message, capsys):
    begin = ("audit", folder / "train", "-t", folder / "art", "-o", tmp_path / "run", "-w", 0)
    assert run(*begin, *words) == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
