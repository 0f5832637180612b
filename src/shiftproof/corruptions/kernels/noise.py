"""The inner loops of the noises."""

from __future__ import annotations

import numpy as np

from shiftproof.compute.compiled import compiled
from shiftproof.corruptions.kernels.random_words import BLOCK, mix_word
from shiftproof.types import I16, U8, U16, U32, U64


@compiled
def add_noise(
    image: U8,
    table: U8,
    key: np.uint32,
    second_key: np.uint32,
    words: U32,
    halves: U16,
    noise: U8,
    out: U8,
) -> None:
    """Add symmetric integer noise.

    Args:
        image: ``(n,)``.
        table: ``(32768,)`` equally likely values of ``floor(|noise|)``; a separate bit is the sign,
            and floor(-a) is the complement of floor(a).
        key: of the random words.
        second_key: see ``key``.
        words: scratch, see ``allocate_words``.
        halves: see ``words``.
        noise: ``(BLOCK,)``, scratch.
        out: ``(n,)``, written.
    """
    size = image.shape[0]
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range((length + 1) // 2):
            words[j] = mix_word(start // 2 + j, key, second_key)
        for j in range(length):
            noise[j] = table[halves[j] >> 1]
        source, result = image[start : start + length], out[start : start + length]
        for j in range(length):
            sign = -np.int16(halves[j] & np.uint16(1))
            value = np.int16(np.int16(source[j]) + (np.int16(noise[j]) ^ sign))
            result[j] = np.uint8(min(max(value, np.int16(0)), np.int16(255)))


@compiled
def scale_by_noise(
    image: U8,
    table: I16,
    key: np.uint32,
    second_key: np.uint32,
    words: U32,
    halves: U16,
    noise: I16,
    out: U8,
) -> None:
    """Add symmetric noise in proportion to the value.

    Args:
        image: ``(n,)``.
        table: ``(32768,)`` equally likely values of ``|noise|`` in units of 1/8192.
        key: of the random words.
        second_key: see ``key``.
        words: scratch, see ``allocate_words``.
        halves: see ``words``.
        noise: ``(BLOCK,)``, scratch.
        out: ``(n,)``, written.
    """
    size = image.shape[0]
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range((length + 1) // 2):
            words[j] = mix_word(start // 2 + j, key, second_key)
        for j in range(length):
            noise[j] = table[halves[j] >> 1]
        source, result = image[start : start + length], out[start : start + length]
        for j in range(length):
            sign = -np.int32(halves[j] & np.uint16(1))
            factor = np.int32(8192) + ((np.int32(noise[j]) ^ sign) - sign)
            value = np.int32(np.int32(source[j]) * factor) >> 13
            result[j] = np.uint8(min(max(value, np.int32(0)), np.int32(255)))


@compiled
def draw_from_alias_tables(
    image: U8, table: U64, key: np.uint32, second_key: np.uint32, words: U32, out: U8
) -> None:
    """Replace every value by a draw from its distribution.

    Args:
        image: ``(n,)``.
        table: ``(256, 2 ** n)``, an alias table per gray level: a word's upper n bits choose the
            entry; the draw is its bits 0 to 7 if the word's other bits are below the entry's upper 32,
            else its bits 8 to 15.
        key: of the random words.
        second_key: see ``key``.
        words: ``(BLOCK,)``, scratch.
        out: ``(n,)``, written.
    """
    size = image.shape[0]
    shift, lower = np.uint32(32), np.uint32(2**32 // table.shape[1] - 1)
    while np.uint32(lower >> (shift - np.uint32(1))) == 0:
        shift = np.uint32(shift - np.uint32(1))
    for start in range(0, size, BLOCK):
        length = min(BLOCK, size - start)
        for j in range(length):
            words[j] = mix_word(start + j, key, second_key)
        source, result = image[start : start + length], out[start : start + length]
        for j in range(length):
            word = words[j]
            entry = table[source[j], word >> shift]
            if (word & lower) < (entry >> np.uint64(32)):
                result[j] = np.uint8(entry)
            else:
                result[j] = np.uint8(entry >> np.uint64(8))


@compiled
def add_salt_and_pepper(
    image: U8,
    black: np.uint16,
    changed: np.uint16,
    key: np.uint32,
    second_key: np.uint32,
    out: U8,
) -> None:
    """Turn values black where their 16 random bits are below ``black``, else white below ``changed``."""
    size = image.shape[0]
    half = (size + 1) // 2
    first, first_out = image[:half], out[:half]
    second, second_out = image[half:], out[half:]
    # The lower halves of the words serve the first half of the image, the upper the second.
    for i in range(half):
        word = np.uint16(mix_word(i, key, second_key))
        keep = np.uint8(np.uint8(word < changed) - np.uint8(1))
        white = np.uint8(np.uint8(word < black) - np.uint8(1))
        first_out[i] = np.uint8(first[i] & keep) | np.uint8(white & ~keep)
    for i in range(size - half):
        word = np.uint16(mix_word(i, key, second_key) >> np.uint32(16))
        keep = np.uint8(np.uint8(word < changed) - np.uint8(1))
        white = np.uint8(np.uint8(word < black) - np.uint8(1))
        second_out[i] = np.uint8(second[i] & keep) | np.uint8(white & ~keep)
