"""Images in tars and tables: the same ids, labels and pixels however a dataset is packed."""

import io
import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shiftproof import Classifier, Preprocess, bench, cli
from shiftproof.bench.cells.views import OnTheFly
from shiftproof.classes import imagenet, name_classes, number_classes
from shiftproof.data import (
    ParquetImages,
    SavedDataset,
    TarData,
    export_corrupted,
    find_dataset,
    open_data,
)
from shiftproof.errors import (
    BrokenFileError,
    InputError,
    LabelError,
    RunMismatchError,
    UnknownNameError,
)
from shiftproof.io.locations import Location, expand_braces
from shiftproof.types import Cell
from support.coloured_images import colours, png, write_saved_dataset, write_tar

COLOURS = colours(6)
KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def tar_of(path, *states, start=0):
    """A tar of samples; each state is a dict of suffix to text."""
    members = []
    for number, state in enumerate(states, start=start):
        members.append((f"{number:04}.png", png(COLOURS[number])))
        members += [(f"{number:04}.{suffix}", text.encode()) for suffix, text in state.items()]
    return write_tar(path, members)


def shown_colours(data):
    return [tuple(data.read(sample)[0, 0].tolist()) for sample in data.samples]


def labels_of(data):
    return [sample.label for sample in data.samples]


def parquet_of(path, columns, *, features=None, rows_per_group=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    table = pa.table(columns).replace_schema_metadata(metadata if features else None)
    pq.write_table(table, path, row_group_size=rows_per_group)
    return path


def cells(count=4):
    return pa.array([{"bytes": png(colour), "path": None} for colour in COLOURS[:count]], KIND)


class TestTars:
    def test_labels_by_number_and_by_name(self, tmp_path, classes):
        tar_of(tmp_path / "t" / "2.tar", {"cls": "1"}, {"cls": " cat\n"})
        tar_of(tmp_path / "t" / "10.tar", {"cls": "guinea_pig"}, start=2)
        data = open_data(tmp_path / "t", classes=classes)
        assert type(data) is TarData
        assert [(sample.id, sample.label) for sample in data.samples] == [
            ("2.tar/0000.png", 1),
            ("2.tar/0001.png", 0),
            ("10.tar/0002.png", 2),
        ]
        assert shown_colours(data) == [tuple(colour) for colour in COLOURS[:3].tolist()]
        # A worker is sent the dataset, and reads by itself.
        assert shown_colours(pickle.loads(pickle.dumps(data))) == shown_colours(data)

    @pytest.mark.parametrize("field", ["label", "cls", "class"])
    @pytest.mark.parametrize("values", [(1, 0), ("dog", "tabby")])
    def test_labels_in_json(self, tmp_path, classes, field, values):
        states = [{"json": json.dumps({"caption": "a pet", field: value})} for value in values]
        data = open_data(tar_of(tmp_path / "a.tar", *states), classes=classes)
        assert labels_of(data) == [1, 0]
        assert data.settings()["label_key"] == field

    def test_the_member_comes_before_the_json_and_what_is_asked_for_before_both(
        self, tmp_path, classes
    ):
        state = {"cls": "0", "json": '{"label": 1, "kind": "2"}', "txt": "guinea pig"}
        tar = tar_of(tmp_path / "a.tar", state)
        expected = {None: 0, "cls": 0, "label": 1, "kind": 2, "txt": 2}
        for key, label in expected.items():
            assert labels_of(open_data(tar, classes=classes, label_key=key)) == [label], key

    def test_a_class_map_translates(self, tmp_path, classes):
        tar = tar_of(tmp_path / "a.tar", {"cls": "7"}, {"cls": "Katze"})
        data = open_data(tar, classes=classes, class_map={"7": "dog", "Katze": "cat"})
        assert labels_of(data) == [1, 0]

    def test_images_alone_or_with_captions_have_no_labels(self, tmp_path, classes):
        tar = tar_of(tmp_path / "a.tar", {"txt": "a cat"}, {})
        assert not open_data(tar, classes=classes).is_labeled
        with pytest.raises(LabelError, match=r"no sample has a member \.cls, or a field label"):
            open_data(tar, classes=classes, labeled=True)

    @pytest.mark.parametrize(
        ("states", "says"),
        [
            ([{"json": '{"caption": "x"}'}], r"no sample has .*the JSON has caption.*--label-key"),
            ([{"json": '{"label": 1, "class": 2}'}], "label and class could each be the label"),
            ([{"cls": "0"}, {}], r"1 of 2 images have no cls \(first: a\.tar/0001\.png\)"),
            ([{"cls": "cow"}], r"a\.tar/0000\.png, cls: .*'cow'"),
            ([{"cls": "3"}], r"a\.tar/0000\.png, cls: Label 3 is outside"),
            ([{"cls": "-1"}], "a.tar/0000.png, cls: "),
            ([{"cls": " "}], "expected a label, the name or the index of a class, got ' '"),
            ([{"json": '{"label": 1.5}'}], "expected a label, .* got 1.5"),
            ([{"json": '{"label": true}'}], "expected a label, .* got True"),
            ([{"json": '{"label": [1]}'}], r"expected a label, .* got \[1\]"),
            ([{"json": "{"}], r"a\.tar/0000\.json, line 1, column 2: not valid JSON"),
            ([{"json": "[1]"}], "expected a JSON object, got a list"),
        ],
    )
    def test_labels_that_cannot_be_used_are_one_sentence(self, tmp_path, classes, states, says):
        tar = tar_of(tmp_path / "a.tar", *states)
        with pytest.raises((LabelError, BrokenFileError), match=says):
            open_data(tar, classes=classes)
        assert not open_data(tar, classes=classes, labeled=False).is_labeled

    def test_bytes_that_are_no_text_are_no_label(self, tmp_path, classes):
        tar = write_tar(tmp_path / "a.tar", [("1.png", png(COLOURS[0])), ("1.cls", b"\xff")])
        with pytest.raises(
            BrokenFileError, match=r"a\.tar/1\.cls, line 1, column 1: expected a label as UTF-8"
        ):
            open_data(tar, classes=classes)

    def test_a_byte_order_mark_is_no_part_of_a_label(self, tmp_path, classes):
        data = png(COLOURS[0])
        tar = write_tar(tmp_path / "a.tar", [("1.png", data), ("1.cls", b"\xef\xbb\xbfcat\r\n")])
        assert open_data(tar, classes=classes).samples[0].label == classes.index("cat")

    def test_a_cut_tar_and_one_without_images(self, tmp_path, classes):
        tar = tar_of(tmp_path / "a.tar", {"cls": "0"}, {"cls": "1"})
        (tmp_path / "cut.tar").write_bytes(tar.read_bytes()[:2000])
        with pytest.raises(BrokenFileError, match=r"cut\.tar: the tar is damaged"):
            open_data(tmp_path / "cut.tar", classes=classes)
        write_tar(tmp_path / "none.tar", [("a.txt", b"x")])
        with pytest.raises(InputError, match="the tars hold no images"):
            open_data(tmp_path / "none.tar", classes=classes)
        # By webdataset's rule it is the member v2.png of the sample 1.
        write_tar(tmp_path / "dots.tar", [("1.v2.png", png(COLOURS[0])), ("1.cls", b"0")])
        with pytest.raises(
            InputError, match=r"hold no images \(left aside: dots\.tar/1\.v2\.png: "
        ):
            open_data(tmp_path / "dots.tar", classes=classes)

    def test_patterns_and_urls_have_the_ids_of_the_folder(self, tmp_path, classes):
        fsspec = pytest.importorskip("fsspec")
        for number in range(3):
            path = tmp_path / "t" / f"{number:02}.tar"
            tar_of(path, {"cls": "1"}, start=number)
            fsspec.filesystem("memory").pipe(f"/t/{number:02}.tar", path.read_bytes())
        folder = open_data(tmp_path / "t", classes=classes)
        pattern = f"{tmp_path}/t/{{00..02}}.tar"
        for source in (pattern, f"file://{pattern}", "memory://t/{00..02}.tar"):
            data = open_data(source, classes=classes)
            assert data.samples == folder.samples, source
            assert shown_colours(data) == shown_colours(folder)
        assert open_data(pattern, classes=classes).fingerprint() == folder.fingerprint()
        with pytest.raises(InputError, match=r"1 of 4 tars do not exist: 03\.tar"):
            open_data(f"{tmp_path}/t/{{00..03}}.tar", classes=classes)
        with pytest.raises(InputError, match=r"not compressed, got a\.zip"):
            open_data("memory://t/a.zip", classes=classes)

    def test_a_changed_tar_behind_a_url_is_noticed(self, tmp_path, classes):
        tar = tar_of(tmp_path / "a.tar", {"cls": "1"})
        before = open_data(f"file://{tar}", classes=classes).fingerprint()
        write_tar(tar, [("0000.png", png(COLOURS[5])), ("0000.cls", b"1")])
        assert open_data(f"file://{tar}", classes=classes).fingerprint() != before

    def test_masks_of_samples_are_counted_and_omitted(self, tmp_path):
        members = [
            (f"{at}.{kind}", png(COLOURS[at])) for at in range(3) for kind in ("png", "seg.png")
        ]
        data = open_data(write_tar(tmp_path / "a.tar", members), classes=None)
        assert len(data) == 3
        (sentence,) = data.omissions
        assert "a.tar/0.seg.png: by webdataset's rule it is 'seg.png' of the sample '0'" in sentence
        assert sentence.endswith("; and 2 more")

    def test_tars_that_a_pattern_names_are_corrupted(self, tmp_path):
        for number in range(3):
            tar_of(tmp_path / "in" / f"{number}.tar", {"cls": "1"}, start=number)
        pattern = tmp_path / "in" / "{0..1}.tar"
        done = export_corrupted(
            pattern, tmp_path / "out", corruptions=["fog"], severities=[1], workers=0
        )
        assert done.written == 2
        written = sorted(path.name for path in (tmp_path / "out" / "fog" / "1").iterdir())
        assert written == ["0.tar", "1.tar"]

    def test_the_ids_are_the_keys_of_the_copy(self, tmp_path):
        tar = tar_of(tmp_path / "in" / "a.tar", {}, {})
        keys = []

        def note(image, severity, rng):
            keys.append(rng.integers(1 << 30))
            return image

        view = OnTheFly(open_data(tar, classes=None), lambda image: image, {"note": note}, seed=3)
        for sample in view.data.samples:
            view.load(sample, Cell("note", 1))
        export_corrupted(
            tar, tmp_path / "out", corruptions={"note": note}, severities=[1], seed=3, workers=0
        )
        assert len(set(keys)) == 2
        assert keys[:2] == keys[2:]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a{1..3}", ["a1", "a2", "a3"]),
        ("{098..101}", ["098", "099", "100", "101"]),
        ("{x,y}-{0..1}", ["x-0", "x-1", "y-0", "y-1"]),
        ("a{b}c", ["a{b}c"]),
    ],
)
def test_braces_as_of_a_shell(pattern, names):
    assert expand_braces(pattern) == names


@pytest.mark.parametrize("pattern", ["{3..1}", "{0..999999999999}", "{0..999}{0..999}"])
def test_braces_that_stand_for_too_much(pattern):
    with pytest.raises(InputError, match=r"expected"):
        expand_braces(pattern)


def test_secrets_of_a_url_are_not_told():
    assert "secret" not in str(Location("https://user:secret@host/a.tar"))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["dog", "cat"]),
            "caption": datasets.Value("string"),
        }
    )
    rows = {
        "image": [{"bytes": png(colour), "path": None} for colour in COLOURS],
        "label": [0, 1, 1, 0, 1, 0],
        "caption": list("abcdef"),
    }
    whole = datasets.Dataset.from_dict(rows, features=features)
    both = datasets.DatasetDict(
        {"train": whole.select(range(4)).flatten_indices(), "test": whole.select([4, 5])}
    )
    root = tmp_path_factory.mktemp("datasets")
    both.save_to_disk(root / "saved")
    whole.save_to_disk(root / "one")
    (root / "hub" / "data").mkdir(parents=True)
    for split, part in both.items():
        for shard in range(2):
            name = f"{split}-{shard:05}-of-00002-0123456789abcdef.parquet"
            part.shard(2, shard, contiguous=True).to_parquet(root / "hub" / "data" / name)
    return root


class TestDatasets:
    """What the real library writes."""

    def test_saved_and_parquet_have_the_same_ids_labels_and_pixels(self, written, classes):
        for split in ("train", "test"):
            saved = open_data(written / "saved", classes=classes, split=split)
            parquet = open_data(written / "hub", classes=classes, split=split)
            assert (type(saved), type(parquet)) == (SavedDataset, ParquetImages)
            assert saved.samples == parquet.samples
            assert shown_colours(saved) == shown_colours(parquet)
            assert saved.captions == parquet.captions
            assert saved.content_fingerprints() == parquet.content_fingerprints()
            for data in (saved, parquet):  # as a worker gets it
                assert shown_colours(pickle.loads(pickle.dumps(data))) == shown_colours(saved)
        assert [sample.id for sample in saved.samples] == ["test/00000000", "test/00000001"]
        # The data's dog is 0, the model's is 1.
        assert labels_of(saved) == [0, 1]
        assert shown_colours(saved) == [tuple(colour) for colour in COLOURS[4:].tolist()]

    def test_one_split_alone(self, written, classes):
        data = open_data(written / "one", classes=classes)
        assert (data.samples[0].id, labels_of(data)) == ("00000000", [1, 0, 0, 1, 0, 1])
        file = next((written / "hub" / "data").glob("test-00000*"))
        assert [s.id for s in open_data(file, classes=classes).samples] == ["00000000"]

    def test_a_split_that_is_not_there(self, written, classes):
        for name in ("saved", "hub"):
            with pytest.raises(InputError, match=r"holds the splits .*; give one"):
                open_data(written / name, classes=classes)
            with pytest.raises(UnknownNameError, match="Did you mean 'test'"):
                open_data(written / name, classes=classes, split="tests")

    def test_the_command_says_what_they_are(self, written, tmp_path, capsys):
        tar_of(tmp_path / "t" / "0.tar", {"cls": "1"})
        assert cli.run(["data", str(written / "saved")]) == 0
        assert cli.run(["data", str(written / "hub")]) == 0
        assert cli.run(["data", str(tmp_path / "t" / "{0..0}.tar")]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "a dataset saved by Hugging Face's datasets, train, 4 images in the column image, "
            "labels in label (2 classes)",
            "a dataset saved by Hugging Face's datasets, test, 2 images in the column image, "
            "labels in label (2 classes)",
            "Parquet files, test, 2 images in the column image, labels in label (2 classes)",
            "Parquet files, train, 4 images in the column image, labels in label (2 classes)",
            "webdataset tars, t, 1 tar; the first holds .png, .cls",
        ]


class TestParquet:
    def test_without_what_datasets_writes_columns_are_known_by_their_types(self, tmp_path, classes):
        plain = pa.array([png(colour) for colour in COLOURS[:3]])
        path = parquet_of(tmp_path / "a.parquet", {"jpg": plain, "class": ["dog", "cat", "dog"]})
        data = open_data(path, classes=classes)
        assert (data.column, data.label_key, labels_of(data)) == ("jpg", "class", [1, 0, 1])
        assert shown_colours(data) == [tuple(colour) for colour in COLOURS[:3].tolist()]

    def test_of_two_columns_of_images_one_is_named(self, tmp_path, classes):
        path = parquet_of(tmp_path / "a.parquet", {"left": cells(), "right": cells()[::-1]})
        with pytest.raises(InputError, match=r"in the columns left, right; .*--images left"):
            open_data(path, classes=classes)
        data = open_data(path, classes=classes, images="right")
        assert shown_colours(data) == [tuple(colour) for colour in COLOURS[3::-1].tolist()]
        with pytest.raises(InputError, match="no images in a column up; they are in left, right"):
            open_data(path, classes=classes, images="up")

    def test_of_two_columns_of_labels_one_is_named(self, tmp_path, classes):
        features = {
            name: {"_type": "ClassLabel", "names": names}
            for name, names in (("fine", ["cat", "dog"]), ("coarse", ["pet", "guinea pig"]))
        }
        columns = {"img": cells(), "fine": [0, 1, 1, 0], "coarse": [1, 1, 1, 1]}
        path = parquet_of(tmp_path / "a.parquet", columns, features=features)
        with pytest.raises(LabelError, match=r"fine and coarse could each .*--label-key fine"):
            open_data(path, classes=classes)
        assert labels_of(open_data(path, classes=classes, label_key="fine")) == [0, 1, 1, 0]
        # Only names that are used have to be known.
        assert labels_of(open_data(path, classes=classes, label_key="coarse")) == [2] * 4
        with pytest.raises(LabelError, match="has no column 'medium'; it has img, fine, coarse"):
            open_data(path, classes=classes, label_key="medium")

    @pytest.mark.parametrize(
        ("columns", "features", "says"),
        [
            ({"text": ["a"] * 4}, None, r"has no column of images \(found text\)"),
            ({"image": cells(), "label": [0.5] * 4}, None, "row 0: expected a label, .* got 0.5"),
            ({"image": cells(), "label": [[0], [1], [0], [1]]}, None, r"got \[0\]"),
            ({"image": cells(), "label": ["cat", None, "dog", "cat"]}, None, "row 1: .*got None"),
            ({"image": cells(), "label": [0, 1, 2, 9]}, None, "column label: Label 9 is outside"),
            (
                {"image": cells(), "label": [0, 1, 0, 0]},
                {"label": {"_type": "ClassLabel", "names": ["cow", "cat"]}},
                r"knows 1 of the 2 classes .* Unknown: cow\..*--class-map",
            ),
            (
                {"image": cells(), "label": [0, 1, 0, 4]},
                {"label": {"_type": "ClassLabel", "names": ["dog", "cat"]}},
                "4 is none of 2 classes",
            ),
            (
                {"image": cells(), "label": [0, 1, 0, 1]},
                {"label": {"_type": "ClassLabel"}},
                "column label: the names of its classes are missing",
            ),
            (
                {"image": [1, 2, 3, 4]},
                {"image": {"_type": "Image"}},
                "expected images in the column image",
            ),
        ],
    )
    def test_what_cannot_be_used_is_one_sentence(
        self, tmp_path, classes, columns, features, says, capsys
    ):
        path = parquet_of(tmp_path / "a.parquet", columns, features=features)
        with pytest.raises((InputError, LabelError, BrokenFileError), match=says):
            open_data(path, classes=classes)

    def test_labels_that_are_kept_secret(self, tmp_path, classes):
        features = {"label": {"_type": "ClassLabel", "names": ["dog", "cat"]}}
        columns = {"image": cells(), "label": [-1] * 4}
        path = parquet_of(tmp_path / "a.parquet", columns, features=features)
        assert not open_data(path, classes=classes).is_labeled
        with pytest.raises(LabelError, match="withheld"):
            open_data(path, classes=classes, labeled=True)

    def test_damaged_files(self, tmp_path, classes):
        path = parquet_of(tmp_path / "a.parquet", {"image": cells()})
        data = path.read_bytes()
        for number, damaged in enumerate((data[:200], b"PAR1" * 8, b"")):
            (tmp_path / f"{number}.parquet").write_bytes(damaged)
            with pytest.raises(BrokenFileError, match=rf"{number}\.parquet: no Parquet table"):
                open_data(tmp_path / f"{number}.parquet", classes=classes)
        # Its pages are damaged, not its footer: the images are broken, one by one.
        (tmp_path / "b.parquet").write_bytes(data[:4] + b"\xff" * 300 + data[304:])
        opened = open_data(tmp_path / "b.parquet", classes=classes)
        with pytest.raises(BrokenFileError, match="00000000: "):
            opened.read(opened.samples[0])

    @pytest.mark.parametrize(
        ("name", "split"),
        [
            ("train-00000-of-00002.parquet", "train"),
            ("data/validation-00000-of-00001-a80d8e34f4ae6aef.parquet", "validation"),
            ("default/test/0000.parquet", "test"),
            ("valid.parquet", "valid"),
            ("pets_train.parquet", "train"),
            ("cats.parquet", "cats"),
        ],
    )
    def test_splits_by_the_names_of_files(self, tmp_path, name, split):
        parquet_of(tmp_path / name, {"image": cells()})
        assert find_dataset(tmp_path).splits == (split,)


def test_names_with_synonyms_find_the_classes_of_imagenet(tmp_path):
    names = ["tench, Tinca tinca", "crane", "great white shark, white shark, man-eater"]
    features = {"label": {"_type": "ClassLabel", "names": names}}
    columns = {"image": cells(2), "label": [0, 2]}
    path = parquet_of(tmp_path / "a.parquet", columns, features=features)
    assert labels_of(open_data(path, classes=imagenet())) == [0, 2]
    # As many names as the model has classes: one of two meanings is told by its number.
    full = list(imagenet().names)
    full[134] = full[517] = "crane"
    features = {"label": {"_type": "ClassLabel", "names": full}}
    columns = {"image": cells(2), "label": [134, 517]}
    path = parquet_of(tmp_path / "b.parquet", columns, features=features)
    assert labels_of(open_data(path, classes=imagenet())) == [134, 517]
    assert labels_of(open_data(path, classes=number_classes(1000))) == [134, 517]


def brightness(inputs):
    grey = inputs.mean(axis=(1, 2, 3))
    return np.stack([grey, 1 - grey, grey * 0], axis=1).astype(np.float32)


@pytest.mark.parametrize("packed", ["tars", "saved", "parquet"])
def test_a_run_over_packed_images_and_what_it_says_of_changed_data(tmp_path, packed):
    path = tmp_path / packed

    def write(rows):
        if packed == "tars":
            members = [
                (f"{at}.{suffix}", data)
                for at, colour in enumerate(rows)
                for suffix, data in (("png", png(colour)), ("cls", b"dog"))
            ]
            write_tar(path / "0.tar", members)
        elif packed == "saved":
            write_saved_dataset(path, rows, labels=[1, 0, 1, 0])
        else:
            images = [{"bytes": png(row), "path": None} for row in rows]
            parquet_of(path / "a.parquet", {"image": images, "label": ["cat", "dog"] * 2})

    def measure():
        classifier = Classifier(
            brightness,
            Preprocess((8, 8), 8),
            name_classes(["cat", "dog", "guinea pig"]),
            name="grey",
        )
        return bench.run(
            classifier, path, corruptions=["fog"], severities=[1], out=tmp_path / "run", workers=0
        )

    write(COLOURS[:4])
    run = measure()
    assert run.scores.images.total == 4
    measure()
    shutil.rmtree(path)
    write([*COLOURS[:3], COLOURS[5]])
    with pytest.raises(RunMismatchError, match="data: other content"):
        measure()


def test_bench_reads_tars_from_the_command_line(tmp_path, capsys):
    tar_of(tmp_path / "a.tar", {"json": '{"caption": "x"}'})
    out = tmp_path / "run"
    command = ["bench", "-m", "demo", "-d", str(tmp_path / "a.tar"), "-o", str(out)]
    assert cli.run(command) == 2
    assert "no sample has a member .cls" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
    assert cli.run(["bench", "-m", "demo", "-d", "demo", "--label-key", "x", "-o", str(out)]) == 2


def test_a_png_in_a_bytes_buffer_is_read_where_it_lies():
    assert Location(__file__).read(0, 3) == b'"""'
    with pytest.raises(BrokenFileError, match="it ends before byte"):
        Location(__file__).read(0, 10**7)
    with Location(__file__).open() as file:
        assert isinstance(file, io.BufferedReader)


@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_a_part_of_packed_images_is_told_apart_by_its_own_bytes(tmp_path, form):
    def write(name, count):
        if form == "tar":
            return tar_of(tmp_path / f"{name}.tar", *[{}] * count)
        return parquet_of(tmp_path / f"{name}.parquet", {"image": cells(count)})

    whole = open_data(write("a", 4), classes=None)
    rest = open_data(write("b", 3), classes=None)
    part = whole.narrow(whole.samples[1:3], "two of them")
    assert part.content_fingerprints() == whole.content_fingerprints()[1:3]
    assert (
        rest.narrow(rest.samples[1:3], "two").content_fingerprints() == part.content_fingerprints()
    )
    assert len(set(whole.content_fingerprints())) == 4
