"""Models of several runs, ranked together from their records."""

import dataclasses
import io
import json

import msgspec
import numpy as np
import pytest
from rich.console import Console

import shiftproof
from shiftproof import bench
from shiftproof.bench import Classification
from shiftproof.bench.reanalysis.gathering import gather_models
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.report import describe_differences, print_ranking, write_report
from shiftproof.report.classification.sections import _list_classes
from shiftproof.report.grid.entries import PageContent
from shiftproof.runs import load_run
from shiftproof.runs.records.classification import read_cell
from shiftproof.types import CLEAN
from support import finished_runs
from support.simulated_runs import CLASSES, GRID, draw_tables, write_run
from support.tiny import make_model, mean_colour, write_photos

COUNT = 120


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of two models, and each of them in a run of its own."""
    folder = tmp_path_factory.mktemp("pairing")
    tables = draw_tables(COUNT, hope=0.02)
    write_run(folder / "both", tables)
    write_run(folder / "one", {"source": tables["source"]})
    write_run(folder / "two", {"source": tables["BN"]})
    return folder


def test_models_of_two_runs_are_paired_as_those_of_one(runs):
    together = load_run(runs / "both").scores.ranking
    apart = bench.rank_runs([runs / "one", runs / "two"])
    called = {"one: source": "source", "two: source": "BN"}
    assert {one.name for one in apart.places} == set(called)
    assert [called[one.name] for one in apart.places] == [one.name for one in together.places]
    [mine], [theirs] = apart.pairs, together.pairs
    assert msgspec.structs.replace(mine, name=called[mine.name], against=called[mine.against]) == (
        theirs
    )


def test_runs_of_other_images_or_cells_are_not_paired(runs, tmp_path):
    write_run(tmp_path / "few", draw_tables(COUNT // 2))
    with pytest.raises(RunMismatchError, match="few and both have other images"):
        bench.rank_runs([runs / "both", tmp_path / "few"])
    write_run(tmp_path / "part", draw_tables(COUNT, cells=GRID[:2]))
    with pytest.raises(RunMismatchError, match="other cells"):
        bench.rank_runs([runs / "both", tmp_path / "part"])


def test_runs_of_other_classes_are_not_paired(runs, tmp_path):
    tables = draw_tables(COUNT)
    write_run(tmp_path / "other", tables)
    text = (tmp_path / "other/classes.json").read_text().replace('"a"', '"z"')
    (tmp_path / "other/classes.json").write_text(text)
    with pytest.raises(RunMismatchError, match=r"both alone has 'a'; .*other alone has 'z'"):
        bench.rank_runs([runs / "both", tmp_path / "other"])


def test_a_task_of_ones_own_must_be_given(tmp_path):
    finished_runs.run_own_task(tmp_path / "run")
    with pytest.raises(InputError, match="expected its task"):
        bench.rank_runs([tmp_path / "run", tmp_path / "run"])


# ---------------------------------------------------------------- the same classes in another order

ORDER = [3, 0, 1, 2, 7, 5, 6, 4]


def write_reordered(path, tables, order=ORDER, names=CLASSES.names):
    """Write a run as by a model whose output ``i`` is the class ``order[i]`` of the others."""
    place = np.argsort(order).astype(np.int32)
    moved = {
        model: {
            cell: dataclasses.replace(
                record,
                target=place[record.target],
                prediction=place[record.prediction],
                top=place[record.top],
            )
            for cell, record in by_cell.items()
        }
        for model, by_cell in tables.items()
    }
    write_run(path, moved, names=tuple(names[index] for index in order))
    return path


def test_classes_in_another_order_are_matched_by_name(runs, tmp_path):
    tables = draw_tables(COUNT, hope=0.02)
    other = write_reordered(tmp_path / "two", {"source": tables["BN"]})
    expected = bench.rank_runs([runs / "one", runs / "two"])
    assert bench.rank_runs([runs / "one", other]) == expected
    apart = shiftproof.compare(runs / "one", runs / "two", show_progress=False)
    found = shiftproof.compare(runs / "one", other, show_progress=False)
    assert found.differences == apart.differences
    assert apart.notes == ()
    [note] = found.notes
    assert f"{other} lists the 8 classes of {runs / 'one'} in another order" in note
    assert note in json.loads(found.to_json())["notes"]
    # The other way round the classes are those of the other run.
    turned = shiftproof.compare(other, runs / "one", show_progress=False)
    for one, back in zip(apart.differences, turned.differences, strict=True):
        assert back.difference.value == pytest.approx(-one.difference.value)


def test_runs_of_one_folder_with_the_classes_in_another_order_are_comparable(tmp_path):
    """As a user makes them: labels are read as numbers, so that the data have other fingerprints."""
    photos = write_photos(tmp_path / "photos", 6)
    model = make_model()
    moved = shiftproof.Classifier(
        lambda batch: mean_colour(batch)[:, ::-1], model.preprocess, model.classes.names[::-1],
        name="moved",
    )  # fmt: skip
    for name, one in (("one", model), ("two", moved)):
        bench.run(
            one, photos, out=tmp_path / name, corruptions=["fog"], severities=[1], workers=0,
            show_progress=False,
        )  # fmt: skip
    found = shiftproof.compare(tmp_path / "one", tmp_path / "two", show_progress=False)
    assert found.warnings == ()
    assert "matched by name" in found.notes[0]
    # The networks are the same, and so is every answer.
    assert all(one.difference.is_zero for one in found.differences)
    page = write_report([tmp_path / "one", tmp_path / "two"], tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert "not comparable" not in text
    assert "Ranking by" in text
    other = write_photos(tmp_path / "more", 7)
    bench.run(
        moved, other, out=tmp_path / "three", corruptions=["fog"], severities=[1], workers=0,
        show_progress=False,
    )  # fmt: skip
    assert "differ in data" in " ".join(
        describe_differences([tmp_path / "one", tmp_path / "three"])
    )


def test_top_five_classes_are_matched_too(runs, tmp_path):
    """The true class is often among the best five and not the best: top-5 errors would show it."""
    tables = draw_tables(COUNT, hope=0.02)
    other = write_reordered(tmp_path / "two", {"source": tables["BN"]})
    folders = [
        gather_models([load_run(runs / "one"), load_run(path)], Classification(trust=False),
                      tmp_path / name, {(1, "source"): "m"})
        for name, path in (("plain", runs / "two"), ("moved", other))
    ]  # fmt: skip
    for cell in [CLEAN, *GRID]:
        plain, moved = (read_cell(folder.records_file("m", cell)) for folder in folders)
        for column in ("target", "prediction", "top", "confidence"):
            np.testing.assert_array_equal(getattr(plain, column), getattr(moved, column))


def test_the_page_and_the_terminal_say_that_classes_were_matched(runs, tmp_path):
    tables = draw_tables(COUNT, hope=0.02)
    other = write_reordered(tmp_path / "moved", {"source": tables["BN"]})
    page = write_report([runs / "one", other], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "moved lists the 8 classes of one in another order" in page
    assert "Ranking by" in page
    console = Console(file=io.StringIO(), width=200)
    print_ranking([runs / "one", other], console)
    assert "matched by name" in console.file.getvalue()
    # Every class has its errors of both models, whatever its index.
    rows = _list_classes(PageContent.of([load_run(runs / "one"), load_run(other)]).entries)["all"]
    assert len(rows) == 8
    assert all(one["style"] != "none" for row in rows for one in row["errors"])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("abcdefgz", "one alone has 'h'.*two alone has 'z'"),
        ("aacdefgh", r"one alone has 'b'"),
    ],
)
def test_other_names_are_named(runs, tmp_path, names, words):
    tables = draw_tables(COUNT, hope=0.02)
    other = write_reordered(tmp_path / "two", {"source": tables["BN"]}, names=tuple(names))
    for combine in (bench.rank_runs, lambda both: shiftproof.compare(*both, show_progress=False)):
        with pytest.raises(RunMismatchError, match=words):
            combine([runs / "one", other])


def test_names_of_several_classes_cannot_be_matched(tmp_path):
    tables = draw_tables(COUNT, hope=0.02)
    names = tuple("aacdefgh")
    one = write_reordered(tmp_path / "one", {"source": tables["source"]}, range(8), names)
    two = write_reordered(tmp_path / "two", {"source": tables["BN"]}, ORDER, names)
    with pytest.raises(RunMismatchError, match="several are called 'a', so that they cannot"):
        bench.rank_runs([one, two])


def test_runs_of_other_labels_are_not_ranked(runs, tmp_path):
    tables = draw_tables(COUNT, hope=0.02)
    for record in tables["BN"].values():
        record.target[:3] = (record.target[:3] + 1) % 8
    write_run(tmp_path / "two", {"source": tables["BN"]})
    with pytest.raises(RunMismatchError, match="other labels on 3 of the 120 images"):
        bench.rank_runs([runs / "one", tmp_path / "two"])


def test_a_page_of_two_runs_of_one_model_each_calls_the_models_by_their_titles(tmp_path):
    tables = draw_tables(COUNT, hope=0.02)
    write_run(tmp_path / "one", {"source": tables["source"]}, title="resnet")
    write_run(tmp_path / "two", {"source": tables["BN"]}, title="vit")
    both = [tmp_path / "one", tmp_path / "two"]
    text = write_report(both, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Ranking by" in text
    console = Console(file=io.StringIO(), width=200)
    print_ranking(both, console)
    assert all(name in console.file.getvalue() for name in ("one: resnet", "two: vit"))
