"""Answers of classifiers made elsewhere: the same figures as if we had asked the model ourselves."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof import Classes, bench, cli
from shiftproof.bench.cells.views import OnTheFly
from shiftproof.data import open_data
from shiftproof.errors import BrokenFileError, InputError, LabelError, RunMismatchError
from shiftproof.types import CLEAN, Cell
from support import tiny
from support.few_resamples import set_replicates

pytestmark = pytest.mark.usefixtures("few_resamples")

CLASSES = Classes(tiny.NAMES)
CORRUPTIONS = ("fog", "contrast")
CELLS = [CLEAN, *(Cell(name, severity) for name in CORRUPTIONS for severity in (1, 4))]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The run of the tiny model, and its logits in each cell by the images' names."""
    root = tmp_path_factory.mktemp("world")
    photos = tiny.write_photos(root / "photos")
    model = tiny.make_model()
    data = open_data(photos, classes=CLASSES)
    with pytest.MonkeyPatch.context() as patch:
        set_replicates(patch, 20)
        run = bench.run(
            model,
            data,
            out=root / "run",
            corruptions=list(CORRUPTIONS),
            severities=[1, 4],
            workers=0,
        )
    view = OnTheFly(
        data, model.preprocess.geometry, {name: name for name in CORRUPTIONS}, seed=0, encode="none"
    )
    logits = {
        cell: model.predict(np.stack([view.load(sample, cell) for sample in data.samples]))
        for cell in CELLS
    }
    return photos, run, [sample.id for sample in data.samples], logits


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def save_tenfold(path, logits):
    """Save logits that no one takes for probabilities."""
    np.save(path, 10 * logits)


def name_of(cell, suffix):
    return f"clean{suffix}" if cell.is_clean else f"{cell.corruption}/{cell.severity}{suffix}"


def write_all(root, logits, write, suffix):
    for cell, values in logits.items():
        path = root / name_of(cell, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, values)
    return root


def rows_of(ids, logits, best=3, **more):
    order = np.argsort(-logits, axis=1, kind="stable")[:, :best]
    confidence = softmax(logits).max(axis=1)
    for name, top, sure in zip(ids, order, confidence, strict=True):
        answers = {f"top{place + 1}": tiny.NAMES[one] for place, one in enumerate(top)}
        yield {"image": name, **answers, "confidence": float(sure), **more}


def write_csv(path, rows):
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def figures(run, measures=("error", "top5_error", "calibration_error", "loss")):
    found = {}
    for cell in run.scores.models[0].cells:
        for name in measures:
            one = cell.figures[name]
            found[str(cell.cell), name] = (one.value, one.lower, one.upper)
    return found


def close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, values in ours.items():
        assert values == pytest.approx(theirs[key], abs=1e-6), key


@pytest.mark.parametrize(
    "form", ["npy logits", "npy probabilities", "npz shuffled", "parquet lists"]
)
def test_scores_of_all_classes_give_all_figures(world, tmp_path, form):
    photos, run, ids, logits = world
    rng = np.random.default_rng(0)

    def write(path, values):
        order = rng.permutation(len(ids))
        named = np.array(ids)[order]
        if form == "npy logits":
            np.save(path, values)
        elif form == "npy probabilities":
            np.save(path, softmax(values).astype(np.float16).astype(np.float32))
        elif form == "npz shuffled":
            np.savez(path, probabilities=softmax(values)[order], images=named)
        else:
            table = {"image": named.tolist(), "logits": values[order].tolist()}
            pq.write_table(pa.table(table), path)

    suffix = "." + form.split(" ", maxsplit=1)[0]
    results = write_all(tmp_path / "answers", logits, write, suffix)
    scored = bench.score(results, photos, out=tmp_path / "run", classes=CLASSES)
    if "probabilities" in form:
        # Half precision moves what is sure, and no answer.
        close(figures(scored, ["error"]), figures(run, ["error"]))
    else:
        close(figures(scored), figures(run))
    assert scored.records().column("id").to_pylist() == run.records().column("id").to_pylist()
    assert scored.scores.grid == run.scores.grid


def test_the_best_classes_in_tables(world, tmp_path):
    photos, run, ids, logits = world
    root = tmp_path / "answers"
    for cell, values in logits.items():
        write_csv(root / name_of(cell, ".csv"), list(rows_of(ids, values))[::-1])
    scored = bench.score(root, photos, out=tmp_path / "run", classes=CLASSES)
    names = ("error", "top5_error", "calibration_error")
    close(figures(scored, names), figures(run, names))
    assert scored.scores.models[0].cells[0].figures["loss"] is None
    assert scored.scores.images.unanswered == ()


def test_one_class_alone_has_no_top5_and_no_calibration(tmp_path):
    ids = [f"{n}.png" for n in range(6)]
    truth = write_csv(tmp_path / "truth.csv", [{"path": n, "label": 0} for n in ids])
    for name, wrong in (("clean", 1), ("fog/2", 3)):
        rows = [{"file": n, "prediction": int(at < wrong)} for at, n in enumerate(ids)]
        write_csv(tmp_path / "answers" / f"{name}.csv", rows)
    classes = Classes(tuple("abcdefg"))
    run = bench.score(tmp_path / "answers", truth, out=tmp_path / "run", classes=classes)
    (model,) = run.scores.models
    assert model.clean.figures["error"].value == pytest.approx(1 / 6)
    (fog,) = model.cells
    assert fog.figures["error"].value == pytest.approx(3 / 6)
    assert fog.figures["top5_error"] is None
    assert fog.figures["calibration_error"] is None
    assert run.scores.images.unanswered == ()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_one_table_with_images_and_labels_needs_no_data(world, tmp_path, suffix):
    _, run, ids, logits = world
    rows = [
        {**row, "label": row["image"].split("/")[0], "corruption": cell.corruption,
         "severity": cell.severity}
        for cell, values in logits.items()
        for row in rows_of(ids, values)
    ]  # fmt: skip
    path = tmp_path / f"all{suffix}"
    if suffix == ".csv":
        write_csv(path, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    scored = bench.score(path, out=tmp_path / "run", classes=CLASSES)
    close(figures(scored, ["error"]), figures(run, ["error"]))


def test_labels_that_differ_between_cells_are_refused(tmp_path):
    lines = ["corruption,severity,image,prediction,label"]
    lines += ["clean,0,a,0,0", "clean,0,b,1,1", "fog,3,a,0,0", "fog,3,b,1,0"]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"fog-3: b has the label '0', and in all.csv, clean an"):
        bench.score(tmp_path / "all.csv", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("classes", [None, Classes(("cat", "dog"))])
def test_indices_may_be_written_as_floats(tmp_path, classes):
    """A column of indices with a gap is: pandas writes 1.0."""
    lines = ["corruption,severity,image,prediction,label"]
    lines += ["clean,0.0,a,0.0,0.0", "clean,0.0,b,1.0,1.0", "fog,3.0,a,1.0,0.0", "fog,3.0,b,1.0,1"]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    run = bench.score(tmp_path / "all.csv", out=tmp_path / "run", classes=classes)
    (model,) = run.scores.models
    (fog,) = model.cells
    assert fog.figures["error"].value == 0.5


def test_a_missing_prediction_is_named(tmp_path):
    lines = ["corruption,severity,image,prediction,label", "fog,3,a,0,0", "fog,3,b,,1"]
    (tmp_path / "all.csv").write_text("\n".join(lines))
    with pytest.raises(LabelError, match=r"fog-3, b: expected the index or the name .* empty cell"):
        bench.score(tmp_path / "all.csv", out=tmp_path / "run")


def test_several_models_are_held_against_the_first(world, tmp_path):
    photos, _, _, logits = world
    write_all(tmp_path / "a", logits, save_tenfold, ".npy")
    turned = {cell: -values for cell, values in logits.items()}
    write_all(tmp_path / "b", turned, save_tenfold, ".npy")
    (tmp_path / "b" / "fog" / "4.npy").unlink()
    given = {"a": tmp_path / "a", "b": tmp_path / "b"}
    run = bench.score(given, photos, out=tmp_path / "run", classes=CLASSES)
    assert run.scores.grid.missing == ("fog-4",)
    (difference,) = run.scores.differences
    assert (difference.name, difference.against) == ("b", "a")


def test_the_same_again_and_other_answers(world, tmp_path):
    photos, _, _, logits = world
    root = write_all(tmp_path / "a", logits, save_tenfold, ".npy")
    run = bench.score(root, photos, out=tmp_path / "run", classes=CLASSES)
    before = run.folder.scores_file.read_bytes()
    assert bench.score(root, photos, out=tmp_path / "run", classes=CLASSES).scores == run.scores
    assert run.folder.scores_file.read_bytes() == before
    save_tenfold(root / "clean.npy", -logits[CLEAN])
    with pytest.raises(RunMismatchError):
        bench.score(root, photos, out=tmp_path / "run", classes=CLASSES)


def three(tmp_path, **arrays):
    """One clean and one corrupted cell of three images in a CSV."""
    root = tmp_path / "answers"
    root.mkdir()
    np.savez(root / "clean.npz", **arrays)
    np.savez(root / "fog-3.npz", **arrays)
    return root, write_csv(
        tmp_path / "truth.csv", [{"path": f"{n}.png", "label": n} for n in range(3)]
    )


IDS = np.array(["0.png", "1.png", "2.png"])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": np.eye(3)[:2]}, "2 rows, and 3 images"),
        ({"logits": np.eye(3)[:2], "images": IDS[:2]}, "1 of 3 images of truth.csv has no answer.*2.png"),
        ({"logits": np.eye(3), "images": IDS[[0, 1, 1]]}, "'1.png' is there 2 times"),
        ({"logits": np.eye(3), "images": np.array(["0.png", "0", "1.png"])}, "under two names"),
        ({"logits": np.eye(3), "images": np.array(["0.png", "x.png", "1.png"])}, "none of the 3"),
        ({"logits": np.eye(3), "images": IDS[:2]}, "2 images and 3 rows"),
        ({"probabilities": np.eye(3) * 0.7}, "sums to 0.7"),
        ({"probabilities": np.eye(3) * 3 - 1 / 3}, "in 0..1"),
        ({"logits": np.zeros((3, 3, 2))}, r"\(N, K\)"),
        ({"scores": np.eye(3)}, "called logits or probabilities"),
        ({"logits": np.array([["a", "b"]] * 3)}, "rows of K numbers"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(tmp_path, arrays, message):
    root, truth = three(tmp_path, **arrays)
    with pytest.raises(InputError, match=message):
        bench.score(root, truth, out=tmp_path / "run", classes=Classes(tuple("abc")))


def test_the_file_of_one_cell_is_refused(tmp_path):
    root, truth = three(tmp_path, logits=np.eye(3))
    file = next(root.rglob("*.npz"))
    with pytest.raises(
        InputError, match=r"expected a folder with a file for each cell .*fog/3\.npz"
    ):
        bench.score(file, truth, out=tmp_path / "run", classes=Classes(tuple("abc")))


def test_an_array_that_may_be_either_is_refused(tmp_path):
    root, truth = three(tmp_path, logits=np.eye(3))
    for path in root.glob("*.npz"):
        path.unlink()
        np.save(path.with_suffix(".npy"), np.full((3, 3), 0.5))
    with pytest.raises(InputError, match="probabilities or logits"):
        bench.score(root, truth, out=tmp_path / "run", classes=Classes(tuple("abc")))


def test_scores_of_other_classes_are_refused(tmp_path):
    root, truth = three(tmp_path, logits=np.zeros((3, 4)))
    with pytest.raises(InputError, match="4 scores an image, for 3 classes"):
        bench.score(root, truth, out=tmp_path / "run", classes=Classes(tuple("abc")))


def test_without_classes_scores_are_numbered_and_names_are_refused(tmp_path):
    root, truth = three(tmp_path, logits=np.eye(3), images=IDS)
    run = bench.score(root, truth, out=tmp_path / "run")
    assert run.scores.models[0].clean.figures["error"].value == 0
    rows = [{"image": name, "prediction": "cat", "label": "cat"} for name in IDS]
    for name in ("clean", "fog-3"):
        write_csv(tmp_path / "named" / f"{name}.csv", rows)
    with pytest.raises(LabelError, match="--classes"):
        bench.score(tmp_path / "named", out=tmp_path / "run2")


def test_a_damaged_file_is_named(tmp_path):
    root, truth = three(tmp_path, logits=np.eye(3))
    (root / "clean.npz").write_bytes((root / "clean.npz").read_bytes()[:-40])
    with pytest.raises(BrokenFileError, match=r"clean\.npz"):
        bench.score(root, truth, out=tmp_path / "run", classes=Classes(tuple("abc")))


def test_the_command(world, tmp_path, capsys):
    photos, _, _, logits = world
    root = write_all(tmp_path / "a", logits, save_tenfold, ".npy")
    (tmp_path / "names.txt").write_text("\n".join(tiny.NAMES))
    words = ["score", "-p", str(root), "-d", str(photos), "-o", str(tmp_path / "run")]
    assert cli.run([*words, "--classes", str(tmp_path / "names.txt")]) == 0
    assert (tmp_path / "run" / "report.html").is_file()
    words[-1] = str(tmp_path / "other")
    assert cli.run([*words, "--classes", "imagenet"]) == 2
    assert cli.run([*words, "--measure", "voc"]) == 2
    assert not (tmp_path / "other").exists()


def test_nothing_is_left_of_files_that_do_not_fit(tmp_path):
    root, truth = three(tmp_path, logits=np.eye(3))
    np.savez(root / "fog-3.npz", logits=np.eye(3)[:2])
    with pytest.raises(InputError, match="2 rows"):
        bench.score(root, truth, out=tmp_path / "run", classes=Classes(tuple("abc")))
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- JSON, and what is something else


def records_of(ids, logits, cell=None):
    more = {} if cell is None else {"corruption": cell.corruption, "severity": cell.severity}
    return [
        {"image": name, "logits": row.tolist(), **more}
        for name, row in zip(ids, logits, strict=True)
    ]


def to_columns(records):
    return {name: [record[name] for record in records] for name in records[0]}


def to_pandas(records):
    """As DataFrame.to_json() writes it."""
    return {
        name: {str(row): record[name] for row, record in enumerate(records)} for name in records[0]
    }


@pytest.mark.parametrize("form", [list, to_columns, to_pandas])
@pytest.mark.parametrize("single", [True, False])
def test_json_of_a_classifier_is_read_as_such(world, tmp_path, form, single):
    photos, run, ids, logits = world
    if single:
        path = tmp_path / "answers.json"
        every = [one for cell in logits for one in records_of(ids, logits[cell], cell)]
        path.write_text(json.dumps(form(every)))
    else:
        path = tmp_path / "answers"
        for cell, values in logits.items():
            file = path / name_of(cell, ".json")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(form(records_of(ids, values))))
    scored = bench.score(path, photos, out=tmp_path / "run", classes=CLASSES)
    assert scored.kind == "classification"
    close(figures(scored), figures(run))


def test_a_long_record_is_recognized_by_what_is_read_of_it(tmp_path):
    for name in ("clean.json", "fog/1.json"):
        path = tmp_path / "answers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        record = {"label": 1, "logits": [0.123456789] * 20_000, "image": "a.png"}
        path.write_text(json.dumps([{"image": "a.png", **record}]))
        assert path.stat().st_size > 200_000
    scored = bench.score(tmp_path / "answers", out=tmp_path / "run")
    assert scored.kind == "classification"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"a.png": 1, "b.png": 2},
            r"got a record with a\.png, b\.png\. Answers of a classifier are",
        ),
        ([[0.1, 0.9]], "got no records. Answers of a classifier are"),
        (
            [{"image_id": 1, "category_id": 2}],
            "got a record with category_id, image_id. Answers of a",
        ),
        (
            [{"image": "a.png", "prediction": 1}, {"image": "b.png"}],
            "record 2: .*has no prediction",
        ),
        ([{"image": "a.png", "prediction": 1}, 3], "expected a list of records"),
        ({"image": ["a.png"], "prediction": [1, 2]}, "columns of one length"),
    ],
)
def test_json_of_another_form_says_what_is_expected(tmp_path, content, message):
    for name in ("clean.json", "fog/1.json"):
        path = tmp_path / "answers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        bench.score(tmp_path / "answers", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_label_maps_outside_of_cells_say_so(tmp_path):
    tiny.write_photos(tmp_path / "maps")
    with pytest.raises(InputError, match="maps has images, and none in a folder named by a cell"):
        bench.score(tmp_path / "maps", tmp_path / "maps", out=tmp_path / "run")


@pytest.mark.parametrize("column", ["error", "top-1 error", "Accuracy", "mIoU", "prediction"])
def test_figures_of_another_task_are_no_detectors_performance(tmp_path, column):
    path = tmp_path / "table.csv"
    path.write_text(f"corruption,severity,{column}\nclean,0,0.1\nfog,1,0.3\n")
    with pytest.raises(InputError, match=f"third column .AP, say., got {column}"):
        bench.score(path, out=tmp_path / "run")


def rows_of_cells(change):
    """Three cells with the images a, b, c; ``change`` is given the rows of each cell by its name."""
    rows = {
        name: [{"image": f"{one}.png", "prediction": 0, "label": 0} for one in "abc"]
        for name in ("clean,0", "fog,1", "fog,3")
    }
    change(rows)
    lines = [
        f"{cell},{row['image']},{row['prediction']},{row['label']}"
        for cell, of_cell in rows.items()
        for row in of_cell
    ]
    return "corruption,severity,image,prediction,label\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows["clean,0"].pop(), "clean: 1 of 3 images of .*fog-1 has no answer"),
        (lambda rows: rows["fog,1"].pop(), "fog-1: 1 of 3 images of .*clean has no answer"),
        (lambda rows: rows["clean,0"][0].update(image="x.png"), "clean: 'x.png' is none of the 3"),
        (lambda rows: rows["fog,3"][0].update(image="x.png"), "fog-3: 'x.png' is none of the 3"),
        (lambda rows: rows["clean,0"][1].update(label=""), r"clean, b\.png: .*an empty cell"),
    ],
)
def test_the_cell_that_differs_from_the_others_is_named(tmp_path, change, message):
    path = tmp_path / "answers.csv"
    path.write_text(rows_of_cells(change))
    with pytest.raises(InputError, match=rf"answers\.csv, {message}"):
        bench.score(path, out=tmp_path / "run")


def test_a_class_that_no_label_has_asks_for_the_classes(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text(rows_of_cells(lambda rows: rows["fog,1"][1].update(prediction=1)))
    with pytest.raises(LabelError, match=r"fog-1, b\.png: .*Give the classes if there are more"):
        bench.score(path, out=tmp_path / "run")
    run = bench.score(path, out=tmp_path / "run", classes=["cat", "dog"])
    errors = {str(one.cell): one.figures["error"].value for one in run.scores.models[0].cells}
    assert errors["fog-1"] == pytest.approx(1 / 3)
    assert errors["fog-3"] == 0
