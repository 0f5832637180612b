"""A loop for contrastive training that resumes exactly where it was interrupted."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from shiftproof.adapt.base.state import read_state, save_state
from shiftproof.compute.progress import progress
from shiftproof.errors import BrokenFileError, InputError, RunError, RunMismatchError
from shiftproof.io import files
from shiftproof.io.border import convert_errors
from shiftproof.types import Settings

if TYPE_CHECKING:
    import torch

Batches: TypeAlias = "Callable[[int], tuple[torch.Tensor, torch.Tensor]]"
"""From a step's number to its two views, each a batch for the encoder. It must depend only on the
number: then an interrupted training ends with the same result.
"""

EncoderMeasure: TypeAlias = "Callable[[torch.nn.Module, torch.nn.Module], Mapping[str, Any]]"
"""From encoder and loss to metrics that JSON can hold."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Hyperparameters of a training.

    Args:
        steps: maximum number of optimizer steps.
        optimizer: ``"adam"``, ``"sgd"`` or ``"lars"``.
        rate: learning rate of the encoder.
        loss_rate: of the loss's own parameters; None takes ``rate``.
        hold: initial steps during which the loss's own parameters are frozen.
        warm_up: share of all steps over which the learning rates rise linearly.
        cool_down: share of all steps, at the end, over which they fall to 0 along a cosine.
        momentum: of SGD and LARS.
        weight_decay: of the encoder.
        check_every: steps between two evaluations and checkpoints.
        watch: metric for early stopping; larger is better.
        target: stop when the metric reaches it; None never does.
        patience: stop after this many evaluations without improvement; None never does.
    """

    steps: int
    optimizer: Literal["adam", "sgd", "lars"] = "adam"
    rate: float = 1e-3
    loss_rate: float | None = None
    hold: int = 0
    warm_up: float = 0.0
    cool_down: float = 0.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    check_every: int = 500
    watch: str = "score"
    target: float | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "check_every"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)!r}.")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience: expected at least 1, or None, got {self.patience!r}.")
        if not (self.rate > 0 and (self.loss_rate is None or self.loss_rate > 0)):
            raise InputError(f"Expected rates above 0, got {self.rate!r} and {self.loss_rate!r}.")
        if not (self.warm_up >= 0 and self.cool_down >= 0 and self.warm_up + self.cool_down <= 1):
            raise InputError(
                "warm_up and cool_down: expected shares of the steps, together at most 1, got "
                f"{self.warm_up!r} and {self.cool_down!r}."
            )

    @property
    def settings(self) -> Settings:
        """All hyperparameters, for JSON."""
        settings: Settings = json.loads(json.dumps(asdict(self)))
        return settings

    def share(self, step: int) -> float:
        """Return the factor of the learning rates at a step, 0 to 1."""
        rise, fall = self.warm_up * self.steps, self.cool_down * self.steps
        if step < rise:
            return (step + 1) / (rise + 1)
        left = self.steps - step
        return 1.0 if left >= fall else (1 - math.cos(math.pi * left / fall)) / 2


@dataclass(frozen=True)
class Check:
    """An evaluation after ``step`` steps: the mean loss since the last check, and the metrics."""

    step: int
    loss: float
    figures: Settings


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training.

    ``stopped`` is the reason: ``"steps"``, ``"target"`` or ``"patience"``; ``seconds`` is CPU time,
    summed over all resumed runs.
    """

    encoder: torch.nn.Module
    loss: torch.nn.Module
    history: list[Check] = field(default_factory=list)
    stopped: str = "steps"
    seconds: float = 0.0

    @property
    def figures(self) -> Settings:
        """The metrics of the last check."""
        return self.history[-1].figures


def train(
    encoder: torch.nn.Module,
    loss: torch.nn.Module,
    batches: Batches,
    training: Training,
    *,
    measure: EncoderMeasure | None = None,
    checkpoint: str | Path | None = None,
    about: Settings | None = None,
    device: str = "cpu",
    title: str = "Training",
    show_progress: bool | None = None,
) -> Trained:
    """Train an encoder by a contrastive loss, or resume the training that ``checkpoint`` holds.

    Encoder and loss are trained in place. The loop itself draws no random numbers and does not
    touch torch's global random state; the state of an encoder that draws (dropout) is not restored
    on resuming.

    Args:
        encoder: from a batch of views to embeddings ``(B, D)``.
        loss: called with both views' embeddings, for example ``AnInfoNCE``.
        batches: the views of each step.
        training: the hyperparameters.
        measure: called every ``check_every`` steps and at the end, in eval mode and without
            gradients.
        checkpoint: a ``.safetensors`` file, written at each check; None writes none.
        about: further settings that determine the result (data, seed, network); resuming a
            checkpoint with other values is an error.
        device: device of encoder, loss and batches.
        title: label of the progress bar.
        show_progress: None shows it on a terminal only.

    Raises:
        RunMismatchError: the checkpoint is of a training with other settings.
        RunError: the loss is no longer finite.
        InputError: the watched metric is not among those measured.
    """
    import torch

    place = torch.device(device)
    encoder.to(place).train()
    loss.to(place).train()
    own = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    optimizer = _make_optimizer(encoder, own, training)
    rates = [group["lr"] for group in optimizer.param_groups]
    settings: Settings = json.loads(
        json.dumps({"training": training.settings, "about": about or {}})
    )
    path = None if checkpoint is None else Path(checkpoint)
    done = _Progress([], "", 0.0)
    if path is not None:
        files.make_folder(path.parent)
        done = _resume(path, settings, encoder, loss, optimizer)
    start = done.history[-1].step if done.history else 0
    start_time, losses = time.process_time(), []
    with progress(title, training.steps, show=show_progress) as advance:
        advance(start)
        for step in range(start, training.steps):
            if done.stopped:
                break
            _set_rates(optimizer, rates, training.share(step))
            views = [view.to(place) for view in batches(step)]
            held = own if step < training.hold else []
            losses.append(_take_step(encoder, loss, optimizer, views, held))
            advance()
            if (step + 1) % training.check_every and step + 1 < training.steps:
                continue
            mean, losses = _mean_loss(losses, step), []
            figures = _measure_figures(measure, encoder, loss)
            done.history.append(Check(step + 1, mean, figures))
            done.stopped = _find_stop_reason(training, done.history)
            now = time.process_time()
            done.seconds, start_time = done.seconds + now - start_time, now
            if path is not None:
                _save(path, settings, done, encoder, loss, optimizer)
            advance(0, note=_note(training, mean, figures))
    return Trained(
        encoder.eval(), loss.eval(), done.history, done.stopped or "steps", round(done.seconds, 1)
    )


# ---------------------------------------------------------------- parts

_NO_CHECKPOINT = (
    "expected the checkpoint of a contrastive training; this file is damaged, or something else wrote "
    "it. Remove it to train anew, or take another file."
)


@dataclass
class _Progress:
    history: list[Check]
    stopped: str
    seconds: float


def _make_optimizer(
    encoder: torch.nn.Module, own: list[torch.nn.Parameter], training: Training
) -> torch.optim.Optimizer:
    """Return the optimizer of the encoder's and the loss's parameters, each with its rate."""
    from shiftproof.contrastive.optimizers import make_optimizer

    groups: list[dict[str, Any]] = [
        {"params": [p for p in encoder.parameters() if p.requires_grad], "lr": training.rate}
    ]
    if own:
        rate = training.rate if training.loss_rate is None else training.loss_rate
        groups.append({"params": own, "lr": rate, "weight_decay": 0.0})
    return make_optimizer(
        training.optimizer,
        groups,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
    )


def _set_rates(optimizer: torch.optim.Optimizer, rates: list[float], share: float) -> None:
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * share


def _take_step(
    encoder: torch.nn.Module,
    loss: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    views: list[torch.Tensor],
    held: list[torch.nn.Parameter],
) -> torch.Tensor:
    """Take one step with the parameters ``held`` frozen, and return its loss."""
    value: Any = loss(*_embed_views(encoder, views))
    optimizer.zero_grad()
    value.backward()
    for parameter in held:
        parameter.grad = None
    optimizer.step()
    detached: torch.Tensor = value.detach()
    return detached


def _mean_loss(losses: list[torch.Tensor], step: int) -> float:
    import torch

    mean = float(torch.stack(losses).double().mean())
    if not math.isfinite(mean):
        raise RunError(
            f"The loss is no longer finite by step {step + 1}; take a lower rate, and look at the "
            "views."
        )
    return mean


def _embed_views(encoder: torch.nn.Module, views: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Return the embeddings of both views, from one pass where they have the same shape."""
    import torch

    if views[0].shape != views[1].shape:
        return tuple(encoder(view) for view in views)
    both: torch.Tensor = encoder(torch.cat(views))
    return tuple(both.chunk(2))


def _measure_figures(
    measure: EncoderMeasure | None, encoder: torch.nn.Module, loss: torch.nn.Module
) -> Settings:
    import torch

    if measure is None:
        return {}
    encoder.eval()
    loss.eval()
    with torch.no_grad():
        figures = dict(measure(encoder, loss))
    encoder.train()
    loss.train()
    return figures


def _find_stop_reason(training: Training, history: list[Check]) -> str:
    if training.target is None and training.patience is None:
        return ""
    if training.watch not in history[-1].figures:
        raise InputError(
            f"watch: {training.watch!r} is not measured; measured are "
            f"{', '.join(history[-1].figures) or 'none'}."
        )
    scores = [float(check.figures[training.watch]) for check in history]
    if training.target is not None and scores[-1] >= training.target:
        return "target"
    best = scores.index(max(scores))
    if training.patience is not None and len(scores) - 1 - best >= training.patience:
        return "patience"
    return ""


def _note(training: Training, loss: float, figures: Settings) -> str:
    score = figures.get(training.watch)
    return f"loss {loss:.3f}" + (f", {training.watch} {score:.3f}" if score is not None else "")


def _save(
    path: Path,
    settings: Settings,
    done: _Progress,
    encoder: torch.nn.Module,
    loss: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> None:
    from shiftproof.contrastive.optimizers import collect_optimizer_state

    state = {f"encoder/{name}": tensor for name, tensor in encoder.state_dict().items()}
    state |= {f"loss/{name}": tensor for name, tensor in loss.state_dict().items()}
    state |= {
        f"optimizer/{name}": tensor for name, tensor in collect_optimizer_state(optimizer).items()
    }
    reached = {
        "history": [asdict(check) for check in done.history],
        "stopped": done.stopped,
        "seconds": done.seconds,
    }
    save_state(state, {**settings, "reached": reached}, path)


def _resume(
    path: Path,
    settings: Settings,
    encoder: torch.nn.Module,
    loss: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
) -> _Progress:
    """Restore encoder, loss and optimizer from the checkpoint, and return the progress so far."""
    from shiftproof.contrastive.optimizers import load_optimizer_state

    if not path.exists():
        return _Progress([], "", 0.0)
    try:
        there, state = read_state(path)
    except BrokenFileError as error:
        raise BrokenFileError(f"{path}: {_NO_CHECKPOINT}") from error
    if not isinstance(there, dict) or not {"training", "about", "reached"} <= set(there):
        raise BrokenFileError(f"{path}: {_NO_CHECKPOINT}")
    reached = there.pop("reached")
    if there != settings:
        raise RunMismatchError(
            f"{path} is of a training with other settings; resume with those, remove it, or give "
            "another file."
        )

    def part(name: str) -> dict[str, torch.Tensor]:
        return {key[len(name) :]: value for key, value in state.items() if key.startswith(name)}

    try:
        encoder.load_state_dict(part("encoder/"))
        loss.load_state_dict(part("loss/"))
    except RuntimeError as error:
        raise RunMismatchError(f"{path} is of another encoder or loss.") from error
    with convert_errors(path, "damaged, although its settings are those of this training"):
        load_optimizer_state(optimizer, part("optimizer/"))
        history = [Check(**check) for check in reached["history"]]
        return _Progress(history, str(reached["stopped"]), float(reached["seconds"]))
