"""Training encoders on pairs with known latents, and comparing them with the latents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from shiftproof.contrastive import mixing, process, slow_start, train
from shiftproof.metrics import linear_r2, mean_correlation_coefficient
from shiftproof.rng import generator
from shiftproof.types import Settings
from shiftproof_reproduce.result import to_json

if TYPE_CHECKING:
    import torch

    from shiftproof.contrastive import AnInfoNCE

Negatives: TypeAlias = Literal["both", "other", "none"]
"""As for ``AnInfoNCE``."""

MAX_CONDITION = 4.0
"""Maximum condition number of the mixing's layers; 3.4 to 3.6 in the published run of d = 10."""

SAMPLES = 4000
"""Number of held-out latents on which an encoder is evaluated."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A loss, and how its precision is treated.

    Args:
        name: title in tables.
        start: initial or fixed Λ̂; with ``relative`` a factor of the precision estimated from
            pairs.
        learn: ``"diagonal"`` learns a precision per dimension, ``"one"`` a single one (a learned
            temperature), ``"none"`` keeps it fixed.
        relative: whether ``start`` is a factor of the precision of the slow features.
        slow: whether the encoder starts at the slow features instead of at random.
        link: as for ``AnInfoNCE``.
        negatives: as for ``AnInfoNCE``.
        hard: λ of hard negatives around their anchor; 0 uses negatives of the batch.
        copies: number of losses, each on its own part of a longer embedding, with initial values
            ``start`` times 1, ``ratio``, ``ratio``² and so on.
        ratio: ratio of their initial values.
        known: whether the embedding is the latents themselves, so that only Λ̂ is learned.
    """

    name: str
    start: float
    learn: Literal["diagonal", "one", "none"] = "diagonal"
    relative: bool = False
    slow: bool = True
    link: Literal["softplus", "exp"] = "softplus"
    negatives: Negatives = "both"
    hard: float = 0.0
    copies: int = 1
    ratio: float = 10.0
    known: bool = False


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The distribution of pairs, and the training.

    Args:
        precision: the true λ of each latent.
        training: training settings of encoder and loss.
        batch: pairs per step.
        width: width of the encoder's hidden layers.
        depth: number of hidden layers.
    """

    precision: tuple[float, ...]
    training: train.Training
    batch: int = 512
    width: int = 128
    depth: int = 3

    @property
    def dim(self) -> int:
        """Dimension D of latents, observations and embedding."""
        return len(self.precision)

    @property
    def process(self) -> process.PairProcess:
        """Return the process of its pairs.

        A proposal may lie 0.1 off the sphere, as published, but at most half the smallest standard
        deviation of the latents: projected from farther away it would vary too much.
        """
        width = min(process.WIDTH, 0.5 / max(self.precision) ** 0.5)
        return process.PairProcess(self.precision, width=width)


@dataclass(frozen=True)
class Recovery:
    """The results of a training: R² and Λ̂ per latent, and the mean correlation coefficient."""

    r2: list[float]
    precision: list[float]
    mcc: float
    seconds: float

    @property
    def mean(self) -> float:
        """The mean R²."""
        return float(np.mean(self.r2))

    @property
    def least(self) -> float:
        """The smallest R² of a latent."""
        return min(self.r2)


class Observer:
    """The observations of latents: mixed, then transformed to the slow features of a sample of
    pairs.

    These are the whitened and rotated observations, an invertible linear transform.
    """

    def __init__(self, drawn: process.PairProcess, seed: int) -> None:
        self.mixing = mixing.InvertibleMLP(drawn.dim, max_condition=MAX_CONDITION, seed=seed)
        z, partner = drawn.pairs(20_000, seed=seed, step=-1)
        self.start = slow_start(self.mixing(z), self.mixing(partner))

    def __call__(self, latents: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(N, D)`` observations with mean 0 and covariance 1, the slowest first."""
        seen: NDArray[np.float64] = (self.mixing(latents) - self.start.mean) @ self.start.matrix
        return seen


def recover(
    setting: Setting,
    method: Method,
    seed: int,
    checkpoint: Path,
    *,
    device: str = "cpu",
    show_progress: bool | None = None,
) -> Recovery:
    """Train an encoder on pairs, or resume the training, and compare it with the latents.

    ``seed`` determines mixing, encoder and pairs; ``checkpoint`` is a ``.safetensors`` file.
    """
    import torch

    pairs = setting.process
    observe = Observer(pairs, seed)
    fresh = pairs.latents(SAMPLES, generator(seed, "held out"))

    def observe_latents(latents: NDArray[np.float64]) -> torch.Tensor:
        seen = latents if method.known else observe(latents)
        return torch.tensor(seen, dtype=torch.float32)

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        z, partner = pairs.pairs(setting.batch, seed=seed, step=step)
        if method.hard:
            partner = np.concatenate([partner, draw_hard(z, method.hard, seed, step)])
        return observe_latents(z), observe_latents(partner)

    def measure(encoder: torch.nn.Module, loss: torch.nn.Module) -> Settings:
        views = observe_latents(fresh).to(device)
        embedding = encoder(views).cpu().numpy()
        parts = np.split(embedding, method.copies, axis=1)
        embedding = np.concatenate(
            [part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=1
        )
        found = linear_r2(embedding, fresh, seed=seed)
        matched = mean_correlation_coefficient(embedding, fresh)
        learned = _read_precision(loss)[matched.assignment]
        return {
            "least": float(found.per_latent.min()),
            "r2": found.per_latent.tolist(),
            "mcc": matched.mean,
            "precision": learned.tolist(),
        }

    encoder, loss = _build(setting, method, seed, observe.start.precision)
    trained = train.train(
        encoder,
        loss,
        batches,
        setting.training,
        measure=measure,
        checkpoint=checkpoint,
        about={"setting": to_json(setting), "method": to_json(method), "seed": seed},
        device=device,
        title=f"{method.name}, seed {seed}",
        show_progress=show_progress,
    )
    figures = trained.figures
    return Recovery(
        list(figures["r2"]),
        list(figures["precision"]),
        float(figures["mcc"]),
        trained.seconds,
    )


# ---------------------------------------------------------------- parts


def draw_hard(
    z: NDArray[np.float64], precision: float, seed: int, step: int
) -> NDArray[np.float64]:
    """Draw ``HARD`` negatives around each anchor."""
    around = process.PairProcess((precision,) * z.shape[1])
    random = generator(seed, "hard negatives", str(step))
    negatives = [around.partners(z, random) for _ in range(HARD)]
    return np.stack(negatives, axis=1).reshape(-1, z.shape[1])


HARD = 16
"""Number of hard negatives per anchor."""


def _build(
    setting: Setting, method: Method, seed: int, measured: NDArray[np.float64]
) -> tuple[torch.nn.Module, torch.nn.Module]:
    import torch

    from shiftproof.contrastive import AnInfoNCE, LossEnsemble

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = (
            torch.nn.Identity()
            if method.known
            else build_encoder(
                setting.dim,
                setting.dim * method.copies,
                width=setting.width,
                depth=setting.depth,
                slow=method.slow,
            )
        )
    if method.learn == "one":
        return encoder, learn_temperature(method.start, method.negatives)
    start = method.start * (measured if method.relative else np.ones(setting.dim))
    losses: list[AnInfoNCE] = [
        AnInfoNCE(
            setting.dim,
            start=(start * method.ratio**copy).tolist(),
            link=method.link,
            learn=method.learn == "diagonal",
            negatives=method.negatives,
        )
        for copy in range(method.copies)
    ]
    if method.hard:
        return encoder, add_hard_negatives(losses[0])
    return encoder, losses[0] if method.copies == 1 else LossEnsemble(losses)


def build_encoder(
    dim: int, out_dim: int, *, width: int = 128, depth: int = 3, slow: bool = False
) -> torch.nn.Module:
    """Return an MLP with leaky ReLUs from ``dim`` to ``out_dim``, weights from torch's global
    state.

    It has ``depth`` hidden layers of ``width``. ``slow`` adds the observations to the MLP's output,
    whose last layer starts at zero; they are repeated if the embedding is longer.
    """
    from torch import nn

    layers: list[nn.Module] = []
    size = dim
    for _ in range(depth):
        layers += [nn.Linear(size, width), nn.LeakyReLU()]
        size = width
    last = nn.Linear(size, out_dim)
    network = nn.Sequential(*layers, last)
    if not slow:
        return network
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)

    class ResidualMLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            added: torch.Tensor = self.network(inputs) + inputs.repeat(1, out_dim // dim)
            return added

    return ResidualMLP()


def learn_temperature(start: float, negatives: Negatives) -> torch.nn.Module:
    """Return InfoNCE with a learned temperature: one precision 1/τ for all dimensions."""
    import torch

    from shiftproof.contrastive import info_nce

    class LearnedTemperature(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_precision = torch.nn.Parameter(torch.tensor(float(np.log(start))))

        @property
        def precision(self) -> torch.Tensor:
            return self.log_precision.exp().expand(1)

        def forward(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            return info_nce(
                u,
                v,
                temperature=(-self.log_precision).exp(),
                negatives=negatives,
            )

    return LearnedTemperature()


def add_hard_negatives(loss: AnInfoNCE) -> torch.nn.Module:
    """Return a loss whose second view has the partners followed by the negatives of each anchor."""
    import torch

    from shiftproof.contrastive import info_nce

    class WithHardNegatives(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = loss

        @property
        def precision(self) -> torch.Tensor:
            return loss.precision

        def forward(self, u: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
            count = len(u)
            return info_nce(
                u,
                others[:count],
                temperature=1.0,
                precision=self.precision,
                negatives="none",
                symmetric=False,
                more_negatives=others[count:].reshape(count, -1, u.shape[1]),
            )

    return WithHardNegatives()


class _Precise(Protocol):
    @property
    def precision(self) -> torch.Tensor: ...


def _read_precision(loss: torch.nn.Module) -> NDArray[np.float64]:
    """Return the precision of each dimension of the embedding, over all losses."""
    from shiftproof.contrastive import LossEnsemble

    losses = list(loss.losses) if isinstance(loss, LossEnsemble) else [loss]
    values = [cast(_Precise, each).precision.detach().cpu().double().numpy() for each in losses]
    joined = np.concatenate(values)
    return np.repeat(joined, 64) if len(joined) == 1 else joined


def space_geometrically(lowest: float, spread: float, dim: int) -> tuple[float, ...]:
    """Return geometrically spaced precisions from ``lowest`` to ``lowest * spread``."""
    return tuple(float(value) for value in np.geomspace(lowest, lowest * spread, dim))
