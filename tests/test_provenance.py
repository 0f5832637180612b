"""What is recorded beside numbers tells of the machine, and of nobody's folders."""

import json
import re
from pathlib import Path

import pytest

from shiftproof.provenance import provenance, show_command

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("arguments", "spelt"),
    [
        (["/usr/bin/shiftproof", "bench"], "shiftproof bench"),
        (["/env/shiftproof/__main__.py", "demo"], "shiftproof demo"),
        (["s", "--data", "/srv/photos"], "s --data photos"),
        (["s", "--data", "~/photos/"], "s --data photos/"),
        (["s", "--out=/srv/a b/run"], "s --out=run"),
        (["s", "photos/mine", "../run"], "s photos/mine ../run"),
        (["s", "file:/m/net.pt,/m/two.pt"], "s file:net.pt,two.pt"),
        (["s", r"C:\Users\ada\run"], "s run"),
        (["s", "s3://bucket/shards"], "s s3://bucket/shards"),
        (["s", "s3://AKIA:a/b@bucket/shards"], "s s3://***@bucket/shards"),
        (["s", "--test=a=https://u:p@host/a?sig=b"], "s --test=a=https://***@host/a?sig=***"),
        (["s", "file:///home/ada/rows.npy"], "s file://rows.npy"),
        (["s", "a=file:///home/ada/rows.npy"], "s a=file://rows.npy"),
        (["s", "~ada/photos"], "s photos"),
        (["s", "/srv/a\x1b[2Jb"], "s a\\x1b[2Jb"),
        (["s", "onnx:net.onnx?decode=yolo&size=640"], "s onnx:net.onnx?decode=yolo&size=640"),
    ],
)
def test_a_command_is_told_without_the_folders_of_the_machine(arguments, spelt):
    assert show_command(arguments) == spelt


def test_the_record_names_the_device_and_the_versions():
    record = provenance("cuda:1", 3)
    assert (record["device"], record["workers"]) == ("cuda:1", 3)
    assert set(record["libraries"]) >= {"numpy", "pyarrow"}


@pytest.mark.parametrize("file", sorted(ROOT.glob("**/results/**/*.json")), ids=lambda f: f.name)
def test_no_committed_result_names_a_folder_of_a_machine(file):
    text = file.read_text(encoding="utf-8")
    assert not re.findall(r"(?<![\w.])/(?:tmp|home|root|usr|opt|mnt|var|work)/", text)
    json.loads(text)
