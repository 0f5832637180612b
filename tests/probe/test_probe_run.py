"""A probe from images to scores: cases whose answer is known, going on, and what it refuses."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from shiftproof import Encoder, Preprocess
from shiftproof.data import ImageArrays
from shiftproof.errors import (
    BrokenFileError,
    InputError,
    ModelError,
    RunMismatchError,
    UnknownNameError,
)
from shiftproof.probe import mlp, probe
from shiftproof.probe.controls import Pixels, randomize_weights
from shiftproof.probe.records import read_readings

PLAIN = Preprocess((16, 16), None, mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(autouse=True)
def _short_training(monkeypatch):
    monkeypatch.setattr(mlp, "STEPS", 30)


def pictures(count=20, *, side=16):
    """Smooth reddish pictures, of one mean colour and many patterns."""
    rng = np.random.default_rng(0)
    coarse = rng.uniform(-1, 1, (count, 4, 4, 1))
    smooth = np.stack(
        [cv2.resize(one, (side, side), interpolation=cv2.INTER_CUBIC) for one in coarse]
    )
    smooth -= smooth.mean(axis=(1, 2), keepdims=True)
    shade = 1 + 0.3 * smooth[..., None] / np.abs(smooth).max()
    return np.clip(shade * [110.0, 60.0, 40.0], 0, 255).round().astype(np.uint8)


def mean_colour(inputs):
    return inputs.mean(axis=(2, 3))


def encoder(function=mean_colour, name="mean"):
    return Encoder(function, PLAIN, normalize=False, name=name)


def run(tmp_path, encoders=None, *, count=20, factors=("brightness",), **options):
    return probe(
        encoder() if encoders is None else encoders,
        ImageArrays(pictures(count)),
        out=tmp_path / "run",
        factors=factors,
        **{"workers": 0, "versions": 4, **options},
    )


def figures(done, name="mean"):
    return next(model.factors for model in done.scores.models if model.name == name)


# ---------------------------------------------------------------- known answers


def test_a_flip_that_only_moves_the_vector_away_is_not_read(tmp_path):
    # Patterns without left and right: their pixels change by a flip, in no direction of its own.
    done = run(
        tmp_path,
        encoder(lambda inputs: inputs.reshape(len(inputs), -1), "raw"),
        count=40,
        factors=("flip",),
    )
    found = figures(done, "raw")["flip"]
    for reading in ("beside", "network"):
        assert getattr(found, reading).low == 0
        assert getattr(found, reading).value < 0.3
    assert found.verdict != "kept"


def test_a_mean_colour_keeps_brightness_and_hue_and_has_no_flip(tmp_path):
    done = run(tmp_path, factors=("brightness", "hue", "flip", "rotation"), versions=6)
    found = figures(done)
    # All pictures have one mean colour, so it is the factor itself.
    for reading in ("beside", "alone"):
        assert getattr(found["brightness"], reading).value > 0.99
        assert getattr(found["hue"], reading).value > 0.9
    assert found["brightness"].verdict == "kept"
    assert found["flip"].beside.low == 0
    assert found["flip"].verdict != "kept"
    assert found["rotation"].beside.low == 0


def test_an_encoder_that_is_the_factor_and_one_that_is_blind_to_it(tmp_path):
    def is_brightness(inputs):
        return inputs.mean(axis=(1, 2, 3))[:, None]

    def is_blind(inputs):
        # Which half is brighter, and by what share: no brightness moves it but by rounding.
        left, right = inputs[..., :8].mean(axis=(1, 2, 3)), inputs[..., 8:].mean(axis=(1, 2, 3))
        return (left / np.maximum(right, 1e-6))[:, None]

    both = {"sees": encoder(is_brightness), "blind": encoder(is_blind)}
    done = run(tmp_path, both, factors="brightness", versions=6)
    sees, blind = figures(done, "sees")["brightness"], figures(done, "blind")["brightness"]
    assert sees.beside.value > 0.999
    assert blind.beside.low == 0
    assert blind.beside.value < 0.1
    (between,) = [
        entry
        for entry in done.scores.differences
        if (entry.name, entry.against) == ("blind", "sees")
    ]
    (change,) = between.factors.values()
    assert change.beside.value == pytest.approx(blind.beside.value - sees.beside.value)
    assert change.beside.high < -0.8


def test_alone_a_vector_does_not_say_what_belongs_to_the_image(tmp_path):
    gains = np.linspace(0.4, 1.6, 20)[:, None, None, None]
    varied = np.clip(pictures() * gains, 0, 255).astype(np.uint8)

    def logarithm_of_the_mean(inputs):
        return np.log(inputs.mean(axis=(1, 2, 3)) + 1e-3)[:, None]

    done = probe(
        encoder(logarithm_of_the_mean), ImageArrays(varied), out=tmp_path / "run", workers=0,
        factors="brightness", versions=6,
    )  # fmt: skip
    found = figures(done)["brightness"]
    # The logarithm of a product: beside the unchanged image the gain falls out, alone it hides all.
    assert found.beside.value > 0.9
    assert found.alone.value < 0.6


def test_collapsed_is_said_only_where_a_control_reads_it(tmp_path):
    def pattern(inputs):
        grey = inputs.mean(axis=1)
        return np.sign(grey - grey.mean(axis=(1, 2), keepdims=True)).reshape(len(inputs), -1)[
            :, ::50
        ]

    done = run(tmp_path, encoder(pattern), factors=("brightness", "crop_x"), count=40)
    found = figures(done)
    assert figures(done, "pixels")["brightness"].beside.low > 0.9
    assert found["brightness"].verdict in ("collapsed", "undecided")
    assert figures(done, "pixels")["brightness"].verdict is None
    assert found["crop_x"].verdict in ("unread", "undecided")


# ---------------------------------------------------------------- records


def test_records_hold_every_version_with_whole_images_in_a_fold(tmp_path):
    done = run(tmp_path, factors=("crop_x", "crop_size"))
    path = done.path / "records" / "mean" / "crop_size.parquet"
    table = pq.read_table(path).to_pydict()
    assert len(table["id"]) == 20 * 4
    assert table["version"][:5] == [0, 1, 2, 3, 0]
    folds = {}
    for name, fold in zip(table["id"], table["fold"], strict=True):
        folds.setdefault(name, set()).add(fold)
    assert len(folds) == 20
    assert all(len(found) == 1 for found in folds.values())
    assert 0.4 <= min(table["value"]) < max(table["value"]) <= 0.8
    assert read_readings(path).read.keys() == {"beside", "alone", "network"}
    assert not (done.path / "records" / "mean" / "crop_y.parquet").exists()
    assert not (done.path / "cache").exists()


def test_scores_do_not_depend_on_workers_nor_batches(tmp_path):
    first = run(tmp_path / "one", factors=("hue", "noise"))
    second = run(tmp_path / "two", factors=("hue", "noise"), workers=1, batch_size=7)
    assert first.scores == second.scores
    other = run(tmp_path / "three", factors=("hue", "noise"), seed=1)
    assert figures(other)["hue"].beside != figures(first)["hue"].beside


def test_an_interrupted_probe_goes_on(tmp_path):
    calls = []

    def counted(inputs):
        calls.append(len(inputs))
        if sum(calls) == stop_at:
            raise KeyboardInterrupt
        return mean_colour(inputs)

    options = {"factors": ("hue", "saturation", "blur"), "batch_size": 4}
    stop_at = -1
    whole = run(tmp_path / "whole", encoder(counted), **options)
    needed = sum(calls)
    calls.clear()
    # One picture to try it, 20 as they are, 80 of the first factor, and some of the second.
    stop_at = 1 + 20 + 80 + 40
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "part", encoder(counted), **options)
    written = list((tmp_path / "part" / "run" / "records").rglob("*.parquet"))
    assert sorted(path.name for path in written) == ["saturation.parquet"] * 2
    before = [path.stat().st_mtime_ns for path in written]
    calls.clear()
    stop_at = -1
    again = run(tmp_path / "part", encoder(counted), **options)
    assert sum(calls) == needed - 80
    assert [path.stat().st_mtime_ns for path in written] == before
    assert again.folder.scores_file.read_bytes() == whole.folder.scores_file.read_bytes()
    calls.clear()
    run(tmp_path / "part", encoder(counted), **options)
    assert sum(calls) == 1 + 20
    with pytest.raises(RunMismatchError, match="versions was 4, now 5"):
        run(tmp_path / "part", encoder(counted), **{**options, "versions": 5})


def test_vectors_that_are_there_are_not_made_again(tmp_path, monkeypatch):
    calls = []

    def counted(inputs):
        calls.append(len(inputs))
        return mean_colour(inputs)

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shiftproof.probe.run.write_readings", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, encoder(counted), factors="hue")
    # One picture to try it, 20 as they are, and 80 of the factor, of which none was read yet.
    assert sum(calls) == 1 + 20 + 80
    calls.clear()
    run(tmp_path, encoder(counted), factors="hue")
    assert sum(calls) == 1 + 20


def test_of_many_images_some_are_drawn(tmp_path):
    images = run(tmp_path, count=30, factors="hue", images=12).scores.images
    assert (images.total, images.used) == (30, 12)


def test_strips_show_a_factor_from_end_to_end(tmp_path):
    done = run(tmp_path, factors=("brightness", "flip", "crop_x"))
    strips = json.loads((done.path / "gallery.json").read_text())["strips"]
    shown = {strip["factor"]: strip["pictures"] for strip in strips}
    assert [picture["value"] for picture in shown["brightness"]] == [0.4, 0.7, 1.0, 1.3, 1.6]
    assert [picture["value"] for picture in shown["flip"]] == [0, 1]
    assert [picture["value"] for picture in shown["crop_x"]] == [-0.4, -0.2, 0, 0.2, 0.4]
    means = [
        np.asarray(Image.open(done.path / picture["file"])).mean()
        for picture in shown["brightness"]
    ]
    assert means == sorted(means)
    assert means[4] > 3 * means[0]


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(pictures(11)):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    (folder / "05.png").write_bytes(b"no image")
    done = probe(encoder(), folder, out=tmp_path / "run", factors="hue", versions=4, workers=0)
    images = done.scores.images
    assert (images.total, images.used) == (11, 10)
    assert [entry.id for entry in images.broken] == ["05.png"]
    (folder / "06.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"Expected 10 images that can be read or more, got 9"):
        probe(encoder(), folder, out=tmp_path / "other", factors="hue", versions=4, workers=0)


def test_what_one_encoder_cannot_take_is_left_out_for_all(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(pictures(11)):
        Image.fromarray(image).save(folder / f"{number:02}.png")
    Image.new("RGB", (60_000, 1)).save(folder / "strip.png")
    shorter_side = Preprocess((224, 224), 224, mean=(0, 0, 0), std=(1, 1, 1))
    both = [encoder(), Encoder(mean_colour, shorter_side, normalize=False, name="second")]
    done = probe(both, folder, out=tmp_path / "run", factors="hue", versions=2, workers=0)
    images = done.scores.images
    assert (images.total, images.used) == (12, 11)
    assert [entry.id for entry in images.broken] == ["strip.png"]
    for name in ("mean", "second", "pixels"):
        table = read_readings(done.path / "records" / name / "hue.parquet")
        assert list(table.ids) == [f"{number:02}.png" for number in range(11)]


# ---------------------------------------------------------------- controls


def network():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 5),
    )


class WithToken(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()
        self.token = torch.nn.Parameter(torch.arange(5.0))

    def forward(self, inputs):
        return self.inner(inputs) + self.token


def test_a_random_twin_knows_nothing_and_leaves_the_encoder_alone():
    original = Encoder(WithToken(), PLAIN, normalize=False)
    before = {name: value.clone() for name, value in original.module.state_dict().items()}
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    images = list(pictures())
    twin = randomize_weights(original, images, seed=0, name="twin")
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in original.module.state_dict().items():
        assert torch.equal(value, before[name])
    drawn = twin.module.state_dict()
    assert not torch.equal(drawn["inner.0.weight"], before["inner.0.weight"])
    assert sorted(drawn["token"].tolist()) == [0, 1, 2, 3, 4]
    assert drawn["token"].tolist() != [0, 1, 2, 3, 4]
    with torch.no_grad():
        inputs = torch.from_numpy(PLAIN.normalize(np.stack(images)))
        activations = twin.module.inner[0](inputs)
    torch.testing.assert_close(drawn["inner.1.running_mean"], activations.mean((0, 2, 3)))
    torch.testing.assert_close(drawn["inner.1.running_var"], activations.var((0, 2, 3)))
    assert not any(part.training for part in twin.module.modules())
    again = randomize_weights(original, images, seed=0, name="twin").module.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in drawn.items())
    other = randomize_weights(original, images, seed=1, name="twin").module.state_dict()
    assert not torch.equal(other["inner.0.weight"], drawn["inner.0.weight"])
    assert randomize_weights(encoder(), images, seed=0, name="none") is None


def test_controls_stand_beside_each_encoder(tmp_path):
    both = [encoder(), Encoder(network(), PLAIN, name="a net", normalize=False)]
    done = run(tmp_path, both, factors="hue")
    models = {model.name: model for model in done.scores.models}
    assert {name: (model.control, model.of) for name, model in models.items()} == {
        "mean": (None, None),
        "a-net": (None, None),
        "a-net-random": ("random", "a-net"),
        "pixels": ("pixels", None),
    }
    pairs = [(entry.name, entry.against) for entry in done.scores.differences]
    assert pairs == [
        ("a-net", "mean"), ("mean", "pixels"), ("a-net", "a-net-random"), ("a-net", "pixels"),
    ]  # fmt: skip


def test_pixels_are_means_over_areas():
    image = np.random.default_rng(0).integers(0, 256, (32, 64, 3), np.uint8)
    expected = image.reshape(16, 2, 16, 4, 3).mean(axis=(1, 3)) / 255
    found = Pixels(PLAIN).encode([image]).reshape(16, 16, 3)
    np.testing.assert_allclose(found, expected, atol=0.51 / 255)
    assert Pixels(PLAIN).encode([]).shape == (0, 768)


def test_encoders_of_two_sizes_see_the_same_changes(tmp_path):
    large = Encoder(
        mean_colour, Preprocess((32, 32), (32, 32), mean=(0, 0, 0), std=(1, 1, 1)),
        normalize=False, name="large",
    )  # fmt: skip
    done = run(tmp_path, [encoder(), large])
    assert sorted(model.name for model in done.scores.models) == ["large", "mean", "pixels"]
    tables = [
        read_readings(done.path / "records" / name / "brightness.parquet")
        for name in ("mean", "large", "pixels")
    ]
    for table in tables[1:]:
        np.testing.assert_array_equal(table.values, tables[0].values)
        np.testing.assert_array_equal(table.folds, tables[0].folds)


# ---------------------------------------------------------------- bad input


def test_too_few_images(tmp_path):
    with pytest.raises(InputError, match=r"Expected 10 images or more, got 9: probes are fitted"):
        run(tmp_path, count=9)
    assert not (tmp_path / "run").exists()


def test_vectors_that_are_not_finite(tmp_path):
    def sometimes(inputs):
        means = mean_colour(inputs)
        return np.where(means[:, :1] > 0.5, np.nan, means)

    with pytest.raises(
        ModelError, match=r"mean gives NaN or infinity for \d+ of 80 images \(bright"
    ):
        run(tmp_path, encoder(sometimes))


def test_one_vector_for_all(tmp_path):
    with pytest.raises(ModelError, match="the same vector for all 20 images"):
        run(tmp_path, encoder(lambda inputs: np.ones((len(inputs), 3), np.float32), "ones"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"versions": 1}, "versions of 2 or more, got 1"),
        ({"versions": 2.5}, "versions of 2 or more, got 2.5"),
        ({"images": 0}, "images of 1 or more, got 0"),
        ({"batch_size": 0}, "batch_size of 1 or more"),
        ({"encoders": []}, "at least one encoder"),
        ({"encoders": [encoder(), encoder()]}, "would be called 'mean'"),
        ({"encoders": {"pixels": encoder()}}, "would be called 'pixels'"),
        ({"factors": ()}, "at least one factor"),
    ],
)
def test_what_cannot_be_used(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, **options)
    assert not (tmp_path / "run").exists()


def test_an_unknown_factor(tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'brightness'"):
        run(tmp_path, factors=("brightnes",))


def test_a_damaged_record(tmp_path):
    done = run(tmp_path, factors="hue")
    (done.path / "records" / "mean" / "hue.parquet").write_bytes(b"no table")
    with pytest.raises(BrokenFileError, match=r"hue.parquet: not a readable record table"):
        run(tmp_path, factors="hue")


def test_images_that_are_all_the_same_are_not_the_encoders_fault(tmp_path):
    same = ImageArrays(np.repeat(pictures(1), 20, axis=0))
    with pytest.raises(InputError, match="All 20 images are the same") as raised:
        probe(encoder(), same, out=tmp_path / "run", factors=["brightness"], workers=0)
    assert not isinstance(raised.value, ModelError)
