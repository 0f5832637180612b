import dataclasses
import datetime

import numpy as np
import pytest
import torch

from shiftproof.contrastive.train import Training
from shiftproof.errors import InputError, RunMismatchError
from shiftproof.rng import generator
from shiftproof_reproduce import aninfonce, latents, read_result, reproduce, simclr
from shiftproof_reproduce.latents import Recovery, Setting
from shiftproof_reproduce.simclr_views import Augment, apply

TRAINING = Training(steps=8, rate=3e-3, check_every=4, watch="least")
TINY = Setting(precision=(20.0, 10.0, 5.0), training=TRAINING, batch=32, width=16, depth=1)
PLAN = aninfonce.Plan(
    scale="small",
    settings={"20 to 5": TINY},
    methods=(aninfonce.ANISOTROPIC,),
    swept=(2.0, 10.0),
    extra=(
        ("20 to 5", aninfonce.BOTH),
        ("20 to 5", aninfonce.KNOWN),
        ("20 to 5", aninfonce.KNOWN_BOTH),
        ("20 to 5", aninfonce.LEARNED),
        ("20 to 5", aninfonce.RANDOM),
        ("20 to 5", aninfonce.ENSEMBLE),
        ("20 to 5", aninfonce.HARD),
    ),
    seeds=(0, 1),
    about="Three latents",
)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return aninfonce.reproduce(
        tmp_path_factory.mktemp("aninfonce"), plan=PLAN, workers=0, show_progress=False
    )


def test_every_method_is_measured_and_shown(result):
    rows = result.table("recovery").rows
    for method in (aninfonce.ANISOTROPIC, *(extra for _, extra in PLAN.extra)):
        assert f"20 to 5: {method.name}" in rows
    assert sum("1/τ" in row for row in rows) == 1
    assert result.table("temperatures").columns == ["2", "10"]
    shown = result.table("latents-20-to-5")
    assert shown.columns == ["20", "10", "5"]
    assert all(value is not None for row in shown.values for value in row)
    names = {finding.name for finding in result.findings}
    assert {"all-20-to-5", "precision-20-to-5", "ahead-20-to-5", "axes-20-to-5"} <= names
    assert {"bias-20-to-5", "loss-20-to-5", "ensemble-20-to-5", "hard-20-to-5"} <= names
    assert result.intervals == aninfonce.INTERVALS


def test_a_result_is_published_and_read_back(tmp_path, monkeypatch):
    plan = dataclasses.replace(PLAN, extra=(), seeds=(0,))
    monkeypatch.setattr(aninfonce, "small", lambda: plan)
    made = reproduce("aninfonce", out=tmp_path, workers=0, show_progress=False)
    assert read_result(tmp_path / "result.json") == made
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "over repetitions" in text
    assert "| 20 to 5: AnInfoNCE |" in text
    before = (tmp_path / "result.json").read_bytes()
    monkeypatch.setattr(latents, "draw_hard", None)
    again = reproduce("aninfonce", out=tmp_path, workers=0, show_progress=False)
    assert again.tables == made.tables
    assert before
    other = dataclasses.replace(TINY, batch=16)
    changed = dataclasses.replace(plan, settings={"20 to 5": other})
    monkeypatch.setattr(aninfonce, "small", lambda: changed)
    with pytest.raises(RunMismatchError, match="other settings"):
        reproduce("aninfonce", out=tmp_path, workers=0, show_progress=False)


def run_of(r2, precision, mcc=0.9):
    return Recovery(list(r2), list(precision), mcc, 1.0)


def test_findings_say_what_the_figures_say():
    method, best = aninfonce.ANISOTROPIC, aninfonce.fix_temperature(10.0)
    extra = (("20 to 5", aninfonce.KNOWN), ("20 to 5", aninfonce.KNOWN_BOTH))
    plan = dataclasses.replace(PLAN, extra=extra, seeds=(0, 1))
    measured = aninfonce.Measured(
        {
            ("20 to 5", method.name): [
                run_of((0.99, 0.99, 0.98), (20, 10, 5), 0.99),
                run_of((0.99, 0.99, 0.981), (20.1, 10, 5), 0.98),
            ],
            ("20 to 5", best.name): [
                run_of((0.9, 0.9, 0.2), (10, 10, 10), 0.6),
                run_of((0.9, 0.9, 0.21), (10, 10, 10), 0.61),
            ],
            ("20 to 5", aninfonce.KNOWN.name): [
                run_of((1, 1, 1), (20, 10, 5), 1),
                run_of((1, 1, 1), (20.1, 10, 5), 1),
            ],
            ("20 to 5", aninfonce.KNOWN_BOTH.name): [
                run_of((1, 1, 1), (16, 10, 6), 1),
                run_of((1, 1, 1), (16, 10, 6), 1),
            ],
        },
        {},
        {"20 to 5": best.name},
    )
    found = {finding.name: finding for finding in aninfonce.make_findings(measured, plan)}
    assert found["all-20-to-5"].holds == "yes"
    assert found["all-20-to-5"].figure.value == pytest.approx(0.9805)
    assert found["precision-20-to-5"].holds == "yes"
    assert found["ahead-20-to-5"].holds == "yes"
    assert found["ahead-20-to-5"].figure.value == pytest.approx(0.7755)
    assert found["axes-20-to-5"].holds == "yes"
    # A fifth of 20, nothing of 10 and a fifth of 5, on average 2 / 15.
    assert found["bias-20-to-5"].figure.value == pytest.approx(2 / 15 - 0.005 / 6, abs=1e-3)
    assert found["bias-20-to-5"].holds == "yes"
    assert found["loss-20-to-5"].figure.value == pytest.approx(0.005 / 6, abs=1e-4)
    assert found["loss-20-to-5"].holds == "yes"


def test_where_the_latents_are_known_the_loss_finds_their_precision(tmp_path):
    training = Training(steps=300, loss_rate=3e-2, cool_down=0.8, check_every=300, watch="least")
    setting = dataclasses.replace(TINY, training=training, batch=256)
    found = latents.recover(setting, aninfonce.KNOWN, 0, tmp_path / "known.safetensors")
    np.testing.assert_allclose(found.precision, [20, 10, 5], rtol=0.1)
    assert found.least > 0.999


def test_a_process_of_its_own_measures_the_same(result, tmp_path):
    few = dataclasses.replace(PLAN, extra=())
    again = aninfonce.reproduce(tmp_path, plan=few, workers=1, show_progress=False)
    for table in again.tables:
        there = result.table(table.name)
        expected = dict(zip(there.rows, there.values, strict=True))
        for row, values in zip(table.rows, table.values, strict=True):
            for value, other in zip(values, expected[row], strict=True):
                assert value.value == pytest.approx(other.value, abs=1e-3)


def test_the_published_logs_stand_beside_ours():
    bimodal = [run_of([0.99] * 10, [24] * 5 + [5.5] * 5) for _ in range(2)]
    linear = [run_of([0.98] * 10, range(6, 26, 2), 0.97) for _ in range(2)]
    name = aninfonce.BOTH.name
    table = aninfonce.compare_published(
        aninfonce.Measured({("25 and 5", name): bimodal, ("5 to 25", name): linear}, {}, {})
    )
    shown = {
        row: [None if value is None else value.value for value in values]
        for row, values in zip(table.rows, table.values, strict=True)
    }
    assert shown["25 and 5: published log"] == [0.997, None, 5.5, 23.1]
    assert shown[f"25 and 5: {name}"] == [0.99, 0.9, 5.5, 24]
    assert shown["5 to 25: published log"] == [0.998, 0.990, 5.9, 24.2]
    assert shown[f"5 to 25: {name}"] == [0.98, 0.97, 6, 24]


def test_observations_are_white_and_lose_nothing():
    observe = latents.Observer(TINY.process, seed=3)
    z, partner = TINY.process.pairs(20_000, seed=9)
    seen, other = observe(z), observe(partner)
    np.testing.assert_allclose(seen.mean(0), 0, atol=0.05)
    np.testing.assert_allclose(np.cov(seen.T), np.eye(3), atol=0.05)
    assert (np.diff(((seen - other) ** 2).mean(0)) > 0).all()
    again = observe.mixing.inverse(seen @ np.linalg.inv(observe.start.matrix) + observe.start.mean)
    np.testing.assert_allclose(again, z, atol=1e-9)


def test_an_encoder_that_starts_at_slow_features_gives_them_back():
    inputs = torch.rand(5, 3)
    assert torch.equal(latents.build_encoder(3, 3, slow=True)(inputs), inputs)
    assert torch.equal(latents.build_encoder(3, 6, slow=True)(inputs), inputs.repeat(1, 2))
    assert latents.build_encoder(3, 2, width=4, depth=2)(inputs).shape == (5, 2)


def test_hard_negatives_stand_around_their_anchor():
    z, _ = TINY.process.pairs(8, seed=0)
    drawn = latents.draw_hard(z, 50.0, 0, 0).reshape(8, latents.HARD, 3)
    own = ((drawn - z[:, None]) ** 2).sum(2).mean()
    others = ((drawn - np.roll(z, 1, 0)[:, None]) ** 2).sum(2).mean()
    assert own < 0.1 < others


def test_the_medium_scale_takes_what_was_published():
    plan = aninfonce.medium()
    assert plan.settings["25 and 5"].precision == (25.0,) * 5 + (5.0,) * 5
    np.testing.assert_allclose(
        plan.settings["5 to 25"].precision,
        [5, 7.222, 9.444, 11.667, 13.889, 16.111, 18.333, 20.556, 22.778, 25],
        atol=1e-3,
    )


# ---------------------------------------------------------------- SimCLR


def picture(channels, seed=0, side=12):
    values = np.random.default_rng(seed).uniform(size=(2, channels, side, side))
    return torch.tensor(values, dtype=torch.float32)


def still(channels, **changed):
    """Parameters that leave an image as it is, but for some."""
    names = Augment.names(channels)
    neutral = {"size": 1.0, "brightness": 1.0, "contrast": 1.0, "saturation": 1.0}
    row = [changed.get(name, neutral.get(name, 0.0)) for name in names]
    return torch.tensor([row, row], dtype=torch.float32)


@pytest.mark.parametrize("channels", [1, 3])
def test_neutral_parameters_change_nothing(channels):
    images = picture(channels)
    views = apply(images, still(channels), side=12)
    torch.testing.assert_close(views, images, atol=1e-3, rtol=0)


def test_each_parameter_does_what_it_says():
    images = picture(3)
    close = {"atol": 2e-3, "rtol": 0}
    flipped = apply(images, still(3, flip=1.0), side=12)
    torch.testing.assert_close(flipped, images.flip(3), **close)
    corner = apply(images, still(3, size=0.5, x=-0.5, y=0.5), side=6)
    torch.testing.assert_close(corner, images[:, :, 6:, :6], **close)
    darker = apply(images, still(3, brightness=0.5), side=12)
    torch.testing.assert_close(darker, images / 2, **close)
    grey = apply(images, still(3, saturation=0.0), side=12)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close(
        grey, (images * weights).sum(1, keepdim=True).expand_as(grey), **close
    )
    turned = apply(images * 0.4 + 0.3, still(3, hue=1 / 3), side=12)
    torch.testing.assert_close(turned, (images * 0.4 + 0.3).roll(1, 1), **close)
    flat = apply(picture(1), still(1, contrast=0.0), side=12)
    torch.testing.assert_close(flat, picture(1).mean((2, 3), keepdim=True).expand_as(flat), **close)


def test_a_blur_is_scipys():
    from scipy import ndimage

    images = picture(1, side=24)
    blurred = apply(images, still(1, blur=1.5 / 24), side=24)
    expected = ndimage.gaussian_filter(images[0, 0].numpy(), 1.5, mode="nearest", radius=4)
    np.testing.assert_allclose(blurred[0, 0], expected, atol=5e-3)


def test_drawn_parameters_are_within_their_ranges():
    drawn = Augment(jitter=0.5, least_area=0.25).draw(2000, 3, generator(0, "draw"))
    x, y, size, flip = drawn[:, :4].T
    assert drawn.shape == (2000, 9)
    assert size.min() >= 0.5
    assert (np.abs(x) + size <= 1 + 1e-6).all()
    assert (np.abs(y) + size <= 1 + 1e-6).all()
    assert set(flip) == {0, 1}
    assert np.abs(drawn[:, 8]).max() <= 0.1


def write_folder(folder, count=6):
    from PIL import Image

    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 100, (16, 16, 3)) + 100 * label
                Image.fromarray(pixels.astype(np.uint8)).save(
                    folder / part / name / f"{number}.png"
                )
    return folder


def test_the_paper_scale_runs_on_a_folder_of_images(tmp_path, monkeypatch):
    data = write_folder(tmp_path / "data", count=60)

    def quick(images, side):
        return simclr.Plan(
            scale="paper", backbone="small", side=28, batch=4, embedding=8, read=120,
            training=Training(steps=2, check_every=1, optimizer="lars", rate=0.1),
        )  # fmt: skip

    monkeypatch.setattr(simclr, "plan_paper", quick)
    out = tmp_path / "out"
    result = reproduce("aninfonce", out=out, scale="paper", data=data, show_progress=False)
    kept = result.table("kept")
    assert kept.rows == ["InfoNCE", "AnInfoNCE", "a network without training"]
    assert kept.columns[2:] == list(Augment.names(3))
    assert kept.values[2][0].value > 0.8  # dark cats and bright dogs are told apart by any network
    assert [finding.name for finding in result.findings] == ["augmentations", "class"]


def test_what_is_read_out_of_features_is_ridge_regression_on_the_first_half():
    from sklearn.linear_model import Ridge

    random = np.random.default_rng(0)
    features = random.normal(size=(60, 4)) * [1, 5, 0.2, 3] + 2
    target = features[:, :2] @ [[1.0, 2.0], [0.5, -1.0]] + random.normal(size=(60, 2))
    centre, spread = features[:30].mean(0), features[:30].std(0)
    scaled = np.c_[(features - centre) / spread, np.ones(60)]
    expected = Ridge(alpha=1.0, fit_intercept=False).fit(scaled[:30], target[:30])
    found = simclr.fit_least_squares(features, target[:30])
    np.testing.assert_allclose(found, expected.predict(scaled[30:]), rtol=1e-4)


def test_the_networks_of_the_paper_take_their_images():
    for side, name in ((32, "resnet18"), (256, "resnet50")):
        plan = simclr.plan_paper(50_000, side)
        assert plan.backbone == name
    pytest.importorskip("torchvision")
    plan = simclr.plan_paper(50_000, 32)
    with torch.no_grad():
        features = simclr.build_encoder(plan, 3, seed=0).eval()(torch.rand(1, 3, 32, 32))
    assert features.shape == (1, 512)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda path: reproduce("aninfonce", out=path, data=path), "draws its own data"),
        (lambda path: reproduce("aninfonce", out=path, scale="paper"), "CIFAR-10 or ImageNet"),
        (lambda path: reproduce("aninfonce", out=path, scale="paper", data=path), "train and test"),
        (
            lambda path: reproduce("aninfonce", out=path, scale="paper", data=path, model="x"),
            "--model",
        ),
        (lambda path: reproduce("bn-adaptation", out=path, scale="medium"), "no scale medium"),
        (lambda path: reproduce("detection", out=path, workers=2), "leave workers out"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(call, said, tmp_path):
    with pytest.raises(InputError, match=said):
        call(tmp_path)


def test_the_paper_scale_takes_fashion_mnist_too(tmp_path, monkeypatch):
    from support.tiny_fashion import write_fashion

    data = write_fashion(tmp_path / "data", train=60, test=400)
    training = Training(steps=2, check_every=1)
    quick = dataclasses.replace(simclr.plan_fashion(), training=training, batch=8, seeds=(3, 4))
    monkeypatch.setattr(simclr, "plan_fashion", lambda: quick)
    monkeypatch.setattr(simclr, "provenance", lambda *_: {"started": "at the end", "cores": 8})
    before = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    result = reproduce(
        "aninfonce", out=tmp_path / "out", scale="paper", data=data, show_progress=False
    )
    assert result.table("kept").columns[2:] == list(Augment.names(1))
    assert result.settings["data"]["name"] == "Fashion-MNIST"
    assert result.scale == "small"
    assert list(result.seconds) == [
        f"{loss}, seed {seed}" for seed in (3, 4) for loss in ("InfoNCE", "AnInfoNCE")
    ]
    assert "2 trainings with each loss" in result.about
    assert "over trainings" in result.intervals
    after = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    assert before <= result.provenance["started"] <= after
    assert result.provenance["cores"] == 8


def make_read_out(means, count=50):
    random = np.random.default_rng(0)
    explained = random.normal(size=(count, 2))
    explained += means - explained.mean(0)
    right = np.arange(count) % 2 == 0
    return simclr.ReadOut(("x", "y"), explained, right.astype(np.float64))


def test_intervals_of_several_trainings_are_over_trainings():
    from scipy import stats

    first = [make_read_out((0.1, 0.3)), make_read_out((0.2, 0.4)), make_read_out((0.6, 0.2))]
    other = [make_read_out((0.0, 0.3)), make_read_out((0.1, 0.5)), make_read_out((0.1, 0.1))]
    kept = {"InfoNCE": other, "AnInfoNCE": first}
    x = simclr.compare_kept(kept).values[1][2]
    low, high = stats.t.interval(0.95, 2, np.mean([0.1, 0.2, 0.6]), stats.sem([0.1, 0.2, 0.6]))
    np.testing.assert_allclose((x.value, x.lower, x.upper), (0.3, low, high), atol=1e-6)

    more = simclr.judge_trade_off(kept)[0].figure
    differences = [0.05, 0.0, 0.3]  # of the mean over both parameters, in pairs
    low, high = stats.t.interval(0.95, 2, np.mean(differences), stats.sem(differences))
    np.testing.assert_allclose((more.lower, more.upper), (low, high), atol=1e-6)
    assert simclr.judge_trade_off(kept)[0].holds == "undecided"
