"""Classifiers, adapters and the loop of ``bench`` on CUDA."""

import copy
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shiftproof import bench  # noqa: E402
from shiftproof.adapt import make_adapter  # noqa: E402
from shiftproof.bench.cells.batching import Batch  # noqa: E402
from shiftproof.bench.cells.on_device import OnDevice  # noqa: E402
from shiftproof.bench.cells.views import OnTheFly  # noqa: E402
from shiftproof.data import ImageArrays  # noqa: E402
from shiftproof.models import Classifier, Preprocess  # noqa: E402
from shiftproof.types import Cell, Sample  # noqa: E402

pytestmark = pytest.mark.gpu

SIDE = 32


def make_pair():
    """One network on the processor and on the GPU."""
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU()
    head = torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(256, 5)
    module = torch.nn.Sequential(*layers, *head).eval()
    on_gpu = copy.deepcopy(module).cuda().to(memory_format=torch.channels_last)
    preprocess = Preprocess((SIDE, SIDE), SIDE)
    names = list("abcde")
    return Classifier(module, preprocess, names), Classifier(
        on_gpu, preprocess, names, device="cuda"
    )


def draw_images(count):
    return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize("spec", ["batchnorm:prior=8", "rpl", "ent"])
def test_adapters_answer_as_on_the_processor(spec):
    here, there = (make_adapter(spec, model) for model in make_pair())
    for _ in range(3):
        expected, logits = here.predict(draw_images(16)), there.predict(draw_images(16))
    # TF32 in cuDNN keeps 10 bits.
    np.testing.assert_allclose(logits, expected, atol=0.02)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_16_bits_move_logits_a_little(dtype):
    here, there = make_pair()
    logits = there.with_dtype(dtype).predict(draw_images(16))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, here.predict(draw_images(16)), atol=0.05)


def test_a_step_in_bfloat16_stays_finite():
    adapter = make_adapter("rpl", make_pair()[1].with_dtype("bf16"))
    for _ in range(3):
        assert np.isfinite(adapter.predict(draw_images(16))).all()


def test_a_run_is_the_same_twice(tmp_path):
    data = ImageArrays(draw_images(24), [number % 5 for number in range(24)])

    def measure(name, **options):
        return bench.run(
            make_pair()[1], data, corruptions=["gaussian_noise", "glass_blur"], severities=[2],
            out=tmp_path / name, batch_size=7, corrupt_on="device", workers=2,
            show_progress=False, **options,
        )  # fmt: skip

    first, second = measure("first"), measure("second")
    for cell in ("gaussian_noise", "glass_blur"):
        one, other = (run.cell("source", cell, 2) for run in (first, second))
        np.testing.assert_array_equal(one.prediction, other.prediction)
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-4)
    settings = json.loads((first.path / "run.json").read_text())["settings"]
    assert settings["images"]["corrupted on"] == "cuda"


def test_a_batch_is_made_without_waiting():
    view = OnTheFly(None, None, {"fog": "fog"}, seed=0)
    shown = OnDevice(view, "cuda:0")
    samples = [Sample(str(number)) for number in range(8)]
    batch = Batch(0, list(range(8)), [Cell("fog", 3)] * 8, list(draw_images(8)))
    shown.gather(batch, samples)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert shown.gather(batch, samples).is_cuda
    finally:
        torch.cuda.set_sync_debug_mode("default")
