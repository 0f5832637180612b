"""A dataset of letters with many classes, rendered from fonts of Debian packages."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageFont

from shiftproof import Classes
from shiftproof.errors import InputError
from shiftproof.rng import generator
from shiftproof.types import Image, Images

Part: TypeAlias = Literal["train", "test"]
Mask: TypeAlias = NDArray[np.uint8]
"""``(H, W)`` uint8 in 0..255: coverage of each pixel, cropped to the letter."""

LETTERS: dict[str, str] = {
    "digit": "0123456789",
    "latin": "ABCDEGHIJKLMNOPQRSTUVWXYZabcdefghijkmnopqrstuwyz",
    "greek": "ΓΔΞΣΦΨΩαβγδεζηθικλμνξπστυφχψω",
    "cyrillic": "ДЖЙЛУЦЧШЩЪЫЬЭЮЯбвгджзийклмтфчшъыэюя",
    "armenian": "ԲԳԴԵԶԷԸԹԺԻԽԾԿՀՁՂՃՄՅՆՇՈՉՊՎՐՒՔՖաբեզէըթժիլխծկձճմյնշչպջռվտւփքֆ",
    "georgian": "აბგდეზთიკლმნოპჟრსტუფქყშჩცჭხჯჰ",
    "hebrew": "אבגדהזטיךלםמנעףפץצקרשת",
    "hiragana": "あいうえおかきくけこさしすせそたちつてとなにぬねの"
    "はひふへほまみむめもやゆよらりるれろわをん",
}
"""The classes by script, without letters that look like an earlier one, such as Greek Alpha: see
:func:`find_lookalikes`.
"""

_EUROPEAN = ("digit", "latin", "greek", "cyrillic")
_WITH_CAUCASUS = (*_EUROPEAN, "armenian", "georgian")
_ALL_BUT_KANA = (*_WITH_CAUCASUS, "hebrew")


class Font(NamedTuple):
    """A font: its file, its Debian package, the scripts rendered with it, and the part."""

    file: str
    package: str
    scripts: tuple[str, ...]
    part: Part


FONTS: tuple[Font, ...] = (
    Font("DejaVuSans.ttf", "fonts-dejavu-core", _ALL_BUT_KANA, "train"),
    Font("DejaVuSans-Bold.ttf", "fonts-dejavu-core", _ALL_BUT_KANA, "train"),
    Font("DejaVuSansMono.ttf", "fonts-dejavu-core", _WITH_CAUCASUS, "train"),
    Font("DejaVuSerif.ttf", "fonts-dejavu-core", _WITH_CAUCASUS, "train"),
    Font("DejaVuSerif-Bold.ttf", "fonts-dejavu-core", _WITH_CAUCASUS, "train"),
    Font("DejaVuSans-Oblique.ttf", "fonts-dejavu-extra", _ALL_BUT_KANA, "train"),
    Font("DejaVuSerif-Italic.ttf", "fonts-dejavu-extra", _WITH_CAUCASUS, "train"),
    Font("FreeSans.ttf", "fonts-freefont-ttf", _ALL_BUT_KANA, "train"),
    Font("FreeSansBold.ttf", "fonts-freefont-ttf", _ALL_BUT_KANA, "train"),
    Font("FreeSerif.ttf", "fonts-freefont-ttf", _ALL_BUT_KANA, "train"),
    Font("FreeSerifBold.ttf", "fonts-freefont-ttf", _ALL_BUT_KANA, "train"),
    Font("FreeSerifItalic.ttf", "fonts-freefont-ttf", _ALL_BUT_KANA, "train"),
    Font("FreeMono.ttf", "fonts-freefont-ttf", _ALL_BUT_KANA, "train"),
    Font("LiberationSans-Regular.ttf", "fonts-liberation", _EUROPEAN, "train"),
    Font("LiberationSerif-Regular.ttf", "fonts-liberation", _EUROPEAN, "train"),
    Font("LiberationMono-Regular.ttf", "fonts-liberation", _EUROPEAN, "train"),
    Font("Roboto-Regular.ttf", "fonts-roboto-unhinted", _EUROPEAN, "train"),
    Font("Roboto-Bold.ttf", "fonts-roboto-unhinted", _EUROPEAN, "train"),
    Font("ipag.ttf", "fonts-ipafont-gothic", ("hiragana",), "train"),
    Font("ipam.ttf", "fonts-ipafont-mincho", ("hiragana",), "train"),
    Font("DroidSansFallbackFull.ttf", "fonts-droid-fallback", ("hiragana",), "train"),
    Font("NotoSans-Regular.ttf", "fonts-noto-core", _EUROPEAN, "test"),
    Font("NotoSans-Bold.ttf", "fonts-noto-core", _EUROPEAN, "test"),
    Font("NotoSerif-Regular.ttf", "fonts-noto-core", _EUROPEAN, "test"),
    Font("NotoSerif-Italic.ttf", "fonts-noto-core", _EUROPEAN, "test"),
    Font("NotoSansArmenian-Regular.ttf", "fonts-noto-core", ("armenian",), "test"),
    Font("NotoSansArmenian-Bold.ttf", "fonts-noto-core", ("armenian",), "test"),
    Font("NotoSerifArmenian-Regular.ttf", "fonts-noto-core", ("armenian",), "test"),
    Font("NotoSansGeorgian-Regular.ttf", "fonts-noto-core", ("georgian",), "test"),
    Font("NotoSansGeorgian-Bold.ttf", "fonts-noto-core", ("georgian",), "test"),
    Font("NotoSerifGeorgian-Regular.ttf", "fonts-noto-core", ("georgian",), "test"),
    Font("NotoSansHebrew-Regular.ttf", "fonts-noto-core", ("hebrew",), "test"),
    Font("NotoSansHebrew-Bold.ttf", "fonts-noto-core", ("hebrew",), "test"),
    Font("NotoSerifHebrew-Regular.ttf", "fonts-noto-core", ("hebrew",), "test"),
    Font("LinLibertine_R.otf", "fonts-linuxlibertine", (*_EUROPEAN, "hebrew"), "test"),
    Font("OpenSans-Regular.ttf", "fonts-open-sans", _EUROPEAN, "test"),
    Font("VL-Gothic-Regular.ttf", "fonts-vlgothic", ("hiragana",), "test"),
    Font("VL-PGothic-Regular.ttf", "fonts-vlgothic", ("hiragana",), "test"),
)
"""No font family is in both parts, so the test letters have unseen shapes."""

FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
"""Folders that are searched recursively for fonts."""

SIDE = 32
"""Height and width of the images in pixels."""

FONT_SIZE = 64
"""Size in points at which a letter is rendered before it is scaled."""

SIZES = (19.0, 27.0)
"""Range of the longer side of a letter in pixels, the same for all classes."""

MAX_ROTATION = 6.0
"""Maximum rotation of a letter in degrees, in either direction."""

MAX_SHIFT = 2
"""Maximum shift of a letter from the center in pixels, along each axis."""

MIN_CONTRAST = 90.0
"""Minimum difference in luminosity of letter and background, of 255."""

MAX_LOOKALIKE_DIFFERENCE = 0.2
"""Two letters of a font look the same if they differ in less than this share of their pixels."""


def _get_unicode_name(letter: str) -> str:
    return unicodedata.name(letter).lower()


def _list_letters() -> list[tuple[str, str]]:
    """Return each letter and its script, in the order of the classes."""
    return [(letter, script) for script, letters in LETTERS.items() for letter in letters]


CLASSES = Classes(tuple(_get_unicode_name(letter) for letter, _ in _list_letters()), title="glyphs")
"""The classes: the letters' names in Unicode, such as "greek small letter alpha"."""


@dataclass(frozen=True, eq=False)
class Glyphs:
    """Colored images ``(N, 32, 32, 3)`` uint8 in 0..255, and labels ``(N,)`` int64 of ``CLASSES``.

    The first image of each class come first, then the second ones, so that any prefix is balanced.
    """

    train_images: Images
    train_labels: NDArray[np.int64]
    test_images: Images
    test_labels: NDArray[np.int64]


def load(
    train_per_class: int,
    test_per_class: int,
    *,
    classes: int | None = None,
    seed: int = 0,
    places: Sequence[Path] = FONT_FOLDERS,
) -> Glyphs:
    """Render the dataset.

    Args:
        train_per_class: images per class, in the fonts of the part "train".
        test_per_class: images per class, in the fonts of the part "test".
        classes: number of classes, the first ones; None uses all.
        seed: random seed.
        places: folders with the fonts.

    Raises:
        InputError: fonts are missing; the message names their packages.
    """
    fonts = find_fonts(places)
    letters = _list_letters()[:classes]
    train = _render_part(letters, "train", train_per_class, seed, fonts)
    return Glyphs(*train, *_render_part(letters, "test", test_per_class, seed, fonts))


def find_fonts(places: Sequence[Path] = FONT_FOLDERS) -> dict[str, Path]:
    """Return the path of each of ``FONTS``.

    Raises:
        InputError: some are missing; the message names their packages.
    """
    wanted = {font.file: font.package for font in FONTS}
    found = {
        path.name: path
        for place in places
        for path in sorted(place.rglob("*.[ot]tf"))
        if path.name in wanted
    }
    missing = sorted({package for file, package in wanted.items() if file not in found})
    if missing:
        raise InputError(
            f"Fonts are missing below {', '.join(map(str, places))}. Install Debian's packages: "
            f"apt install {' '.join(missing)}"
        )
    return found


def _render_part(
    letters: Sequence[tuple[str, str]],
    part: Part,
    per_class: int,
    seed: int,
    fonts: dict[str, Path],
) -> tuple[Images, NDArray[np.int64]]:
    files = {
        script: [fonts[f.file] for f in FONTS if f.part == part and script in f.scripts]
        for script in LETTERS
    }
    images = [
        draw_glyph(letter, files[script], key=f"{part}-{index}", seed=seed)
        for index in range(per_class)
        for letter, script in letters
    ]
    labels = np.tile(np.arange(len(letters), dtype=np.int64), per_class)
    return np.stack(images), labels


def draw_glyph(letter: str, fonts: Sequence[Path], *, key: str, seed: int) -> Image:
    """Return one image of a letter, a pure function of the arguments.

    Font, size, rotation, position, colors of letter and background, and a brightness gradient of
    the background are random.

    Args:
        letter: one character.
        fonts: font files that have it.
        key: identifies the image among those of the letter.
        seed: random seed of all images.

    Returns:
        ``(32, 32, 3)`` uint8.
    """
    rng = generator(seed, "glyph", letter, key)
    mask = _place_letter(render_letter(fonts[int(rng.integers(len(fonts)))], letter), rng)
    ground, ink = _draw_colors(rng)
    down, right = rng.uniform(-25, 25, 2)
    slope = np.linspace(-1, 1, SIDE)
    shade = down * slope[:, None] + right * slope[None, :]
    share = mask[..., None] / np.float64(255)
    image = (1 - share) * (ground + shade[..., None]) + share * ink
    image += rng.normal(0, 3, image.shape)
    drawn: Image = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return drawn


@functools.lru_cache(maxsize=8192)
def render_letter(font: Path, letter: str) -> Mask:
    """Return a letter rendered in a font, cropped to its pixels."""
    mask = _open_font(font).getmask(letter, "L")
    width, height = mask.size
    return np.array(mask, np.uint8).reshape(height, width)


@functools.lru_cache(maxsize=128)
def _open_font(font: Path) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(font), FONT_SIZE)


def _place_letter(mask: Mask, rng: np.random.Generator) -> Mask:
    """Return ``(32, 32)``: a letter randomly rotated, scaled and shifted within the image."""
    rotated = PillowImage.fromarray(mask).rotate(
        float(rng.uniform(-MAX_ROTATION, MAX_ROTATION)),
        PillowImage.Resampling.BILINEAR,
        expand=True,
    )
    longer = float(rng.uniform(*SIZES))
    width, height = (max(1, round(s * longer / max(rotated.size))) for s in rotated.size)
    small = rotated.resize((width, height), PillowImage.Resampling.BOX)
    placed = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (
        int(np.clip((SIDE - size) // 2 + rng.integers(-MAX_SHIFT, MAX_SHIFT + 1), 0, SIDE - size))
        for size in (height, width)
    )
    placed[top : top + height, left : left + width] = np.asarray(small)
    return placed


def _draw_colors(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return colors ``(2, 3)`` of background and letter with enough contrast."""
    while True:
        colors = rng.uniform(0, 255, (2, 3))
        ground, ink = colors @ (0.299, 0.587, 0.114)
        if abs(ground - ink) >= MIN_CONTRAST:
            return np.asarray(colors, np.float64)


def find_lookalikes() -> list[tuple[str, str]]:
    """Return the pairs of classes that look the same in some font; empty if ``LETTERS`` is right.

    Letters are compared at the same size, by the difference of their pixels relative to the heavier
    one, in the fonts named ``DejaVuSans.ttf``, ``FreeSerif.ttf``, ``FreeSans.ttf``,
    ``NotoSans-Regular.ttf`` and ``ipag.ttf``, where they have both.
    """
    fonts = find_fonts(FONT_FOLDERS)
    letters = [letter for letter, _ in _list_letters()]
    found = []
    for file in ("DejaVuSans.ttf", "FreeSerif.ttf", "FreeSans.ttf", "NotoSans-Regular.ttf"):
        scripts = next(font.scripts for font in FONTS if font.file == file)
        there = [letter for letter, script in _list_letters() if script in scripts]
        found += _compare_letters(fonts[file], there)
    return sorted({*found, *_compare_letters(fonts["ipag.ttf"], list(LETTERS["hiragana"]))},
                  key=lambda pair: letters.index(pair[0]))  # fmt: skip


def _compare_letters(font: Path, letters: Sequence[str]) -> list[tuple[str, str]]:
    shapes = [_resize_shape(render_letter(font, letter)) for letter in letters]
    ink = np.array([shape.sum() for shape in shapes])
    pairs = []
    for first, shape in enumerate(shapes):
        for second in range(first + 1, len(shapes)):
            differ = np.abs(shape - shapes[second]).sum() / max(ink[first], ink[second])
            if differ < MAX_LOOKALIKE_DIFFERENCE:
                pairs.append((letters[first], letters[second]))
    return pairs


def _resize_shape(mask: Mask) -> NDArray[np.float64]:
    """Return a letter scaled to ``(28, 28)`` in 0..1 and centered."""
    scale = 28 / max(mask.shape)
    height, width = (max(1, round(size * scale)) for size in mask.shape)
    small = PillowImage.fromarray(mask).resize((width, height), PillowImage.Resampling.BOX)
    shape = np.zeros((28, 28))
    top, left = (28 - height) // 2, (28 - width) // 2
    shape[top : top + height, left : left + width] = np.asarray(small) / np.float64(255)
    return shape
