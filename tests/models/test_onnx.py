import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shiftproof.errors import BrokenFileError, InputError, MissingExtraError, ModelError
from shiftproof.models import load_classifier
from shiftproof.models.classifiers.onnx import OnnxModule

WEIGHT = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def write(
    path,
    batch="n",
    channels=3,
    size=("h", "w"),
    kind=TensorProto.FLOAT,
    extra_input=False,
    outputs=("logits",),
    weight=WEIGHT,
):
    """A graph that averages over the positions and multiplies by a matrix."""
    image = helper.make_tensor_value_info("image", kind, [batch, channels, *size])
    infos = {
        "features": helper.make_tensor_value_info(
            "features", TensorProto.FLOAT, [batch, channels, 1, 1]
        ),
        "logits": helper.make_tensor_value_info(
            "logits", TensorProto.FLOAT, [batch, weight.shape[1]]
        ),
    }
    inputs = [image]
    if extra_input:
        inputs.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("GlobalAveragePool", ["floats"], ["features"]),
        helper.make_node("Flatten", ["features"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        inputs,
        [infos[name] for name in outputs],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def pictures(count, size):
    return np.random.default_rng(1).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def by_hand(images, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)):
    return ((images / 255 - np.array(mean)) / np.array(std)).mean((1, 2)) @ WEIGHT


@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_any_batch_runs_whatever_the_graph_takes(tmp_path, batch):
    path = write(tmp_path / "model.onnx", batch=batch, size=(24, 20))
    classifier = load_classifier(f"onnx:{path}")
    assert classifier.preprocess.size == (24, 20)
    assert len(classifier.classes) == 4
    for count in (0, 1, 3, 4, 7):
        images = pictures(count, (24, 20))
        np.testing.assert_allclose(classifier.predict(images), by_hand(images), atol=1e-4)


def test_preprocessing_is_imagenets_unless_said_otherwise(tmp_path):
    path = write(tmp_path / "model.onnx")
    preprocess = load_classifier(f"onnx:{path}").preprocess
    assert (preprocess.size, preprocess.resize) == ((224, 224), 256)
    assert preprocess.interpolation == "bilinear"
    images = pictures(2, (224, 224))
    np.testing.assert_allclose(
        load_classifier(f"onnx:{path}").predict(images), by_hand(images), atol=1e-4
    )
    spec = f"onnx:{path}?size=32&mean=0.5,0.4,0.3&std=0.1,0.2,0.3&interpolation=bicubic"
    classifier = load_classifier(spec, classes=list("abcd"))
    images = pictures(2, (32, 32))
    expected = by_hand(images, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    np.testing.assert_allclose(classifier.predict(images), expected, atol=1e-4)
    assert classifier.settings["preprocess"] == {
        "size": [32, 32],
        "resize": 36,
        "interpolation": "bicubic",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.1, 0.2, 0.3],
        "channels": 3,
    }


def test_a_grey_input_gets_one_channel(tmp_path):
    path = write(tmp_path / "grey.onnx", channels=1, size=(28, 28), weight=WEIGHT[:1])
    classifier = load_classifier(f"onnx:{path}", mean=(0.25,), std=(0.5,))
    images = np.full((1, 28, 28, 3), 51, np.uint8)
    np.testing.assert_allclose(
        classifier.predict(images), (0.2 - 0.25) / 0.5 * WEIGHT[:1], atol=1e-5
    )
    assert load_classifier(f"onnx:{path}").preprocess.channels == 1


def test_the_first_output_that_is_logits_is_taken(tmp_path):
    path = write(tmp_path / "two.onnx", size=(8, 8), outputs=("features", "logits"))
    images = pictures(2, (8, 8))
    np.testing.assert_allclose(
        load_classifier(f"onnx:{path}").predict(images), by_hand(images), atol=1e-4
    )


def test_settings_name_the_file_s_content(tmp_path):
    first = load_classifier(f"onnx:{write(tmp_path / 'a.onnx')}").settings
    same = load_classifier(f"onnx:{write(tmp_path / 'b.onnx')}").settings
    other = load_classifier(f"onnx:{write(tmp_path / 'c.onnx', weight=WEIGHT * 2)}").settings
    assert first["fingerprint"] == same["fingerprint"] != other["fingerprint"]
    assert len(first["fingerprint"]) == 32
    assert first["device"] == "cpu"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"extra_input": True}, "one input, got 2 .image, scale"),
        (
            {"kind": TensorProto.INT32},
            r"one image input \(N, 3, H, W\).*'image' of tensor\(int32\)",
        ),
        ({"channels": 5, "weight": np.ones((5, 2), np.float32)}, "float32"),
        ({"outputs": ("features",)}, r"logits \(N, K\), got features"),
    ],
)
def test_other_graphs_are_refused(tmp_path, form, words):
    path = write(tmp_path / "model.onnx", **form)
    with pytest.raises(ModelError, match=words):
        load_classifier(f"onnx:{path}")


def test_a_half_dynamic_size_is_refused(tmp_path):
    with pytest.raises(InputError, match="both fixed or both dynamic"):
        load_classifier(f"onnx:{write(tmp_path / 'model.onnx', size=(24, 'w'))}")


def test_a_fixed_size_cannot_be_changed(tmp_path):
    path = write(tmp_path / "model.onnx", size=(24, 20))
    with pytest.raises(ModelError, match="fixed at 24 x 20 pixels, but 32 x 32"):
        load_classifier(f"onnx:{path}", size=32)


def test_files_that_are_no_graph_are_refused(tmp_path):
    with pytest.raises(BrokenFileError, match="no such file"):
        load_classifier(f"onnx:{tmp_path / 'none.onnx'}")
    (tmp_path / "text.onnx").write_text("not a graph")
    with pytest.raises(BrokenFileError, match="not an ONNX graph"):
        load_classifier(f"onnx:{tmp_path / 'text.onnx'}")


def test_devices(tmp_path):
    path = write(tmp_path / "model.onnx")
    assert load_classifier(f"onnx:{path}", device="auto").device in ("cpu", "cuda:0")
    with pytest.raises(ModelError, match="'cpu', 'cuda' or 'auto', but device='mps'"):
        load_classifier(f"onnx:{path}", device="mps")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ModelError, match="onnxruntime-gpu"):
            load_classifier(f"onnx:{path}", device="cuda:1")


def test_what_it_needs_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r'pip install "shiftproof\[onnx\]"'):
        OnnxModule(tmp_path / "model.onnx")
