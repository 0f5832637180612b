"""Flips and top-5 distances: against the published code's rule, and by hand."""

import numpy as np
import pytest

from shiftproof.errors import InputError
from shiftproof.metrics import flip_rate, flips, mean_flip_rate, top5_distances


def published_flips(videos, noise, step):
    """ImageNet-P/test.py of Hendrycks & Dietterich, as its loops have it."""
    step = 1 if noise else step
    results = []
    for predictions in videos:
        changed = []
        for start in range(step):
            before = predictions[start]
            for prediction in predictions[start::step][1:]:
                changed.append(before != prediction)
                if not noise:
                    before = prediction
        results.append(np.mean(changed))
    return np.array(results)


def published_distances(videos, noise, step):
    """The distance of that file, from whole rankings of ``(N, F, K)`` logits."""
    step = 1 if noise else step
    count = videos.shape[2]
    places = np.minimum(np.arange(count), 5)
    results = []
    for logits in videos:
        ranks = np.argsort(np.argsort(-logits, axis=1), axis=1)
        moved = []
        for start in range(step):
            first = np.argsort(ranks[start])
            for rank in ranks[start::step][1:]:
                moved.append(np.abs(places[:5] - places[rank[first]][:5]).sum())
                if not noise:
                    first = np.argsort(rank)
        results.append(np.mean(moved))
    return np.array(results)


@pytest.mark.parametrize(
    ("noise", "step"), [(True, 1), (True, 3), (False, 1), (False, 2), (False, 3)]
)
def test_figures_are_those_of_the_published_rule(noise, step):
    logits = np.random.default_rng(0).normal(size=(6, 31, 12))
    logits = np.cumsum(logits, axis=1)
    best = np.argsort(-logits, axis=2)[:, :, :5]
    predictions = best[:, :, 0]
    assert flips(predictions, is_noise=noise, step=step) == pytest.approx(
        published_flips(predictions, noise, step)
    )
    assert top5_distances(best, is_noise=noise, step=step) == pytest.approx(
        published_distances(logits, noise, step)
    )


def test_five_new_classes_have_the_largest_distance():
    """All five of 0..4 go to the sixth place: 5 + 4 + 3 + 2 + 1."""
    assert top5_distances([[[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]]) == pytest.approx([15.0])


def test_rates_are_means_of_ratios():
    assert flip_rate(0.1, 0.4) == pytest.approx(0.25)
    assert mean_flip_rate({"snow": 0.1, "tilt": 0.3}, {"snow": 0.4, "tilt": 0.3}) == pytest.approx(
        0.625
    )
    with pytest.raises(InputError, match="no figure for tilt"):
        mean_flip_rate({"tilt": 0.3}, {"snow": 0.4})
    with pytest.raises(InputError, match="above 0"):
        flip_rate(0.1, 0.0)


@pytest.mark.parametrize("shape", [(3,), (3, 1), (2, 2, 5)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="Expected"):
        flips(np.zeros(shape, int))


def test_a_frame_without_a_prediction_differs_from_every_other():
    # Of three frames the middle two give NaN: both steps to and between them are flips.
    assert flips([[4, -1, -1, 4]]).tolist() == [1.0]
    assert flips([[-1, 4, 4]], is_noise=True).tolist() == [1.0]
    best, none = [0, 1, 2, 3, 4], [-1] * 5
    # As for five other classes: they move from the ranks 1 to 5 to the sixth, by 5 + 4 + 3 + 2 + 1.
    assert top5_distances([[best, none], [none, none], [none, best]]).tolist() == [15.0] * 3
    assert top5_distances([[best, [5, 6, 7, 8, 9]]]).tolist() == [15.0]
