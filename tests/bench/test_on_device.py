"""Batches that are corrupted where the model runs, and models that compute in 16 bits."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof import bench
from shiftproof.adapt import make_adapter
from shiftproof.bench.cells.batching import Batch
from shiftproof.bench.cells.on_device import OnDevice, PendingLogits, prefetch, send_images
from shiftproof.bench.cells.views import OnTheFly
from shiftproof.corruptions.torch import corrupt_tensor
from shiftproof.data import open_data
from shiftproof.errors import InputError, ModelError, RunMismatchError, UnknownNameError
from shiftproof.models import Classifier, Preprocess, load_classifier
from shiftproof.types import CLEAN, Cell, Sample

pytestmark = pytest.mark.usefixtures("few_resamples")

GRID = {"corruptions": ["gaussian_noise", "fog"], "severities": [2, 5], "workers": 0}


def records_of(run):
    folder = run.path / "records"
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.parquet")}


def settings_of(run):
    return json.loads((run.path / "run.json").read_text())["settings"]


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4)
        module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 3)).eval()
    return Classifier(module, Preprocess((16, 16), 16), ["red", "green", "blue"])


def measure(model, photos, out, **options):
    data = open_data(photos, classes=model.classes)
    return bench.run(model, data, out=out, batch_size=3, show_progress=False, **GRID | options)


@pytest.mark.parametrize("protocol", ["online", "online:mix=severities"])
def test_on_the_processor_the_records_are_those_of_the_workers(protocol, network, photos, tmp_path):
    workers = measure(network, photos, tmp_path / "workers", protocol=protocol)
    device = measure(network, photos, tmp_path / "device", protocol=protocol, corrupt_on="device")
    assert records_of(device) == records_of(workers)
    assert len(records_of(device)) == 5
    images = settings_of(device)["images"]
    assert images == {**settings_of(workers)["images"], "corrupted on": "cpu"}


def test_an_adapter_sees_them_too(network, photos, tmp_path):
    adapters = ["batchnorm:prior=8"]
    workers = measure(network, photos, tmp_path / "workers", adapters=adapters)
    device = measure(network, photos, tmp_path / "d", adapters=adapters, corrupt_on="device")
    assert records_of(device) == records_of(workers)


def test_a_run_of_the_workers_is_not_gone_on_with(network, photos, tmp_path):
    measure(network, photos, tmp_path / "run")
    with pytest.raises(RunMismatchError):
        measure(network, photos, tmp_path / "run", corrupt_on="device")


def whiten(image, severity, rng):
    return np.full_like(image, 255)


def test_what_has_no_form_for_devices_is_refused(network, photos, tmp_path):
    with pytest.raises(InputError, match="whiten is a function of one image"):
        measure(network, photos, tmp_path / "a", corruptions=[whiten], corrupt_on="device")
    with pytest.raises(InputError, match="saved as JPEG"):
        measure(network, photos, tmp_path / "b", encode="jpeg", corrupt_on="device")
    with pytest.raises(UnknownNameError, match="corrupt_on"):
        measure(network, photos, tmp_path / "c", corrupt_on="gpu")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_batch_of_several_cells_is_corrupted_cell_by_cell():
    images = list(np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3), dtype=np.uint8))
    noise, fog = Cell("gaussian_noise", 3), Cell("fog", 1)
    view = OnTheFly(None, None, {"gaussian_noise": "gaussian_noise", "fog": "fog"}, seed=7)
    samples = [Sample(name) for name in "abcd"]
    batch = Batch(0, [3, 1, 0, 2], [noise, CLEAN, fog, noise], images)
    gathered = OnDevice(view, "cpu").gather(batch, samples)
    tensor = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    for place, (key, cell) in enumerate(zip("dbac", batch.cells, strict=True)):
        expected = tensor[place : place + 1]
        if not cell.is_clean:
            expected = corrupt_tensor(
                expected, cell.corruption, severity=cell.severity, keys=[key], seed=7
            )
        assert torch.equal(gathered[place : place + 1], expected)


def test_images_of_several_sizes_are_refused():
    with pytest.raises(InputError, match="in several"):
        send_images([np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)], "cpu")


def test_the_next_batch_is_made_while_one_is_used():
    result, closed = [], []

    def give():
        try:
            for number in range(4):
                yield Batch(number)
        finally:
            closed.append(True)

    ahead = prefetch(give(), lambda batch: result.append(batch.start) or batch.start, "cpu")
    assert next(ahead)[1] == 0
    assert next(ahead)[1] == 1
    ahead.close()
    assert result in ([0, 1], [0, 1, 2])
    assert closed == [True]


def test_an_error_of_the_making_thread_arrives():
    def fail(batch):
        raise InputError("no such thing")

    with pytest.raises(InputError, match="no such thing"):
        list(prefetch((Batch(n) for n in range(2)), fail, "cpu"))


def test_answers_are_float32_when_they_are_read():
    read = PendingLogits(torch.tensor([[1.5, -2.0]], dtype=torch.bfloat16)).read()
    assert read.dtype == np.float32
    assert read.tolist() == [[1.5, -2.0]]


# ---------------------------------------------------------------- 16 bits


def test_products_of_16_bits_are_those_of_autocast(network, photos, tmp_path):
    half = network.with_dtype("bf16")
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = network.module(network.prepare(images)).float().numpy()
    logits = half.predict(images)
    assert logits.dtype == np.float32
    np.testing.assert_array_equal(logits, expected)
    assert not np.array_equal(logits, network.predict(images))
    assert half.module.state_dict()["0.weight"].data_ptr() == network.module[0].weight.data_ptr()


def test_the_dtype_stands_in_the_settings(network):
    assert network.with_dtype("bf16").settings == {**network.settings, "dtype": "bf16"}
    assert "dtype" not in network.settings


def test_a_run_records_the_dtype(network, photos, tmp_path):
    run = measure(network.with_dtype("bf16"), photos, tmp_path / "run", corrupt_on="device")
    assert settings_of(run)["models"]["source"]["dtype"] == "bf16"
    with pytest.raises(RunMismatchError):
        measure(network, photos, tmp_path / "run", corrupt_on="device")


@pytest.mark.parametrize("spec", ["batchnorm:prior=8", "ent", "rpl"])
def test_adapters_learn_in_bfloat16(spec, network):
    images = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    plain = make_adapter(spec, network)
    half = make_adapter(spec, network.with_dtype("bf16"))
    for _ in range(2):
        expected, logits = plain.predict(images), half.predict(images)
    assert np.isfinite(logits).all()
    assert not np.array_equal(logits, expected)
    # bfloat16 keeps 8 bits: 0.4 % of numbers of about 1 here.
    np.testing.assert_allclose(logits, expected, atol=0.05)


def test_adapters_do_not_learn_in_fp16(network):
    with pytest.raises(ModelError, match="small gradients become 0"):
        make_adapter("rpl", network.with_dtype("fp16"))


def test_what_cannot_be_cast_is_refused(network):
    with pytest.raises(UnknownNameError, match="bf16"):
        network.with_dtype("bf61")
    function = Classifier(
        lambda inputs: np.zeros((len(inputs), 2), np.float32), Preprocess((4, 4), 4), ["a", "b"]
    )
    with pytest.raises(ModelError, match="needs a torch module"):
        function.with_dtype("bf16")


def test_a_model_is_loaded_in_a_dtype():
    model = load_classifier(
        "torchvision:mobilenet_v3_small", pretrained=False, size=64, dtype="bf16"
    )
    assert model.dtype == "bf16"
