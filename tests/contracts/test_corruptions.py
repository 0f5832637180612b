"""Every corruption and variant of the table keeps the contract; broken ones are found out."""

import random
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest

from shiftproof.corruptions import CORRUPTIONS, textures
from shiftproof.corruptions.names import CorruptionName
from shiftproof.errors import InputError
from shiftproof.testing import check_corruption

EVERY = [(name, variant) for name in CORRUPTIONS for variant in (None, *CORRUPTIONS[name].variants)]


@pytest.mark.parametrize(
    ("name", "variant"), EVERY, ids=[f"{n}-{v or 'published'}" for n, v in EVERY]
)
def test_contract(name, variant):
    if variant == "photographs":
        try:
            textures.read_installed_photographs()
        except InputError as error:
            pytest.skip(str(error))
    check_corruption(name, variant=variant)


def test_the_type_of_names_has_those_of_the_table():
    assert get_args(CorruptionName) == tuple(CORRUPTIONS), (
        "CorruptionName in corruptions/names.py: expected the names of the table, in its order"
    )


def writes_into_its_input(image, severity, rng):
    image[..., 0] = 0
    return image.copy()


def returns_its_input(image, severity, rng):
    return image


def reads_global_state(image, severity, rng):
    return image + np.uint8(np.random.randint(50))  # noqa: NPY002


def moves_python_state(image, severity, rng):
    random.random()
    return 255 - image


def returns_floats(image, severity, rng):
    return image / 255


def drops_the_grey_axis(image, severity, rng):
    return np.atleast_3d(image).copy()


def depends_on_calls_before(image, severity, rng, calls=[0]):  # noqa: B006
    calls[0] += 1
    return image + np.uint8(calls[0] % 7)


@pytest.mark.parametrize(
    "broken",
    [
        writes_into_its_input,
        returns_its_input,
        reads_global_state,
        moves_python_state,
        returns_floats,
        drops_the_grey_axis,
        depends_on_calls_before,
    ],
)
def test_a_broken_corruption_is_found_out(broken):
    with pytest.raises((AssertionError, ValueError)):
        check_corruption(broken)


def test_a_wrong_entry_of_the_table_is_found_out(monkeypatch):
    import dataclasses

    wrong = dataclasses.replace(CORRUPTIONS["contrast"], is_random=True)
    monkeypatch.setitem(CORRUPTIONS, "contrast", wrong)
    with pytest.raises(AssertionError, match="is_random=True"):
        check_corruption("contrast")


def test_a_check_starts_no_threads_of_numba():
    """They would change the number of threads of OpenMP, which is also torch's."""
    code = (
        "import numba\n"
        "from shiftproof.testing import check_corruption\n"
        "check_corruption('gaussian_noise')\n"
        "numba.threading_layer()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ValueError: Threading layer is not initialized" in done.stderr
