"""Zero-shot classifiers, held against the libraries' own ways to the same answer."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from shiftproof.adapt import make_adapter
from shiftproof.classes import imagenet, label_set
from shiftproof.errors import BrokenFileError, InputError, LabelError, ModelError
from shiftproof.models import load_classifier
from shiftproof.models.image_text import class_vectors
from shiftproof.models.image_text.prompts import Prompts, make_prompts, read_templates
from shiftproof.models.image_text.towers import TextTower, TokenTower
from support.image_text import photographs

NAMES = ["red cat", "green dog", "blue"]
PICTURES = photographs(3)


def resized(classifier):
    return np.stack([classifier.preprocess.geometry(picture) for picture in PICTURES])


class TestOpenClip:
    @pytest.mark.parametrize("folder", ["open_clip", "open_clip_bias"])
    def test_the_logits_are_those_of_its_own_zero_shot_builder(self, image_text_models, folder):
        import open_clip

        name = f"local-dir:{image_text_models / folder}"
        classifier = load_classifier(f"open_clip:{name}", classes=NAMES)
        model, _, transform = open_clip.create_model_and_transforms(name)
        model.eval()
        vectors = open_clip.build_zero_shot_classifier(
            model,
            open_clip.get_tokenizer(name),
            classnames=NAMES,
            templates=open_clip.OPENAI_IMAGENET_TEMPLATES,
        )
        with torch.no_grad():
            batch = torch.stack([transform(Image.fromarray(picture)) for picture in PICTURES])
            logits = model.logit_scale.exp() * model.encode_image(batch, normalize=True) @ vectors
            if model.logit_bias is not None:
                logits += model.logit_bias
        np.testing.assert_allclose(
            classifier.predict(resized(classifier)), logits.numpy(), rtol=1e-4, atol=1e-5
        )
        assert (model.logit_bias is not None) == (folder == "open_clip_bias")

    def test_the_text_tower_is_not_part_of_what_adapts(self, image_text_models):
        spec = f"open_clip:local-dir:{image_text_models / 'open_clip'}"
        classifier = load_classifier(spec, classes=NAMES, templates="simple")
        names = [name for name, _ in classifier.module.named_parameters()]
        assert names[-1] == "head.weight"
        assert not [name for name in names if "token" in name or "transformer.text" in name]

    def test_weights_in_a_file_of_ones_own(self, image_text_models, tmp_path, monkeypatch):
        import open_clip

        folder = image_text_models / "open_clip"
        config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
        (tmp_path / "tiny-clip.json").write_text(json.dumps(config))
        open_clip.add_model_config(tmp_path)
        weights = folder / "open_clip_pytorch_model.bin"
        named = load_classifier(f"open_clip:tiny-clip/{weights}", classes=NAMES)
        there = load_classifier(f"open_clip:local-dir:{folder}", classes=NAMES)
        np.testing.assert_array_equal(
            named.module.head.weight.detach(), there.module.head.weight.detach()
        )
        with pytest.raises(ModelError, match=r"cannot be loaded .*not a known tag or valid file"):
            load_classifier(f"open_clip:tiny-clip/{tmp_path}/none.pt")
        random = load_classifier("open_clip:tiny-clip?pretrained=false", classes=NAMES)
        assert "random weights" in random.assumed


class TestTransformers:
    @pytest.mark.parametrize("folder", ["clip", "siglip"])
    def test_the_answers_are_those_of_its_own_pipeline(self, image_text_models, folder):
        import transformers

        path = image_text_models / folder
        template = "This is a photo of {}."
        classifier = load_classifier(f"transformers:{path}", classes=NAMES, templates=[template])
        logits = torch.from_numpy(classifier.predict(resized(classifier)))
        # SigLIP's classes do not exclude each other.
        scores = logits.sigmoid() if folder == "siglip" else logits.softmax(dim=1)
        pipeline = transformers.pipeline("zero-shot-image-classification", str(path))
        for picture, mine in zip(PICTURES, scores, strict=True):
            expected = pipeline(Image.fromarray(picture), candidate_labels=NAMES)
            theirs = {entry["label"]: entry["score"] for entry in expected}
            for name, score in zip(NAMES, mine.tolist(), strict=True):
                assert score == pytest.approx(theirs[name], abs=0.01)

    @pytest.mark.parametrize("folder", ["clip", "siglip"])
    def test_the_logits_are_those_of_the_whole_model_on_the_same_pixels(
        self, image_text_models, folder
    ):
        import transformers

        path = image_text_models / folder
        classifier = load_classifier(f"transformers:{path}", classes=NAMES, templates="a {}.")
        images = resized(classifier)
        model = transformers.AutoModel.from_pretrained(path).eval()
        tokens = transformers.AutoTokenizer.from_pretrained(path)(
            [f"a {name}." for name in NAMES], return_tensors="pt", padding="max_length"
        )
        with torch.no_grad():
            pixels = torch.from_numpy(classifier.preprocess.normalize(images))
            expected = model(pixel_values=pixels, **tokens).logits_per_image
        np.testing.assert_allclose(
            classifier.predict(images), expected.numpy(), rtol=1e-4, atol=1e-5
        )

    def test_the_text_tower_is_left_out(self, image_text_models):
        classifier = load_classifier(
            f"transformers:{image_text_models / 'clip'}", classes=NAMES, templates="a {}."
        )
        assert not [name for name in classifier.module.state_dict() if "text" in name]


class TestClasses:
    def test_imagenet_is_asked_for_by_openais_names(self, image_text_models):
        spec = f"transformers:{image_text_models / 'clip'}"
        classifier = load_classifier(spec, templates="a photo of a {}.")
        assert classifier.classes == imagenet()
        prompts = classifier.class_vectors.prompts
        # As in the notebook that OpenAI published: 134 is the bird, 517 the machine.
        assert prompts.names[134] == "crane bird"
        assert prompts.names[517] == "construction crane"
        assert len(classifier.restrict(label_set("imagenet-r")).classes) == 200

    def test_published_templates_are_openclips(self):
        open_clip = pytest.importorskip("open_clip", exc_type=ImportError)
        theirs = tuple(template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES)
        assert read_templates("openai") == theirs
        theirs = tuple(template("{}") for template in open_clip.SIMPLE_IMAGENET_TEMPLATES)
        assert read_templates("simple") == theirs
        assert make_prompts(None).names == tuple(open_clip.IMAGENET_CLASSNAMES)

    def test_templates_of_a_file(self, tmp_path):
        (tmp_path / "two.txt").write_text("a {}.\nthe {}.\n")
        assert read_templates(tmp_path / "two.txt") == ("a {}.", "the {}.")

    def test_a_template_without_a_place(self, tmp_path):
        (tmp_path / "bad.txt").write_text("\na {}.\na photo\n")
        with pytest.raises(InputError, match=r"bad.txt, line 3: expected a sentence with \{\}"):
            read_templates(str(tmp_path / "bad.txt"))
        with pytest.raises(InputError, match=r"^Template 2: expected a sentence with"):
            read_templates(["a {}.", "a photo"])
        with pytest.raises(InputError, match="expected a template, got none"):
            read_templates([])
        with pytest.raises(BrokenFileError, match=r"none.txt"):
            read_templates("none.txt")
        for text in ("a photo", "", "opneai"):
            with pytest.raises(InputError, match=r"Expected templates: openai, .*, a sentence"):
                read_templates(text)

    def test_classes_that_the_tokenizer_does_not_tell_apart_are_named(self, image_text_models):
        spec = f"transformers:{image_text_models / 'clip'}"
        # Both are one unknown word to it.
        names = ["cat", "zebra", "dog", "horse"]
        classifier = load_classifier(spec, classes=names, templates="a {}.")
        text = " ".join(classifier.assumed)
        assert "1 class has the same vector as another" in text
        assert "'zebra' and 'horse'" in text
        plain = load_classifier(spec, classes=NAMES, templates="a {}.")
        assert "same vector" not in " ".join(plain.assumed)

    def test_classes_that_cannot_be_asked_for(self, image_text_models):
        spec = f"transformers:{image_text_models / 'clip'}"
        with pytest.raises(LabelError, match="Class 1 has no name"):
            load_classifier(spec, classes=["cat", " "])
        with pytest.raises(LabelError, match="classes 0 and 2 are both called 'Cat'"):
            load_classifier(spec, classes=["cat", "dog", "Cat"])

    def test_sentences_are_checked_before_the_towers_are_loaded(
        self, image_text_models, monkeypatch
    ):
        from shiftproof.models.classifiers import open_clip, transformers

        def refuse(*_, **__):
            raise AssertionError("loaded")

        for source in (open_clip, transformers):
            monkeypatch.setattr(source, "open_image_text", refuse)
        spec = f"transformers:{image_text_models / 'clip'}"
        for one in (spec, "open_clip:ViT-B-32/laion2b_s34b_b79k"):
            with pytest.raises(InputError, match=r"Template 1: expected a sentence with \{\}"):
                load_classifier(one, classes=NAMES, templates=["a photo"])
            with pytest.raises(LabelError, match="Class 1 has no name"):
                load_classifier(one, classes=["cat", " "])
            with pytest.raises(AssertionError, match="loaded"):
                load_classifier(one, classes=NAMES, templates=["a {}."])

    def test_templates_belong_to_zero_shot_models(self, image_text_models):
        with pytest.raises(InputError, match="templates is an option of transformers, open_clip"):
            load_classifier("demo", templates="a {}.")
        with pytest.raises(InputError, match="takes no sentences"):
            load_classifier(f"transformers:{image_text_models / 'vit'}", templates="a {}.")


class TestKept:
    def test_a_run_has_the_vectors_and_they_are_not_made_again(
        self, image_text_models, tmp_path, monkeypatch
    ):
        spec = f"transformers:{image_text_models / 'clip'}"
        first = load_classifier(spec, classes=NAMES)
        first.class_vectors.save(tmp_path)
        [words] = [json.loads(path.read_text()) for path in (tmp_path / "prompts").glob("*.json")]
        assert words["names"] == NAMES
        assert len(words["templates"]) == 80

        def refuse(*_):
            raise AssertionError

        monkeypatch.setattr(class_vectors, "_average", refuse)
        again = load_classifier(spec, classes=NAMES, run_folder=tmp_path)
        assert again.settings == first.settings
        with pytest.raises(AssertionError):
            load_classifier(spec, classes=[*NAMES, "cat"], run_folder=tmp_path)

    def test_what_is_damaged_is_made_anew(self, image_text_models, tmp_path):
        spec = f"transformers:{image_text_models / 'clip'}"
        first = load_classifier(spec, classes=NAMES, templates="a {}.")
        first.class_vectors.save(tmp_path)
        [path] = (tmp_path / "prompts").glob("*.npy")
        path.write_bytes(path.read_bytes()[:90])
        again = load_classifier(spec, classes=NAMES, templates="a {}.", run_folder=tmp_path)
        assert again.settings == first.settings


class TestInterrupted:
    """Of ImageNet's 80,000 sentences a large tower needs hours on one core."""

    def make(self, kept, stops=None):
        """Return the vectors of nine names, of which the tower is asked some at a time."""
        asked = []

        def encode(sentences):
            if len(asked) == stops:
                raise KeyboardInterrupt
            asked.append(len(sentences))
            lengths = torch.tensor([[len(text), text.count("a"), 1.0] for text in sentences])
            return lengths.double()

        prompts = Prompts(tuple("abcdefghi"), ("a {}.", "the {} {}."))
        tower = TextTower(encode, lambda: "tower")
        return class_vectors.make_class_vectors(tower, prompts, run_folder=kept), asked

    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch):
        monkeypatch.setattr(class_vectors, "SECONDS", 0.0)
        monkeypatch.setattr(class_vectors, "_SENTENCES", 4)

    def test_it_goes_on_with_what_was_made(self, tmp_path):
        whole, _ = self.make(None)
        with pytest.raises(KeyboardInterrupt):
            self.make(tmp_path / "run", stops=2)
        there = (tmp_path / "run").iterdir()
        assert [path.name for path in there] == [class_vectors.UNFINISHED]
        again, asked = self.make(tmp_path / "run")
        assert asked == [4, 4, 2]
        np.testing.assert_array_equal(again.values, whole.values)
        again.save(tmp_path / "run")
        assert [path.name for path in (tmp_path / "run").iterdir()] == ["prompts"]
        assert self.make(tmp_path / "run")[1] == []

    def test_nothing_is_written_to_a_folder_of_others(self, tmp_path):
        (tmp_path / "photograph.png").write_bytes(b"mine")
        self.make(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["photograph.png"]


class TestTheFingerprint:
    """It is of what determines the vectors of the classes, whose last bits depend on threads."""

    def load(self, models, monkeypatch=None, factor=1.0, **options):
        if monkeypatch is not None:
            monkeypatch.setattr(class_vectors, "_normalize", _normalize_times(factor))
        spec = f"open_clip:local-dir:{models / 'open_clip'}"
        return load_classifier(spec, classes=NAMES, templates="simple", **options)

    def test_other_last_bits_are_no_other_weights(self, image_text_models, monkeypatch):
        one = self.load(image_text_models)
        other = self.load(image_text_models, monkeypatch, 1 + 1e-6)
        assert not torch.equal(one.module.head.weight, other.module.head.weight)
        assert one.settings == other.settings
        adapted = [make_adapter("rpl", each).settings for each in (one, other)]
        assert adapted[0] == adapted[1]

    def test_other_sentences_are(self, image_text_models):
        spec = f"open_clip:local-dir:{image_text_models / 'open_clip'}"
        one, other = (
            load_classifier(spec, classes=NAMES, templates=f"{word} {{}}").settings
            for word in ("red", "blue")
        )
        assert one["fingerprint"] != other["fingerprint"]

    def test_a_head_that_was_trained_is(self, image_text_models):
        classifier = self.load(image_text_models)
        before = classifier.settings["fingerprint"]
        with torch.no_grad():
            classifier.module.head.weight[0, 0] += 0.5
        assert classifier.settings["fingerprint"] != before

    def test_other_tokens_are(self):
        def make(numbers):
            tokens = TokenTower(torch.nn.Identity(), lambda texts: {"input_ids": numbers}, None)
            tower = TextTower(lambda texts: torch.ones(len(texts), 2), lambda: "tower", tokens)
            return class_vectors.make_class_vectors(tower, Prompts(("a", "b"), ("{}",)))

        one, other = (make(torch.tensor([[1], [last]])).fingerprint for last in (2, 3))
        assert one != other


def _normalize_times(factor):
    original = class_vectors._normalize
    return lambda vectors: original(vectors) * factor


def test_what_cannot_be_had(image_text_models, tmp_path):
    with pytest.raises(BrokenFileError, match="expected a folder, found none"):
        load_classifier(f"transformers:{tmp_path}/none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BrokenFileError, match=r"a folder with a config\.json, as save_pretrained"):
        load_classifier(f"transformers:{tmp_path}/empty")
    with pytest.raises(ModelError, match=r"open_clip:local-dir:.*config file missing"):
        load_classifier(f"open_clip:local-dir:{tmp_path}/empty")


def test_an_id_without_a_network_says_what_to_do(image_text_models, monkeypatch):
    import transformers

    def refuse(*_, **__):
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(ModelError, match="name the folder: transformers:FOLDER"):
        load_classifier("transformers:openai/clip-vit-base-patch32")


@pytest.mark.parametrize("spec", ["rpl:lr=0.01", "lame"])
def test_it_adapts_like_any_classifier(image_text_models, spec):
    classifier = load_classifier(
        f"transformers:{image_text_models / 'clip'}", classes=NAMES, templates="a {}."
    )
    images = resized(classifier)
    before = classifier.predict(images)
    adapted = make_adapter(spec, classifier)
    adapted.predict(images)
    assert np.abs(adapted.predict(images) - before).max() > 1e-6
    np.testing.assert_array_equal(classifier.predict(images), before)
