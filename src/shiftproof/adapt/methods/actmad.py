"""Matching the statistics of features with those of clean images (Mirza et al. 2023, ActMAD)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import torch

from shiftproof.adapt.base.clean_images import read_clean_images
from shiftproof.adapt.base.network import find_torch_module
from shiftproof.adapt.base.options import FewClasses, check_count, check_few_classes
from shiftproof.adapt.learning.calls import CallAdapter, Loss
from shiftproof.adapt.learning.learning_network import LearningNetwork, ParameterChoice
from shiftproof.adapt.learning.parameters import affine_or_all
from shiftproof.adapt.normalization.feature_statistics import (
    Cells,
    FeatureHooks,
    Moments,
    expect_moments,
    hook_features,
    measure_moments,
)
from shiftproof.adapt.normalization.layer_choice import LayerChoice, choose_layers
from shiftproof.adapt.normalization.norm_layers import find_norm_layers
from shiftproof.errors import InputError, ModelError
from shiftproof.io import files
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Image, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

Clean: TypeAlias = "str | Path | Sequence[Image] | None"
"""Clean images, their folder, or None."""

PredictWith: TypeAlias = Callable[[torch.nn.Module, list[Image]], Any]
"""Runs a network on images, as the model around it does."""

BATCH = 8
"""Batch size for clean images."""

RATE = 1e-2
"""Learning rate of a step; it does not depend on the batch, as the loss is a sum over layers, not
over images.
"""


FULL_RATE_IMAGES = 16
"""Batch size from which on a classifier learns at the full rate."""


def classifier_rate(count: int) -> float:
    """Return the rate of ``"auto"`` for a classifier: in proportion below ``FULL_RATE_IMAGES``
    images.

    The statistics of four images are far from those of all by chance, and a stream has more such
    batches: at the full rate the error on clean images of three classes was 2.3 points higher.
    """
    return RATE * min(count, FULL_RATE_IMAGES) / FULL_RATE_IMAGES


@final
class ActMAD(CallAdapter):
    """Learns to keep mean and variance of a network's features at those of clean images.

    Mirza et al. 2023 (arXiv 2211.12870): for each norm layer l the statistics of its outputs over
    the batch are compared with those of clean images, and one gradient step is taken on ``sum_l
    mean |mu_l - mu_clean,l| + mean |var_l - var_clean,l|``. It needs neither labels nor
    predictions, so it is the same for classifiers, detectors and segmenters. A step costs a
    backward pass, and memory for the activations of one call of the network and a copy of each
    layer's output.

    The statistics are taken per channel and cell: a feature map is split into ``cells`` by
    ``cells`` parts, and mean and variance are over the images of the batch and the locations of a
    part. So images of any sizes can be compared, and a batch may be one image. ``"all"`` is the
    paper's: each location is a cell, which needs images of one size, and batches that have a
    variance.

    The statistics of clean images are:

    - with ``clean``, measured on these images when the adapter is created;
    - without, those of batch norm: mean b and variance ``g^2 v / (v + eps)`` per channel for the
      scale g and the shift b, whatever ``cells`` is. Layers that run several times in a call, or
      whose class does more than normalize, are excluded.

    Batch norm always normalizes by the source's statistics. No step is taken for a batch whose
    features are not finite, and an event says so.

    A batch of few classes differs from clean images by its classes. If the source's predictions
    show this (:class:`~shiftproof.adapt.learning.source_check.SourceCheck`), no step is taken, and an event
    says so. For this check, at most 16 images run once or twice more. It is for classifiers with
    batch norm, not for ``run_batch``; ``few_classes="learn"`` is the paper's. A single image has
    one class, so for most of a stream of single images no step is taken.

    Differs from the published code: SGD without Nesterov momentum and weight decay, and each call
    of the network is compared separately.

    Args:
        model: a ``Classifier`` on torch, or a plain ``torch.nn.Module``.
        clean: images ``(H, W, 3)`` uint8 RGB like those of training, or their folder; at most 256
            are measured. None takes the running statistics of batch norm.
        predict_with: runs the network on a list of images; needed with ``clean`` if ``model`` is
            not a classifier.
        cells: cells per side, or ``"all"``.
        lr: a learning rate for every batch; ``"auto"`` is 1e-2, for a ``Classifier`` in proportion
            to batches of fewer than 16.
        momentum: of the SGD, from 0 to below 1.
        parameters: ``"affine"``, ``"all"`` (the paper's) or ``"last"``; None takes the affine ones,
            or all if norm layers have none (frozen batch norm).
        layers: which norm layers are compared, as for ``BatchNorm``.
        few_classes: ``"skip"`` the step for batches of few classes, or ``"learn"`` from every
            batch.

    Raises:
        InputError: an option out of its range, or no clean images.
        ModelError: no norm layer, or none with known statistics on clean images.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    >>> adapted = ActMAD(net, lr=0.1)
    >>> bright = torch.rand(8, 3, 8, 8) + 2
    >>> first = adapted(bright).mean((0, 2, 3)).abs().sum()
    >>> for _ in range(5):
    ...     last = adapted(bright).mean((0, 2, 3)).abs().sum()
    >>> bool(last < first)
    True
    """

    _watches_norms = True

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        clean: Clean = None,
        predict_with: PredictWith | None = None,
        cells: Cells = 8,
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.0,
        parameters: ParameterChoice | None = None,
        layers: LayerChoice = "all",
        few_classes: FewClasses = "skip",
    ) -> None:
        self.few_classes = check_few_classes(few_classes)
        self.cells: Cells = cells if cells == "all" else check_count("cells", cells)
        self.matched: LayerChoice = layers
        network = find_torch_module(model)
        self._begin(
            LearningNetwork(
                model,
                parameters=affine_or_all(network) if parameters is None else parameters,
                layers="all",
                prior=float("inf"),
                lr=lr,
                auto=classifier_rate if isinstance(model, Classifier) else lambda _: RATE,
                momentum=momentum,
                checks_source=few_classes == "skip",
            )
        )
        found = find_norm_layers(self._network.module)
        if not found:
            raise ModelError(f"{type(network).__name__} has no norm layer whose features to match.")
        self._layers = {name: found[name] for name in choose_layers(list(found), layers)}
        self.clean: Settings = {"of": "running statistics"}
        if clean is None:
            self._clean = expect_moments(self._layers)
            if not self._clean:
                raise ModelError(
                    f"{type(network).__name__} keeps no statistics of clean images (none of its layers "
                    "is plain batch norm with running statistics); give clean images: clean=FOLDER."
                )
        else:
            self._clean = self._measure(
                read_clean_images(clean), self._choose_forward(model, predict_with)
            )

    def __repr__(self) -> str:
        return f"ActMAD({len(self._clean)} layers, {self._learner.size} parameters)"

    def _own_settings(self) -> Settings:
        matched = self.matched
        return {
            "adapter": "actmad",
            "clean": self.clean,
            "cells": self.cells,
            "matched": matched if isinstance(matched, str) else list(matched),
            "compared": len(self._clean),
            "few_classes": self.few_classes,
        }

    def _make_loss(self, images: int) -> Loss:
        return _FeatureLoss(self._layers, self.measure_distance, by_runs=self._is_measured)

    @property
    def _is_measured(self) -> bool:
        return "images" in self.clean

    def measure_distance(self, found: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """Return the loss of one call, from the layers' outputs; None if none can be compared."""
        terms = []
        for name, values in found.items():
            if name not in self._clean:
                continue
            clean = self._clean[name]
            batch = measure_moments(values, self._choose_shape(name, values))
            terms.append((batch.first - clean.first).abs().mean())
            terms.append((batch.variance - clean.variance).abs().mean())
        return torch.stack(terms).sum() if terms else None

    def _choose_shape(self, name: str, values: torch.Tensor) -> tuple[int, ...]:
        shape = tuple(self._clean[name].first.shape[1:])
        if self.cells == "all" and self._is_measured and shape != tuple(values.shape[2:]):
            now = _format_shape(tuple(values.shape[2:]))
            raise ModelError(
                f"cells='all' compares location with location: the layer {name!r} gave maps of "
                f"{_format_shape(shape)} for the clean images and gives {now} now. Take "
                "a number of cells (8) for images of several sizes."
            )
        return shape

    # ------------------------------------------------------------ clean images

    def _choose_forward(
        self, model: Classifier | torch.nn.Module, predict_with: PredictWith | None
    ) -> PredictWith:
        if predict_with is not None:
            return predict_with
        if not isinstance(model, Classifier):
            raise InputError(
                "clean: a plain torch.nn.Module does not say how images become its input; give "
                "predict_with=, or wrap it in a Classifier, Detector or Segmenter."
            )
        network, geometry = self._network, model.preprocess.geometry

        def run(_: torch.nn.Module, images: list[Image]) -> Any:
            return network.predict([geometry(image) for image in images], network.forward)

        return run

    def _measure(self, images: list[Image], predict_with: PredictWith) -> dict[str, Moments]:
        """Return the moments of clean images, equally weighted."""
        sums: dict[str, tuple[Moments, int]] = {}
        module = self._network.module
        with (
            self._network.lock, torch.inference_mode(False), torch.no_grad(),
            hook_features(self._layers) as hooks,
        ):  # fmt: skip
            begin = module.register_forward_pre_hook(lambda *_: hooks.begin())
            end = module.register_forward_hook(
                lambda _, args, __: self._add(sums, hooks, len(args[0]) if args else 1)
            )
            try:
                for start in range(0, len(images), BATCH):
                    predict_with(module, images[start : start + BATCH])
            finally:
                begin.remove()
                end.remove()
        if not sums:
            raise ModelError("None of the norm layers ran on the clean images.")
        fingerprint = files.fingerprint(image.tobytes() for image in images)
        self.clean = {"of": "clean images", "images": len(images), "fingerprint": fingerprint}
        return {name: moments for name, (moments, _) in sums.items()}

    def _add(self, sums: dict[str, tuple[Moments, int]], hooks: FeatureHooks, images: int) -> None:
        for name, values in hooks.found.items():
            if not bool(torch.isfinite(values).all()):
                raise ModelError(
                    f"The layer {name!r} gives NaN or infinite values on the clean images."
                )
            if name not in sums:
                sums[name] = measure_moments(values, self.cells), images
                continue
            before, count = sums[name]
            shape = tuple(before.first.shape[1:])
            if self.cells == "all" and shape != tuple(values.shape[2:]):
                raise InputError(
                    "clean: cells='all' needs images of one size; take a number of cells (8)."
                )
            more = measure_moments(values, shape)
            share = images / (count + images)
            together = (old.lerp(new, share) for old, new in zip(before, more, strict=True))
            sums[name] = Moments(*together), count + images


class _FeatureLoss:
    """The distance of the features of each call, weighted by its images."""

    def __init__(
        self,
        layers: Mapping[str, torch.nn.Module],
        measure: Callable[[Mapping[str, torch.Tensor]], torch.Tensor | None],
        *,
        by_runs: bool,
    ) -> None:
        self._hooks = FeatureHooks(layers)
        self._measure, self._by_runs = measure, by_runs

    def begin(self, call: int) -> None:
        self._hooks.begin()

    def measure(self, outputs: Any, images: int) -> tuple[torch.Tensor, float] | None:
        found = self._hooks.found
        if not self._by_runs:
            # Running statistics are over all runs of a layer.
            found = {name: v for name, v in found.items() if self._hooks.runs.get(name) == 1}
        distance = self._measure(found)
        self._hooks.begin()
        return None if distance is None else (distance * images, float(images))

    def remove(self) -> None:
        self._hooks.remove()


def _format_shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
