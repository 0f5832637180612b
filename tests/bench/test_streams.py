"""Runs under every protocol: what an adapter sees, what is kept, and how it is gone on with."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftproof import bench, corrupt
from shiftproof.adapt import Event
from shiftproof.corruptions import find_function
from shiftproof.data import open_data
from shiftproof.errors import InputError, RunMismatchError, UnknownNameError
from support.learner import Learner
from support.tiny import make_model, write_photos

GRID = {"corruptions": ["gaussian_noise", "contrast"], "severities": [1, 3, 5]}
CELLS = [("clean", 0), *((name, s) for name in GRID["corruptions"] for s in GRID["severities"])]
SIZE = 5

PROTOCOLS = [
    "online",
    "offline:epochs=2",
    "online:reset=never",
    "online:mix=severities",
    "online:mix=all",
    "online:reset=never,severity=gradual",
    "offline:epochs=2,reset=corruption,order=dirichlet",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    write_photos(folder / "photos")
    (folder / "photos" / "red" / "broken.png").write_bytes(b"not an image")
    return folder


def open_photos(folder):
    return open_data(folder / "photos", classes=make_model().classes)


def measure(folder, out, protocol, adapters=None, **options):
    return bench.run(
        make_model(), open_photos(folder), out=out, protocol=protocol,
        adapters={"learner": Learner} if adapters is None else adapters,
        **{"batch_size": SIZE, "workers": 0, **GRID, **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(folder):
    """The finished run of a protocol, and the diary of its adapter."""
    runs = {}

    def get(protocol):
        if protocol not in runs:
            made = []

            def make(classifier):
                made.append(Learner(classifier))
                return made[0]

            run = measure(folder, folder / f"whole-{len(runs)}", protocol, {"learner": make})
            runs[protocol] = run, made[0].diary
        return runs[protocol]

    return get


def everything(path):
    kept = [p for p in path.rglob("*") if p.is_file() and p.name != "run.json"]
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in kept}


# ---------------------------------------------------------------- what an adapter sees


def stream_of(run, cells):
    """The readable images of an episode as ``(position, cell, row)``, from the records alone."""
    found = []
    for cell in cells:
        records = run.cell("learner", *cell)
        found += [
            (int(records.position[row]), cell, row)
            for row in range(len(records))
            if records.error[row] is None
        ]
    return sorted(found)


def replay(folder, run, batches, learner):
    """Show a fresh adapter the images of the batches, and hold its answers to the records."""
    data, model = open_photos(folder), make_model()
    for batch in batches:
        images = []
        for _, (name, severity), row in batch:
            image = model.preprocess.geometry(data.read(data.samples[row]))
            if severity:
                image = corrupt(image, name, severity=severity, key=data.samples[row].id)
            images.append(image)
        logits = learner.predict(np.stack(images)).astype(np.float64)
        probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for (_, cell, row), expected in zip(batch, probability, strict=True):
            records = run.cell("learner", *cell)
            assert records.prediction[row] == expected.argmax()
            assert records.confidence[row] == pytest.approx(expected.max(), rel=1e-5)


def in_batches(stream, mixed):
    """Cut a stream as the bench does: by size, and where another cell begins unless it is mixed."""
    batches = []
    for place in stream:
        if batches and len(batches[-1]) < SIZE and (mixed or batches[-1][-1][1] == place[1]):
            batches[-1].append(place)
        else:
            batches.append([place])
    return batches


@pytest.mark.parametrize(
    ("protocol", "episodes", "mixed"),
    [
        ("online", [[cell] for cell in CELLS], False),
        ("online:reset=never", [CELLS[:1], CELLS[1:]], False),
        ("online:mix=severities", [CELLS[:1], CELLS[1:4], CELLS[4:]], True),
        ("online:mix=all", [CELLS[:1], CELLS[1:]], True),
        ("online:reset=never,severity=gradual", [CELLS[:1], CELLS[1:]], False),
    ],
)
def test_an_adapter_sees_the_stream_that_the_records_state(
    folder, whole, protocol, episodes, mixed
):
    run, _ = whole(protocol)
    for cells in episodes:
        stream = stream_of(run, cells)
        batches = in_batches(stream, mixed and len(cells) > 1)
        replay(folder, run, batches, Learner(make_model()))
        total = sum(len(run.cell("learner", *cell)) for cell in cells)
        positions = [p for cell in cells for p in run.cell("learner", *cell).position]
        assert sorted(positions) == list(range(total))


def test_offline_adapts_for_its_epochs_and_predicts_in_a_further_frozen_pass(whole):
    _, diary = whole("offline:epochs=2")
    one_cell = [
        "reset", *["predict"] * 3, "epoch", *["predict"] * 3, "epoch", *["frozen"] * 3,
    ]  # fmt: skip
    assert [what for what, _ in diary] == one_cell * len(CELLS)
    assert [count for what, count in diary if what == "epoch"] == [3, 6] * len(CELLS)
    assert sum(count for what, count in diary if what == "frozen") == 12 * len(CELLS)


def test_what_offline_records_is_what_two_epochs_of_learning_give(folder, whole):
    """The pixels of every pass are the same: a batch of all images has the same mean in any order."""
    run = measure(folder, folder / "large", "offline:epochs=2", batch_size=64)
    learner, source = Learner(make_model()), make_model()
    data = open_photos(folder)
    readable = [sample for sample in data.samples if "broken" not in sample.id]
    geometry = source.preprocess.geometry
    images = np.stack(
        [corrupt(geometry(data.read(s)), "contrast", severity=3, key=s.id) for s in readable]
    )
    for _ in range(2):
        learner.predict(images)
        learner.end_epoch()
    with learner.frozen():
        logits = learner.predict(images)
    records = run.cell("learner", "contrast", 3)
    np.testing.assert_array_equal(records.prediction[records.readable], logits.argmax(axis=1))
    exact = np.exp(logits.astype(np.float64))
    np.testing.assert_allclose(
        records.confidence[records.readable], exact.max(1) / exact.sum(1), rtol=1e-5
    )


def test_online_there_are_no_epochs_and_a_reset_before_each_episode(whole):
    for protocol, resets in (("online", 7), ("online:mix=severities", 3), ("online:mix=all", 2)):
        _, diary = whole(protocol)
        kinds = [what for what, _ in diary]
        assert kinds.count("reset") == resets
        assert set(kinds) == {"reset", "predict"}


def test_the_model_as_it_is_does_not_depend_on_the_protocol(whole):
    expected, _ = whole("online")
    for protocol in PROTOCOLS[1:]:
        run, _ = whole(protocol)
        assert run.scores.models[0] == expected.scores.models[0]
        for cell in CELLS:
            first, other = expected.cell("source", *cell), run.cell("source", *cell)
            assert other.ids == first.ids
            np.testing.assert_array_equal(other.prediction, first.prediction)
            np.testing.assert_array_equal(other.confidence, first.confidence)
            assert other.error == first.error


def test_the_protocols_differ_for_the_adapter(whole):
    found = {tuple(whole(p)[0].cell("learner", "contrast", 3).confidence) for p in PROTOCOLS}
    assert len(found) == len(PROTOCOLS)


def test_batches_of_one_image(folder):
    run = measure(folder, folder / "one", "online:reset=never", batch_size=1)
    stream = stream_of(run, CELLS[1:])
    replay(folder, run, [[place] for place in stream], Learner(make_model()))


def test_workers_do_not_change_what_an_adapter_sees(folder, whole):
    protocol = "online:mix=severities"
    run = measure(folder, folder / "workers", protocol, workers=2)
    assert everything(run.path) == everything(whole(protocol)[0].path)


# ---------------------------------------------------------------- going on


class Stopped(Exception):
    pass


def stopping(after, diaries):
    """Make the adapter, which gives up after a number of batches."""

    def make(classifier):
        learner = Learner(classifier)
        diaries.append(learner.diary)
        predict = learner.predict

        def counted(images):
            if sum(what in ("predict", "frozen") for what, _ in learner.diary) >= after:
                raise Stopped
            return predict(images)

        learner.predict = counted
        return learner

    return make


@pytest.mark.parametrize(
    ("protocol", "after", "left"),
    [
        # 12 readable images in batches of 5 are 3 batches a visit, the clean cell one visit.
        ("online:reset=never", 13, 21 - 12),
        ("online:reset=never", 12, 21 - 12),
        # Of 13 images, 7 on the way up and 6 on the way down: 2 batches each, 3 at the top.
        ("online:reset=never,severity=gradual", 8, 25 - 7),
        ("online:reset=never,severity=gradual", 20, 25 - 18),
        ("offline:epochs=2", 14, 63 - 12),
        ("offline:epochs=2,reset=corruption,order=dirichlet", 31, 63 - 30),
        # An episode of one visit begins anew.
        ("online:mix=severities", 9, 19 - 3),
        ("online:mix=all", 12, 18 - 3),
    ],
)
def test_an_interrupted_stream_goes_on_from_its_last_visit(
    folder, whole, tmp_path, protocol, after, left
):
    expected, diary = whole(protocol)
    batches = [what for what, _ in diary if what in ("predict", "frozen")]
    diaries = []
    with pytest.raises(Stopped):
        measure(folder, tmp_path / "cut", protocol, {"learner": stopping(after, diaries)})
    again = measure(folder, tmp_path / "cut", protocol, {"learner": stopping(1000, diaries)})
    assert everything(again.path) == everything(expected.path)
    assert not (again.path / "cache").exists()
    redone = [what for what, _ in diaries[1] if what in ("predict", "frozen")]
    assert len(redone) == left
    assert redone == batches[len(batches) - left :]


@pytest.mark.parametrize("damage", ["state", "checkpoint", "record", "table"])
def test_a_damaged_checkpoint_is_none(folder, whole, tmp_path, damage):
    protocol = "online:reset=never,severity=gradual"
    expected, _ = whole(protocol)
    diaries = []
    with pytest.raises(Stopped):
        measure(folder, tmp_path / "cut", protocol, {"learner": stopping(11, diaries)})
    kept = tmp_path / "cut" / "cache" / "checkpoints" / "learner" / "all"
    [path] = {
        "state": lambda: kept.glob("state-*.safetensors"),
        "checkpoint": lambda: kept.glob("checkpoint.json"),
        "record": lambda: (tmp_path / "cut").glob("records/learner/gaussian_noise-5.parquet"),
        "table": lambda: kept.glob("gaussian_noise-1.parquet"),
    }[damage]()
    if damage == "record":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:20])
    again = measure(folder, tmp_path / "cut", protocol, {"learner": stopping(1000, diaries)})
    assert everything(again.path) == everything(expected.path)
    assert [what for what, _ in diaries[1]].count("predict") == 22


def test_kill_nine_in_the_middle_of_a_continual_stream(folder, whole, tmp_path):
    protocol = "online:reset=never"
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            sys.path.insert(0, {str(Path(__file__).parents[1])!r})
            from support.learner import Learner
            from support.tiny import make_model
            from shiftproof import bench
            from shiftproof.data import open_data

            class Slow(Learner):
                def predict(self, images):
                    time.sleep(0.1)
                    return super().predict(images)

            model = make_model()
            data = open_data({str(folder / "photos")!r}, classes=model.classes)
            bench.run(model, data, out=sys.argv[1], adapters={{"learner": Slow}}, workers=0,
                      batch_size={SIZE}, protocol={protocol!r}, **{GRID!r})
            """
        )
    )
    cut = tmp_path / "cut"
    killed = subprocess.Popen([sys.executable, script, cut])
    records = cut / "records" / "learner"
    deadline = time.monotonic() + 240
    while len(list(records.glob("*.parquet"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (cut / "scores.json").exists()
    diaries = []
    again = measure(folder, cut, protocol, {"learner": stopping(1000, diaries)})
    assert everything(again.path) == everything(whole(protocol)[0].path)
    assert len([what for what, _ in diaries[0] if what == "predict"]) <= 12


def test_models_that_were_killed_at_different_places_each_go_on_from_theirs(
    folder, whole, tmp_path
):
    """Between the checkpoints of two models there is a moment; the source may be a visit behind."""
    protocol = "online:reset=never,severity=gradual"
    diaries = []
    with pytest.raises(Stopped):
        measure(folder, tmp_path / "cut", protocol, {"learner": stopping(16, diaries)})
    shutil.rmtree(tmp_path / "cut" / "cache" / "checkpoints" / "source")
    again = measure(folder, tmp_path / "cut", protocol, {"learner": stopping(1000, diaries)})
    assert everything(again.path) == everything(whole(protocol)[0].path)


# ---------------------------------------------------------------- what the folder says


def test_the_protocol_is_among_the_settings_and_decides_whose_folder_it_is(folder, whole):
    run, _ = whole("online:mix=severities")
    stated = json.loads((run.path / "run.json").read_text())["settings"]["protocol"]
    assert stated == {
        "description": bench.parse_protocol("online:mix=severities").description,
        "mode": "online", "epochs": None, "reset": "corruption", "mix": "severities",
        "order": "shuffled", "concentration": None, "severity": "rising",
    }  # fmt: skip
    with pytest.raises(RunMismatchError, match="protocol: mix was severities, now none"):
        measure(folder, run.path, "online:reset=corruption")


def test_what_an_adapter_tells_is_in_the_folder(whole):
    run, _ = whole("online:mix=severities")
    found = sorted(p.relative_to(run.path).as_posix() for p in run.path.glob("events/**/*.json"))
    names = ["clean", "contrast", "gaussian_noise"]
    assert found == [f"events/learner/{name}.json" for name in names]
    content = json.loads((run.path / found[1]).read_text())["events"]
    # 36 images in 8 batches: the third and the sixth.
    assert [(e["kind"], e["batch"], e["pass"], e["cell"]) for e in content] == [
        ("skipped", 2, 0, None),
        ("skipped", 5, 0, None),
    ]
    assert all(e["reason"].startswith("Memory ") for e in content)
    by_cell, _ = whole("online:reset=never")
    content = json.loads((by_cell.path / "events/learner/all.json").read_text())["events"]
    assert [(e["batch"], e["cell"]) for e in content] == [
        (2, "gaussian_noise-1"), (5, "gaussian_noise-3"), (8, "gaussian_noise-5"),
        (11, "contrast-1"), (14, "contrast-3"), (17, "contrast-5"),
    ]  # fmt: skip


def test_without_anything_told_there_is_no_folder_of_it(folder, tmp_path):
    run = measure(folder, tmp_path / "run", "online:mix=all", {}, severities=[1])
    assert not (run.path / "events").exists()


def test_sorted_without_labels_is_refused_before_anything_is_written(folder, tmp_path):
    data = open_data(folder / "photos", classes=make_model().classes, labeled=False)
    with pytest.raises(InputError, match="expected labels, or order=shuffled"):
        bench.run(make_model(), data, out=tmp_path / "run", protocol="online:order=sorted")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- corruptions of any name


def test_a_tree_with_corruptions_of_its_own_is_run_by_their_names(folder, tmp_path):
    model, data = make_model(), open_photos(folder)
    for sample in data.samples:
        if "broken" in sample.id:
            continue
        image = model.preprocess.geometry(data.read(sample))
        for place, pixels in (("clean", image), ("drizzle/2", 255 - image), ("fog/2", image)):
            path = tmp_path / "tree" / place / sample.id
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    tree = open_data(tmp_path / "tree", classes=model.classes)
    options = {"severities": [2], "workers": 0}
    run = bench.run(model, tree, corruptions=["fog", "drizzle"], out=tmp_path / "run", **options)
    clean, inverted = run.cell("source", "clean", 0), run.cell("source", "drizzle", 2)
    np.testing.assert_array_equal(run.cell("source", "fog", 2).prediction, clean.prediction)
    assert (inverted.prediction != clean.prediction).any()
    with pytest.raises(UnknownNameError, match="Did you mean 'drizzle'"):
        bench.run(model, tree, corruptions=["drizle"], out=tmp_path / "other", **options)
    with pytest.raises(UnknownNameError, match="Unknown corruption 'drizzle'"):
        bench.run(model, data, corruptions=["drizzle"], out=tmp_path / "other", **options)


def test_variants_of_a_corruption_are_run_beside_it(folder, tmp_path):
    run = measure(
        folder, tmp_path / "run", "online", {}, severities=[4],
        corruptions={"glass": "glass_blur", "exchanged": find_function("glass_blur", "corrected")},
    )  # fmt: skip
    published, other = (run.cell("source", name, 4) for name in ("glass", "exchanged"))
    assert (published.confidence != other.confidence)[published.readable].all()


class Talker(Learner):
    """Tells something of every batch."""

    def predict(self, images):
        self._events.append(Event("skipped", self.batches, f"Batch {self.batches}."))
        return super().predict(images)


def test_of_many_events_the_first_are_in_the_folder_and_the_others_counted(folder, tmp_path):
    run = measure(folder, tmp_path / "run", "online:reset=never", {"t": Talker}, batch_size=1)
    content = json.loads((run.path / "events/t/all.json").read_text())["events"]
    of_kind = [event for event in content if event["reason"].startswith("Batch ")]
    assert [event["batch"] for event in of_kind[:-1]] == [*range(len(of_kind) - 1)]
    skipped = [event for event in content if event["kind"] == "skipped"]
    assert len(skipped) == 21
    images = 12 * len(CELLS[1:])
    assert sum(event.get("count", 1) for event in skipped) == images + images // 3
    assert skipped[-1]["batch"] == images - 1
    assert all("count" not in event for event in skipped[:-1])
