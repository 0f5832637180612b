"""Corruptions of batches on the device: images per second, beside peers and the memory's own speed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from gpu_timing import Setting, version_of

from shiftproof.corruptions import CORRUPTIONS, corrupt
from shiftproof.corruptions.torch.table import FUNCTIONS, corrupt_on_device

BATCHES = {"256 of 224x224": (256, 224, 224), "8 of 2048x1024": (8, 1024, 2048)}
TINY = {"3 of 32x40": (3, 32, 40)}
SEVERITY = 3
PARITY_DRAWS = 32


def measure(setting: Setting) -> dict[str, Any]:
    """Return rates and parity of all 19 corruptions."""
    found: dict[str, Any] = {"severity": SEVERITY}
    for title, shape in (TINY if setting.quick else BATCHES).items():
        found[title] = setting.attempt(lambda shape=shape: measure_batch(setting, *shape))
    found["parity"] = {
        name: setting.attempt(lambda name=name: compare_forms(setting, name)) for name in FUNCTIONS
    }
    return found


def draw_batch(count: int, height: int, width: int, device: str) -> torch.Tensor:
    """Return photograph-like images: smooth waves, edges and grain."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    base = 120 + 60 * np.sin(x / 37) * np.cos(y / 23) + 50 * ((x // 61 + y // 47) % 2)
    colors = np.array([20, 0, -30])[:, None, None]
    picture = base + colors + rng.normal(0, 7, (3, height, width))
    image = torch.from_numpy(np.clip(picture, 0, 255).astype(np.uint8))
    shifts = range(0, 7 * count, 7)
    return torch.stack([image.roll(shift, -1) for shift in shifts]).to(device)


def measure_batch(setting: Setting, count: int, height: int, width: int) -> dict[str, Any]:
    """Return images per second of each corruption, of its peers, and of copying alone."""
    images = draw_batch(count, height, width, setting.device)
    keys = [str(number) for number in range(count)]
    floor = setting.milliseconds(images.clone, 0.5)
    results = {
        name: setting.attempt(lambda name=name: measure_one(setting, images, keys, name, floor))
        for name in FUNCTIONS
    }
    return {
        "floor_images_per_second": 1000 * count / floor,
        "floor": "each byte read once and written once: a copy of the batch on the device",
        "corruptions": results,
    }


def measure_one(
    setting: Setting, images: torch.Tensor, keys: list[str], name: str, floor: float
) -> dict[str, Any]:
    """Return the rate of one corruption and of what other libraries have nearest to it."""
    took = setting.milliseconds(
        lambda: corrupt_on_device(images, name, SEVERITY, keys, 0), budget=1.0
    )
    found: dict[str, Any] = {
        "milliseconds": took,
        "images_per_second": 1000 * len(images) / took,
        "times_the_floor": took / floor,
    }
    for library, make in near_equivalents(images, name):
        # What a peer's version lacks is its error, and not that of the corruption.
        peer = setting.attempt(lambda make=make: setting.milliseconds(make(), budget=0.5))
        found[library] = peer if isinstance(peer, dict) else {
            "milliseconds": peer, "ratio": peer / took,
        }  # fmt: skip
    return found


Make = Callable[[], Callable[[], object]]


def near_equivalents(images: torch.Tensor, name: str) -> Iterable[tuple[str, Make]]:
    """Yield what makes the nearest of torchvision v2 and kornia; other semantics than the published."""
    for library, table in (("torchvision v2", TORCHVISION), ("kornia", KORNIA)):
        if name in table and version_of(library.partition(" ")[0]) is not None:
            yield library, lambda make=table[name]: make(images)


def torchvision_call(kind: str, *arguments: object, **options: object) -> Callable[..., Any]:
    """Return what makes a call of torchvision; one set of draws for the whole batch."""

    def make(images: torch.Tensor) -> Callable[[], object]:
        from torchvision.transforms import v2

        module = getattr(v2, kind)(*arguments, **options)
        given = images.float() / 255 if kind == "GaussianNoise" else images
        return lambda: module(given)

    return make


def kornia_call(kind: str, *arguments: object, **options: object) -> Callable[..., Any]:
    """Return what makes a call of kornia; draws for each image."""

    def make(images: torch.Tensor) -> Callable[[], object]:
        import kornia.augmentation

        module = getattr(kornia.augmentation, kind)(*arguments, p=1.0, **options)
        floats = images.float() / 255
        return lambda: module(floats)

    return make


TORCHVISION = {
    "gaussian_noise": torchvision_call("GaussianNoise", sigma=0.18),
    "gaussian_blur": torchvision_call("GaussianBlur", 25, sigma=3.0),
    "elastic_transform": torchvision_call("ElasticTransform", 20.0, 5.0),
    "brightness": torchvision_call("ColorJitter", brightness=(1.3, 1.3)),
    "contrast": torchvision_call("ColorJitter", contrast=(0.2, 0.2)),
    "saturate": torchvision_call("ColorJitter", saturation=(2.0, 2.0)),
}

KORNIA = {
    "gaussian_noise": kornia_call("RandomGaussianNoise", std=0.18),
    "impulse_noise": kornia_call("RandomSaltAndPepperNoise", amount=(0.09, 0.09)),
    "motion_blur": kornia_call("RandomMotionBlur", 31, 45.0, 1.0),
    "gaussian_blur": kornia_call("RandomGaussianBlur", (25, 25), (3.0, 3.0)),
    "elastic_transform": kornia_call("RandomElasticTransform"),
    "brightness": kornia_call("RandomBrightness", (1.3, 1.3)),
    "contrast": kornia_call("RandomContrast", (0.2, 0.2)),
    "saturate": kornia_call("RandomSaturation", (2.0, 2.0)),
    "jpeg_compression": kornia_call("RandomJPEG", (15.0, 15.0)),
    "snow": kornia_call("RandomSnow"),
}


def compare_forms(setting: Setting, name: str) -> dict[str, Any]:
    """Return how the device's form lies beside the array's, and whether keys decide its pixels."""
    draws = 2 if setting.quick else PARITY_DRAWS
    side = 24 if setting.quick else 128
    image = draw_batch(1, side, side, setting.device)
    keys = [str(number) for number in range(draws)]
    batch = corrupt_on_device(image.expand(draws, -1, -1, -1), name, SEVERITY, keys, 0)
    again = corrupt_on_device(image.expand(draws, -1, -1, -1), name, SEVERITY, keys, 0)
    alone = corrupt_on_device(image, name, SEVERITY, keys[1:2], 0)
    there = batch.permute(0, 2, 3, 1).cpu().numpy().astype(np.float64)
    array = image[0].permute(1, 2, 0).cpu().numpy()
    here = np.stack([corrupt(array, name, severity=SEVERITY, key=key) for key in keys]).astype(
        np.float64
    )
    return {
        "draws": draws,
        "is_random": CORRUPTIONS[name].is_random,
        "mean_of_device": there.mean(),
        "mean_of_arrays": here.mean(),
        "deviation_of_device": there.std(axis=(1, 2, 3)).mean(),
        "deviation_of_arrays": here.std(axis=(1, 2, 3)).mean(),
        "largest_difference": None if CORRUPTIONS[name].is_random else np.abs(there - here).max(),
        "same_pixels_again": bool(torch.equal(batch, again)),
        "largest_difference_alone": int((batch[1].int() - alone[0].int()).abs().max()),
    }
