"""The corruptions on batches of torch tensors, on the device where they are."""

from shiftproof.corruptions.torch.table import corrupt_tensor

__all__ = ["corrupt_tensor"]
