"""What is known to go wrong with settings is said, and nothing else."""

import pytest

from shiftproof import Classes, Classifier, Preprocess, bench
from shiftproof.adapt import make_adapter
from shiftproof.adapt.safeguards.cautions import list_cautions
from shiftproof.data import open_data
from shiftproof.report import write_report
from support.small_networks import classifier, convolutional, pictures, with_layer_norm
from support.tiny import NAMES, write_photos


def cautions(spec, *, batch_size=64, order="shuffled", module=convolutional):
    adapter = make_adapter(spec, classifier(module()))
    return list_cautions(adapter.settings, batch_size=batch_size, order=order)


@pytest.mark.parametrize(
    "spec", ["batchnorm:prior=0", "rpl:preset=paper", "ent:prior=0", "rdumb+ent:prior=0"]
)
@pytest.mark.parametrize(("batch_size", "harms"), [(1, True), (15, True), (16, False), (64, False)])
def test_the_batch_s_statistics_alone_need_sixteen_images(spec, batch_size, harms):
    found = cautions(spec, batch_size=batch_size)
    assert len(found) == harms
    if harms:
        images = "1 image " if batch_size == 1 else f"{batch_size} images "
        assert f"prior=0 normalizes by batches of {images}alone" in found[0]


@pytest.mark.parametrize(
    "spec", ["batchnorm", "batchnorm:prior=16", "rpl", "hard:prior=inf", "lame"]
)
def test_a_prior_needs_no_warning(spec):
    assert cautions(spec, batch_size=1) == []


@pytest.mark.parametrize("order", ["sorted", "dirichlet"])
@pytest.mark.parametrize(
    "spec",
    [
        "batchnorm:prior=measured", "batchnorm:prior=16", "rpl:prior=layerwise",
        "rdumb+ent:prior=measured", "cotta:prior=0", "batchnorm:over=stream,momentum=0.1",
    ],
)  # fmt: skip
def test_streams_of_few_classes(spec, order):
    [found] = cautions(spec, order=order)
    assert "statistics of few classes are mistaken for a shift. Take prior=auto" in found


@pytest.mark.parametrize("spec",
    [
        "batchnorm:prior=inf", "ent:prior=inf", "lame", "guard+rpl:prior=0",
        *("batchnorm", "rpl", "rdumb+ent", "roid", "cotta"),
    ],
)  # fmt: skip
def test_what_looks_at_classes_or_has_no_statistics_of_the_batch_or_is_guarded_may_see_few_classes(
    spec,
):
    assert cautions(spec, order="sorted") == []


@pytest.mark.parametrize(
    ("spec", "order", "words"),
    [
        ("lame:preset=paper", "shuffled", "LAME assigns classes by neighbors"),
        ("t3a:preset=paper", "sorted", "prototypes of few classes answer the others wrong"),
    ],
)
def test_answers_by_the_papers_settings(spec, order, words):
    [found] = cautions(spec, order=order)
    assert words in found
    assert cautions(f"guard+{spec}", order=order) == []
    assert cautions(spec.partition(":")[0], order=order) == []


@pytest.mark.parametrize(
    ("spec", "order"), [("lame:preset=paper", "dirichlet"), ("t3a:preset=paper", "shuffled")]
)
def test_and_where_they_do_no_harm(spec, order):
    assert cautions(spec, order=order) == []


def test_a_network_without_batch_norm_has_none_to_be_wrong():
    assert cautions("ent:prior=0", batch_size=1, order="sorted", module=with_layer_norm) == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("soft", "its teacher begins as the model itself"),
        ("guard+soft", "its teacher begins as the model itself"),
        ("ent:lr=0", "A learning rate of 0 moves nothing"),
        ("rpl:lr=5e-8", "A learning rate of 5e-08 moves nothing"),
    ],
)
def test_steps_that_move_nothing(spec, words):
    [found] = cautions(spec)
    assert words in found


@pytest.mark.parametrize("spec", ["ent:lr=7e-8", "ent:lr=5e-8,momentum=0.9", "rpl"])
def test_steps_that_reach_the_precision_of_the_weights(spec):
    assert cautions(spec) == []


def test_a_rate_below_the_rule_s_moves_no_weight():
    """Of weights of 1 or more, the largest of which has a gradient of about 0.1."""
    for rate, moves in ((2.0**-24 / 4, False), (1e-3, True)):
        adapter = make_adapter(f"ent:lr={rate}", classifier())
        before = [p.detach().clone() for p in adapter.parameters()]
        adapter.predict(pictures())
        moved = [
            bool((after.detach() != first)[first.abs() >= 1].any())
            for after, first in zip(adapter.parameters(), before, strict=True)
        ]
        assert any(moved) == moves


@pytest.mark.parametrize("settings", [{}, {"inner": 3}, {"lr": "fast", "loss": 1}, {"prior": None}])
def test_settings_of_adapters_that_are_not_known_here(settings):
    assert list_cautions(settings, batch_size=1, order="sorted") == []


def test_a_run_says_so_and_its_page(tmp_path, capsys):
    data = open_data(write_photos(tmp_path / "photos", per_class=2), classes=Classes(NAMES))
    source = Classifier(convolutional(classes=3), Preprocess((16, 16), 16), Classes(NAMES))
    run = bench.run(
        source,
        data,
        corruptions=["brightness"],
        severities=[1],
        adapters=["batchnorm:prior=0", "guard+batchnorm:prior=0"],
        out=tmp_path / "run",
        batch_size=4,
        protocol="online:order=sorted",
        workers=0,
    )
    said = capsys.readouterr().err
    page = write_report(run.path).read_text(encoding="utf-8")
    for words in ("prior=0 normalizes by batches of 4 images alone", "sorted by label"):
        assert words in said
        assert words in page
    assert "guard+batchnorm" not in said
