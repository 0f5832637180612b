"""The loop of ``bench`` beside the bare forward pass of the same network on batches that lie there."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_timing import Setting

from shiftproof.bench import Classification
from shiftproof.bench.cells.batching import list_cells
from shiftproof.bench.cells.filling import Workload, fill
from shiftproof.bench.cells.on_device import OnDevice
from shiftproof.bench.cells.protocol import parse_protocol
from shiftproof.bench.cells.stream import list_episodes
from shiftproof.bench.cells.views import OnTheFly
from shiftproof.data import ImageArrays
from shiftproof.io import files
from shiftproof.models import Classifier, Preprocess
from shiftproof.runs.folder import RunFolder

MODELS = ("resnet50", "vit_b_16")
CORRUPTIONS = ("gaussian_noise", "motion_blur", "fog", "jpeg_compression")
WORKERS = 16
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def measure(setting: Setting) -> dict[str, Any]:
    """Return rates of each network: bare, and in the loop, corrupted on the device or by workers."""
    models = ("small",) if setting.quick else MODELS
    return {
        name: setting.attempt(lambda name=name: measure_model(setting, name)) for name in models
    }


def make_classifier(setting: Setting, name: str) -> Classifier:
    """Return a network with random weights, which decide no time, in bf16 and channels_last."""
    torch.manual_seed(0)
    side, classes = (224, 1000)
    if name == "small":
        side, classes = 16, 10
        layers = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.AdaptiveAvgPool2d(4)
        module = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(128, classes))
    else:
        import torchvision

        module = torchvision.models.get_model(name, weights=None)
    module = module.eval().to(setting.device, memory_format=torch.channels_last)
    preprocess = Preprocess((side, side), side, mean=MEAN, std=STD)
    return Classifier(
        module, preprocess, [f"c{n}" for n in range(classes)], device=setting.device, dtype="bf16"
    )


def make_data(setting: Setting, side: int) -> ImageArrays:
    """Return images in memory: reading and decoding are not what is measured."""
    count = 12 if setting.quick else 2048
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    return ImageArrays(pixels, [n % 10 for n in range(count)])


def measure_model(setting: Setting, name: str) -> dict[str, Any]:
    """Return the bare rate of a network and the loop's."""
    classifier = make_classifier(setting, name)
    side = classifier.preprocess.size[0]
    batch = 4 if setting.quick else 256
    held = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=setting.device)
    bare = batch / setting.milliseconds(lambda: classifier(held)) * 1000
    found: dict[str, Any] = {"batch": batch, "bare_images_per_second": bare}
    ways = {"corrupted on the device": "device", f"corrupted in {WORKERS} workers": "workers"}
    for title, place in ways.items():
        rate = setting.attempt(lambda place=place: measure_loop(setting, classifier, place, batch))
        found[title] = rate if isinstance(rate, dict) else {
            "images_per_second": rate, "share_of_bare": rate / bare,
        }  # fmt: skip
    found["graph"] = setting.attempt(lambda: measure_graph(setting, classifier, held, bare))
    return found


def measure_loop(setting: Setting, classifier: Classifier, place: str, batch: int) -> float:
    """Return images per second of the loop over a grid of one severity, records written."""
    data = make_data(setting, classifier.preprocess.size[0])
    prepared = Classification().prepare(classifier, data, (), device=setting.device)
    chosen = CORRUPTIONS[:1] if setting.quick else CORRUPTIONS
    view = prepared.make_view({name: name for name in chosen}, 0, "none")
    assert isinstance(view, OnTheFly)
    shown = OnDevice(view, setting.device) if place == "device" else view
    cells = list_cells(chosen, [3], clean=True)
    streams = list_episodes(cells, data.samples, parse_protocol("online"), seed=0)
    with tempfile.TemporaryDirectory() as place_of_run:
        folder = RunFolder(files.make_folder(Path(place_of_run) / "run"))
        begun = time.perf_counter()
        fill(
            folder,
            Workload(shown, streams, data.samples, prepared.models),
            prepared.recording,
            batch_size=batch,
            workers=0 if setting.quick else WORKERS,
            show_progress=False,
        )
        return len(cells) * len(data.samples) / (time.perf_counter() - begun)


def measure_graph(
    setting: Setting, classifier: Classifier, held: torch.Tensor, bare: float
) -> dict[str, Any]:
    """Return what a CUDA graph of the same forward pass brings."""
    if not setting.on_gpu:
        return {"skipped": "CUDA graphs need CUDA"}
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            classifier(held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        classifier(held)
    rate = len(held) / setting.milliseconds(graph.replay) * 1000
    return {"images_per_second": rate, "times_bare": rate / bare}
