"""Detectors that are told in words what to look for, held against the libraries' own way."""

import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from shiftproof.errors import InputError, LabelError, ModelError
from shiftproof.models import load_detector
from shiftproof.testing import check_detector
from shiftproof.types import Detections
from support.image_text import (
    photographs,
    write_grounding,
    write_omdet,
    write_owl,
    write_owl_v2,
)

transformers = pytest.importorskip("transformers", exc_type=ImportError)

NAMES = ["red cat", "dog", "blue"]
PICTURES = list(photographs(2, side=(40, 64)))


@pytest.fixture(scope="module")
def owl(tmp_path_factory):
    return write_owl(tmp_path_factory.mktemp("owl"))


@pytest.fixture(scope="module")
def grounding(tmp_path_factory):
    return write_grounding(tmp_path_factory.mktemp("grounding"))


class TestOwl:
    def test_one_name_is_found_as_its_own_pipeline_finds_it(self, owl):
        detector = load_detector(f"transformers:{owl}", classes=["red cat"], score=0.0)
        pipeline = transformers.pipeline("zero-shot-object-detection", str(owl))
        for picture, found in zip(PICTURES, detector.predict(PICTURES), strict=True):
            expected = pipeline(
                Image.fromarray(picture), candidate_labels=["red cat"], threshold=0.0
            )
            boxes = [list(entry["box"].values()) for entry in expected]
            scores = [entry["score"] for entry in expected]
            np.testing.assert_allclose(found.scores, scores, atol=1e-3)
            # The pipeline cuts its boxes to whole pixels.
            np.testing.assert_allclose(np.trunc(found.boxes), boxes, atol=1)

    def test_a_box_has_the_class_that_answers_highest(self, owl):
        detector = load_detector(f"transformers:{owl}", classes=NAMES, score=0.0)
        alone = [
            load_detector(f"transformers:{owl}", classes=[name], score=0.0).predict(PICTURES)
            for name in NAMES
        ]
        for place, found in enumerate(detector.predict(PICTURES)):
            most = max(each[place].scores.max() for each in alone)
            assert found.scores[0] == pytest.approx(most, abs=1e-5)
            best = int(np.argmax([each[place].scores.max() for each in alone]))
            assert found.labels[0] == best
        check_detector(detector)

    def test_a_sentence_is_another_question(self, owl):
        plain = load_detector(f"transformers:{owl}", classes=NAMES)
        asked = load_detector(f"transformers:{owl}?template=a photo of a {{}}.", classes=NAMES)
        assert asked.settings["convention"]["template"] == "'a photo of a {}.'"
        assert (asked.predict(PICTURES)[0].scores != plain.predict(PICTURES)[0].scores).any()
        with pytest.raises(InputError, match=r"expected a sentence with \{\}"):
            load_detector(f"transformers:{owl}?template=a photo", classes=NAMES)

    def test_what_to_look_for_must_be_said(self, owl):
        with pytest.raises(InputError, match="needs class names: give them by classes"):
            load_detector(f"transformers:{owl}")
        detector = load_detector(f"transformers:{owl}", vocabulary=NAMES)
        assert detector.classes.names == tuple(NAMES)
        both = load_detector(f"transformers:{owl}", vocabulary=NAMES, classes=["dog"])
        assert both.classes.names == ("dog",)
        with pytest.raises(LabelError, match="both called 'dog'"):
            load_detector(f"transformers:{owl}", classes=["dog", "dog"])


class TestOwl2:
    """OWLv2 pads each image to a square, so its boxes are in shares of the longer side."""

    def test_images_of_two_shapes_are_found_as_its_own_pipeline_finds_them(self, tmp_path):
        folder = write_owl_v2(tmp_path)
        pictures = [*PICTURES, *photographs(1, side=(70, 30), seed=1)]
        detector = load_detector(f"transformers:{folder}", classes=["red cat"], score=0.0)
        pipeline = transformers.pipeline("zero-shot-object-detection", str(folder))
        for picture, found in zip(pictures, detector.predict(pictures), strict=True):
            expected = pipeline(
                Image.fromarray(picture), candidate_labels=["red cat"], threshold=0.0
            )
            expected = sorted(expected, key=lambda entry: -entry["score"])
            assert len(found) == len(expected) > 0
            np.testing.assert_allclose(found.scores, [one["score"] for one in expected], atol=1e-3)
            # The pipeline cuts its boxes to whole pixels; a box need not be inside the image.
            boxes = np.array([list(one["box"].values()) for one in expected])
            inside = found.boxes.clip(0, [picture.shape[1], picture.shape[0]] * 2)
            theirs = boxes.clip(0, [picture.shape[1], picture.shape[0]] * 2)
            np.testing.assert_allclose(inside, theirs, atol=1.01)


class TestOmDetTurbo:
    def test_boxes_are_those_of_its_own_processor(self, tmp_path):
        folder = write_omdet(tmp_path)
        detector = load_detector(f"transformers:{folder}?score=0.2", classes=NAMES)
        processor = transformers.OmDetTurboProcessor.from_pretrained(folder)
        network = transformers.OmDetTurboForObjectDetection.from_pretrained(folder).eval()
        for picture, found in zip(PICTURES, detector.predict(PICTURES), strict=True):
            inputs = processor(
                Image.fromarray(picture), text=[NAMES], return_tensors="pt",
                text_kwargs=processor.text_kwargs,
            )  # fmt: skip
            with torch.no_grad():
                outputs = network(**{k: v for k, v in inputs.items() if k != "pixel_mask"})
            [expected] = processor.post_process_grounded_object_detection(
                outputs, threshold=0.2, target_sizes=[picture.shape[:2]]
            )
            order = np.argsort(-expected["scores"].numpy(), kind="stable")
            assert len(found) == len(order) > 0
            np.testing.assert_allclose(found.scores, expected["scores"].numpy()[order], atol=1e-5)
            np.testing.assert_allclose(found.boxes, expected["boxes"].numpy()[order], atol=1e-3)
            assert found.labels.tolist() == expected["labels"].numpy()[order].tolist()
        check_detector(detector)
        with pytest.raises(InputError, match="takes class names, no sentences"):
            load_detector(f"transformers:{folder}?template=a {{}}", classes=NAMES)


class TestGroundingDino:
    def expected(self, folder, names, limit):
        """Scores by hand from the network's answers per token, one prompt for these names."""
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        processor = transformers.AutoImageProcessor.from_pretrained(folder)
        network = transformers.GroundingDinoForObjectDetection.from_pretrained(folder).eval()
        words = tokenizer(" ".join(f"{name}." for name in names), return_tensors="pt")
        ids = words["input_ids"][0].tolist()
        owners, owner = [], 0
        for token in ids:
            owners.append(owner)
            owner += token == 1012
        found = []
        for picture in PICTURES:
            inputs = processor(images=[Image.fromarray(picture)], return_tensors="pt")
            with torch.no_grad():
                outputs = network(**inputs, **words)
            tokens = outputs.logits[0].sigmoid().numpy()
            scores = np.stack(
                [
                    tokens[:, [
                        at for at, token in enumerate(ids)
                        if owners[at] == place and token not in (101, 102, 1012)
                    ]].mean(axis=1)
                    for place in range(len(names))
                ],
                axis=1,
            )  # fmt: skip
            x, y, w, h = outputs.pred_boxes[0].numpy().T
            boxes = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=1)
            boxes *= [picture.shape[1], picture.shape[0]] * 2
            order = np.argsort(-scores.ravel(), kind="stable")[:limit]
            found.append((scores.ravel()[order], order % len(names), boxes[order // len(names)]))
        return found

    def test_a_class_has_the_mean_of_its_tokens(self, grounding):
        spec = f"transformers:{grounding}?limit=20&score=0"
        detector = load_detector(spec, classes=["Red cat", "dog"])
        expected = self.expected(grounding, ["red cat", "dog"], 20)
        for picture, (scores, labels, boxes) in zip(PICTURES, expected, strict=True):
            [found] = detector.predict([picture])
            np.testing.assert_allclose(found.scores, scores, atol=1e-5)
            assert found.labels.tolist() == labels.tolist()
            np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
        check_detector(detector)

    def test_names_without_room_are_asked_for_in_several_prompts(self, grounding):
        names = ["red cat", "dog", "blue", "green"]
        detector = load_detector(f"transformers:{grounding}?limit=200&score=0", classes=names)
        assert detector.assumed == ("asked in words, 2 prompts",)
        # There are six tokens: two and a stop, one and a stop; then twice one and a stop.
        (scores, labels, _), *_ = self.expected(grounding, ["blue", "green"], 200)
        [found] = detector.predict(PICTURES[:1])
        np.testing.assert_allclose(found.scores[found.labels == 3], scores[labels == 1], atol=1e-5)
        assert (found.labels == 0).sum() == 12

    def test_bad_input(self, grounding):
        with pytest.raises(InputError, match="takes class names, no sentences"):
            load_detector(f"transformers:{grounding}", classes=NAMES, template="a {}.")
        with pytest.raises(InputError, match="longer than the 6 tokens"):
            load_detector(f"transformers:{grounding}", classes=["a a a a a a a"])


class World:
    """The calls of Ultralytics' YOLO-World that its documentation has."""

    task = "detect"

    def __init__(self, path):
        self.names = {0: "person"}

    def set_classes(self, names):
        if "unheard" in names:
            raise RuntimeError("no text tower")
        self.names = dict(enumerate(names))

    def predict(self, images, **_):
        boxes = types.SimpleNamespace(
            xyxy=torch.tensor([[0.0, 0.0, 4.0, 4.0]]),
            conf=torch.tensor([0.5]),
            cls=torch.tensor([float(len(self.names) - 1)]),
        )
        return [types.SimpleNamespace(boxes=boxes, masks=None) for _ in images]


class TestYoloWorld:
    @pytest.fixture(autouse=True)
    def _installed(self, monkeypatch, tmp_path):
        module = types.ModuleType("ultralytics")
        module.YOLO = World
        monkeypatch.setitem(sys.modules, "ultralytics", module)
        (tmp_path / "world.pt").write_bytes(b"weights")

    def test_it_is_told_what_to_look_for(self, tmp_path):
        spec = f"ultralytics:{tmp_path / 'world.pt'}"
        assert load_detector(spec).classes.names == ("person",)
        detector = load_detector(spec, vocabulary=NAMES)
        assert detector.classes.names == tuple(NAMES)
        [found] = detector.predict([np.zeros((8, 8, 3), np.uint8)])
        assert isinstance(found, Detections)
        assert found.labels.tolist() == [2]
        with pytest.raises(ModelError, match=r"cannot take 1 class name \(no text tower\)"):
            load_detector(spec, classes=["unheard"])
