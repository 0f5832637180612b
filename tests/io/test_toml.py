"""TOML of users: where it is wrong, and on which line a value stands."""

import pytest

from shiftproof.errors import BrokenFileError
from shiftproof.io.toml import find_line, read_toml


def write(tmp_path, text):
    path = tmp_path / "a.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = 1\nb = \n", "line 2, column 5: not valid TOML"),
        ("a = 1\na = 2\n", "line 2, column 6: not valid TOML"),
        ("a = 1\nb = [1,\n2", "line 3, column 2: not valid TOML .*at the end of the file"),
        (b'a = 1\nb = "\xff"\n', "line 2, column 6: expected a text file in UTF-8"),
    ],
)
def test_a_fault_of_the_syntax_has_its_place(tmp_path, text, place):
    with pytest.raises(BrokenFileError, match=rf"a\.toml, {place}"):
        read_toml(write(tmp_path, text))


TEXT = """# defaults
seed = 1

sizes = [
  1,
  2]

[bench]
# the model
model = [
 "a"]
"batch size" = 3
text = '''
seed = 5
'''
after.all = 1
"""


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (["seed"], 2),
        (["sizes"], 4),
        (["bench"], 8),
        (["bench", "model"], 10),
        (["bench", "batch size"], 12),
        (["bench", "text"], 13),
        (["bench", "after", "all"], 16),
        (["bench", "seed"], None),
        (["seed", "bench"], None),
    ],
)
def test_the_line_of_a_value(tmp_path, keys, line):
    assert find_line(write(tmp_path, TEXT), keys) == line


def test_no_line_of_a_file_that_is_gone(tmp_path):
    assert find_line(tmp_path / "a.toml", ["seed"]) is None
