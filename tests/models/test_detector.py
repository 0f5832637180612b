import json

import numpy as np
import pytest
import torch

from shiftproof import Detections, Detector
from shiftproof.classes import Classes
from shiftproof.errors import ImageError, InputError, ModelError
from shiftproof.models import TorchvisionConvention
from shiftproof.models.detectors.boxes import encode_mask, suppress_overlaps
from shiftproof.testing import check_detector

NAMES = ["left", "right"]


def pictures(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def halves(images):
    """The darker half of each image, with its mean as the score."""
    found = []
    for image in images:
        height, width = image.shape[:2]
        middle = width // 2
        sides = [image[:, :middle], image[:, middle:]]
        label = int(np.argmin([side.mean() for side in sides]))
        box = [middle * label, 0, middle if label == 0 else width, height]
        found.append(Detections([box], [sides[label].mean() / 255], [label]))
    return found


class Squares(torch.nn.Module):
    """A network in torchvision's form, with one square per image as wide as its weight."""

    def __init__(self):
        super().__init__()
        self.width = torch.nn.Parameter(torch.tensor(8.0))
        self.drop = torch.nn.Dropout(0.5)
        self.seen = []

    def forward(self, images):
        self.seen.append((self.training, [tuple(image.shape) for image in images]))
        return [
            {
                "boxes": torch.stack([image.new_zeros(2), self.width.expand(2)]).reshape(1, 4),
                "scores": image.mean()[None],
                "labels": torch.tensor([2]),
            }
            for image in images
        ]


class TestFunction:
    def test_it_keeps_the_contract(self):
        check_detector(Detector(halves, NAMES))

    def test_images_of_any_sizes_come_back_in_order_from_any_batches(self):
        images = pictures((10, 20), (30, 8), (1, 2), (7, 7), (10, 20))
        detector = Detector(halves, NAMES)
        for batch_size in (1, 2, 5, 9):
            found = detector.predict(images, batch_size=batch_size)
            assert [one.boxes[0, 3] for one in found] == [10, 30, 1, 7, 10]

    def test_a_function_is_given_no_more_than_a_batch(self):
        sizes = []

        def count(images):
            sizes.append(len(images))
            return [Detections([], [], [])] * len(images)

        Detector(count, NAMES).predict(pictures(*[(4, 4)] * 5), batch_size=2)
        assert sizes == [2, 2, 1]

    def test_no_image(self):
        assert Detector(halves, NAMES).predict([]) == []

    def test_the_settings_say_what_the_function_says_of_itself(self):
        def function(images):
            return halves(images)

        function.fingerprint, function.device = "abc", "cuda:0"
        function.settings = {"score": 0.3}
        settings = Detector(function, NAMES, name="mine", device="cuda").settings
        assert settings["fingerprint"] == "abc"
        assert settings["device"] == "cuda:0"
        assert settings["function"] == {"score": 0.3}
        assert settings["name"] == "mine"
        other = Detector(function, ["left", "Right"], device="cuda").settings
        assert other["classes"]["fingerprint"] != settings["classes"]["fingerprint"]
        json.dumps(settings)

    def test_its_device_cannot_be_chosen(self):
        with pytest.raises(ModelError, match="brings its own device"):
            Detector(halves, NAMES, device="cuda")


class TestNetwork:
    def test_the_callers_network_is_left_as_it_was_and_is_followed(self):
        network = Squares().train()
        detector = Detector(network, NAMES, convention=TorchvisionConvention())
        images = pictures((6, 9), (6, 9))
        assert detector.predict(images)[1].boxes.tolist() == [[0, 0, 8, 8]]
        assert network.training
        assert network.seen == []
        training, shapes = detector.module.seen[0]
        assert not training
        assert shapes == [(3, 6, 9)] * 2
        before = detector.settings["fingerprint"]
        with torch.no_grad():
            network.width.fill_(5)
        assert detector.predict(images)[0].boxes.tolist() == [[0, 0, 5, 5]]
        assert detector.settings["fingerprint"] != before

    def test_images_go_in_as_floats_in_0_to_1(self):
        detector = Detector(Squares(), NAMES, convention=TorchvisionConvention())
        images = pictures((6, 9), (4, 5))
        found = detector.predict(images)
        np.testing.assert_allclose(
            [one.scores[0] for one in found], [image.mean() / 255 for image in images], rtol=1e-6
        )

    def test_another_network_in_its_place(self):
        detector = Detector(Squares(), NAMES, convention=TorchvisionConvention(), name="squares")
        wider = Squares()
        with torch.no_grad():
            wider.width.fill_(11)
        other = detector.with_network(wider)
        assert other.predict(pictures((6, 9)))[0].boxes.tolist() == [[0, 0, 11, 11]]
        assert other.name == "squares"
        function = detector.with_network(lambda batch: wider(batch), name="function")
        assert function.predict(pictures((6, 9)))[0].boxes.tolist() == [[0, 0, 11, 11]]

    def test_a_network_without_its_convention(self):
        class Tensors(torch.nn.Module):
            def forward(self, images):
                return images.float()

        with pytest.raises(ModelError, match="convention=TorchvisionConvention"):
            Detector(Tensors(), NAMES).predict(pictures((6, 9)))

    def test_a_network_of_another_convention(self):
        detector = Detector(torch.nn.Identity(), NAMES, convention=TorchvisionConvention())
        with pytest.raises(ModelError, match="does not follow torchvision's convention"):
            detector.predict(pictures((6, 9)))


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("module", "classes", "message"),
        [
            ("model.pt", NAMES, "load_detector"),
            (Squares, NAMES, "the class Squares: call it first"),
            (halves, "left", "expected a list of names"),
        ],
    )
    def test_at_construction(self, module, classes, message):
        with pytest.raises(ModelError, match=message):
            Detector(module, classes)

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (lambda images: None, "expected a list of 2 Detections, one per image, got NoneType"),
            (lambda images: halves(images)[:1], "one per image, got 1"),
            (lambda images: [[1, 2, 3, 4]] * 2, "image 0: expected Detections, got list"),
            (
                lambda images: [halves(images)[0], Detections([[0, 0, 1, 1]], [0.5], [2])],
                "image 1: the label 2 has no class; expected 0 to 1",
            ),
            (
                lambda images: [Detections([[0, 0, np.nan, 1]], [0.5], [0])] * 2,
                "images 0 to 1: .*finite boxes",
            ),
            (
                lambda images: (
                    [Detections([[0, 0, 1, 1]], [0.5], [0], [{"size": [9, 6], "counts": [54]}])] * 2
                ),
                r"a mask of \[9, 6\] pixels; expected the image's \[6, 9\]",
            ),
        ],
    )
    def test_outputs(self, answer, message):
        with pytest.raises(ModelError, match=message):
            Detector(answer, NAMES).predict(pictures((6, 9), (6, 9)))

    @pytest.mark.parametrize(
        ("images", "message"),
        [
            (np.zeros((4, 4, 3), np.uint8), r"predict\(\[image\]\)"),
            ([np.zeros((4, 4, 3), np.float32)], "Image 0: expected uint8 RGB"),
            ([*pictures((4, 4)), np.zeros((4, 4), np.uint8)], "Image 1"),
            ([np.zeros((4, 0, 3), np.uint8)], r"\(4, 0, 3\)"),
            (["a.png"], "got str"),
        ],
    )
    def test_images(self, images, message):
        with pytest.raises(ImageError, match=message):
            Detector(halves, NAMES).predict(images)

    @pytest.mark.parametrize("batch_size", [0, -1, 1.5, True])
    def test_batch_sizes(self, batch_size):
        with pytest.raises(InputError, match="batch_size"):
            Detector(halves, NAMES).predict(pictures((4, 4)), batch_size=batch_size)


class TestContract:
    """Each way to break it is caught and named."""

    @staticmethod
    def check(answer, **options):
        check_detector(Detector(answer, NAMES), **options)

    def test_what_changes_the_images(self):
        def darken(images):
            for image in images:
                image[:] = 0
            return halves(images)

        with pytest.raises(AssertionError, match=r"^images: predict changed"):
            self.check(darken)

    def test_what_is_random(self):
        def draw(images):
            rng = np.random.default_rng()
            return [Detections([[0, 0, 1, 1]], [rng.random()], [0]) for _ in images]

        with pytest.raises(AssertionError, match=r"^deterministic"):
            self.check(draw)

    def test_what_moves_the_global_random_state(self):
        def draw(images):
            np.random.random()  # noqa: NPY002
            return halves(images)

        with pytest.raises(AssertionError, match="globals: numpy's global random state"):
            self.check(draw)

    def test_what_depends_on_the_batch(self):
        def counts(images):
            return [Detections([[0, 0, len(images), 1]], [0.5], [0]) for _ in images]

        with pytest.raises(AssertionError, match=r"^batches: one by one"):
            self.check(counts)
        self.check(counts, batch_independent=False)

    def test_what_depends_on_the_order(self):
        state = {"last": 0.0}

        def remembers(images):
            found = []
            for image in images:
                found.append(Detections([[0, 0, 1, 1]], [state["last"]], [0]))
                state["last"] = float(image.mean() / 255) if len(images) == 1 else 0.0
            return found

        with pytest.raises(AssertionError, match=r"^order"):
            self.check(remembers, batch_independent=False)

    def test_what_raises(self):
        with pytest.raises(AssertionError, match="predict raised ZeroDivisionError"):
            self.check(lambda images: 1 / 0)

    def test_what_changes_its_weights(self):
        class Learns(Squares):
            def forward(self, images):
                found = super().forward(images)
                self.width.data.add_(0 * self.width.data + 1e-6)
                return found

        detector = Detector(Learns(), NAMES, convention=TorchvisionConvention())
        with pytest.raises(AssertionError, match=r"deterministic|settings|weights"):
            check_detector(detector)

    def test_one_image_is_not_enough(self):
        with pytest.raises(ValueError, match="two images"):
            check_detector(Detector(halves, NAMES), pictures((4, 4)))


class TestBoxes:
    @pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 1.0])
    def test_suppression_is_torchvisions(self, overlap):
        from torchvision.ops import batched_nms

        rng = np.random.default_rng(5)
        corners = rng.uniform(0, 60, (300, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(0, 40, (300, 2))], 1)
        boxes = boxes.astype(np.float32)
        scores = rng.permutation(300).astype(np.float32) / 300
        labels = rng.integers(0, 3, 300)
        expected = batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), overlap).numpy()
        kept = suppress_overlaps(boxes, scores, labels, overlap=overlap)
        np.testing.assert_array_equal(kept, expected)
        limited = suppress_overlaps(boxes, scores, labels, overlap=overlap, limit=7)
        np.testing.assert_array_equal(limited, expected[:7])

    def test_nothing_to_suppress(self):
        none = suppress_overlaps(
            np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, int), overlap=0.5
        )
        assert len(none) == 0

    # pycocotools asks for arrays in a way that numpy 2 warns of.
    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
    def test_masks_are_pycocotools(self):
        coco = pytest.importorskip("pycocotools.mask", exc_type=ImportError)
        rng = np.random.default_rng(2)
        for mask in [
            rng.random((5, 7)) < 0.5,
            np.ones((3, 4), bool),
            np.zeros((3, 4), bool),
            rng.random((1, 9)) < 0.2,
        ]:
            code = encode_mask(mask)
            decoded = coco.decode(coco.frPyObjects(dict(code), *mask.shape))
            np.testing.assert_array_equal(decoded.astype(bool), mask)


def test_classes_may_be_classes():
    classes = Classes(("left", "right"), title="sides")
    assert Detector(halves, classes).settings["classes"]["title"] == "sides"
