"""Where styles come from, and which one belongs to a key."""

import numpy as np
import pytest
from PIL import Image

from shiftproof.errors import BrokenFileError, InputError
from shiftproof.stylize import (
    DrawnStyles,
    Paintings,
    choose_style,
    open_styles,
    stylize,
    stylize_keyed,
)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_folder_of_paintings(paintings):
    styles = open_styles(paintings)
    assert isinstance(styles, Paintings)
    assert styles.names == ("broken.png", "green.jpg", "old/blue.png", "red.png")
    np.testing.assert_array_equal(styles.read(2), pixels(paintings / "old" / "blue.png"))
    assert open_styles(styles) is styles
    one = open_styles(paintings / "red.png")
    assert [one.title(number) for number in range(len(one))] == ["red.png"]


def test_a_broken_style_gives_way_and_is_named(paintings):
    styles = open_styles(paintings)
    chosen = [choose_style(styles, key=str(number)) for number in range(40)]
    assert {one.title for one in chosen} == {"green.jpg", "old/blue.png", "red.png"}
    met = [one.broken for one in chosen if one.broken]
    assert met
    assert all(
        broken == {"broken.png": "broken.png: not an image that can be decoded."} for broken in met
    )


def test_the_choice_hangs_on_key_seed_and_turn_alone(few):
    def titles(**more):
        return [choose_style(few, key=str(number), **more).title for number in range(30)]

    assert titles() == titles()
    assert set(titles()) == {"few 0", "few 1", "few 2", "few 3"}
    assert titles() != titles(seed=1)
    assert titles() != titles(turn=1)


def test_a_keyed_style_is_the_chosen_one(photograph, few):
    result, chosen = stylize_keyed(photograph, few, key="a.jpg", seed=5)
    assert chosen.title == choose_style(few, key="a.jpg", seed=5).title
    np.testing.assert_array_equal(result, stylize(photograph, chosen.pixels, seed=5, key="a.jpg"))
    other, _ = stylize_keyed(photograph, few, key="a.jpg", seed=5, turn=1)
    assert not np.array_equal(result, other)


def test_identities_tell_styles_apart(paintings):
    before = open_styles(paintings).identity()
    assert before["folder"] == "paintings"
    assert before["images"] == 4
    assert before == open_styles(paintings).identity()
    (paintings / "red.png").write_bytes((paintings / "old" / "blue.png").read_bytes())
    assert open_styles(paintings).identity() != before
    assert DrawnStyles(7).identity() == {"drawn": 7}
    assert len(open_styles(None)) == 1000


def test_folders_without_styles_are_told(tmp_path):
    with pytest.raises(InputError, match="does not exist; expected a folder of paintings"):
        open_styles(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no images"):
        open_styles(tmp_path)
    (tmp_path / "a.txt").write_text("no")
    with pytest.raises(InputError, match=r"a\.txt is no picture"):
        open_styles(tmp_path / "a.txt")
    with pytest.raises(InputError, match="at least one drawn style, got 0"):
        DrawnStyles(0)
    (tmp_path / "x.png").write_bytes(b"no")
    (tmp_path / "y.png").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"None of the styles can be read\. The first of 2: "
    ) as raised:
        choose_style(open_styles(tmp_path), key="a")
    assert ".png: " in str(raised.value)
    with pytest.raises(BrokenFileError):
        open_styles(tmp_path).read(0)
