"""Statistics of corrupted images, to compare two implementations."""

import numpy as np

SLACK = np.array([0.5] * 3 + [0.2] * 2 + [0.002] * 6)
"""A level less in flat areas is no other distribution: up to half a level of the mean."""


def measure_picture(result, image):
    """Return 11 statistics of a corrupted image ``(H, W, 3)`` relative to the clean image."""
    values, source = result.astype(np.float32), image.astype(np.float32)
    rest = values - values.mean(axis=(0, 1))
    centred = source - source.mean(axis=(0, 1))
    share = (rest * centred).mean() / (centred * centred).mean()
    steps, source_steps = np.diff(rest, axis=1), np.diff(centred, axis=1)
    fine_share = (steps * source_steps).mean() / (source_steps * source_steps).mean()
    rest = rest - share * centred
    return np.array(
        [
            *values.mean(axis=(0, 1)),
            values.std(),
            rest.std(),
            share,
            fine_share,
            (rest[1:] * rest[:-1]).mean() / rest.var(),
            (rest[:, 1:] * rest[:, :-1]).mean() / rest.var(),
            # In flat areas the last bit decides between two gray levels.
            (result >= 253).mean(),
            (result <= 2).mean(),
        ]
    )


def measure_distance(first, second):
    """Return the largest difference of mean statistics ``(draws, 11)``, in standard errors; 4.5 is large."""
    error = np.sqrt((first.var(axis=0) + second.var(axis=0)) / len(first)) + SLACK / 4.5
    return np.max(np.abs(first.mean(axis=0) - second.mean(axis=0)) / error)
