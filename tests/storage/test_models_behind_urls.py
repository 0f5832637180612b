"""Models behind URLs: the model of the file here, fetched once, and anew when it has changed."""

import json

import numpy as np
import pytest

from shiftproof import cli
from shiftproof.errors import InputError
from shiftproof.models import load_classifier, load_detector, load_encoder, load_segmenter
from support.stores import IGNORES_LEFTOVERS, all_text_below, serve_folder

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

pytestmark = IGNORES_LEFTOVERS

NAMES = "red\ngreen\nblue\n"


def mean_graph(factor=1.0):
    """Logits from the mean of each channel, as an ONNX file's bytes."""
    made = onnx.helper.make_graph(
        [
            onnx.helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
            onnx.helper.make_node("Flatten", ["mean"], ["flat"]),
            onnx.helper.make_node("Mul", ["flat", "factor"], ["logits"]),
        ],
        "means",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3, 24, 24])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 3])],
        [onnx.numpy_helper.from_array(np.float32([factor]), "factor")],
    )
    opset = onnx.helper.make_opsetid("", 17)
    return onnx.helper.make_model(made, opset_imports=[opset], ir_version=9).SerializeToString()


def answer(model):
    return model.predict(np.full((1, 24, 24, 3), (10, 200, 90), np.uint8))[0]


def test_a_classifier_in_a_bucket_is_fetched_once_for_each_version(s3, tmp_path, fetched):
    (tmp_path / "net.onnx").write_bytes(mean_graph())
    s3.pipe_file("lab/models/net.onnx", mean_graph())
    s3.pipe_file("lab/models/names.txt", NAMES.encode())
    spec = "onnx:s3://lab/models/net.onnx?classes=s3://lab/models/names.txt"
    here = load_classifier(f"onnx:{tmp_path}/net.onnx", classes=NAMES.split())
    first, again = load_classifier(spec), load_classifier(spec)
    assert answer(first).tolist() == answer(again).tolist() == answer(here).tolist()
    assert first.settings == here.settings
    assert first.classes.names == ("red", "green", "blue")
    assert sorted(fetched) == ["s3://lab/models/names.txt", "s3://lab/models/net.onnx"]
    s3.pipe_file("lab/models/net.onnx", mean_graph(2.0))
    assert answer(load_classifier(spec)).tolist() == pytest.approx((2 * answer(here)).tolist())


def test_weights_on_a_web_server_and_secrets_of_its_url(tmp_path, capsys, cache):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    network = torchvision.models.shufflenet_v2_x0_5(num_classes=3)
    (tmp_path / "served").mkdir()
    torch.save(network.state_dict(), tmp_path / "served" / "net.pt")
    options = "?arch=torchvision:shufflenet_v2_x0_5"
    local = load_classifier(f"file:{tmp_path}/served/net.pt{options}")
    with serve_folder(tmp_path / "served") as web:
        address = web.url.replace("://", "://ada:hunter2@")
        there = load_classifier(f"file:{address}/net.pt{options}")
        assert there.settings["fingerprint"] == local.settings["fingerprint"]
        assert there.name == local.name
        code = cli.run(
            ["bench", "--model", f"file:{address}/none.pt{options}", "--data", "demo",
             "--out", str(tmp_path / "run")]
        )  # fmt: skip
    output = capsys.readouterr()
    assert code == 2
    assert "none.pt" in output.err + output.out
    written = all_text_below(cache) + json.dumps(there.settings).encode()
    assert b"hunter2" not in written + (output.out + output.err).encode()
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_not_there_is_told_for_every_kind(memory):
    for load in (load_classifier, load_detector, load_segmenter, load_encoder):
        with pytest.raises(InputError, match=r"memory://models/net\.onnx does not exist"):
            load("onnx:memory://models/net.onnx?classes=voc" if load is load_segmenter else
                 "onnx:memory://models/net.onnx")  # fmt: skip
