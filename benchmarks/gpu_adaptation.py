"""What a step of adaptation costs over the forward pass, in bf16 and float32, channels_last."""

from __future__ import annotations

from typing import Any

import torch
from gpu_bench import make_classifier
from gpu_timing import Setting

from shiftproof.adapt import make_adapter

ADAPTERS = ("batchnorm:prior=16", "rpl")
BATCHES = (64, 256)


def measure(setting: Setting) -> dict[str, Any]:
    """Return, for each batch size and dtype, milliseconds of a forward pass and of a step."""
    name = "small" if setting.quick else "resnet50"
    found: dict[str, Any] = {"model": name}
    for batch in (4,) if setting.quick else BATCHES:
        for dtype in ("bf16", "fp32"):
            found[f"{batch} {dtype}"] = setting.attempt(
                lambda batch=batch, dtype=dtype: measure_steps(setting, name, batch, dtype)
            )
    return found


def measure_steps(setting: Setting, name: str, batch: int, dtype: Any) -> dict[str, Any]:
    """Return what each adapter's step takes, and its ratio to the forward pass."""
    classifier = make_classifier(setting, name).with_dtype(dtype)
    side = classifier.preprocess.size[0]
    images = torch.randint(0, 256, (batch, 3, side, side), dtype=torch.uint8, device=setting.device)
    forward = setting.milliseconds(lambda: classifier(images))
    found: dict[str, Any] = {"forward_milliseconds": forward}
    for spec in ADAPTERS:
        found[spec] = setting.attempt(
            lambda spec=spec: measure_adapter(setting, spec, classifier, images, forward)
        )
    return found


def measure_adapter(
    setting: Setting, spec: str, classifier: Any, images: torch.Tensor, forward: float
) -> dict[str, float]:
    """Return the time of one adapter's step."""
    adapter = make_adapter(spec, classifier)
    took = setting.milliseconds(lambda: adapter(images))
    return {"milliseconds": took, "times_forward": took / forward}
