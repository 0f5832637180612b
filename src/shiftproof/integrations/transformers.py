"""A callback of Hugging Face's ``Trainer`` that evaluates a small grid at the end of epochs.

>>> trainer = Trainer(model, arguments, train_dataset=images)  # doctest: +SKIP
>>> trainer.add_callback(RobustnessCallback(trainer, grid))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from shiftproof.errors import MissingExtraError
from shiftproof.integrations.epochs import EpochGrid

try:
    from transformers import TrainerCallback
except ImportError as error:
    raise MissingExtraError.of("transformers", "trainer") from error

__all__ = ["EpochGrid", "RobustnessCallback"]


class RobustnessCallback(TrainerCallback):
    """Logs ``shift/mean``, ``shift/clean`` and each corruption's error with the trainer's loggers.

    If the trainer evaluates at the end of epochs, they are also in its metrics, as
    ``eval_shift/mean``, so that ``metric_for_best_model="eval_shift/mean"`` selects the most robust
    epoch. An evaluation at another time has none: the weights are others by then.
    """

    def __init__(self, trainer: Any, grid: EpochGrid) -> None:
        """Create the callback for a trainer and a grid."""
        self.trainer = trainer
        self.grid = grid
        self.figures: dict[str, float] = {}

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate the grid, and log the metrics."""
        epoch = max(0, round(state.epoch or 0) - 1)
        if state.is_world_process_zero and self.grid.is_due(epoch):
            self.figures = self.grid.measure(kwargs["model"], epoch)
            self.trainer.log(dict(self.figures))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget the metrics, which are those of the weights before this step."""
        self.figures = {}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget the metrics: the trainer may have loaded the weights of another epoch."""
        self.figures = {}

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Add the metrics of this epoch to those by which the trainer selects the best model."""
        kwargs["metrics"].update({f"eval_{name}": value for name, value in self.figures.items()})
