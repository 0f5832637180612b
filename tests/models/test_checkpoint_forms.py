"""The forms in which people have their checkpoints."""

import argparse
import io
import tarfile
from unittest import mock

import numpy as np
import pytest
import timm
import torch
import torchvision
from torchvision.models._api import WeightsEnum

from shiftproof.errors import BrokenFileError, InputError, ModelError, UnknownNameError
from shiftproof.models import load_classifier, load_detector, load_encoder

NAME = "test_resnet"
"""A ResNet of timm's that has one narrow block a stage, and the names of all the others."""
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)


def network(seed=0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = timm.create_model(NAME, num_classes=7, **options).eval()
        for part in module.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(0, 0.1)
    return module


RAW, AVERAGED = network(0), network(1)
STATE, EMA = RAW.state_dict(), AVERAGED.state_dict()
WIDTH = STATE["fc.weight"].shape[1]
BODY = {name: value for name, value in STATE.items() if not name.startswith("fc.")}


def under(prefix, state=STATE):
    return {prefix + name: value for name, value in state.items()}


def load(tmp_path, content, arch=f"timm:{NAME}", options="", loader=load_classifier):
    torch.save(content, tmp_path / "checkpoint.pt")
    return loader(f"file:{tmp_path / 'checkpoint.pt'}?arch={arch}{options}")


def check_same(classifier, module):
    """Hold the logits against those of the module itself, in torch alone."""
    height, width = classifier.preprocess.size
    images = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = module(torch.from_numpy(classifier.preprocess.normalize(images))).numpy()
    np.testing.assert_allclose(classifier.predict(images), expected, atol=1e-3)


def swa():
    averaged = torch.optim.swa_utils.AveragedModel(RAW)
    averaged.update_parameters(RAW)
    return averaged.state_dict()


@pytest.mark.parametrize(
    "content",
    [
        swa(),
        {"state_dict": under("model.") | {"criterion.weight": torch.ones(7)}, "epoch": 3},
        {"state_dict": under("net.") | {"train_acc.tp": torch.ones(7, dtype=torch.long)}},
        {"net": STATE, "acc": 93.1},
        {"anything": STATE},
        {"state_dict": STATE, "args": argparse.Namespace(lr=0.1)},
        {
            "state_dict": under("backbone.", BODY)
            | {"head.fc.weight": STATE["fc.weight"], "head.fc.bias": STATE["fc.bias"]}
        },
        under("backbone.", BODY)
        | {"classifier.weight": STATE["fc.weight"], "classifier.bias": STATE["fc.bias"]},
        BODY | {"fc.1.weight": STATE["fc.weight"], "fc.1.bias": STATE["fc.bias"]},
        {"backbone": BODY, "head": {"weight": STATE["fc.weight"], "bias": STATE["fc.bias"]}},
        under("module._orig_mod."),
        {name: value for name, value in STATE.items() if "num_batches" not in name},
        STATE | {"total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)},
    ],
)
def test_the_weights_of_one_network_are_found_among_all_else(tmp_path, content):
    check_same(load(tmp_path, content), RAW)


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict_ema": EMA},
        {"state_dict": STATE, "state_dict_ema": EMA},
        {"model": STATE, "ema": {"module": EMA}},
        {"student": under("module."), "teacher": under("module.", EMA)},
        {"state_dict": under("model.") | under("ema_model.module.", EMA)},
    ],
)
def test_averaged_weights_come_first_and_are_named(tmp_path, content):
    classifier = load(tmp_path, content)
    check_same(classifier, AVERAGED)
    assert any(phrase.startswith("averaged weights") for phrase in classifier.assumed)


def test_a_shadow_without_statistics_gets_those_of_the_raw_weights(tmp_path):
    shadow = {name: value for name, value in EMA.items() if "running" not in name}
    classifier = load(tmp_path, {"model": STATE, "ema": {"shadow": shadow}})
    mixed = network(2)
    statistics = {name: value for name, value in STATE.items() if "running" in name}
    mixed.load_state_dict(EMA | statistics)
    check_same(classifier, mixed)


def test_raw_weights_can_be_asked_for(tmp_path):
    content = {"state_dict": STATE, "state_dict_ema": EMA}
    check_same(load(tmp_path, content, options="&weights=raw"), RAW)
    check_same(load(tmp_path, content, options="&weights=state_dict"), RAW)
    with pytest.raises(UnknownNameError, match="Did you mean 'state_dict'"):
        load(tmp_path, content, options="&weights=state_dictt")
    with pytest.raises(ModelError, match=r"a, b\. Say which: weights=a"):
        load(tmp_path, {"a": STATE, "b": EMA})
    check_same(load(tmp_path, {"a": STATE, "b": EMA}, options="&weights=b"), AVERAGED)


@pytest.mark.parametrize(
    "content",
    [
        under("model.") | {"normalize.mean": MEAN, "normalize.std": STD},
        under("1.") | {"0.mean": MEAN, "0.std": STD},
        under("1.") | {"0.mean": MEAN * 255, "0.std": STD * 255},
        {
            "model": under("module.model.")
            | under("module.attacker.model.")
            | {"module.normalizer.new_mean": MEAN, "module.normalizer.new_std": STD}
            | {"module.attacker.normalize.new_mean": MEAN, "module.attacker.normalize.new_std": STD}
        },
    ],
)
def test_the_normalisation_in_a_file_is_used(tmp_path, content):
    classifier = load(tmp_path, content)
    assert classifier.preprocess.mean == pytest.approx((0.4, 0.5, 0.6))
    assert classifier.preprocess.std == pytest.approx((0.2, 0.3, 0.4))
    check_same(classifier, RAW)
    assert any("from the file" in phrase for phrase in classifier.assumed)


def test_a_grey_network_gets_grey(tmp_path):
    grey = network(in_chans=1)
    classifier = load(tmp_path, grey.state_dict())
    assert classifier.preprocess.channels == 1
    check_same(classifier, grey)
    assert "one input channel: images are turned to gray" in classifier.assumed


@pytest.mark.parametrize(
    "extra",
    [
        {"backbone.fc2.weight": torch.ones(3, 7)},
        {"bottleneck.weight": torch.ones(WIDTH)},
        {"head.weight": torch.ones(3, 7), "head.bias": torch.ones(3)},
    ],
)
def test_layers_that_the_architecture_has_not_are_refused(tmp_path, extra):
    with pytest.raises(ModelError, match="not expected"):
        load(tmp_path, under("backbone.") | extra)


def test_weights_without_a_head_are_features(tmp_path):
    with pytest.raises(ModelError, match=r"has no head for test_resnet.*shiftproof embed"):
        load(tmp_path, BODY)
    assert load(tmp_path, BODY, loader=load_encoder).width == WIDTH


def test_weights_of_another_network_are_named_and_python_is_pointed_to(tmp_path):
    others = {"body.0.weight": torch.ones(3, 7), "body.0.bias": torch.ones(3)}
    with pytest.raises(
        ModelError, match=r"no weights of test_resnet.* body\.0\.weight.*Classifier"
    ):
        load(tmp_path, others)


HEADLESS = "eva02_tiny_patch14_224"


def test_models_of_timm_without_a_head_are_no_classifiers(tmp_path):
    with pytest.raises(ModelError, match=r"no head.*file:PATH\?arch=timm:eva02_tiny.*probe"):
        load_classifier(f"timm:{HEADLESS}?pretrained=false")
    tuned = timm.create_model(HEADLESS, num_classes=6).eval()
    classifier = load(tmp_path, tuned.state_dict(), arch=f"timm:{HEADLESS}")
    assert len(classifier.classes) == 6
    check_same(classifier, tuned)


@pytest.fixture
def shallow(monkeypatch):
    """Vision transformers of torchvision with one block in place of twelve."""
    build = torchvision.models.VisionTransformer
    monkeypatch.setattr(
        "torchvision.models.vision_transformer.VisionTransformer",
        lambda **options: build(**options | {"num_layers": 1}),
    )


@pytest.mark.parametrize(
    "name", ["googlenet", "inception_v3", "mnasnet0_5", "vit_b_32", "maxvit_t"]
)
def test_torchvision_builds_the_same_network_around_its_own_weights(tmp_path, name, shallow):
    weights = torchvision.models.get_model_weights(name).DEFAULT
    own = torchvision.models.get_model(
        name,
        weights=None,
        **({"init_weights": False} if name in ("googlenet", "inception_v3") else {}),
    ).state_dict()
    with mock.patch.object(WeightsEnum, "get_state_dict", return_value=own):
        module = torchvision.models.get_model(name, weights=weights).eval()
    classifier = load(tmp_path, module.state_dict(), arch=f"torchvision:{name}")
    assert getattr(classifier.module, "transform_input", None) == getattr(
        module, "transform_input", None
    )
    check_same(classifier, module)


def test_the_size_of_the_weights_is_built(tmp_path, shallow):
    module = torchvision.models.vit_b_32(image_size=384, num_classes=3).eval()
    classifier = load(tmp_path, module.state_dict(), "torchvision:vit_b_32", "&size=384")
    check_same(classifier, module)
    with pytest.raises(ModelError, match="size=384"):
        load(tmp_path, module.state_dict(), "torchvision:vit_b_32")


def test_old_names_of_torchvision(tmp_path):
    module = torchvision.models.densenet121(num_classes=4).eval()
    old = {}
    for name, value in module.state_dict().items():
        for part in ("norm", "conv"):
            for number in "12":
                if "denselayer" in name:
                    name = name.replace(f".{part}{number}.", f".{part}.{number}.")
        old[name] = value
    check_same(load(tmp_path, old, "torchvision:densenet121"), module)


def test_a_published_detector_keeps_frozen_norms(tmp_path):
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    build = torchvision.models.get_model
    module = build(name, weights=None, weights_backbone=None, num_classes=91)
    state = {k: v for k, v in module.state_dict().items() if "num_batches" not in k}
    detector = load(tmp_path, {"model": state}, f"torchvision:{name}", loader=load_detector)
    kinds = {type(part).__name__ for part in detector.module.modules()}
    assert "FrozenBatchNorm2d" in kinds
    assert "BatchNorm2d" not in kinds


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: torch.zeros(1).expand(10_000_000, WIDTH), "claims 960,000,000 numbers"),
        (lambda: torch.zeros(7, WIDTH).to_sparse(), "sparse"),
        (
            lambda: torch.quantize_per_tensor(torch.zeros(7, WIDTH), 1.0, 0, torch.qint8),
            "quantized",
        ),
        (lambda: torch.zeros(7, WIDTH, dtype=torch.complex64), "complex"),
        (lambda: torch.zeros(7, WIDTH, device="meta"), "meta"),
        (lambda: torch.zeros(7, WIDTH, dtype=torch.int8), "int8 and not floating"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantize")
def test_numbers_that_are_not_in_the_file_are_refused(tmp_path, make, words):
    with pytest.raises(InputError, match=words):
        load(tmp_path, STATE | {"fc.weight": make()})


def test_the_tar_form_is_refused_before_torch_sees_it(tmp_path):
    path = tmp_path / "old.pt"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    with mock.patch("torch.load") as load_of_torch, pytest.raises(ModelError, match="tar archive"):
        load_classifier(f"file:{path}?arch=timm:{NAME}")
    load_of_torch.assert_not_called()


def test_an_old_torch_reads_no_pickle(tmp_path):
    torch.save(STATE, tmp_path / "checkpoint.pt")
    with (
        mock.patch("torch.__version__", "2.5.1"),
        mock.patch("torch.load") as load_of_torch,
        pytest.raises(ModelError, match=r"torch 2.5.1 can run code.*2\.10"),
    ):
        load_classifier(f"file:{tmp_path / 'checkpoint.pt'}?arch=timm:{NAME}")
    load_of_torch.assert_not_called()


@pytest.mark.parametrize("seed", range(20))
def test_damaged_bytes_end_in_one_error(tmp_path, seed):
    rng = np.random.default_rng(seed)
    torch.save({"state_dict": {"conv.weight": torch.ones(3, 3)}}, tmp_path / "good.pt")
    data = bytearray((tmp_path / "good.pt").read_bytes())
    for place in rng.integers(0, len(data), 8):
        data[place] = rng.integers(0, 256)
    (tmp_path / "bad.pt").write_bytes(data)
    with pytest.raises((BrokenFileError, ModelError)):
        load_classifier(f"file:{tmp_path / 'bad.pt'}?arch=timm:{NAME}")


def test_a_network_that_gives_nan_is_refused(tmp_path):
    with pytest.raises(ModelError, match="returns NaN"):
        load(tmp_path, STATE | {"fc.bias": torch.full((7,), torch.nan)})


SEVEN = ("cat", "dog", "eel", "fox", "gnu", "hen", "ibis")


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": list(SEVEN)},
        {"class_to_idx": {name: index for index, name in reversed(list(enumerate(SEVEN)))}},
        {"idx_to_class": dict(enumerate(SEVEN))},
        {"hyper_parameters": {"id2label": {str(i): name for i, name in enumerate(SEVEN)}}},
        {"args": argparse.Namespace(class_names=SEVEN)},
    ],
)
def test_names_of_classes_that_stand_in_the_file_are_the_models(tmp_path, beside):
    model = load(tmp_path, {"state_dict": STATE, **beside})
    assert model.classes.names == SEVEN
    assert any("names in the checkpoint" in phrase for phrase in model.assumed)


@pytest.mark.parametrize(
    "beside",
    [
        {"classes": list(SEVEN[:-1])},
        {"classes": ["cat"] * 7},
        {"classes": [*SEVEN[:-1], ""]},
        {"classes": 7},
        {"idx_to_class": {index + 1: name for index, name in enumerate(SEVEN)}},
        {"class_to_idx": {name: {} for name in SEVEN}},
    ],
)
def test_names_that_do_not_fit_the_outputs_are_left_aside(tmp_path, beside):
    model = load(tmp_path, {"state_dict": STATE, **beside})
    assert model.classes.names == tuple("0123456")


def test_names_that_were_asked_for_count_more_than_those_in_the_file(tmp_path):
    model = load(
        tmp_path, {"state_dict": STATE, "classes": list(SEVEN)}, options="&classes=numbered"
    )
    assert model.classes.names == tuple("0123456")
