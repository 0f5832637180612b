"""Trainings with known latents: an encoder learns from pairs, and is held against the truth."""

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
"""Of the mixing's layers; those of the published run of d = 10 were 3.4 to 3.6."""

SAMPLES = 4000
"""Fresh latents on which an encoder is held against the truth."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A loss, and how its precision is treated.

    Args:
        name: as tables call it.
        start: where Λ̂ starts, or stays; a factor of what pairs say where ``relative``.
        learn: ``"diagonal"`` learns a precision per dimension, ``"one"`` one for all (a learned
            temperature), ``"none"`` leaves it.
        relative: whether ``start`` is a factor of the precision of the slow features.
        slow: whether the encoder starts at the slow features, and not at random.
        link: as for ``AnInfoNCE``.
        negatives: as for ``AnInfoNCE``.
        hard: λ of hard negatives around their anchor; 0 takes the batch's.
        copies: losses on stretches of an embedding so many times as long, started at ``start``
            times 1, ``ratio``, ``ratio``² and so on.
        ratio: between their starts.
        known: whether the latents themselves take the place of an embedding, so that Λ̂ alone is
            learned.
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
    """What is drawn, and how it is learned.

    Args:
        precision: the true λ of each latent.
        training: of encoder and loss.
        batch: pairs of a step.
        width: of the encoder's hidden layers.
        depth: how many of them.
    """

    precision: tuple[float, ...]
    training: train.Training
    batch: int = 512
    width: int = 128
    depth: int = 3

    @property
    def dim(self) -> int:
        """D, of latents, observations and embedding."""
        return len(self.precision)

    @property
    def process(self) -> process.PairProcess:
        """Return the process of its pairs.

        A proposal may lie 0.1 off the sphere, as published, or half the standard deviation of the
        latent that varies least: projected from farther away it would vary more than it should.
        """
        width = min(process.WIDTH, 0.5 / max(self.precision) ** 0.5)
        return process.PairProcess(self.precision, width=width)


@dataclass(frozen=True)
class Recovered:
    """What a training has recovered: per latent R² and Λ̂, and the mean MCC; and its course."""

    r2: list[float]
    precision: list[float]
    mcc: float
    loss: float
    steps: int
    seconds: float
    course: list[tuple[int, float]]

    @property
    def mean(self) -> float:
        """The mean R²."""
        return float(np.mean(self.r2))

    @property
    def least(self) -> float:
        """The R² of the latent that is recovered worst."""
        return min(self.r2)


class Observer:
    """The observations of latents: mixed, and as slow features of a first sample of pairs.

    They are the observations whitened and turned, of which any encoder makes the same.
    """

    def __init__(self, drawn: process.PairProcess, seed: int) -> None:
        self.mixing = mixing.InvertibleMLP(drawn.dim, max_condition=MAX_CONDITION, seed=seed)
        z, partner = drawn.pairs(20_000, seed=seed, step=-1)
        self.start = slow_start(self.mixing(z), self.mixing(partner))

    def __call__(self, latents: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(N, D)`` observations: of mean 0 and covariance 1, the slowest first."""
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
) -> Recovered:
    """Train an encoder on pairs, or resume that, and compare it with the latents.

    ``seed`` is that of mixing, encoder and pairs, ``checkpoint`` a ``.safetensors`` file.
    """
    import torch

    pairs = setting.process
    observe = Observer(pairs, seed)
    fresh = pairs.latents(SAMPLES, generator(seed, "held out"))

    def show(latents: NDArray[np.float64]) -> torch.Tensor:
        seen = latents if method.known else observe(latents)
        return torch.tensor(seen, dtype=torch.float32)

    def batches(step: int) -> tuple[torch.Tensor, torch.Tensor]:
        z, partner = pairs.pairs(setting.batch, seed=seed, step=step)
        if method.hard:
            partner = np.concatenate([partner, draw_hard(z, method.hard, seed, step)])
        return show(z), show(partner)

    def measure(encoder: torch.nn.Module, loss: torch.nn.Module) -> Settings:
        views = show(fresh).to(device)
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
    return Recovered(
        list(figures["r2"]),
        list(figures["precision"]),
        float(figures["mcc"]),
        trained.history[-1].loss,
        trained.history[-1].step,
        trained.seconds,
        [(check.step, float(check.figures["least"])) for check in trained.history],
    )


# ---------------------------------------------------------------- parts


def draw_hard(
    z: NDArray[np.float64], precision: float, seed: int, step: int
) -> NDArray[np.float64]:
    """Draw ``HARD`` negatives around each anchor; each serves as one of all anchors' too."""
    around = process.PairProcess((precision,) * z.shape[1])
    random = generator(seed, "hard negatives", str(step))
    negatives = [around.partners(z, random) for _ in range(HARD)]
    return np.stack(negatives, axis=1).reshape(-1, z.shape[1])


HARD = 16
"""Hard negatives of an anchor."""


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
        return encoder, take_hard_negatives(losses[0])
    return encoder, losses[0] if method.copies == 1 else LossEnsemble(losses)


def build_encoder(
    dim: int, out_dim: int, *, width: int = 128, depth: int = 3, slow: bool = False
) -> torch.nn.Module:
    """Return an MLP with leaky ReLUs from ``dim`` to ``out_dim``, weights from torch's global state.

    It has ``depth`` hidden layers of ``width``. ``slow`` adds the observations to what the MLP says,
    whose last layer starts at zero; they are repeated where the embedding is longer.
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

    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            added: torch.Tensor = self.network(inputs) + inputs.repeat(1, out_dim // dim)
            return added

    return Added()


def learn_temperature(start: float, negatives: Negatives) -> torch.nn.Module:
    """Return InfoNCE with one precision 1/τ for all dimensions, which is learned."""
    import torch

    from shiftproof.contrastive import info_nce

    class LearntTemperature(torch.nn.Module):
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

    return LearntTemperature()


def take_hard_negatives(loss: AnInfoNCE) -> torch.nn.Module:
    """Return a loss whose second view holds the partners, and behind them negatives per anchor."""
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
    """Return the precision of every dimension of the embedding, over all losses."""
    from shiftproof.contrastive import LossEnsemble

    losses = list(loss.losses) if isinstance(loss, LossEnsemble) else [loss]
    values = [cast(_Precise, each).precision.detach().cpu().double().numpy() for each in losses]
    joined = np.concatenate(values)
    return np.repeat(joined, 64) if len(joined) == 1 else joined


def space_evenly(lowest: float, spread: float, dim: int) -> tuple[float, ...]:
    """Return precisions at equal quotients from ``lowest`` to ``lowest x spread``."""
    return tuple(float(value) for value in np.geomspace(lowest, lowest * spread, dim))
