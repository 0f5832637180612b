"""Exact nearest test rows and pruning on the device, beside the rate of its matrix product alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpu_timing import Setting, version_of
from synthetic_embeddings import Encoder

from shiftproof.similarity import nearest, open_embeddings, prune
from shiftproof.similarity.search import engines, gpu

ASKED = (10**7, 20_000, 640)
"""Training rows, test rows and width of the figure that is wanted."""

BLOCK = 1 << 14


def measure(setting: Setting) -> dict[str, Any]:
    """Return rates, and for the whole of ``ASKED`` the seconds that they would take."""
    rows, tests, width = (600, 150, 160) if setting.quick else (1 << 20, ASKED[1], ASKED[2])
    encoder = Encoder(width, 50)
    test = encoder.rows(tests, 1, style=0.3).astype(np.float32)
    some = encoder.rows(min(rows, 1 << 17), 2).astype(np.float32)
    train = np.tile(some, (-(-rows // len(some)), 1))[:rows]
    for values in (train, test):
        values /= np.linalg.norm(values, axis=1, keepdims=True)
    found: dict[str, Any] = {"rows": rows, "tests": tests, "width": width}
    found |= {"fp16": setting.attempt(lambda: measure_precision(setting, train, test, "fp16"))}
    found |= {"bf16": setting.attempt(lambda: measure_precision(setting, train, test, "bf16"))}
    found["faiss-gpu"] = version_of("faiss-gpu") or "not installed: torch's product and maximum"
    return found


def measure_precision(
    setting: Setting, train: np.ndarray, test: np.ndarray, precision: Any
) -> dict[str, Any]:
    """Return the rates of a precision in TFLOP/s: the product's, the maximum's, and of questions."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    block = torch.from_numpy(train[:BLOCK]).to(setting.device, dtype)
    columns = torch.from_numpy(test).to(setting.device, dtype).T
    flops = 2 * block.shape[0] * columns.shape[0] * columns.shape[1]

    def rate(call: Callable[[], object]) -> float:
        return flops / setting.milliseconds(call, budget=1.0) / 1e9

    found: dict[str, Any] = {
        "product": rate(lambda: block @ columns),
        "product_and_maximum": rate(lambda: (block @ columns).max(dim=1)),
        "unit": "TFLOP/s of the products that are asked for",
    }
    for name, ask in questions(setting, precision).items():
        found[name] = setting.attempt(
            lambda ask=ask: measure_question(ask, train, test, found["product"])
        )
    found["equal_to_the_processor"] = setting.attempt(
        lambda: compare_with_processor(setting, train[:2000], test, precision)
    )
    return found


def questions(setting: Setting, precision: Any) -> dict[str, Callable[..., object]]:
    """Return what is asked, by name, as functions of rows and test rows."""
    where = {"precision": precision, "device": setting.device, "memory": "16GB"}
    limit = 0.93
    return {
        "nearest": lambda train, test: nearest(train, test, **where),
        "prune": lambda train, test: prune(
            train, {"test": test}, thresholds={"test": limit}, **where
        ),
    }


def measure_question(
    ask: Callable[..., object], train: np.ndarray, test: np.ndarray, product: float
) -> dict[str, float]:
    """Return rate and share of the product's rate; rows stream from the processor's memory."""
    source = open_embeddings(train)
    ask(source, test)
    begun = time.perf_counter()
    ask(source, test)
    seconds = time.perf_counter() - begun
    rate = 2 * train.size * len(test) / seconds / 1e12
    asked = 2 * ASKED[0] * ASKED[1] * ASKED[2] / rate / 1e12
    return {
        "seconds": seconds,
        "rate": rate,
        "share_of_product": rate / product,
        "seconds_for_all": asked,
    }


def compare_with_processor(
    setting: Setting, train: np.ndarray, test: np.ndarray, precision: Any
) -> dict[str, Any]:
    """Return whether similarities and places are those of float32 on the processor, bit for bit."""
    if setting.on_gpu:
        found = nearest(train, test, precision=precision, device=setting.device)
    else:
        kept, engines.Fp16 = engines.Fp16, gpu.Gpu  # type: ignore[misc,assignment]
        try:
            found = nearest(train, test, precision=precision)
        finally:
            engines.Fp16 = kept  # type: ignore[misc]
    plain = nearest(train, test, precision="fp32")
    return {
        "similarity": bool(np.array_equal(found.similarity, plain.similarity)),
        "index": bool(np.array_equal(found.index, plain.index)),
    }
