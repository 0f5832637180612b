"""Models in ONNX files go to other processes, and are refused where their file is another."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from shiftproof.errors import RunError
from shiftproof.models.classifiers.onnx import open_session

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture
def path(tmp_path):
    return write_graph(tmp_path / "double.onnx", 2.0)


def write_graph(path: Path, factor):
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", kind, [2])],
        [helper.make_tensor_value_info("y", kind, [2])],
        [helper.make_tensor("factor", kind, [1], [factor])],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_a_session_gives_the_same_behind_a_pickle(path):
    session, _ = open_session(path, "cpu")
    again = pickle.loads(pickle.dumps(session))
    (result,) = again.run(None, {"x": np.array([1, 3], np.float32)})
    assert result.tolist() == [2, 6]


def test_a_file_that_is_not_there_or_another_is_refused(path):
    sent = pickle.dumps(open_session(path, "cpu")[0])
    write_graph(path, 3.0)
    with pytest.raises(RunError, match=r"cannot access .*double\.onnx: the file there is another"):
        pickle.loads(sent)
    path.unlink()
    with pytest.raises(RunError, match=r"cannot access .*double\.onnx: there is no such file"):
        pickle.loads(sent)
