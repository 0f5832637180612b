"""Random words from a counter, and draws made of them."""

from __future__ import annotations

import numpy as np

from shiftproof.compute.compiled import compile_inner, compiled
from shiftproof.types import F32, I32, U16, U32

BLOCK = 2048
"""Values processed at a time, so that intermediate results stay in the cache."""


@compile_inner
def mix_word(counter: int, key: np.uint32, second_key: np.uint32) -> np.uint32:
    """Return 32 random bits for a counter and two keys.

    A multiply-xorshift mixer (constants: C. Wellons, "lowbias32", and Weyl's golden ratio), with
    the second key between its rounds, so that the words of two keys are not permutations of each other.
    Every step is in 32 bits, which the vector unit can multiply.
    """
    x = np.uint32(np.uint32(counter) ^ key)
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x + second_key)
    x = np.uint32(x ^ (x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    x = np.uint32(x ^ (x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x9E3779B1))
    mixed: np.uint32 = np.uint32(x ^ (x >> np.uint32(15)))
    return mixed


def allocate_words() -> tuple[U32, U16]:
    """Allocate ``BLOCK`` random numbers of 16 bits: as words, and as halves of words.

    Loops get the memory that they write to as arguments: allocating it inside would take longer to
    compile than many of the loops.
    """
    words = np.empty(BLOCK // 2, np.uint32)
    return words, words.view(np.uint16)


@compiled
def draw_from_table(
    key: np.uint32, second_key: np.uint32, words: U32, halves: U16, table: F32, out: F32
) -> None:
    """Fill ``out`` with random entries of a table.

    Args:
        key: of the random words.
        second_key: see ``key``.
        words: scratch, see ``allocate_words``.
        halves: see ``words``.
        table: ``(65536,)``, equally likely entries.
        out: ``(n,)``, written.
    """
    size = out.shape[0]
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range((length + 1) // 2):
            words[j] = mix_word(start // 2 + j, key, second_key)
        part = out[start : start + length]
        for j in range(length):
            part[j] = table[halves[j]]


@compiled
def draw_offsets(
    key: np.uint32,
    second_key: np.uint32,
    words: U32,
    halves: U16,
    delta: int,
    width: int,
    out: I32,
) -> None:
    """Fill ``out`` with ``dy * width + dx``, dx and dy whole and random in ``[-delta, delta)``.

    Args:
        key: of the random words.
        second_key: see ``key``.
        words: scratch, see ``allocate_words``.
        halves: see ``words``.
        delta: see above.
        width: see above.
        out: ``(n,)``, written.
    """
    size = out.shape[0]
    span, reach, line = np.uint32(2 * delta), np.int32(delta), np.int32(width)
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range((length + 1) // 2):
            words[j] = mix_word(start // 2 + j, key, second_key)
        part = out[start : start + length]
        for j in range(length):
            # The 16 bits as a fraction, of which two digits to the base ``span`` are read.
            first = np.uint32(np.uint32(halves[j]) * span)
            second = np.uint32((first & np.uint32(0xFFFF)) * span)
            dx = np.int32(first >> np.uint32(16)) - reach
            dy = np.int32(second >> np.uint32(16)) - reach
            part[j] = np.int32(dy * line + dx)
