import json
import sys
import types

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image as PillowImage
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.resnet import BasicBlock, ResNet

from shiftproof.adapt import BatchNorm
from shiftproof.errors import (
    BrokenFileError,
    InputError,
    MissingExtraError,
    ModelError,
    UnknownNameError,
)
from shiftproof.models import (
    DETECTOR_LOADERS,
    Detector,
    DetectorLoader,
    TorchvisionConvention,
    load_detector,
)
from shiftproof.models.detectors.torchvision import compact_classes
from shiftproof.testing import check_detector

SMALL = "ssdlite320_mobilenet_v3_large"


def pictures(*sizes):
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def tiny(kind=FasterRCNN, norm=torch.nn.BatchNorm2d):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        widths = [64, 128, 256, 512]
        backbone = BackboneWithFPN(
            ResNet(BasicBlock, [1, 1, 1, 1], norm_layer=norm),
            {f"layer{number + 1}": str(number) for number in range(4)},
            widths,
            out_channels=32,
        )
        return kind(
            backbone,
            num_classes=4,
            box_head=TwoMLPHead(32 * 7 * 7, 1024),
            min_size=64,
            max_size=96,
            rpn_post_nms_top_n_test=20,
            box_score_thresh=0.0,
            box_detections_per_img=10,
        ).eval()


class TestTorchvision:
    def test_cocos_ids_are_its_80_classes(self):
        weights = torchvision.models.get_model_weights(SMALL).DEFAULT
        classes, labels = compact_classes(weights.meta["categories"])
        assert len(classes) == 80
        assert len(labels) == 91
        # From the annotations of COCO: its last id and one after the first gap.
        assert classes.names[labels[90]] == "toothbrush"
        assert classes.names[labels[13]] == "stop sign"
        assert labels[12] is labels[0] is None

    def test_untrained_needs_no_network_and_keeps_the_contract(self):
        before = torch.random.get_rng_state()
        detector = load_detector(f"torchvision:{SMALL}?pretrained=false&limit=5&score=0")
        assert torch.equal(torch.random.get_rng_state(), before)
        assert detector.classes.names[:2] == ("person", "bicycle")
        found = detector.predict(pictures((40, 60)))[0]
        assert 0 < len(found) <= 5
        convention = detector.settings["convention"]
        assert (convention["limit"], convention["score"]) == (5, 0.0)
        assert convention["overlap"] == 0.55  # torchvision's own for this network
        json.dumps(detector.settings)
        check_detector(detector)

    def test_boxes_are_those_that_the_network_gives(self):
        network = tiny()
        detector = Detector(
            network, "abc"[:0] or ["a", "b", "c"], convention=TorchvisionConvention()
        )
        images = pictures((64, 64), (48, 80))
        with torch.no_grad():
            expected = network(
                [torch.from_numpy(i.transpose(2, 0, 1) / np.float32(255)) for i in images]
            )
        for one, other in zip(detector.predict(images), expected, strict=True):
            np.testing.assert_allclose(one.boxes, other["boxes"], atol=1e-4)
            np.testing.assert_allclose(one.scores, other["scores"], atol=1e-6)
            np.testing.assert_array_equal(one.labels, other["labels"] - 1)
        # A smaller image is padded to the largest of its batch, and the network sees that.
        check_detector(detector, images, batch_independent=False)

    def test_masks_have_the_images_size(self):
        network = tiny(MaskRCNN)
        detector = Detector(network, ["a", "b", "c"], convention=TorchvisionConvention())
        image = pictures((48, 80))[0]
        found = detector.predict([image])[0]
        with torch.no_grad():
            (expected,) = network([torch.from_numpy(image.transpose(2, 0, 1) / np.float32(255))])
        areas = (expected["masks"][:, 0] >= 0.5).sum((1, 2)).tolist()
        assert [sum(mask["counts"][1::2]) for mask in found.masks] == areas
        assert sum(areas) > 0

    def test_a_network_with_more_labels_than_are_named(self):
        network = tiny()
        with torch.no_grad():
            network.roi_heads.box_predictor.cls_score.bias[3] = 5
        detector = Detector(network, ["a"], convention=TorchvisionConvention((None, 0)))
        with pytest.raises(ModelError, match="2 labels are named"):
            detector.predict(pictures((64, 64)))

    def test_a_download_that_fails_is_said(self, monkeypatch):
        def fail(name, weights):
            raise OSError("no route to host")

        monkeypatch.setattr(torchvision.models, "get_model", fail)
        with pytest.raises(ModelError, match="could not be downloaded"):
            load_detector(f"torchvision:{SMALL}")

    def test_published_weights_are_asked_for_by_name(self, monkeypatch):
        asked = []

        def give(name, weights):
            asked.append((name, str(weights)))
            return tiny()

        monkeypatch.setattr(torchvision.models, "get_model", give)
        load_detector("torchvision:retinanet_resnet50_fpn@COCO_V1")
        load_detector("torchvision:maskrcnn_resnet50_fpn_v2")
        assert asked == [
            ("retinanet_resnet50_fpn", "RetinaNet_ResNet50_FPN_Weights.COCO_V1"),
            ("maskrcnn_resnet50_fpn_v2", "MaskRCNN_ResNet50_FPN_V2_Weights.COCO_V1"),
        ]

    def test_every_detector_of_torchvision_is_named(self):
        models = torchvision.models
        for name in models.list_models(module=models.detection):
            if name.startswith("keypoint"):
                with pytest.raises(UnknownNameError):
                    load_detector(f"torchvision:{name}", pretrained=False)
            else:
                classes, _ = compact_classes(
                    models.get_model_weights(name).DEFAULT.meta["categories"]
                )
                assert len(classes) == 80

    def test_misspelt(self):
        with pytest.raises(UnknownNameError, match="Did you mean 'fasterrcnn_resnet50_fpn'"):
            load_detector("torchvision:fasterrcn_resnet50_fpn")
        with pytest.raises(UnknownNameError, match="Did you mean 'COCO_V1'"):
            load_detector(f"torchvision:{SMALL}@COCO_V2")


class TestBatchNorm:
    """Adapters take the network of a detector as a plain module."""

    @pytest.mark.parametrize("norm", [torch.nn.BatchNorm2d, torchvision.ops.misc.FrozenBatchNorm2d])
    def test_the_statistics_of_the_backbone_are_those_of_the_batch(self, norm):
        detector = Detector(tiny(norm=norm), ["a", "b", "c"], convention=TorchvisionConvention())
        adapter = BatchNorm(detector.module, prior=0)
        adapted = detector.with_network(adapter, name="adapted")
        images = pictures((64, 64), (64, 64))
        source = detector.predict(images)
        found = adapted.predict(images)
        assert all(len(one) for one in found)
        assert not np.allclose(found[0].scores[:3], source[0].scores[:3], atol=1e-6)

        # The first layer's input by hand: normalise, convolve, and take mean and variance.
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        with torch.no_grad():
            features = detector.module.backbone.body.conv1((pixels - mean) / std)
        merged = adapter.merge().backbone.body.bn1
        torch.testing.assert_close(
            merged.running_mean, features.mean((0, 2, 3)), rtol=1e-3, atol=1e-5
        )
        torch.testing.assert_close(
            merged.running_var, features.var((0, 2, 3), correction=0), rtol=1e-3, atol=1e-5
        )
        # The detector that was given goes on as it was.
        for one, other in zip(detector.predict(images), source, strict=True):
            np.testing.assert_array_equal(one.boxes, other.boxes)

    def test_the_merged_network_finds_what_the_adapter_found(self):
        detector = Detector(tiny(), ["a", "b", "c"], convention=TorchvisionConvention())
        adapter = BatchNorm(detector.module, prior=1)
        images = pictures((64, 64), (64, 64))
        found = detector.with_network(adapter).predict(images)
        merged = detector.with_network(adapter.merge()).predict(images)
        for one, other in zip(found, merged, strict=True):
            np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)

    def test_images_of_any_sizes_go_one_by_one(self):
        detector = Detector(tiny(), ["a", "b", "c"], convention=TorchvisionConvention())
        adapted = detector.with_network(BatchNorm(detector.module))
        images = pictures((64, 64), (48, 80))
        assert len(adapted.predict(images, batch_size=1)) == 2


class TestFile:
    def build(self, monkeypatch):
        monkeypatch.setattr(
            "shiftproof.models.detectors.file.build_torchvision_detector",
            lambda name, labels: tiny() if labels == 4 else pytest.fail(f"{labels} labels"),
        )

    def test_the_weights_are_read(self, tmp_path, monkeypatch):
        self.build(monkeypatch)
        network = tiny()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(1.01)
        state = {f"module.{name}": value for name, value in network.state_dict().items()}
        torch.save({"model": state, "epoch": 3}, tmp_path / "checkpoint.pt")
        (tmp_path / "names.txt").write_text("car\nperson\nrider\n", encoding="utf-8")
        detector = load_detector(
            f"file:{tmp_path / 'checkpoint.pt'}?arch=torchvision:fasterrcnn_resnet50_fpn"
            f"&classes={tmp_path / 'names.txt'}"
        )
        assert detector.classes.names == ("car", "person", "rider")
        direct = Detector(network, detector.classes, convention=TorchvisionConvention())
        assert detector.settings["fingerprint"] == direct.settings["fingerprint"]
        images = pictures((64, 64))
        np.testing.assert_array_equal(
            detector.predict(images)[0].boxes, direct.predict(images)[0].boxes
        )

    def test_weights_that_do_not_fit(self, tmp_path, monkeypatch):
        self.build(monkeypatch)
        state = tiny().state_dict()
        del state["rpn.head.cls_logits.bias"]
        torch.save(state, tmp_path / "checkpoint.pt")
        with pytest.raises(ModelError, match=r"do not fit .* 3 classes .*rpn\.head\.cls_logits"):
            load_detector(
                f"file:{tmp_path / 'checkpoint.pt'}",
                arch="torchvision:fasterrcnn_resnet50_fpn",
                classes=["a", "b", "c"],
            )

    def test_what_is_no_weights_is_not_run(self, tmp_path):
        torch.save(tiny(), tmp_path / "checkpoint.pt")
        with pytest.raises(ModelError, match="could run code"):
            load_detector(f"file:{tmp_path / 'checkpoint.pt'}?arch=torchvision:{SMALL}")

    def test_the_architecture_is_needed(self):
        with pytest.raises(InputError, match="needs its architecture"):
            load_detector("file:checkpoint.pt")
        with pytest.raises(UnknownNameError, match="library of detectors"):
            load_detector("file:checkpoint.pt?arch=timm:resnet18")


class FakeProcessor:
    """The calls that transformers documents, on images of their own size."""

    def __call__(self, *, images, return_tensors, input_data_format):
        assert (return_tensors, input_data_format) == ("pt", "channels_last")
        return {"pixel_values": torch.tensor([[image.mean() / 255] for image in images])}

    def post_process_object_detection(self, outputs, *, threshold, target_sizes):
        found = []
        for scores, (height, width) in zip(outputs, target_sizes, strict=True):
            kept = scores > threshold
            boxes = torch.tensor([[0.0, 0.0, width, height]]).repeat(3, 1)
            found.append(
                {"scores": scores[kept], "labels": torch.arange(3)[kept], "boxes": boxes[kept]}
            )
        return found

    def to_json_string(self):
        return "{}"


class FakeNetwork(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = torch.nn.Parameter(torch.tensor([0.4, 0.8, 0.6]))
        self.config = types.SimpleNamespace(id2label={0: "person", 1: "N/A", 2: "car"})

    def forward(self, pixel_values):
        return pixel_values.float() * self.weights


class TestTransformers:
    def install(self, monkeypatch, network=None, processor=None):
        def loader(value):
            def from_pretrained(name):
                if name != "folder":
                    raise OSError(f"Can't load {name}")
                return value

            return types.SimpleNamespace(from_pretrained=from_pretrained)

        module = types.ModuleType("transformers")
        module.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING = {}
        module.AutoConfig = loader(types.SimpleNamespace())
        module.AutoModelForObjectDetection = loader(network or FakeNetwork())
        module.AutoImageProcessor = loader(processor or FakeProcessor())
        monkeypatch.setitem(sys.modules, "transformers", module)

    def test_labels_without_a_name_are_left_out_and_the_rest_sorted(self, monkeypatch):
        self.install(monkeypatch)
        detector = load_detector("transformers:folder")
        assert detector.classes.names == ("person", "car")
        white = np.full((20, 30, 3), 255, np.uint8)
        found = detector.predict([white])[0]
        assert found.labels.tolist() == [1, 0]
        np.testing.assert_allclose(found.scores, [0.6, 0.4])
        assert found.boxes.tolist() == [[0, 0, 30, 20]] * 2
        check_detector(detector)

    def test_thresholds(self, monkeypatch):
        self.install(monkeypatch)
        white = np.full((20, 30, 3), 255, np.uint8)
        detector = load_detector("transformers:folder", score=0.5)
        assert len(detector.predict([white])[0]) == 1
        assert detector.settings["convention"]["score"] == 0.5
        assert len(load_detector("transformers:folder?limit=1").predict([white])[0]) == 1

    def test_what_cannot_be_loaded(self, monkeypatch):
        self.install(monkeypatch)
        with pytest.raises(
            ModelError, match=r"transformers:other cannot be loaded .*Can't load other"
        ):
            load_detector("transformers:other")
        self.install(monkeypatch, processor=types.SimpleNamespace())
        with pytest.raises(ModelError, match="cannot read boxes"):
            load_detector("transformers:folder")

    def test_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError, match=r'pip install "shiftproof\[hf\]"'):
            load_detector("transformers:facebook/detr-resnet-50")

    def test_a_real_network_of_random_weights(self, tmp_path):
        transformers = pytest.importorskip("transformers", exc_type=ImportError)
        names = {0: "N/A", 1: "person", 2: "bicycle", 3: "N/A", 4: "car"}
        config = transformers.YolosConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=[64, 64],
            num_detection_tokens=7,
            id2label=names,
            label2id={name: index for index, name in names.items()},
        )
        transformers.YolosForObjectDetection(config).save_pretrained(tmp_path)
        size = {"shortest_edge": 64, "longest_edge": 96}
        transformers.YolosImageProcessor(size=size).save_pretrained(tmp_path)
        detector = load_detector(f"transformers:{tmp_path}")
        assert detector.classes.names == ("person", "bicycle", "car")
        check_detector(detector, batch_independent=False)


class FakeYolo:
    """The calls that Ultralytics documents; it finds one box over the red part of an image."""

    names = types.MappingProxyType({0: "red", 1: "blue"})

    def __init__(self, path):
        self.task = "classify" if "classify" in path else "detect"
        self.asked = {}

    def predict(self, images, **options):
        # The library pads images of several sizes otherwise than one alone.
        assert len({image.shape for image in images}) == 1
        self.asked.update(options)
        results = []
        for image in images:
            rows, columns = np.nonzero(image[..., 2] > image[..., 0])  # BGR
            found = len(rows) > 0
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if found else []
            boxes = types.SimpleNamespace(
                xyxy=torch.tensor(np.reshape(box, (-1, 4)).astype(np.float32)),
                conf=torch.full((int(found),), 0.75),
                cls=torch.zeros(int(found)),
            )
            mask = torch.from_numpy((image[..., 2] > image[..., 0])[None]) if found else None
            masks = None if mask is None else types.SimpleNamespace(data=mask)
            results.append(types.SimpleNamespace(boxes=boxes, masks=masks))
        return results


class TestUltralytics:
    @pytest.fixture(autouse=True)
    def _installed(self, monkeypatch):
        module = types.ModuleType("ultralytics")
        module.YOLO = FakeYolo
        monkeypatch.setitem(sys.modules, "ultralytics", module)

    def test_it_sees_the_right_colours(self, tmp_path):
        (tmp_path / "yolo.pt").write_bytes(b"weights")
        detector = load_detector(f"ultralytics:{tmp_path / 'yolo.pt'}?overlap=0.5&size=64")
        image = np.zeros((20, 30, 3), np.uint8)
        image[..., 2] = 9
        image[4:10, 5:25] = (200, 0, 0)
        found, none = detector.predict([image, np.zeros((8, 8, 3), np.uint8)])
        assert found.boxes.tolist() == [[5, 4, 25, 10]]
        assert found.masks[0]["counts"][1] == 6
        assert len(none) == 0
        assert detector.settings["function"] == {
            "library": "ultralytics",
            "score": 0.001,
            "overlap": 0.5,
            "limit": 300,
            "size": [64, 64],
        }
        assert detector.module._model.asked["iou"] == 0.5
        assert detector.module._model.asked["imgsz"] == [64, 64]
        check_detector(detector)

    def test_the_fingerprint_is_the_files(self, tmp_path):
        for name in ("a.pt", "b.pt"):
            (tmp_path / name).write_bytes(name.encode())
        one, other = (
            load_detector(f"ultralytics:{tmp_path / name}").settings["fingerprint"]
            for name in ("a.pt", "b.pt")
        )
        assert one != other

    def test_nothing_is_downloaded(self):
        with pytest.raises(BrokenFileError, match="no such file"):
            load_detector("ultralytics:yolov8n.pt")

    def test_another_task(self, tmp_path):
        (tmp_path / "classify.pt").write_bytes(b"weights")
        with pytest.raises(ModelError, match="got one for 'classify'"):
            load_detector(f"ultralytics:{tmp_path / 'classify.pt'}")

    def test_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ultralytics", None)
        with pytest.raises(MissingExtraError, match=r'pip install "shiftproof\[ultralytics\]"'):
            load_detector("ultralytics:yolov8n.pt")


class TestText:
    @pytest.mark.parametrize(
        ("spec", "options", "error", "message"),
        [
            ("torchvison:x", {}, UnknownNameError, "Did you mean 'torchvision'"),
            ("yolo.onnx", {}, UnknownNameError, "write: onnx:yolo.onnx"),
            ("onnx:", {}, InputError, "names no model"),
            ("onnx:a?decode=yolov8&decode=yolov5", {}, InputError, "given twice"),
            ("onnx:a?decode=yolov8", {"decode": "yolov8"}, InputError, "given twice"),
            ("onnx:a?shape=3", {}, UnknownNameError, "Unknown option 'shape'"),
            ("onnx:a?arch=b", {}, InputError, "arch is an option of file models"),
            ("torchvision:a?decode=yolov8", {}, InputError, "decode is an option of onnx models"),
            ("onnx:a?score=high", {}, InputError, "score cannot be 'high'"),
            ("onnx:a", {"score": 1.5}, InputError, "score: expected 0..1"),
            ("onnx:a", {"overlap": float("nan")}, InputError, "overlap: expected 0..1"),
            ("onnx:a", {"limit": 0}, InputError, "limit"),
            ("onnx:a", {"classes": "nowhere.txt"}, BrokenFileError, "nowhere.txt: cannot be read"),
            (7, {}, InputError, r"Detector\(module, classes\)"),
        ],
    )
    def test_what_is_refused(self, spec, options, error, message):
        with pytest.raises(error, match=message):
            load_detector(spec, **options)

    def test_a_list_of_names_with_a_hole(self, tmp_path):
        (tmp_path / "names.txt").write_text("\na\n\nb\n", encoding="utf-8")
        with pytest.raises(BrokenFileError, match=r"names\.txt, line 3: .*an empty line"):
            load_detector("onnx:a?decode=yolov8", classes=tmp_path / "names.txt")

    def test_a_source_of_ones_own(self, monkeypatch):
        from shiftproof.models import LoadedDetector
        from shiftproof.types import Detections

        def load(target, options):
            def nothing(images):
                return [Detections([], [], [])] * len(images)

            return LoadedDetector(nothing, options.classes, None)

        monkeypatch.setitem(DETECTOR_LOADERS, "mine", DetectorLoader(load, "Mine.", "mine:x"))
        detector = load_detector("mine:x", classes=["a", "b"])
        assert repr(detector) == "Detector(mine:x, 2 classes, cpu)"
        with pytest.raises(InputError, match="the classes of its labels"):
            load_detector("mine:x")


@pytest.fixture(scope="module")
def detr(tmp_path_factory):
    """A tiny Conditional DETR over a backbone of transformers' own."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    folder = tmp_path_factory.mktemp("detr")
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=backbone, d_model=16, num_queries=5, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.DetrForObjectDetection(config).save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 128}
    transformers.DetrImageProcessor(size=size).save_pretrained(folder)
    return folder


def test_what_detr_finds_does_not_depend_on_the_batch(detr):
    """Images of three sizes together, held against transformers' pipeline, one by one."""
    import transformers

    rng = np.random.default_rng(0)
    sizes = [(40, 64), (64, 40), (40, 64), (50, 50)]
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    detector = load_detector(f"transformers:{detr}", score=0.0)
    pipeline = transformers.pipeline("object-detection", str(detr))
    together = detector.predict(images, batch_size=4)
    assert [len(found) for found in together] == [5] * 4
    for image, found in zip(images, together, strict=True):
        expected = pipeline(PillowImage.fromarray(image), threshold=0.0)
        expected = sorted(expected, key=lambda one: -one["score"])
        np.testing.assert_allclose(found.scores, [one["score"] for one in expected], atol=1e-5)
        boxes = np.array([list(one["box"].values()) for one in expected])
        # The pipeline cuts its boxes to whole pixels.
        np.testing.assert_allclose(np.trunc(found.boxes), boxes, atol=1)
