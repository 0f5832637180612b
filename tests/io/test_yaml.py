"""YAML of strangers: what it means, and that no small file means more than it has room for."""

import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.io.yaml import read_yaml

pytest.importorskip("yaml")


def written(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_plain_values(tmp_path):
    text = "names: {0: cat, 1: dog}\nnc: 2\ntrain: [a, b]\nratio: 0.5\nyes: true\nnone:\n"
    expected = {
        "names": {0: "cat", 1: "dog"},
        "nc": 2,
        "train": ["a", "b"],
        "ratio": 0.5,
        True: True,
        "none": None,
    }
    assert read_yaml(written(tmp_path, text)) == expected


def test_aliases_and_merges_as_people_use_them(tmp_path):
    text = "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\ntrain: &t images\nval: *t\n"
    value = read_yaml(written(tmp_path, text))
    assert value["more"] == {"a": 1, "b": 3}
    assert value["val"] == "images"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    assert read_yaml(written(tmp_path, b"\xef\xbb\xbfnc: 1\n")) == {"nc": 1}


@pytest.mark.parametrize("text", ["2001-01-01", "2001-99-99", "2001-12-14t21:59:43.10-05:00"])
def test_a_date_stays_text_also_where_there_is_no_such_day(tmp_path, text):
    assert read_yaml(written(tmp_path, f"names: [{text}]\n")) == {"names": [text]}


def doubling(open_, close):
    lines = ["a0: &a0 [x, x]" if open_ == "[" else "a0: &a0 {x: 1}"]
    for level in range(1, 40):
        before = f"*a{level - 1}"
        inner = f"{before}, {before}" if open_ == "[" else f"<<: [{before}, {before}]"
        lines.append(f"a{level}: &a{level} {open_}{inner}{close}")
    return "\n".join(lines)


BOMBS = {
    "lists of aliases": doubling("[", "]"),
    "merged aliases": doubling("{", "}"),
    "a list that holds itself": "names: &a [x, *a]\n",
    "a mapping that holds itself": "names: &a {x: *a}\n",
    "a mapping merged with itself": "names: &a {<<: *a}\n",
    "a key that is its own list": "? &a [*a]\n: 1\n",
    "a chain of aliases": "\n".join(
        ["a0: &a0 [x]", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 5000))]
    ),
    "deep brackets": "[" * 50_000,
    "a number in base 60": "nc: 1" + ":1" * 200_000,
    "a number of many digits": "nc: " + "1" * 200_000,
    "many short values": "[" + "a," * 499_000 + "]",
    "above the bound": "#" * 1_000_001,
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_small_file_that_means_much_is_refused(tmp_path, kind):
    path = written(tmp_path, BOMBS[kind])
    with pytest.raises(BrokenFileError, match=r"data\.yaml"):
        read_yaml(path)


BROKEN = [
    b"names: [a",
    b"a: !!timestamp [1]",
    b"a: !!int ''",
    b"a: !!int _",
    b"a: !!float ''",
    b"a: !!float _",
    b"a: !!bool maybe",
    b"a: !!binary \xc3\xa9",
    b"a: !!python/object/apply:os.system [echo]",
    b"? [a]\n: 1",
    b"a: 1\n---\nb: 2\n",
    b"\xff\xfe\x00",
    b"a: \x00",
    b'a: "\\ud800"',
    b'a: "\\U00110000"',
    b"%YAML 9.9\n---\na: 1",
    b"*unknown",
]


@pytest.mark.parametrize("text", BROKEN)
def test_whatever_the_library_raises_names_the_file(tmp_path, text):
    with pytest.raises(BrokenFileError, match=r"data\.yaml"):
        read_yaml(written(tmp_path, text))


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(BrokenFileError, match="gone"):
        read_yaml(tmp_path / "gone.yaml")
    with pytest.raises(BrokenFileError, match="not a regular file"):
        read_yaml(tmp_path)
    assert read_yaml(written(tmp_path, "")) is None
