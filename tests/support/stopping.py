"""Interrupt a run at a certain batch."""

from shiftproof.metrics import classification


def interrupt_after(patch, batches):
    """Interrupt the process after classifiers have answered so many batches."""
    real, seen = classification.top_classes, []

    def answer(logits, k):
        seen.append(1)
        if len(seen) > batches:
            raise KeyboardInterrupt
        return real(logits, k)

    patch.setattr(classification, "top_classes", answer)
