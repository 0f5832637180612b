"""What is written and printed: no folder of the machine, no secret of a URL, nothing for a terminal."""

import ast
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import shiftproof
from shiftproof import cli
from shiftproof.cli.printing import print_json
from shiftproof.compute.progress import progress

PALETTE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


@pytest.fixture
def run(monkeypatch):
    def call(*words):
        arguments = [str(word) for word in words]
        monkeypatch.setattr(sys, "argv", ["shiftproof", *arguments])
        return cli.run(arguments)

    return call


def vectors(folder, seed, count=40):
    rows = np.random.default_rng(seed).normal(size=(count, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)
    (folder / "img_emb").mkdir(parents=True)
    (folder / "metadata").mkdir()
    np.save(folder / "img_emb" / "img_emb_0.npy", rows)
    table = pa.table({"image_path": [f"{row}.png" for row in range(count)]})
    pq.write_table(table, folder / "metadata" / "metadata_0.parquet")
    return folder


def decode_texts(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().decode("utf-8", "replace")
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in {".json", ".html", ".csv", ".md", ".jsonl"}
    }


@pytest.fixture
def machine(tmp_path):
    """A folder that no output may name, with all that the verbs take."""
    home = tmp_path / "home-of-ada"
    for seed, name in enumerate(("train", "sketch", "reference")):
        vectors(home / name, seed)
    photos = home / "photos"
    photos.mkdir()
    for number in range(3):
        Image.fromarray(PALETTE + number).save(photos / f"{number}.png")
    (photos / "broken.png").write_bytes(b"no image")
    return home


VERBS = {
    "audit": ("{h}/train", "--test", "s={h}/sketch", "--reference", "{h}/reference", "--k", 2),
    "prune": ("{h}/train", "--test", "s={h}/sketch", "--reference", "{h}/reference"),
    "dedup": ("{h}/train", "--threshold", 0.9),
    "coreset": ("{h}/train", "--test", "s={h}/sketch", "--size", 10),
    "embed": ("--data", "{h}/photos"),
    "bench": ("--model", "demo", "--data", "{h}/photos", "--corruptions", "contrast",
              "--severities", "1"),
}  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_no_record_names_a_folder_of_the_machine(verb, run, machine, tmp_path):
    out = tmp_path / "out"
    words = [str(word).format(h=machine) for word in VERBS[verb]]
    assert run(verb, *words, "--out", out, "--workers", 0) == 0
    found = decode_texts(out)
    assert found
    for name, text in found.items():
        assert "home-of-ada" not in text, name
        assert str(tmp_path) not in text, name


@pytest.mark.parametrize("verb", ["corrupt", "stylize"])
def test_no_manifest_names_a_folder_of_the_machine(verb, run, machine, tmp_path):
    more = ["--corruptions", "contrast", "--severities", 1] if verb == "corrupt" else []
    run(verb, machine / "photos", tmp_path / "out", *more, "--workers", 0)
    found = decode_texts(tmp_path / "out")
    assert found
    assert not [name for name, text in found.items() if "home-of-ada" in text]


def test_a_model_is_called_by_the_last_part_of_its_path(tmp_path):
    from shiftproof.models import load_classifier

    helper = pytest.importorskip("onnx").helper
    numbers = helper.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["y"]),
        ],
        "net",
        [helper.make_tensor_value_info("x", numbers, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", numbers, ["n", 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "home-of-ada" / "net.onnx"
    path.parent.mkdir()
    path.write_bytes(model.SerializeToString())
    assert "home-of-ada" not in load_classifier(f"onnx:{path}", device="cpu").name


def test_a_detector_is_called_by_the_last_part_of_its_path(tmp_path):
    from shiftproof.models import load_detector

    source = next((Path(__file__).resolve().parents[3] / "shared" / "data").rglob("*.onnx"), None)
    if source is None:
        pytest.skip("the detector is not here")
    names = next(iter(source.parent.glob("*.names")), None)
    classes = names or tmp_path / "coco.names"
    if names is None:
        classes.write_text("".join(f"c{number}\n" for number in range(80)))
    spec = f"onnx:{source}?decode=fastestdet&classes={classes}"
    assert load_detector(spec, device="cpu").name == f"onnx:{source.name}"


SECRET_URLS = [
    "memory://ada:hunter2@host/rows",
    "memory://host/rows.npy?sig=hunter2",
    "https://ada:hunter2@127.0.0.1:9/rows.npy",
    "unknownscheme://AKIA:hun/ter+hunter2@bucket/rows",
]


@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("verb", ["audit", "prune", "dedup", "embed", "corrupt", "bench"])
def test_no_error_tells_a_secret_of_a_url(verb, url, run, tmp_path, capsys):
    words = {
        "audit": (url, "--test", f"s={url}", "--out", tmp_path / "out"),
        "prune": (url, "--test", f"s={url}", "--out", tmp_path / "out"),
        "dedup": (url, "--out", tmp_path / "out"),
        "embed": ("--data", url, "--out", tmp_path / "out"),
        "corrupt": (url, tmp_path / "out"),
        "bench": ("--data", url, "--out", tmp_path / "out"),
    }[verb]
    assert run(verb, *words) != 0
    printed = capsys.readouterr()
    assert "hunter2" not in printed.out + printed.err
    run(verb, *words, "--no-such-option", url)
    run(verb, *words, url, url)
    printed = capsys.readouterr()
    assert "hunter2" not in printed.out + printed.err


@pytest.mark.parametrize("url", SECRET_URLS)
def test_no_traceback_tells_a_secret_of_a_url(url, run, tmp_path, capsys, monkeypatch):
    assert run("audit", url, "--test", f"s={url}", "--out", tmp_path / "out", "--debug") != 0
    printed = capsys.readouterr()
    assert "Traceback (most recent call last)" in printed.err
    assert "hunter2" not in printed.out + printed.err

    def fail(*paths, **options):
        raise LookupError(f"nothing at {url}")

    monkeypatch.setattr("shiftproof.report.write_sheet", fail)
    assert run("corruptions", "--show", "a.png", "--debug") == 1
    printed = capsys.readouterr()
    assert "LookupError: nothing at" in printed.err
    assert "hunter2" not in printed.out + printed.err


def test_rows_behind_a_url_are_recorded_without_its_secrets(run, tmp_path, capsys, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    rows = np.eye(8, dtype=np.float16).tobytes()
    with memory.open("/ada:hunter2@store/rows/a.npy", "wb") as file:
        head = {"descr": "<f2", "fortran_order": False, "shape": (8, 8)}
        np.lib.format.write_array_header_1_0(file, head)
        file.write(rows)
    url = "memory://ada:hunter2@store/rows"
    assert run("audit", url, "--test", f"s={url}", "--out", tmp_path / "out", "--k", 2) == 0
    printed = capsys.readouterr()
    assert "hunter2" not in printed.out + printed.err
    found = decode_texts(tmp_path / "out")
    assert "run.json" in found
    assert not [name for name, text in found.items() if "hunter2" in text]
    assert "memory://***@store/rows" in found["run.json"]


HOSTILE = "a\x1b[2J\x1b]0;gone\x07\x9b31m\u202e.png"


@pytest.mark.parametrize("verb", ["embed", "corrupt", "bench"])
@pytest.mark.skipif(sys.platform == "win32", reason="no such names there")
def test_no_escape_sequence_of_a_name_reaches_the_terminal(verb, run, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(PALETTE).save(photos / "b.png")
    (photos / HOSTILE).write_bytes(b"no image")
    out = tmp_path / "out"
    words = {
        "embed": ("--data", photos, "--out", out),
        "corrupt": (photos, out, "--corruptions", "contrast", "--severities", 1),
        "bench": ("--model", "demo", "--data", photos, "--out", out, "--corruptions", "contrast",
                  "--severities", 1),
    }[verb]  # fmt: skip
    assert run(verb, *words, "--workers", 0) == 0
    printed = capsys.readouterr()
    for stream in (printed.out, printed.err):
        assert not set(stream) & {"\x1b", "\x07", "\x9b", "\u202e"}
    assert r"a\x1b[2J" in printed.err or "a\ufffd[2J" in printed.err
    hostile = tmp_path / HOSTILE
    assert run(verb, *[hostile if word == photos else word for word in words]) != 0
    printed = capsys.readouterr()
    assert not set(printed.out + printed.err) & {"\x1b", "\x07", "\x9b", "\u202e"}


def test_json_stays_json(capsys):
    print_json('{"name": "a\x9b31m\u202eb é"}\n')
    assert capsys.readouterr().out == '{"name": "a\\u009b31m\\u202eb é"}\n'


def test_the_display_shows_names_as_they_can_be_printed(capsys):
    with progress("work", 1, show=True) as advance:
        advance(note="a\x1b[2J[/nothing]")
    assert "\x1b[2J" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [("embed", "--data"), ("corrupt",), ("report",)])
def test_a_path_that_is_too_long_is_bad_input(words, run, tmp_path, capsys):
    more = (tmp_path / "out",) if words == ("corrupt",) else ()
    more = ("--out", tmp_path / "out") if words[0] == "embed" else more
    assert run(*words, "x" * 300, *more) == 2
    assert "fault of shiftproof" not in capsys.readouterr().err


def test_the_command_line_prints_in_one_place():
    root = Path(shiftproof.__file__).parent / "cli"
    for path in root.glob("*.py"):
        if path.name == "printing.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"typer.echo", "click.echo", "print"}, path.name
                assert called not in {"sys.stdout.write", "sys.stderr.write"}, path.name
