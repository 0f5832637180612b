"""Which output of an ONNX file is taken, and what its numbers are."""

import contextlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from shiftproof.classes import imagenet
from shiftproof.errors import BrokenFileError, ModelError, ShiftproofError, UnknownNameError
from shiftproof.metrics import classification
from shiftproof.models import load_classifier, load_encoder

WEIGHT = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


def write(path, outputs=("logits",), ending=None, weight=WEIGHT, names=None):
    """A graph of mean colours and a linear layer: values flat (N, 3), logits, and an ending."""
    names = {"flat": "flat", "logits": "logits", "end": "end"} | (names or {})
    last = [names["logits"] if not ending else "raw"]
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled4"]),
        helper.make_node("Flatten", ["pooled4"], [names["flat"]]),
        helper.make_node("MatMul", [names["flat"], "weight"], last),
    ]
    if ending:
        nodes.append(helper.make_node(ending, last, [names["end"]]))
        nodes.append(helper.make_node("Identity", [names["end"]], [names["logits"]]))
    widths = {names["flat"]: 3}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [
            helper.make_tensor_value_info(
                name, TensorProto.FLOAT, ["n", widths.get(name, weight.shape[1])]
            )
            for name in (names.get(output, output) for output in outputs)
        ],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


IMAGES = np.random.default_rng(1).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


def by_hand(weight=WEIGHT):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((IMAGES / 255 - mean) / std).mean((1, 2)) @ weight


@pytest.mark.parametrize(
    "names",
    [
        {"flat": "features", "logits": "logits"},
        {"flat": "features", "logits": "output"},
        {"flat": "pre_logits", "logits": "prob"},
        {"flat": "120", "logits": "121"},
    ],
)
def test_features_before_the_logits_are_no_classes(tmp_path, names):
    path = write(tmp_path / "m.onnx", ("flat", "logits"), names=names)
    np.testing.assert_allclose(
        load_classifier(f"onnx:{path}").predict(IMAGES), by_hand(), atol=1e-4
    )
    encoder = load_encoder(f"onnx:{path}", normalize=False)
    assert encoder.width == 3


def test_several_heads_are_named_in_the_error(tmp_path):
    path = tmp_path / "m.onnx"
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["p"]),
            helper.make_node("Flatten", ["p"], ["f"]),
            helper.make_node("MatMul", ["f", "weight"], ["age"]),
            helper.make_node("MatMul", ["f", "weight"], ["turned"]),
            helper.make_node("Neg", ["turned"], ["mood"]),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 4]) for n in ("age", "mood")],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    with pytest.raises(ModelError, match=r"age \(n, 4\), mood \(n, 4\).*output=age"):
        load_classifier(f"onnx:{path}")
    found = load_classifier(f"onnx:{path}?output=mood").predict(IMAGES)
    np.testing.assert_allclose(found, -by_hand(), atol=1e-4)
    with pytest.raises(UnknownNameError, match="Did you mean 'mood'"):
        load_classifier(f"onnx:{path}?output=mod")


@pytest.mark.parametrize("ending", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_confidences_are_those_of_the_network_behind_a_softmax(tmp_path, ending):
    path = write(tmp_path / "m.onnx", ending=ending, names={"logits": "output"})
    classifier = load_classifier(f"onnx:{path}")
    expected = np.exp(by_hand())
    expected = (expected / expected.sum(1, keepdims=True)).max(1)
    found = classification.confidence(classifier.predict(IMAGES))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert ("the softmax at the end taken off" in classifier.assumed) == (ending == "Softmax")


def test_a_name_alone_makes_no_probabilities(tmp_path):
    path = write(tmp_path / "m.onnx", names={"logits": "prob"})
    np.testing.assert_allclose(
        load_classifier(f"onnx:{path}").predict(IMAGES), by_hand(), atol=1e-4
    )


def test_a_thousand_outputs_are_imagenets_unless_said_otherwise(tmp_path):
    path = write(tmp_path / "m.onnx", weight=np.ones((3, 1000), np.float32))
    classifier = load_classifier(f"onnx:{path}")
    assert classifier.classes is imagenet()
    assert any("taken to be ImageNet's" in phrase for phrase in classifier.assumed)
    assert load_classifier(f"onnx:{path}?classes=imagenet").classes is imagenet()
    assert load_classifier(f"onnx:{path}?classes=numbered").classes.is_numbered


def test_classes_of_a_file(tmp_path):
    path = write(tmp_path / "m.onnx")
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "names.json").write_text('{"0": "a", "1": "b", "2": "c", "3": "d"}')
    for names in ("names.txt", "names.json"):
        classifier = load_classifier(f"onnx:{path}?classes={tmp_path / names}")
        assert classifier.classes.names == tuple("abcd")
    (tmp_path / "names.json").write_text('{"1": "b"}')
    with pytest.raises(BrokenFileError, match="expected a list of names"):
        load_classifier(f"onnx:{path}?classes={tmp_path / 'names.json'}")


@pytest.mark.parametrize("seed", range(30))
def test_damaged_bytes_end_in_one_error_or_a_model(tmp_path, seed):
    data = bytearray(write(tmp_path / "m.onnx").read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 4):
        data[place] = rng.integers(0, 256)
    (tmp_path / "bad.onnx").write_bytes(data)
    # Any other error comes through; a byte of a weight may leave a model that runs.
    with contextlib.suppress(ShiftproofError):
        load_classifier(f"onnx:{tmp_path / 'bad.onnx'}")
