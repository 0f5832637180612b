"""A Lightning callback that evaluates a small grid at the end of validation epochs.

>>> from lightning.pytorch import Trainer  # doctest: +SKIP
>>> callback = RobustnessCallback(EpochGrid(photographs, preprocess, classes))  # doctest: +SKIP
>>> Trainer(callbacks=[callback]).fit(module, loader, validation)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shiftproof.errors import MissingExtraError
from shiftproof.integrations.epochs import EpochGrid

if TYPE_CHECKING:
    import torch

try:
    from pytorch_lightning import Callback
except ImportError as error:
    raise MissingExtraError.of("pytorch-lightning", "lightning") from error

__all__ = ["EpochGrid", "RobustnessCallback"]


class RobustnessCallback(Callback):
    """Logs ``shift/mean``, ``shift/clean`` and each corruption's error through the module.

    ``ModelCheckpoint(monitor="shift/mean")`` then keeps the most robust epoch. With several
    processes rank 0 evaluates, and the others wait.
    """

    def __init__(self, grid: EpochGrid, network: torch.nn.Module | None = None) -> None:
        """Create the callback.

        Args:
            grid: the images, corruptions and severities.
            network: the network that returns logits; by default the Lightning module itself.
        """
        self.grid = grid
        self.network = network

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Evaluate the grid, and log the metrics."""
        epoch = int(trainer.current_epoch)
        if trainer.sanity_checking or not self.grid.is_due(epoch):
            return
        if trainer.is_global_zero:
            module = pl_module if self.network is None else self.network
            pl_module.log_dict(self.grid.measure(module, epoch), rank_zero_only=True)
        trainer.strategy.barrier("shiftproof")
