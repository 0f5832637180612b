"""What methods that learn share: losses, steps, memories, augmentations, checks of a batch."""
