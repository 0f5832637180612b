"""CE, mCE, their relatives, mPC and rPC: identities, hand calculations, published numbers."""

import numpy as np
import pytest

from shiftproof.corruptions import COMMON, HOLDOUT
from shiftproof.errors import InputError, UnknownNameError
from shiftproof.metrics import (
    ALEXNET_CLEAN_ERROR,
    ALEXNET_ERROR,
    corruption_error,
    mean_corruption_error,
    mean_performance_by_group,
    mean_performance_under_corruption,
    relative_corruption_error,
    relative_mean_corruption_error,
    relative_performance_under_corruption,
)
from shiftproof.metrics.corruption import (
    compute_mce_weights,
    corruption_errors,
    relative_corruption_errors,
)

# CE of ResNet-50 in per cent as printed in table 1 of Hendrycks & Dietterich 2019, and its mCE there.
RESNET50 = {
    "gaussian_noise": 80, "shot_noise": 82, "impulse_noise": 83, "defocus_blur": 75,
    "glass_blur": 89, "motion_blur": 78, "zoom_blur": 80, "snow": 78, "frost": 75, "fog": 66,
    "brightness": 57, "contrast": 71, "elastic_transform": 85, "pixelate": 77,
    "jpeg_compression": 77,
}  # fmt: skip
RESNET50_MCE = 76.7

# AlexNet's mean errors in per cent as the authors' repository has them.
ALEXNET = {
    "gaussian_noise": 88.6428, "shot_noise": 89.4468, "impulse_noise": 92.2640,
    "defocus_blur": 81.9880, "glass_blur": 82.6268, "motion_blur": 78.5948, "zoom_blur": 79.8360,
    "snow": 86.6816, "frost": 82.6572, "fog": 81.9324, "brightness": 56.4592,
    "contrast": 85.3204, "elastic_transform": 64.6056, "pixelate": 71.7840,
    "jpeg_compression": 60.6500, "speckle_noise": 84.5388, "saturate": 65.8248,
    "gaussian_blur": 78.7108, "spatter": 71.7512,
}  # fmt: skip


def flat(value):
    return {name: [value] * 5 for name in COMMON}


def grid(value):
    return {name: dict.fromkeys(range(1, 6), value) for name in COMMON}


def test_errors_of_alexnet_are_the_published_ones():
    assert set(ALEXNET_ERROR) == {*COMMON, *HOLDOUT}
    for name, percent in ALEXNET.items():
        assert ALEXNET_ERROR[name] == pytest.approx(percent / 100, abs=1e-12)


def test_alexnet_has_an_mce_of_one():
    errors = {
        # Any five errors with the published mean, in any order of the names.
        name: [mean - 0.02, mean - 0.01, mean, mean + 0.01, mean + 0.02]
        for name, mean in sorted(ALEXNET_ERROR.items())
        if name in COMMON
    }
    assert mean_corruption_error(errors) == pytest.approx(1)
    assert relative_mean_corruption_error(errors, ALEXNET_CLEAN_ERROR) == pytest.approx(1)


def test_resnet50_has_the_published_mce():
    errors = {name: [ce / 100 * ALEXNET[name] / 100] * 5 for name, ce in RESNET50.items()}
    # The printed CEs are rounded to whole per cents, the printed mCE was taken before.
    assert 100 * mean_corruption_error(errors) == pytest.approx(RESNET50_MCE, abs=0.5)
    for name, ce in RESNET50.items():
        assert 100 * corruption_error(name, errors[name]) == pytest.approx(ce)


def test_ce_by_hand():
    # (0.5 + 0.6 + 0.7 + 0.8 + 0.9) / (5 * 0.886428) = 3.5 / 4.43214
    assert corruption_error("gaussian_noise", [0.5, 0.6, 0.7, 0.8, 0.9]) == pytest.approx(
        0.789686246, abs=1e-9
    )


def test_relative_ce_by_hand():
    # (3.5 - 5 * 0.24) / (5 * (0.886428 - 0.4348)) = 2.3 / 2.25814
    errors = [0.5, 0.6, 0.7, 0.8, 0.9]
    assert relative_corruption_error("gaussian_noise", errors, 0.24) == pytest.approx(
        1.018537380, abs=1e-9
    )


def test_relative_ce_is_below_zero_where_corruption_helps():
    assert relative_corruption_error("fog", [0.1] * 5, 0.2) < 0


def test_a_hold_out_corruption_has_a_ce_of_its_own():
    assert corruption_error("spatter", [0.717512] * 5) == pytest.approx(1)


def test_the_mean_is_over_corruptions_not_over_errors():
    errors = flat(0.0) | {"brightness": [0.564592] * 5}
    assert mean_corruption_error(errors) == pytest.approx(1 / 15)


def test_mpc_and_rpc_by_hand():
    table = grid(0.3) | {"fog": {1: 0.9, 2: 0.8, 3: 0.7, 4: 0.6, 5: 0.5}}
    expected = (14 * 0.3 + 0.7) / 15
    assert mean_performance_under_corruption(table) == pytest.approx(expected)
    assert relative_performance_under_corruption(table, 0.8) == pytest.approx(expected / 0.8)


def test_rpc_of_the_same_everywhere_is_one():
    assert relative_performance_under_corruption(grid(0.42), 0.42) == pytest.approx(1)


def test_arrays_give_the_same_as_single_tables():
    rng = np.random.default_rng(3)
    errors, clean = rng.random((7, 2, 15, 5)), rng.random((7, 2))
    names = sorted(COMMON)  # another order than the table's: it goes by name
    ce = corruption_errors(errors, names)
    relative = relative_corruption_errors(errors, clean, names)
    assert ce.shape == relative.shape == (7, 2, 15)
    table = {name: list(errors[4, 1, place]) for place, name in enumerate(names)}
    assert mean_corruption_error(table) == pytest.approx(ce[4, 1].mean())
    assert relative_mean_corruption_error(table, clean[4, 1]) == pytest.approx(
        relative[4, 1].mean()
    )


@pytest.mark.parametrize("shape", [(15, 4), (14, 5), (5,), (15, 1), (2, 1, 5)])
def test_arrays_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match=r"shape \(\.\.\., 15, 5\)"):
        corruption_errors(np.zeros(shape), COMMON)
    with pytest.raises(InputError, match=r"shape \(\.\.\., 15, 5\)"):
        relative_corruption_errors(np.zeros(shape), 0.1, COMMON)


MEANS = [
    lambda errors: mean_corruption_error(errors),
    lambda errors: relative_mean_corruption_error(errors, 0.2),
    lambda errors: mean_performance_under_corruption(
        {name: dict(zip(range(1, 6), row, strict=True)) for name, row in errors.items()}
    ),
    lambda errors: relative_performance_under_corruption(
        {name: dict(zip(range(1, 6), row, strict=True)) for name, row in errors.items()}, 0.2
    ),
]


@pytest.mark.parametrize("mean", MEANS)
def test_a_partial_table_is_refused_and_says_what_is_missing(mean):
    errors = flat(0.5)
    del errors["fog"], errors["snow"]
    with pytest.raises(InputError, match=r"2 are missing: snow, fog"):
        mean(errors)


@pytest.mark.parametrize("mean", MEANS)
def test_a_hold_out_corruption_never_enters_a_mean(mean):
    with pytest.raises(InputError, match="spatter is a hold-out corruption"):
        mean(flat(0.5) | {"spatter": [0.5] * 5})


@pytest.mark.parametrize("mean", MEANS)
def test_an_unknown_name_gets_the_nearest(mean):
    errors = flat(0.5)
    errors["gausian_noise"] = errors.pop("gaussian_noise")
    with pytest.raises(UnknownNameError, match="Did you mean 'gaussian_noise'"):
        mean(errors)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("value", [50.0, 1.0001, -0.1, float("nan"), float("inf"), None, "half"])
def test_a_value_that_is_not_a_fraction_is_refused(mean, value):
    errors = flat(0.5)
    errors["fog"][2] = value
    with pytest.raises(InputError, match="fog, severity 3: expected a value in fractions, not per"):
        mean(errors)


@pytest.mark.parametrize("clean", [24.0, -0.1, float("nan")])
def test_a_clean_value_that_is_not_a_fraction_is_refused(clean):
    for refuses in (
        lambda: relative_corruption_error("fog", [0.1] * 5, clean),
        lambda: relative_mean_corruption_error(flat(0.5), clean),
        lambda: relative_performance_under_corruption(grid(0.5), clean),
    ):
        with pytest.raises(InputError, match="clean: expected a value in fractions"):
            refuses()


def test_rpc_needs_something_right_on_clean_images():
    with pytest.raises(InputError, match="above 0"):
        relative_performance_under_corruption(grid(0.5), 0)


@pytest.mark.parametrize("errors", [[0.5] * 4, [0.5] * 6, [], 0.5, "12345", {1: 0.5}, [[0.5] * 5]])
def test_other_than_five_errors_are_refused(errors):
    with pytest.raises(InputError, match="expected five errors"):
        corruption_error("fog", errors)


@pytest.mark.parametrize("row", [{1: 0.5}, dict.fromkeys(range(6), 0.5), [0.5] * 5, {"1": 0.5}])
def test_mpc_of_other_than_five_severities_is_refused(row):
    with pytest.raises(InputError, match="fog: expected one value for each severity from 1 to 5"):
        mean_performance_under_corruption(grid(0.5) | {"fog": row})


def test_numpy_values_are_accepted():
    assert corruption_error("fog", np.full(5, 0.819324, np.float64)) == pytest.approx(1)


# Michaelis et al. 2019: P, mPC, rPC and the means of the groups, in per cent; None is not printed.
DETECTORS = {
    "COCO standard": (36.3, 18.2, 50.2, (16.0, 12.9, 25.5, 17.9)),
    "COCO combined": (34.6, 20.4, 58.9, (18.8, 14.8, 26.1, 21.4)),
    "COCO stylised": (21.5, 14.1, 65.6, None),
    "Pascal standard": (80.5, 48.6, 60.4, None),
    "Pascal stylised": (68.0, 50.0, 73.5, None),
    "Pascal combined": (80.4, 56.2, 69.9, None),
    "Cityscapes standard": (36.4, 12.2, 33.4, None),
    "Cityscapes combined": (36.3, 17.2, 47.4, None),
}


@pytest.mark.parametrize("name", DETECTORS)
def test_published_detectors_have_consistent_mpc_and_rpc(name):
    clean, mpc, rpc, groups = DETECTORS[name]
    names = ("noise", "blur", "weather", "digital")
    means = dict(zip(names, groups or [mpc] * 4, strict=True))
    table = {
        # Any five severities with the group's mean.
        corruption: {s: (means[family(corruption)] + 2 * (s - 3)) / 100 for s in (5, 1, 3, 2, 4)}
        for corruption in reversed(COMMON)
    }
    actual = mean_performance_by_group(table)
    assert list(actual) == list(names)
    assert actual == pytest.approx({group: mean / 100 for group, mean in means.items()})
    # Printed to one decimal: mPC is a mean of rounded means, rPC a quotient of two rounded ones.
    assert mean_performance_under_corruption(table) == pytest.approx(mpc / 100, abs=0.0006)
    ratio = relative_performance_under_corruption(table, clean / 100)
    assert ratio == pytest.approx(rpc / 100, abs=0.004)


def family(name):
    """The groups of the paper's figure 2."""
    if name.endswith("noise"):
        return "noise"
    if name.endswith("blur"):
        return "blur"
    return "weather" if name in {"snow", "frost", "fog", "brightness"} else "digital"


def test_missing_cells_are_named_and_nothing_is_claimed():
    table = grid(0.5)
    del table["fog"][2], table["snow"][5]
    for measure in (mean_performance_under_corruption, mean_performance_by_group):
        with pytest.raises(InputError, match="of the 75 cells 2 are missing: snow-5, fog-2"):
            measure(table)
    table = grid(0.5)
    table["fog"][3] = float("nan")  # what the twelve numbers have where there is no object
    with pytest.raises(InputError, match="fog, severity 3: expected a value in fractions"):
        mean_performance_under_corruption(table)


def test_the_clean_cell_is_not_a_severity():
    # As in the pickles of mmdetection, which repeat it under every corruption.
    table = {name: {0: 0.9, **row} for name, row in grid(0.5).items()}
    with pytest.raises(InputError, match="The clean cell is not a severity"):
        mean_performance_under_corruption(table)


def test_weights_sum_the_errors_of_cells_to_mce():
    names = [name for name in COMMON for _ in range(5)]
    alexnet = np.array([ALEXNET_ERROR[name] for name in names])
    assert compute_mce_weights(names) @ alexnet == pytest.approx(1)
    # Of one corruption alone: five errors of a half are 0.5 over AlexNet's mean error.
    assert compute_mce_weights(["fog"] * 5).sum() / 2 == pytest.approx(0.5 / ALEXNET_ERROR["fog"])
