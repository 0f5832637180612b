"""Pickles of strangers: plain values come back as Python's own reader gives them, all else is refused."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.io.pickles import read_plain_pickle

PLAIN = OrderedDict(
    fog={1: {"bbox": OrderedDict(AP=np.float64(0.25), AP50=0.5)}, 2: [{"ap": np.float32(0.5)}]},
    more=[None, True, False, -7, 1 << 40, (), (1, 2), (1, 2, 3, 4), "é", {"n": np.int64(3)}],
)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_are_those_of_pythons_reader(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(PLAIN, protocol=protocol))
    assert read_plain_pickle(path) == pickle.loads(path.read_bytes())


def doubled(open_, close):
    """Forty levels, each of which is the one before twice, by the memory of the machine."""
    levels = b"".join(
        open_ + b"h" + bytes([level]) + b"h" + bytes([level]) + close + b"q" + bytes([level + 1])
        for level in range(40)
    )
    return b"]q\x00" + levels


BOMBS = {
    "lists of lists": b"\x80\x02" + doubled(b"(", b"l") + b".",
    "tuples as a key": b"\x80\x02}" + doubled(b"", b"\x86") + b"Ns.",
    "a list that holds itself": b"\x80\x02]q\x00h\x00a.",
    "a type of gigabytes": pickle.dumps(np.void(b"x")).replace(b"V1", b"V9"),
    "a type of gigabytes for nothing": b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
    b"X\x0b\x00\x00\x00S2000000000\x85RN\x86R.",
    "a name": pickle.dumps(np.arange(3)),
    "a text that is not there": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x00a.",
    "a number of many digits": b"I" + b"9" * 100_000 + b"\n.",
    "nothing": b"",
    "no end": b"\x80\x02N",
    "an empty stack": b"\x80\x02.",
    "no mark": b"\x80\x02Nt.",
    "above the bound": b"\x80\x02" + b"N0" * 1_000_001 + b"N.",
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_pickle_that_means_much_is_refused(tmp_path, kind):
    path = tmp_path / "a.pkl"
    path.write_bytes(BOMBS[kind])
    with pytest.raises(BrokenFileError, match=r"a\.pkl"):
        read_plain_pickle(path)


def test_a_high_place_in_memory_takes_no_room(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02Nr\xff\xff\xff\xff.")
    assert read_plain_pickle(path) is None
