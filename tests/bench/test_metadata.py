"""Reading under which condition images were taken: tables, label files, names; and what is refused."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof.bench.reanalysis.metadata import read_conditions
from shiftproof.errors import BrokenFileError, InputError, UnknownNameError

IMAGES = ["fog/GOPR/0.png", "fog/GOPR/1.png", "night/GP/2.png"]
WEATHER = {IMAGES[0]: "foggy", IMAGES[1]: "clear", IMAGES[2]: "clear"}


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("column", ["image", "name", "path", "file_name", "filename", "id"])
def test_a_csv_names_images_by_path_file_name_or_stem(tmp_path, column):
    text = (
        f"hour,{column},weather\n1,fog/GOPR/0.png,foggy\n2,1.png,clear\n3,2,clear\n4,9.png,clear\n"
    )
    assert read_conditions(write(tmp_path / "m.csv", text), "weather", IMAGES) == WEATHER


def test_a_path_of_another_root_is_matched_by_its_file_name(tmp_path):
    text = "image,weather\n/data/val/0.png,foggy\nC:\\val\\1.png,clear\n"
    found = read_conditions(write(tmp_path / "m.csv", text), "weather", IMAGES)
    assert found == {IMAGES[0]: "foggy", IMAGES[1]: "clear"}


def test_the_label_file_of_bdd100k_has_attributes(tmp_path):
    records = [
        {"name": "0.png", "attributes": {"weather": "foggy", "timeofday": "night"}, "labels": []},
        {"name": "1.png", "attributes": {"weather": "clear"}},
        {"name": "2.png", "attributes": {"weather": "clear"}},
    ]
    path = write(tmp_path / "m.json", json.dumps(records))
    assert read_conditions(path, "weather", IMAGES) == WEATHER
    assert read_conditions(path, "timeofday", IMAGES) == {IMAGES[0]: "night"}
    path = write(tmp_path / "scalabel.json", json.dumps({"frames": records}))
    assert read_conditions(path, "weather", IMAGES) == WEATHER


def test_a_parquet_table_with_numbers_and_gaps(tmp_path):
    table = pa.table({"name": ["0.png", "1.png", "2.png"], "hour": [7.0, None, 21.0]})
    pq.write_table(table, tmp_path / "m.parquet")
    found = read_conditions(tmp_path / "m.parquet", "hour", IMAGES)
    assert found == {IMAGES[0]: "7", IMAGES[2]: "21"}


def test_the_folders_of_the_names_are_conditions():
    assert list(read_conditions(None, "part:1", IMAGES).values()) == ["fog", "fog", "night"]
    assert list(read_conditions(None, "part:2", IMAGES).values()) == ["GOPR", "GOPR", "GP"]
    with pytest.raises(InputError, match="No image lies 3 folders deep"):
        read_conditions(None, "part:3", IMAGES)


def test_what_cannot_be_read_is_refused_with_what_was_expected(tmp_path):
    path = write(tmp_path / "m.csv", "image,weather\n0.png,foggy\n0.png,clear\n")
    with pytest.raises(InputError, match="there as 'foggy' and as 'clear'"):
        read_conditions(path, "weather", IMAGES)
    with pytest.raises(UnknownNameError, match="Did you mean 'weather'"):
        read_conditions(path, "wether", IMAGES)
    with pytest.raises(InputError, match="leave the metadata out"):
        read_conditions(path, "part:1", IMAGES)
    with pytest.raises(InputError, match="part:2"):
        read_conditions(None, "weather", IMAGES)
    with pytest.raises(InputError, match=r"says nothing of any of the 3 images.*9\.png"):
        read_conditions(write(path, "image,weather\n9.png,foggy\n"), "weather", IMAGES)
    with pytest.raises(InputError, match="a column with the images' names"):
        read_conditions(write(path, "weather\nfoggy\n"), "weather", IMAGES)
    with pytest.raises(InputError, match="line 3: expected 2 columns, got 3"):
        read_conditions(write(path, "image,weather\n0.png,a\n1.png,a,b\n"), "weather", IMAGES)
    with pytest.raises(InputError, match=r"\.csv, \.parquet or \.json"):
        read_conditions(tmp_path / "m.xlsx", "weather", IMAGES)
    with pytest.raises(InputError, match="a list of records"):
        read_conditions(write(tmp_path / "m.json", '{"a": 1}'), "weather", IMAGES)
    with pytest.raises(UnknownNameError, match="attribute of the metadata"):
        read_conditions(write(tmp_path / "n.json", '[{"name": "0.png"}]'), "weather", IMAGES)
    with pytest.raises(BrokenFileError):
        read_conditions(write(tmp_path / "b.parquet", "no table"), "weather", IMAGES)


def test_a_file_name_that_two_images_share_names_neither(tmp_path):
    path = write(tmp_path / "m.csv", "image,weather\n0.png,foggy\nb/0.png,clear\n")
    assert read_conditions(path, "weather", ["a/0.png", "b/0.png"]) == {"b/0.png": "clear"}
