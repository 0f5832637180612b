"""Self-learning from many predictions per image: a segmenter's pixels or a detector's boxes.

The losses are those of Rusak et al. 2021 (arXiv 2104.12928), with a row of logits instead of an
image.
"""

from __future__ import annotations

import itertools
from typing import Any, Literal, final

import torch

from shiftproof.adapt.base.options import check_count, check_number
from shiftproof.adapt.dense.class_logits import DenseLogits, Rows, find_pixel_logits
from shiftproof.adapt.learning.calls import CallAdapter, Loss
from shiftproof.adapt.learning.learning_network import LearningNetwork, ParameterChoice
from shiftproof.adapt.learning.losses import entropy, is_confident, robust_pseudo_label_loss
from shiftproof.adapt.methods.selflearning import paper_rate
from shiftproof.adapt.normalization.layer_choice import LayerChoice
from shiftproof.adapt.normalization.priors import Prior
from shiftproof.errors import UnknownNameError
from shiftproof.rng import generator
from shiftproof.types import Settings

DenseLoss = Literal["ent", "rpl"]


@final
class DenseLearning(CallAdapter):
    """A network that takes one gradient step per batch on its predictions for pixels or boxes.

    The loss is the mean over the batch's rows of logits that are finite and, for ``"rpl"``,
    confident. A step costs one backward pass, and memory for the activations of one call of the
    network: a batch of images of one size, or one window or image. The logits are taken at the
    network's own resolution, before they are resized to the image.

    Everything else is as for ``SelfLearning``: batch norm uses each call's statistics as ``prior``
    says, with the gradient through them; a step that is not finite is skipped, with an event.

    Differs from ``SelfLearning`` and its paper: neighboring rows are not independent, so the
    learning rate is in proportion to the images, not the rows.

    Args:
        model: a plain ``torch.nn.Module``.
        logits: where its logits are; None takes the pixels of a segmentation network.
        loss: ``"ent"``, the entropy, or ``"rpl"``, robust pseudo-labels.
        lr: ``"auto"`` is the paper's 1e-3 at a batch of 128, in proportion to the images; or a
            number.
        momentum: of the SGD, from 0 to below 1.
        q: of ``"rpl"``, from 0 to 1.
        threshold: of ``"rpl"``: rows whose largest probability is below this are excluded.
        rows: maximum number of rows per image in the loss, drawn at random; 0 takes all. Fewer make
            the loss cheaper, not the passes.
        parameters: as for ``SelfLearning``.
        layers: as for ``SelfLearning``.
        prior: as for ``BatchNorm``.
        seed: random seed of the drawn rows.

    Raises:
        InputError: an option is out of its range.
        ModelError: there is nothing to learn, or the graph is fixed.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    >>> images = torch.rand(2, 3, 8, 8)
    >>> adapted = DenseLearning(net, loss="ent", lr=1.0)
    >>> first, second = (entropy(adapted(images).flatten(2).mT.flatten(0, 1)).mean() for _ in range(2))
    >>> bool(second < first)
    True
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        logits: DenseLogits | None = None,
        loss: DenseLoss = "ent",
        lr: float | Literal["auto"] = "auto",
        momentum: float = 0.0,
        q: float = 0.8,
        threshold: float = 0.0,
        rows: int = 0,
        parameters: ParameterChoice = "affine",
        layers: LayerChoice = "all",
        prior: Prior = "auto",
        seed: int = 0,
    ) -> None:
        if loss not in ("ent", "rpl"):
            raise UnknownNameError.of("loss", str(loss), ["ent", "rpl"])
        self.loss: DenseLoss = loss
        self.q = check_number("q", q, 0, 1)
        self.threshold = check_number("threshold", threshold, 0, 1)
        self.rows = rows if rows == 0 and rows is not False else check_count("rows", rows)
        self.seed = check_count("seed", seed, minimum=0)
        self.logits = logits or find_pixel_logits()
        self._begin(
            LearningNetwork(
                model,
                parameters=parameters,
                layers=layers,
                prior=prior,
                lr=lr,
                auto=paper_rate,
                momentum=momentum,
            )
        )

    def __repr__(self) -> str:
        return (
            f"DenseLearning({self.loss!r} per {self.logits.unit}, {self._learner.size} parameters)"
        )

    def _own_settings(self) -> Settings:
        return {
            "adapter": "dense",
            "loss": self.loss,
            "of": self.logits.unit,
            "q": self.q if self.loss == "rpl" else None,
            "threshold": self.threshold if self.loss == "rpl" else None,
            "rows": self.rows or "all",
            "seed": self.seed,
        }

    def _make_loss(self, images: int) -> Loss:
        return _RowLoss(self, self._network.module, self._batches)

    def measure_rows(self, rows: torch.Tensor) -> tuple[torch.Tensor, float] | None:
        """Return the sum of the losses of ``(M, K)`` logits, and the number of rows in it."""
        rows = rows[torch.isfinite(rows.detach().float().logsumexp(-1))]
        if self.loss == "rpl" and self.threshold > 0:
            rows = rows[is_confident(rows, self.threshold)]
        if len(rows) == 0:
            return None
        if self.loss == "ent":
            return entropy(rows).sum(), float(len(rows))
        return robust_pseudo_label_loss(rows, rows, self.q).sum(), float(len(rows))


class _RowLoss:
    """The loss over the rows of logits in each call of a network."""

    def __init__(self, method: DenseLearning, network: torch.nn.Module, batch: int) -> None:
        self._method, self._batch, self._call = method, batch, 0
        self._found: list[Rows] = []
        layer = method.logits.layer
        self._handle = (
            network.get_submodule(layer).register_forward_hook(self._keep) if layer else None
        )

    def begin(self, call: int) -> None:
        self._call = call
        self._found = []

    def measure(self, outputs: Any, images: int) -> tuple[torch.Tensor, float] | None:
        found = self._found if self._handle is not None else [self._method.logits.read(outputs)]
        rows = [self._draw(one, place) for place, one in enumerate(itertools.chain(*found))]
        return self._method.measure_rows(torch.cat(rows)) if rows else None

    def remove(self) -> None:
        if self._handle is not None:
            self._handle.remove()

    def _keep(self, _: object, __: object, outputs: Any) -> None:
        self._found.append(self._method.logits.read(outputs))

    def _draw(self, rows: torch.Tensor, place: int) -> torch.Tensor:
        """Return at most ``rows`` rows of an image."""
        wanted = self._method.rows
        if not wanted or len(rows) <= wanted:
            return rows
        key = f"{self._batch}/{self._call}/{place}"
        drawn = generator(self._method.seed, "rows of logits", key).permutation(len(rows))
        return rows[torch.from_numpy(drawn[:wanted]).to(rows.device)]
