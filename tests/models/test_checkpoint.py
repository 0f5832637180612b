import os
import pickle

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision

from shiftproof.classes import imagenet
from shiftproof.errors import BrokenFileError, InputError, ModelError, UnknownNameError
from shiftproof.models import load_classifier

NAME = "mobilenetv3_small_050"


def trained(classes=7):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return timm.create_model(NAME, num_classes=classes).eval()


def logits_of(module, classifier):
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = module(torch.from_numpy(classifier.preprocess.normalize(images))).numpy()
    return classifier.predict(images), expected


@pytest.mark.parametrize(
    ("nested", "prefix"),
    [
        (None, "module."),
        ("state_dict", "model."),
        ("model", "model.module."),
        ("model_state_dict", "_orig_mod."),
    ],
)
def test_the_weights_are_found_wherever_training_put_them(tmp_path, nested, prefix):
    module = trained()
    state = {prefix + name: value for name, value in module.state_dict().items()}
    content = {nested: state, "epoch": 3, "optimizer": {"lr": 0.1}} if nested else state
    torch.save(content, tmp_path / "checkpoint.pt")
    from shiftproof.models.checkpoints.checkpoint import load_checkpoint
    from shiftproof.models.classifiers.options import LoadOptions

    loaded = load_checkpoint(str(tmp_path / "checkpoint.pt"), LoadOptions(arch=f"timm:{NAME}"))
    result = loaded.module.state_dict()
    assert all(torch.equal(result[name], value) for name, value in module.state_dict().items())
    assert loaded.classes is None


def test_a_checkpoint_is_a_classifier_with_as_many_classes_as_its_last_layer(tmp_path):
    module = trained(7)
    torch.save(module.state_dict(), tmp_path / "checkpoint.pt")
    spec = f"file:{tmp_path / 'checkpoint.pt'}"
    classifier = load_classifier(f"{spec}?arch=timm:{NAME}")
    assert len(classifier.classes) == 7
    np.testing.assert_allclose(*logits_of(module, classifier), atol=1e-4)
    named = load_classifier(spec, arch=f"timm:{NAME}", classes=list("abcdefg"))
    assert named.classes.names == tuple("abcdefg")


def test_a_thousand_classes_are_imagenets(tmp_path):
    torch.save(trained(1000).state_dict(), tmp_path / "checkpoint.pth")
    spec = f"file:{tmp_path / 'checkpoint.pth'}?arch=timm:{NAME}"
    assert load_classifier(spec).classes is imagenet()


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_architectures_of_torchvision(tmp_path, name):
    with torch.random.fork_rng():
        module = torchvision.models.get_model(name, weights=None, num_classes=5).eval()
    torch.save(module.state_dict(), tmp_path / "checkpoint.pt")
    classifier = load_classifier(f"file:{tmp_path / 'checkpoint.pt'}?arch=torchvision:{name}")
    assert len(classifier.classes) == 5
    np.testing.assert_allclose(*logits_of(module, classifier), atol=1e-4)
    assert classifier.preprocess.resize == 256


def test_safetensors(tmp_path):
    module = trained()
    safetensors.torch.save_file(module.state_dict(), tmp_path / "model.safetensors")
    classifier = load_classifier(f"file:{tmp_path / 'model.safetensors'}?arch=timm:{NAME}")
    np.testing.assert_allclose(*logits_of(module, classifier), atol=1e-4)
    (tmp_path / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{]}     ")
    with pytest.raises(BrokenFileError, match="not a safetensors file"):
        load_classifier(f"file:{tmp_path / 'broken.safetensors'}?arch=timm:{NAME}")


class Malicious:
    """Pickles to a program that leaves a mark on the disk when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("form", ["torch", "torch, old format", "pickle", "nested"])
def test_a_pickle_is_refused_and_not_run(tmp_path, form):
    mark, path = tmp_path / "mark", tmp_path / "checkpoint.pt"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Malicious(mark)))
    elif form == "nested":
        torch.save({"state_dict": trained().state_dict(), "callback": Malicious(mark)}, path)
    else:
        torch.save(Malicious(mark), path, _use_new_zipfile_serialization=form == "torch")
    assert not mark.exists()
    with pytest.raises(ModelError) as caught:
        load_classifier(f"file:{path}?arch=timm:{NAME}")
    message = str(caught.value)
    assert ("mkdir" in message) or form == "pickle"
    assert "nothing of it was run" in message
    assert "torch.save(model.state_dict(), PATH)" in message
    assert "weights_only=False" not in message
    assert not mark.exists()
    # And the mark is left where somebody does load it: the test can tell.
    if form != "pickle":
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_a_whole_model_is_refused(tmp_path):
    torch.save(trained(), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match=r"pickled object \(timm\.models.*state_dict"):
        load_classifier(f"file:{tmp_path / 'whole.pt'}?arch=timm:{NAME}")


def test_a_torchscript_archive_is_refused(tmp_path):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against it, and people have such files
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(ModelError, match="TorchScript archive"):
        load_classifier(f"file:{tmp_path / 'script.pt'}?arch=timm:{NAME}")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated"])
def test_a_damaged_file_is_said_to_be_one(tmp_path, content):
    (tmp_path / "broken.pt").write_bytes(content)
    with pytest.raises(BrokenFileError, match=r"broken\.pt") as caught:
        load_classifier(f"file:{tmp_path / 'broken.pt'}?arch=timm:{NAME}")
    assert "weights_only" not in str(caught.value)
    with pytest.raises(BrokenFileError, match="no such file"):
        load_classifier(f"file:{tmp_path / 'none.pt'}?arch=timm:{NAME}")


def test_a_truncated_checkpoint_is_said_to_be_damaged(tmp_path):
    torch.save(trained().state_dict(), tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(BrokenFileError, match="half"):
        load_classifier(f"file:{tmp_path / 'half.pt'}?arch=timm:{NAME}")


def test_keys_that_are_missing_or_too_many_are_counted_and_named(tmp_path):
    state = trained().state_dict()
    taken = [name for name in state if name.startswith("blocks.0.0")]
    for name in taken:
        del state[name]
    state["extra.weight"] = torch.zeros(1)
    state["conv_stem.weight"] = torch.zeros(1, 2)
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError) as caught:
        load_classifier(f"file:{tmp_path / 'checkpoint.pt'}?arch=timm:{NAME}")
    message = str(caught.value)
    assert f"{len(taken)} of the {len(trained().state_dict())} expected are missing" in message
    assert f"({', '.join(taken[:3])}, …)" in message
    assert "1 are not expected (extra.weight)" in message
    assert "1 have another shape (conv_stem.weight is (1, 2) and not (16, 3, 3, 3))" in message


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], torch.zeros(3), {}])
def test_a_file_without_weights_says_what_it_has(tmp_path, content):
    torch.save(content, tmp_path / "checkpoint.pt")
    with pytest.raises(ModelError, match=f"holds no state_dict .*{type(content).__name__}"):
        load_classifier(f"file:{tmp_path / 'checkpoint.pt'}?arch=timm:{NAME}")


def test_the_architecture_is_asked_for(tmp_path):
    torch.save(trained().state_dict(), tmp_path / "checkpoint.pt")
    spec = f"file:{tmp_path / 'checkpoint.pt'}"
    with pytest.raises(InputError, match=r"needs its architecture.*\?arch=timm:resnet18"):
        load_classifier(spec)
    with pytest.raises(UnknownNameError, match="Did you mean 'timm'"):
        load_classifier(f"{spec}?arch=tim:resnet18")
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet18'"):
        load_classifier(f"{spec}?arch=timm:resnet-18")
