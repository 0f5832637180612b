"""Let a run be interrupted at a certain batch."""

from shiftproof.metrics import classification


def interrupt_after(patch, batches):
    """Let the process be interrupted when classifiers have answered so many batches."""
    real, seen = classification.top_classes, []

    def answer(logits, k):
        seen.append(1)
        if len(seen) > batches:
            raise KeyboardInterrupt
        return real(logits, k)

    patch.setattr(classification, "top_classes", answer)
