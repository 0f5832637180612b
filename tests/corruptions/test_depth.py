"""3D common corruptions: the published pixels, depth from files and models, and its absence."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shiftproof.bench.arguments import name_corruptions
from shiftproof.cli import main
from shiftproof.corruptions import DepthFolder, corrupt, depth, with_depth
from shiftproof.corruptions.depth_sources import bind_image
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError
from shiftproof.testing import check_corruption

FILE = Path(__file__).parent.parent / "reference" / "corruptions" / "3dcc.npz"


@pytest.fixture(scope="module")
def published():
    with np.load(FILE) as arrays:
        return dict(arrays)


class Slope:
    """Depths that grow towards the top of any image."""

    identity = "a slope"

    def find(self, image, key):
        height, width = image.shape[:2]
        return np.tile(np.linspace(0.9, 0.1, height)[:, np.newaxis], (1, width))


@pytest.mark.parametrize("name", ["near_focus", "far_focus", "fog_3d"])
def test_pixels_are_those_of_the_published_code(published, name):
    """To one level, which float32 decides there."""
    for severity in (1, 3, 5):
        result = corrupt(published["image"], name, severity=severity, depth=published["depth"])
        apart = np.abs(result.astype(int) - published[f"{name}-{severity}"])
        assert apart.max() <= 1
        assert apart.mean() < 0.1


def test_flash_is_the_published_one_given_its_shading(published, monkeypatch):
    """The published code reads the shading from a file: here it is the depth itself."""
    monkeypatch.setattr(depth, "_shade", lambda far: far.astype(float))
    for severity in (1, 3, 5):
        result = corrupt(published["image"], "flash", severity=severity, depth=published["depth"])
        assert np.abs(result.astype(int) - published[f"flash-{severity}"]).max() <= 1


def test_a_wall_seen_straight_on_is_brightest_in_the_middle():
    shade = depth._shade(np.full((41, 41), 0.5, np.float32))
    assert shade[20, 20] == pytest.approx(1, abs=1e-3)
    # At the edge the light falls at an angle of arctan(0.5).
    assert shade[20, 0] == pytest.approx(np.cos(np.arctan(20 / 41)), abs=0.01)


@pytest.mark.parametrize("name", depth.FUNCTIONS)
def test_contract(name):
    check_corruption(with_depth(name, Slope()))


def test_near_things_move_farther():
    image = np.zeros((64, 64), np.uint8)
    image[16, 32] = image[48, 32] = 255
    far = np.where(np.arange(64)[:, np.newaxis] < 32, 0.8, 0.1) * np.ones((64, 64))
    for name, key in (("xy_motion_blur", "a"), ("z_motion_blur", "b")):
        moved = corrupt(image, name, severity=5, key=key, depth=far).astype(int)
        reach = [
            np.count_nonzero(moved[rows].max(axis=0) > 2) for rows in (slice(32), slice(32, 64))
        ]
        assert reach[1] > reach[0], name


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "needs a depth map"),
        (np.zeros((4, 5)), r"\(8, 8\)"),
        (np.zeros((8, 8), int), "floating"),
        (np.full((8, 8), np.nan), "finite"),
        (np.full((8, 8), -1.0), "0 or more"),
    ],
)
def test_what_is_no_depth_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        corrupt(np.zeros((8, 8, 3), np.uint8), "fog_3d", severity=3, depth=given)


def test_depth_is_for_those_that_need_it():
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="fog does not use it"):
        corrupt(image, "fog", severity=3, depth=np.ones((8, 8)))
    with pytest.raises(UnknownNameError, match="Did you mean 'fog_3d'"):
        with_depth("fog3d", Slope())
    with pytest.raises(InputError, match="with_depth"):
        name_corruptions(["fog_3d"])


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos" / "cats"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(
            folder / f"{name}.png"
        )
    return tmp_path / "photos"


def test_depth_files_beside_the_images(photos, tmp_path):
    maps = tmp_path / "depth" / "cats"
    maps.mkdir(parents=True)
    meters = np.linspace(1, 12, 480).reshape(20, 24)
    np.save(maps / "a.npy", meters.astype(np.float32))
    sixteen = np.round(meters * 512).astype(np.uint16)
    sixteen[0, 0] = 65_535
    Image.fromarray(sixteen).save(maps / "b.png")
    words = ["corrupt", photos, tmp_path / "out", "-c", "3d", "-s", "2", "-w", "0"]
    assert run(*words, "--depth", tmp_path / "depth") == 0
    image = np.asarray(Image.open(photos / "cats" / "a.png"))
    expected = corrupt(
        image, "fog_3d", severity=2, key="cats/a.png", depth=(meters / 15.625).astype(np.float32)
    )
    written = np.asarray(Image.open(tmp_path / "out" / "fog_3d" / "2" / "cats" / "a.png"))
    assert np.array_equal(written, expected)

    source = DepthFolder(tmp_path / "depth")
    (tmp_path / "other" / "cats").mkdir(parents=True)
    np.save(tmp_path / "other" / "cats" / "a.npy", meters * 1.01)
    assert source.identity.startswith("depth from files (")
    assert source.identity != DepthFolder(tmp_path / "other").identity
    read = source.find(image, "cats/b.png")
    assert read[5, 5] == pytest.approx(meters[5, 5] / 15.625, abs=1e-4)
    # Where nothing was measured is the farthest that was.
    assert read[0, 0] == pytest.approx(12 / 15.625, abs=1e-4)


def run(*words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


def test_missing_depth_is_named_on_the_command_line(photos, tmp_path, capsys):
    words = ["corrupt", photos, tmp_path / "out", "-s", "2", "-w", "0"]
    assert run(*words, "-c", "fog_3d") == 2
    assert "fog_3d needs depth maps: --depth FOLDER" in capsys.readouterr().err.replace("\n", " ")
    assert run(*words, "-c", "fog", "--depth", tmp_path) == 2
    assert "--corruptions has none of them" in capsys.readouterr().err.replace("\n", " ")
    assert run(*words, "-c", "3d", "--depth", tmp_path / "nowhere") == 2
    assert not (tmp_path / "out").exists()


def test_files_do_not_fit_what_a_classifier_sees(photos, tmp_path, capsys):
    words = ["bench", "--model", "demo", "--data", photos, "--out", tmp_path / "run", "-c", "3d"]
    assert run(*words, "--depth", tmp_path) == 2
    assert "shiftproof corrupt --depth" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "run").exists()


def test_depth_files_that_cannot_be_used(tmp_path):
    source, image = DepthFolder(tmp_path), np.zeros((4, 4), np.uint8)
    with pytest.raises(InputError, match=r"expected a\.png or a\.npy"):
        source.find(image, "a.jpg")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"no picture")
    np.save(tmp_path / "d.npy", np.zeros((4, 4), int))
    np.save(tmp_path / "e.npy", np.zeros((5, 4)))
    for key, message in (("b", "16 bits"), ("c", "16 bits"), ("d", "floating"), ("e", "size")):
        with pytest.raises(BrokenFileError, match=message):
            source.find(image, f"{key}.png")


def test_depth_by_a_model(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from shiftproof.models.depth_models import OnnxDepth

    shape = [1, 3, 16, 16]
    make = onnx.helper
    graph = make.make_graph(
        [make.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)],
        "depth",
        [make.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 16, 16])],
    )
    file = tmp_path / "depth.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8), file)
    source = OnnxDepth(file)
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, 8:] = 255
    found = source.find(image, "")
    # Bright is near here: 512 of 65,535 is the nearest, and nothing is farther than one half.
    assert found[3, 12] == pytest.approx(512 / 65535, rel=0.01)
    assert found[3, 2] == pytest.approx(0.5)
    again = pickle.loads(pickle.dumps(with_depth("fog_3d", source)))
    assert np.array_equal(
        bind_image(again, "k")(image, 3, None), with_depth("fog_3d", source)(image, 3, None)
    )
    assert "depth.onnx" in again.identity
    with pytest.raises(BrokenFileError, match="no such file"):
        OnnxDepth(tmp_path / "other.onnx")


def test_a_model_of_depth_may_take_uint8_with_the_channels_last(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from shiftproof.cli.corruption_choice import open_depth

    make = onnx.helper
    taken = {
        "float": (onnx.TensorProto.FLOAT, [1, 3, 16, 16], [], 1),
        "uint8": (onnx.TensorProto.UINT8, [1, 16, 16, 3], [], 3),
        "open": (onnx.TensorProto.UINT8, [1, None, None, None], [], 3),
    }
    for name, (kind, shape, _, axis) in taken.items():
        graph = make.make_graph(
            [
                make.make_node("Cast", ["x"], ["f"], to=onnx.TensorProto.FLOAT),
                make.make_node("ReduceMean", ["f"], ["y"], axes=[axis], keepdims=0),
            ],
            "depth",
            [make.make_tensor_value_info("x", kind, shape)],
            [make.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, None, None])],
        )
        model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
        onnx.save(model, tmp_path / f"{name}.onnx")
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    pixels = "?pixels=0..255"
    expected = open_depth(f"onnx:{tmp_path}/float.onnx{pixels}").find(image, "")
    np.testing.assert_allclose(
        open_depth(f"onnx:{tmp_path}/uint8.onnx").find(image, ""), expected, rtol=1e-4
    )
    # The mean over the channels follows the mean over them in the graph: by hand.
    spread = image.mean(axis=2)
    spread = (spread - spread.min()) / (spread.max() - spread.min())
    by_hand = np.minimum(512 / 65535 / np.maximum(spread, 1e-6), 0.5)
    np.testing.assert_allclose(expected, by_hand, rtol=1e-3)
    with pytest.raises(InputError, match="do not say where the channels are"):
        open_depth(f"onnx:{tmp_path}/open.onnx")
    stated = open_depth(f"onnx:{tmp_path}/open.onnx?layout=nhwc")
    assert stated.find(image, "").shape == (16, 16)
    assert stated.identity.endswith("layout nhwc")
