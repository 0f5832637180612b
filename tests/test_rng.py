"""Draws are a function of their key alone."""

import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest

from shiftproof.rng import generator


def draw(*key):
    return generator(*key).integers(0, 2**63, 4).tolist()


def test_the_stream_is_pcg64_seeded_with_the_digest_of_the_length_prefixed_key():
    # A change here changes every published number: see CHANGELOG, "Numbers".
    key = b"".join(
        length.to_bytes(8, "little") + part
        for length, part in [(1, b"0"), (3, b"fog"), (7, b"cat.jpg")]
    )
    seed = int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "little")
    expected = np.random.Generator(np.random.PCG64(seed)).integers(0, 2**63, 4).tolist()
    assert draw(0, "fog", "cat.jpg") == expected


def test_keys_that_differ_give_other_streams():
    keys = [
        (0,), (1,), (-1,), (10,), (0, ""), (0, "", ""), (0, "ab", "c"), (0, "a", "bc"), (0, "abc"),
        (0, "1"), (1, "0"), (0, "fog", "a"), (0, "a", "fog"), (0, "é"), (0, "e\u0301"),
        (0, "\udce9"),
    ]  # fmt: skip
    for one, other in itertools.combinations(keys, 2):
        assert draw(*one) != draw(*other), f"{one!r} and {other!r} share their draws"


def test_a_numpy_seed_is_its_number():
    assert draw(np.int64(7), "x") == draw(7, "x")


def test_another_process_draws_the_same():
    code = "from shiftproof.rng import generator; print(generator(3, 'snow', 'ä/1.png').random(3))"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"}, encoding="utf-8",
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert outputs == {f"{generator(3, 'snow', 'ä/1.png').random(3)}\n"}


def test_the_global_random_state_is_neither_read_nor_moved():
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    first = draw(0, "x")
    np.testing.assert_array_equal(np.random.random(3), expected)  # noqa: NPY002
    assert draw(0, "x") == first


def test_two_generators_of_one_key_do_not_share_a_state():
    one, other = generator(0, "x"), generator(0, "x")
    one.random(100)
    assert other.random() == generator(0, "x").random()


def test_draws_over_many_ids_are_uniform():
    draws = np.array([generator(0, "gaussian_noise", f"{n}.jpg").random() for n in range(4000)])
    # Kolmogorov-Smirnov by hand: 1.63 / sqrt(n) is the bound at 1 %.
    distance = np.abs(np.sort(draws) - (np.arange(4000) + 0.5) / 4000).max()
    assert distance < 1.63 / np.sqrt(4000)
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.05


@pytest.mark.parametrize("seed", ["x", None, [1]])
def test_a_seed_that_is_no_number_is_refused(seed):
    with pytest.raises((TypeError, ValueError)):
        generator(seed)
