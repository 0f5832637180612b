"""Texts as vectors on the disk, in the layout of clip-retrieval."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from shiftproof.embed import embed_texts, open_texts
from shiftproof.errors import (
    BrokenFileError,
    InputError,
    ModelError,
    RunMismatchError,
    UnknownNameError,
)
from shiftproof.models import load_text_encoder
from shiftproof.similarity import open_embeddings

CAPTIONS = ["a photo of a red cat.", "the green dog.", "blue, blue."]


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text(
        'image_path,Caption\na.jpg,a photo of a red cat.\nb.jpg,the green dog.\nc.jpg,"blue, blue."\n'
    )
    return path


def expected(folder):
    import transformers

    tokens = transformers.AutoTokenizer.from_pretrained(folder)(
        CAPTIONS, return_tensors="pt", padding=True
    )
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = model.text_model(**tokens).pooler_output
        vectors = model.text_projection(hidden)
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


def test_the_vectors_lie_as_clip_retrieval_lays_them(image_text_models, csv, tmp_path):
    encoder = load_text_encoder(f"transformers:{image_text_models / 'clip'}")
    done = embed_texts(encoder, csv, tmp_path / "out", shard_size=2)
    assert (done.rows, done.written, done.width) == (3, 2, 16)
    shards = [np.load(tmp_path / "out" / "text_emb" / f"text_emb_{n}.npy") for n in (0, 1)]
    assert [len(shard) for shard in shards] == [2, 1]
    np.testing.assert_allclose(
        np.concatenate(shards), expected(image_text_models / "clip"), atol=1e-3
    )
    table = pq.read_table(tmp_path / "out" / "metadata" / "metadata_0.parquet")
    assert table.to_pydict() == {"caption": CAPTIONS[:2], "image_path": ["a.jpg", "b.jpg"]}
    assert len(open_embeddings(tmp_path / "out", normalize=True)) == 3


def test_it_goes_on_and_refuses_other_texts(image_text_models, csv, tmp_path):
    encoder = load_text_encoder(f"open_clip:local-dir:{image_text_models / 'open_clip'}")
    embed_texts(encoder, csv, tmp_path / "out", shard_size=1)
    (tmp_path / "out" / "shards" / "shard_1.json").unlink()
    again = embed_texts(encoder, csv, tmp_path / "out", shard_size=1)
    assert (again.kept, again.written, again.rows) == (2, 1, 3)
    with pytest.raises(RunMismatchError, match="data"):
        embed_texts(encoder, CAPTIONS, tmp_path / "out", shard_size=1)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["encoder"]["name"] == "open_clip:local-dir:open_clip"


def test_files_of_texts(tmp_path, csv):
    assert open_texts(csv).columns == {"image_path": ("a.jpg", "b.jpg", "c.jpg")}
    lines = tmp_path / "lines.txt"
    lines.write_text("one, two\nthree\n\n")
    assert open_texts(lines).captions == ("one, two", "three")
    lines.write_text("one\n\nthree\n")
    with pytest.raises(BrokenFileError, match="line 2: expected a text, got an empty line"):
        open_texts(lines)
    for content, words in (
        ("path,label\na,b\n", "a column caption, got 'path, label'"),
        ("path,caption\na.jpg,\n", "line 2: expected 2 cells with a text"),
        ("caption\n", "holds no texts"),
    ):
        csv.write_text(content)
        with pytest.raises(InputError, match=words):
            open_texts(csv)
    with pytest.raises(InputError, match="Text 1: expected a sentence"):
        open_texts(["a", " "])


def test_models_without_a_text_tower(image_text_models):
    with pytest.raises(ModelError, match="'demo' has no text tower"):
        load_text_encoder("demo")
    with pytest.raises(ModelError, match="ViTModel has no text tower"):
        load_text_encoder(f"transformers:{image_text_models / 'vit'}")
    with pytest.raises(UnknownNameError, match="Did you mean 'open_clip'"):
        load_text_encoder("openclip:ViT-B-32/openai")
