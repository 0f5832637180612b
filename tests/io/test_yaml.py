"""YAML of strangers: what it means, and that no small file means more than it has room for."""

import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.io.yaml import read_located_yaml, read_yaml

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


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("names:\n  0: cat\n  1: dog: x\n", "line 3, column 9", "mapping values are not allowed"),
        ("names: [cat,\n  dog\nval: a\n", "line 3, column 4", "that begins in line 1: expected"),
        ("names:\n\t- cat\n", "line 2, column 1", "cannot start any token"),
        (b"nc: 1\nname: caf\xe9\n", "line 2, column 10", "the byte 0xe9 is not utf-8"),
        ("nc: 1\nname: \u00fc\x07\n", "line 2, column 8", "special characters"),
        ("nc: 1\n\nval: *unknown\n", "line 3, column 6", "undefined alias"),
        ("nc: 1\nval: !!python/name:os.system\n", "line 2, column 6", "constructor"),
        (f"nc: 1\nval: {'1' * 100}\n", "line 2, column 6", "a number of 100 digits"),
    ],
)
def test_a_fault_of_the_syntax_has_its_place(tmp_path, text, place, reason):
    with pytest.raises(BrokenFileError, match=rf"data\.yaml, {place}: not valid YAML \(.*{reason}"):
        read_yaml(written(tmp_path, text))


def test_utf16_with_its_mark_is_read(tmp_path):
    assert read_yaml(written(tmp_path, "name: \u00fc\n".encode("utf-16"))) == {"name": "\u00fc"}


def test_the_lines_of_keys(tmp_path):
    text = "# a set\nbase: &b {x: 1}\nnames:\n- a\n- b\n\n<<: *b\nval: c\n3: d\n"
    value, lines = read_located_yaml(written(tmp_path, text))
    assert value["x"] == 1
    assert {key: lines[key] for key in ("base", "names", "val", "3")} == {
        "base": 2, "names": 3, "val": 8, "3": 9,
    }  # fmt: skip
    assert read_located_yaml(written(tmp_path, "- a\n")) == (["a"], {})
    assert read_located_yaml(written(tmp_path, "")) == (None, {})
