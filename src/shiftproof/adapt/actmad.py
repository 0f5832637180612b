"""Matching the statistics of features with those of clean images (Mirza et al. 2023, ActMAD)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, final

import torch

from shiftproof.adapt.calls import CallAdapter, Loss
from shiftproof.adapt.checks import FewClasses, check_count, check_few_classes
from shiftproof.adapt.clean_images import read_clean_images
from shiftproof.adapt.feature_statistics import (
    Cells,
    FeatureHooks,
    Moments,
    expect_moments,
    hook_features,
    measure_moments,
)
from shiftproof.adapt.learning import Chosen, LearningNetwork
from shiftproof.adapt.network import torch_module
from shiftproof.adapt.norms import LayerChoice, choose_layers, norm_layers
from shiftproof.adapt.parameters import affine_or_all
from shiftproof.errors import InputError, ModelError
from shiftproof.io import files
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.types import Image, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

Clean: TypeAlias = "str | Path | Sequence[Image] | None"
"""Clean images, the folder that they are in, or None."""

Through: TypeAlias = Callable[[torch.nn.Module, list[Image]], Any]
"""Takes images through a network, as the model around it does."""

BATCH = 8
"""Clean images that go through the network at a time."""

RATE = 1e-2
"""Learning rate of a step; by itself it does not depend on the batch, as the loss is a sum over layers,
not over images."""


def actmad_rate(count: int) -> float:
    """Return the learning rate of ``"auto"``, the same for every number of images."""
    return RATE


ENOUGH = 16
"""Images of a batch from which on a classifier learns at the full rate."""


def classifier_rate(count: int) -> float:
    """Return the rate of ``"auto"`` for a classifier: below ``ENOUGH`` images in proportion to them.

    Statistics of four images are far from those of all by chance, and a stream holds more of such
    batches: at the full rate it ended 2.3 points worse on clean images of three classes.
    """
    return RATE * min(count, ENOUGH) / ENOUGH


@final
class ActMAD(CallAdapter):
    """A network whose features are kept where they lie on clean images, in mean and variance.

    Mirza et al. 2023 (arXiv 2211.12870): for each norm layer l the statistics of what it gives, over the
    batch, are held against those of clean images, and one gradient step is taken on
    ``sum_l mean |mu_l - mu_clean,l| + mean |var_l - var_clean,l|``. It needs neither labels nor answers,
    so it is the same for classifiers, detectors and segmenters. A step costs a backward pass, and holds
    the activations of one call of the network and a copy of what each layer gives.

    The statistics are taken per channel and cell: a feature map is split into ``cells`` by ``cells``
    parts, and mean and variance are over the images of the batch and the locations of a part. So images
    of any sizes can be compared, and a batch may be one image. ``"all"`` is the paper's: each location
    is a cell, which asks for images of one size, and for batches that have a variance.

    Of clean images are known:

    - with ``clean``, what is measured on them once, when the adapter is made;
    - without, what batch norm keeps: mean b and variance ``g^2 v / (v + eps)`` per channel for the
      scale g and the shift b, whatever ``cells`` is. A layer that runs several times in a call is left
      out, and so is one of a class that does more than normalize.

    Batch norm normalizes by the source's statistics throughout. A batch whose features are not finite
    is answered and not learned from, with an event.

    A batch of few classes differs from clean images by its classes. Where the source's answers tell so
    (:class:`~shiftproof.adapt.source_check.SourceCheck`), no step is taken, and an event says so. To ask,
    16 images at most run once more, or twice. This holds for classifiers with batch norm, not for
    ``run_batch``; ``few_classes="learn"`` is the paper's. A single image has one class, so most of a
    stream of single images is answered and not learned from.

    Differs from the published code: SGD without Nesterov momentum and weight decay, and batches of
    one call are each compared by themselves.

    Args:
        model: a ``Classifier`` on torch, or a plain ``torch.nn.Module``.
        clean: images ``(H, W, 3)`` uint8 RGB of the kind that the model was trained on, or the folder
            they are in; at most 256 are measured. None takes the running statistics of batch norm.
        through: takes a list of images through the network, where ``model`` is no classifier.
        cells: to a side, or ``"all"``.
        lr: a learning rate for every batch; ``"auto"`` is 1e-2, for a ``Classifier`` in proportion
            to batches of fewer than 16.
        momentum: of the SGD, from 0 to below 1.
        parameters: ``"affine"``, ``"all"`` (the paper's) or ``"last"``; None takes the affine ones, or
            all where norm layers have none of their own (frozen batch norm).
        layers: which norm layers are compared, as for ``BatchNorm``.
        few_classes: ``"skip"``, or ``"learn"`` from every batch.

    Raises:
        InputError: an option is out of its range, or there are no clean images.
        ModelError: there is no norm layer, or none whose statistics on clean images are known.

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
        through: Through | None = None,
        cells: Cells = 8,
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.0,
        parameters: Chosen | None = None,
        layers: LayerChoice = "all",
        few_classes: FewClasses = "skip",
    ) -> None:
        self.few_classes = check_few_classes(few_classes)
        self.cells: Cells = cells if cells == "all" else check_count("cells", cells)
        self.matched: LayerChoice = layers
        network = torch_module(model)
        self._begin(
            LearningNetwork(
                model,
                parameters=affine_or_all(network) if parameters is None else parameters,
                layers="all",
                prior=float("inf"),
                lr=lr,
                auto=classifier_rate if isinstance(model, Classifier) else actmad_rate,
                momentum=momentum,
                checks_source=few_classes == "skip",
            )
        )
        found = norm_layers(self._network.module)
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
            self._clean = self._measure(read_clean_images(clean), self._choose_way(model, through))

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
        """Return the loss of one call, from what layers gave; None where none can be compared."""
        terms = []
        for name, values in found.items():
            if name not in self._clean:
                continue
            clean = self._clean[name]
            batch = measure_moments(values, self._shape_for(name, values))
            terms.append((batch.first - clean.first).abs().mean())
            terms.append((batch.variance - clean.variance).abs().mean())
        return torch.stack(terms).sum() if terms else None

    def _shape_for(self, name: str, values: torch.Tensor) -> tuple[int, ...]:
        shape = tuple(self._clean[name].first.shape[1:])
        if self.cells == "all" and self._is_measured and shape != tuple(values.shape[2:]):
            raise ModelError(
                f"cells='all' compares location with location: the layer {name!r} gave maps of "
                f"{_by(shape)} for the clean images and gives {_by(tuple(values.shape[2:]))} now. Take "
                "a number of cells (8) for images of several sizes."
            )
        return shape

    # ------------------------------------------------------------ clean images

    def _choose_way(self, model: Classifier | torch.nn.Module, through: Through | None) -> Through:
        if through is not None:
            return through
        if not isinstance(model, Classifier):
            raise InputError(
                "clean: a plain torch.nn.Module does not say how images become its input; give "
                "through=, or wrap it in a Classifier, Detector or Segmenter."
            )
        network, geometry = self._network, model.preprocess.geometry

        def run(_: torch.nn.Module, images: list[Image]) -> Any:
            return network.predict([geometry(image) for image in images], network.forward)

        return run

    def _measure(self, images: list[Image], through: Through) -> dict[str, Moments]:
        """Return the moments of clean images, which count equally."""
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
                    through(module, images[start : start + BATCH])
            finally:
                begin.remove()
                end.remove()
        if not sums:
            raise ModelError("None of the norm layers ran on the clean images.")
        marks = files.fingerprint(image.tobytes() for image in images)
        self.clean = {"of": "clean images", "images": len(images), "fingerprint": marks}
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
            # Running statistics are of all runs together.
            found = {name: v for name, v in found.items() if self._hooks.runs.get(name) == 1}
        distance = self._measure(found)
        self._hooks.begin()
        return None if distance is None else (distance * images, float(images))

    def remove(self) -> None:
        self._hooks.remove()


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
