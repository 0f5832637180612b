"""DeYO: entropy minimization of answers that depend on object shape (Lee et al. 2024, arXiv
2403.07366).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, final

import torch

from shiftproof.adapt.base.options import check_count, check_number
from shiftproof.adapt.learning.learning_network import AffineAdapter, Pass
from shiftproof.adapt.learning.losses import entropy
from shiftproof.adapt.learning.sample_weights import entropy_margin, weigh_entropies
from shiftproof.adapt.normalization.layer_choice import LayerChoice
from shiftproof.adapt.normalization.priors import Prior
from shiftproof.errors import ModelError
from shiftproof.models.classifiers.classifier import Classifier
from shiftproof.rng import generator
from shiftproof.types import Settings


def shuffle_patches(images: torch.Tensor, orders: torch.Tensor, per_side: int) -> torch.Tensor:
    """Return images with shuffled patches.

    Args:
        images: ``(N, C, H, W)``. If a side is not a multiple of ``per_side``, the image is shrunk
            to the next one and resized back.
        orders: ``(N, per_side^2)`` int64: the index of the patch at each position, row by row.
        per_side: number of patches along a side.
    """
    count, channels, height, width = images.shape
    size = max(height // per_side, 1) * per_side, max(width // per_side, 1) * per_side
    values = _resize(images, size)
    high, wide = size[0] // per_side, size[1] // per_side
    patches = values.reshape(count, channels, per_side, high, per_side, wide)
    patches = patches.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    moved = patches[torch.arange(count, device=images.device)[:, None], orders]
    moved = moved.reshape(count, per_side, per_side, channels, high, wide)
    moved = moved.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, *size)
    return _resize(moved, (height, width))


def _resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    if images.shape[2:] == size:
        return images
    return torch.nn.functional.interpolate(images, size, mode="bilinear", antialias=True)


def measure_drops(logits: torch.Tensor, shuffled: torch.Tensor) -> torch.Tensor:
    """Return the drop ``(N,)`` in the probability of the predicted class when patches are shuffled.

    The pseudo-label probability difference, PLPD (Lee et al. 2024, eq. 5), from -1 to 1.
    """
    before, after = (torch.softmax(part.detach().float(), 1) for part in (logits, shuffled))
    answer = before.argmax(1, keepdim=True)
    return (before.gather(1, answer) - after.gather(1, answer))[:, 0]


@final
class DeYO(AffineAdapter):
    """A classifier that minimizes the entropy of answers that depend on the object's shape.

    Images are used if their entropy is below ``margin`` log K and the probability of their
    predicted class drops by more than ``drop`` when the image's patches are shuffled, so that
    answers based on color and texture alone are excluded. Each entropy is weighted by
    ``exp(E0 - H) + exp(drop)``, with E0 = 0.4 log K (Lee et al. 2024, arXiv 2403.07366, eq. 6 to
    8). The order of the patches depends only on the number of the batch in the stream. Takes two
    forward passes and a backward pass. The published code excludes the last layers of each
    architecture by name; here ``layers="first-75%"`` does so for any.

    Differs from the published code: all images are shuffled and run together, not only the reliable
    ones, so that the batch statistics do not depend on the selection; and the prior of the
    statistics is measured, ``prior=0`` is the paper's.

    Args:
        model: a ``Classifier`` on torch, or a plain ``torch.nn.Module`` that returns logits of
            images.
        margin: share of log K, from 0 to 1.
        drop: minimum drop in probability, from 0 to 1.
        patches: patches along a side of the image, 1 or more.
        lr: ``"auto"`` is 0.00025 at a batch size of 64, in proportion to the batch size.
        momentum: momentum of SGD, from 0 to below 1.
        layers: the norm layers that are adapted.
        prior: as in ``BatchNorm``.

    Raises:
        InputError: an option is out of its range.
        ModelError: as for ``SelfLearning``; or the inputs are not images ``(N, C, H, W)``.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LayerNorm(48), torch.nn.Linear(48, 3))
    >>> DeYO(net, margin=1.0, drop=0.0)(torch.rand(8, 3, 4, 4)).shape
    torch.Size([8, 3])
    """

    def __init__(
        self,
        model: Classifier | torch.nn.Module,
        *,
        margin: float = 0.5,
        drop: float = 0.2,
        patches: int = 4,
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.9,
        layers: LayerChoice = "first-75%",
        prior: Prior = "auto",
    ) -> None:
        self.margin = check_number("margin", margin, 0, 1)
        self.drop = check_number("drop", drop, 0, 1)
        self.patches = check_count("patches", patches)
        self._begin(model, lr=lr, momentum=momentum, layers=layers, prior=prior)

    def __repr__(self) -> str:
        return f"DeYO(patches={self.patches}, {self._learner.size} parameters)"

    def _own_settings(self) -> Settings:
        return {
            "adapter": "deyo",
            "margin": self.margin,
            "drop": self.drop,
            "patches": self.patches,
        }

    def _list_memory_shapes(self) -> Mapping[str, tuple[int | None, ...]]:
        return {"batches": ()}

    def _learn(self, inputs: torch.Tensor) -> Pass:
        number = int(self._memory.get("batches", 0))
        shuffled = self._learner.forward.answer(self._shuffle(inputs, number))

        def measure(outputs: torch.Tensor) -> torch.Tensor | None:
            logits = self._network.select_classes(outputs)
            entropies, drops = entropy(logits), measure_drops(logits, shuffled)
            kept = entropies.detach() < entropy_margin(self.margin, logits.shape[1])
            kept = kept & (drops > self.drop)
            if not bool(kept.any()):
                return None
            chosen = entropies[kept]
            weights = weigh_entropies(chosen, entropy_margin(RELIABLE, logits.shape[1]))
            return (chosen * (weights + drops[kept].exp())).mean()

        result = self._learner.differentiate(inputs, measure)
        if result.gradients is not None and result.is_finite:
            self._learner.step(result.gradients, len(inputs))
            self._memory = {"batches": torch.tensor(float(number + 1))}
        return result

    def _shuffle(self, inputs: torch.Tensor, number: int) -> torch.Tensor:
        if inputs.ndim != 4:
            raise ModelError(
                f"DeYO shuffles patches of images: expected (N, C, H, W), got {tuple(inputs.shape)}."
            )
        random = generator(0, "deyo", str(number)).random((len(inputs), self.patches**2))
        orders = torch.from_numpy(random.argsort(1)).to(inputs.device)
        return shuffle_patches(inputs, orders, self.patches)


RELIABLE = 0.4
"""E0 in the weights as a share of log K, as in EATA."""
