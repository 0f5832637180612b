"""Segmenters: windows, sizes and answers; and their loaders on networks that need no download."""

import numpy as np
import pytest

from shiftproof import Segmenter, load_segmenter
from shiftproof.classes import Classes
from shiftproof.errors import InputError, LabelError, ModelError, UnknownNameError
from shiftproof.models import Framing, NormalizedSegmentation
from shiftproof.models.segmenters.class_match import match_pixel_classes, translate_labels
from shiftproof.models.segmenters.windows import slide, to_labels, window_spans
from shiftproof.testing import check_segmenter
from support.label_map_trees import NAMES, nearest_color, scene, write_names

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (40, 56, 3), dtype=np.uint8)


def test_a_function_that_gives_logits_keeps_the_contract():
    check_segmenter(Segmenter(nearest_color, NAMES))


def test_the_check_sees_what_is_wrong():
    def forgetful(images):
        return [np.zeros(image.shape[:2], np.uint8) + len(images) % 2 for image in images]

    with pytest.raises(AssertionError, match="batches: one by one"):
        check_segmenter(Segmenter(forgetful, NAMES))
    check_segmenter(Segmenter(forgetful, NAMES), batch_independent=False)


def test_logits_are_resized_before_the_best_class_is_taken_as_torch_does():
    torch = pytest.importorskip("torch")
    logits = RNG.normal(size=(5, 10, 14)).astype(np.float32)
    for size in ((40, 56), (33, 70), (5, 7)):
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(logits)[None], size=size, mode="bilinear", align_corners=False
        )[0]
        ours = to_labels(logits, size)
        # The two sum in another order; where the two best classes are this near, either may be it.
        best = np.sort(theirs.numpy(), axis=0)
        clear = best[-1] - best[-2] > 1e-4
        assert clear.mean() > 0.99
        assert np.array_equal(ours[clear], theirs.argmax(0).numpy()[clear])
        assert np.array_equal(to_labels(torch.from_numpy(logits), size), theirs.argmax(0).numpy())


def test_a_label_map_of_another_size_is_taken_pixel_by_pixel():
    small = np.array([[0, 5], [9, 2]])
    assert to_labels(small, (4, 4)).tolist() == np.kron(small, np.ones((2, 2), int)).tolist()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((4, 4)), "integers, got float64"),
        (np.zeros((1, 3, 4, 4), np.float32), r"got float32 \(1, 3, 4, 4\)"),
        (np.full((4, 4), 40_000), "numbers of classes, got 40000"),
        (np.zeros((3, 4, 4), int), "got int64"),
        (None, "got object"),
    ],
)
def test_what_is_no_answer_is_refused(answer, message):
    with pytest.raises(ModelError, match=message):
        to_labels(answer, (4, 4))


def test_equal_logits_are_the_first_class():
    assert to_labels(np.zeros((3, 2, 2), np.float32), (4, 4)).max() == 0


# From mmsegmentation's rule by hand: count = max(length - window + stride - 1, 0) // stride + 1.
@pytest.mark.parametrize(
    ("length", "window", "stride", "places"),
    [
        (1024, 512, 341, [(0, 512), (341, 853), (512, 1024)]),
        (512, 512, 341, [(0, 512)]),
        (300, 512, 341, [(0, 300)]),
        (513, 512, 341, [(0, 512), (1, 513)]),
    ],
)
def test_windows_lie_where_they_do_elsewhere(length, window, stride, places):
    assert window_spans(length, window, stride) == places


def test_logits_are_averaged_where_windows_overlap():
    framing = Framing(window=(40, 32), stride=(40, 24))
    seen = []

    def score(crops):
        seen.append(crops[0].shape[:2])
        return [np.full((2, *crops[0].shape[:2]), float(len(seen)), np.float32)]

    total = slide(IMAGE, framing, score)
    assert seen == [(40, 32), (40, 32)]
    assert total[0, 0].tolist() == [1.0] * 24 + [1.5] * 8 + [2.0] * 24


def test_windows_of_a_function_that_looks_at_single_pixels_change_nothing():
    image, _ = scene(1)
    whole = Segmenter(nearest_color, NAMES).predict([image])[0]
    framing = Framing(window=(10, 10), stride=(7, 7))
    assert np.array_equal(
        Segmenter(nearest_color, NAMES, framing=framing).predict([image])[0], whole
    )


def test_answers_that_do_not_fit_are_named():
    def segmenter(answer, **options):
        return Segmenter(lambda images: [answer] * len(images), ["a", "b"], **options)

    three = np.zeros((3, 4, 4), np.float32)
    with pytest.raises(ModelError, match="logits of 3 classes, but 2 are named"):
        segmenter(three).predict([IMAGE])
    with pytest.raises(ModelError, match=r"images 0 to 0: the label 2 has no class"):
        segmenter(np.full((4, 4), 2)).predict([IMAGE])
    with pytest.raises(ModelError, match="expected 1 answer, one per image, got 2"):
        Segmenter(lambda images: [three, three], ["a"]).predict([IMAGE])
    maps = segmenter(np.zeros((40, 40), int), framing=Framing(window=(40, 40), stride=(9, 9)))
    with pytest.raises(ModelError, match="cannot be averaged over windows"):
        maps.predict([IMAGE])
    gaps = Framing(window=(8, 8), stride=(9, 8))
    with pytest.raises(InputError, match="there would be gaps"):
        segmenter(three, framing=gaps)


def test_classes_are_matched_by_name_or_number():
    data = Classes(("background", "aeroplane", "tvmonitor"))
    match = match_pixel_classes(Classes(("__background__", "tv", "airplane")), data)
    assert match.data_class == (0, 2, 1)
    numbers = Classes(("0", "1"), title="numbered")
    assert match_pixel_classes(Classes(("a", "b")), numbers).data_class == (0, 1)
    with pytest.raises(LabelError, match="The model has 3 classes and the dataset 2"):
        match_pixel_classes(data, numbers)
    with pytest.raises(LabelError, match=r"The model \(x\) and the dataset .* no class in common"):
        match_pixel_classes(Classes(("x",)), data)
    assert translate_labels(match, np.array([[2, -1]], np.int16)).tolist() == [[1, -1]]


# ---------------------------------------------------------------- loaders


def test_a_function_is_loaded_by_the_name_of_its_module(tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "import numpy as np\n"
        "def dark(images):\n"
        "    return [(i.mean(2) < 99).astype(int) for i in images]\n"
        "dark.classes = ['light', 'dark']\nnumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    segmenter = load_segmenter("python:my_nets:dark")
    assert segmenter.classes.names == ("light", "dark")
    assert segmenter.predict([np.zeros((2, 2, 3), np.uint8)])[0].tolist() == [[1, 1], [1, 1]]
    # What is in the file decides the answers, so the settings change with it.
    assert segmenter.settings["module"] == "my_nets.dark"
    before = segmenter.settings["fingerprint"]
    with (tmp_path / "my_nets.py").open("a") as file:
        file.write("# another comment\n")
    assert load_segmenter("python:my_nets:dark").settings["fingerprint"] == before
    with (tmp_path / "my_nets.py").open("a") as file:
        file.write("threshold = 98\n")
    assert load_segmenter("python:my_nets:dark").settings["fingerprint"] != before
    with pytest.raises(UnknownNameError, match="Did you mean 'dark'"):
        load_segmenter("python:my_nets:darc")
    with pytest.raises(ModelError, match="cannot be imported"):
        load_segmenter("python:no_such_module:f")
    with pytest.raises(InputError, match="names no function"):
        load_segmenter("python:my_nets")
    with pytest.raises(ModelError, match="is a int; expected a function"):
        load_segmenter("python:my_nets:number")


@pytest.fixture(scope="module")
def small_network():
    torch = pytest.importorskip("torch")

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1)
            self.norm = torch.nn.BatchNorm2d(4)
            self.last = torch.nn.Conv2d(4, 3, 1)

        def forward(self, images):
            return self.last(torch.relu(self.norm(self.first(images))))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Small()


def test_a_network_of_ones_own_keeps_the_contract(small_network):
    network = Segmenter(small_network, NAMES, convention=NormalizedSegmentation())
    check_segmenter(network)
    assert "BatchNorm" not in repr(network)
    with pytest.raises(ModelError, match="Say what it takes"):
        Segmenter(small_network, NAMES).predict([IMAGE])


def exported(network, path, wrap=None, size=None):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    shown = network if wrap is None else wrap(network)
    inputs = torch.zeros(1, 3, *(size or (32, 32)))
    axes = None if size else {"images": {0: "n", 2: "h", 3: "w"}, "answer": {0: "n"}}
    torch.onnx.export(
        shown.eval(), (inputs,), str(path), input_names=["images"], output_names=["answer"],
        dynamic_axes=axes, dynamo=False,
    )  # fmt: skip
    return path


def argmaxed(keep, dtype):
    torch = pytest.importorskip("torch")

    class Argmax(torch.nn.Module):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images).argmax(1, keepdim=keep).to(dtype)

    return Argmax


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_onnx_graph_gives_what_its_network_gives(small_network, tmp_path):
    torch = pytest.importorskip("torch")
    names = write_names(tmp_path / "names.txt")
    network = Segmenter(small_network, NAMES, convention=NormalizedSegmentation())
    images = [IMAGE, IMAGE[:30, :50]]
    logits = exported(small_network, tmp_path / "logits.onnx")
    found = load_segmenter(f"onnx:{logits}?classes={names}").predict(images)
    for ours, theirs in zip(found, network.predict(images), strict=True):
        assert (ours == theirs).mean() > 0.999
    for keep, dtype in ((False, torch.int64), (True, torch.int32), (True, torch.float32)):
        maps = exported(small_network, tmp_path / "maps.onnx", argmaxed(keep, dtype))
        labels = load_segmenter(f"onnx:{maps}?classes={names}").predict([IMAGE])[0]
        small = small_network.eval()(
            torch.from_numpy((IMAGE / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])
            .float().permute(2, 0, 1)[None]
        ).argmax(1)[0].numpy()  # fmt: skip
        assert (labels == np.kron(small, np.ones((2, 2), int))).mean() > 0.999


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_onnx_graphs_of_other_shapes_are_refused(small_network, tmp_path):
    names = write_names(tmp_path / "names.txt")
    fixed = exported(small_network, tmp_path / "fixed.onnx", size=(32, 48))
    segmenter = load_segmenter(f"onnx:{fixed}?classes={names}")
    assert segmenter.framing.resize == (32, 48)
    assert segmenter.predict([IMAGE])[0].shape == (40, 56)
    with pytest.raises(ModelError, match="fixed at 32x48 pixels; leave resize out"):
        load_segmenter(f"onnx:{fixed}?classes={names}&resize=64")
    with pytest.raises(ModelError, match="has 3 classes, but 21 are named"):
        load_segmenter(f"onnx:{fixed}?classes=voc")
    with pytest.raises(InputError, match=r"does not state the classes of its outputs"):
        load_segmenter(f"onnx:{fixed}")
    with pytest.raises(UnknownNameError, match="Unknown output 'mask'"):
        load_segmenter(f"onnx:{fixed}?classes={names}&output=mask")
    torch = pytest.importorskip("torch")
    flat = exported(
        small_network, tmp_path / "flat.onnx",
        lambda network: torch.nn.Sequential(network, torch.nn.Flatten()), size=(32, 32),
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"expected an output of logits \(N, K, H, W\)"):
        load_segmenter(f"onnx:{flat}?classes={names}")


def test_torchvision_takes_weights_of_ones_own(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchvision")
    spec = "torchvision:lraspp_mobilenet_v3_large"
    names = write_names(tmp_path / "names.txt")
    random = load_segmenter(f"{spec}?pretrained=false&classes={names}&resize=48")
    assert random.assumed == ("random weights", "shorter side resized to 48")
    torch.save({"model": random.module.state_dict()}, tmp_path / "w.pt")
    own = load_segmenter(f"{spec}?weights={tmp_path / 'w.pt'}&classes={names}&resize=48")
    assert own.settings["fingerprint"] == random.settings["fingerprint"]
    assert np.array_equal(own.predict([IMAGE])[0], random.predict([IMAGE])[0])
    with pytest.raises(ModelError, match="do not fit lraspp_mobilenet_v3_large with 21 classes"):
        load_segmenter(f"{spec}?weights={tmp_path / 'w.pt'}")
    with pytest.raises(UnknownNameError, match="Did you mean 'fcn_resnet50'"):
        load_segmenter("torchvision:fcn_resnet5?pretrained=false")
    with pytest.raises(InputError, match="pretrained has no effect"):
        load_segmenter(f"{spec}?weights=w.pt&pretrained=false")


def test_transformers_segment_as_their_own_code_does(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 8],
        patch_sizes=[3, 3], strides=[2, 2], num_attention_heads=[1, 1], mlp_ratios=[2, 2],
        decoder_hidden_size=8, id2label=dict(enumerate(NAMES)), num_labels=3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.SegformerForSemanticSegmentation(config).eval()
    processor = transformers.SegformerImageProcessor(size={"height": 32, "width": 40})
    network.save_pretrained(tmp_path / "net")
    processor.save_pretrained(tmp_path / "net")
    segmenter = load_segmenter(f"transformers:{tmp_path / 'net'}")
    assert segmenter.classes.names == NAMES
    with torch.no_grad():
        outputs = network(**processor(images=[IMAGE], return_tensors="pt"))
    [theirs] = processor.post_process_semantic_segmentation(outputs, target_sizes=[(40, 56)])
    assert np.array_equal(segmenter.predict([IMAGE])[0], theirs.numpy())
    whole = load_segmenter(f"transformers:{tmp_path / 'net'}?resize=none")
    with torch.no_grad():
        inputs = processor(images=[IMAGE], return_tensors="pt", do_resize=False)
        outputs = network(**inputs)
    [theirs] = processor.post_process_semantic_segmentation(outputs, target_sizes=[(40, 56)])
    assert np.array_equal(whole.predict([IMAGE])[0], theirs.numpy())
    with pytest.raises(ModelError, match="cannot be loaded for semantic segmentation"):
        load_segmenter(f"transformers:{tmp_path}")


def test_upernet_segments_as_its_own_code_does(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    backbone = transformers.ConvNextConfig(
        hidden_sizes=[8, 8, 16, 16], depths=[1, 1, 1, 1],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=8, pool_scales=[1, 2], auxiliary_in_channels=16,
        auxiliary_channels=8, id2label=dict(enumerate(NAMES)), num_labels=3,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.UperNetForSemanticSegmentation(config).eval()
    processor = transformers.SegformerImageProcessor(size={"height": 64, "width": 64})
    network.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    segmenter = load_segmenter(f"transformers:{tmp_path}")
    with torch.no_grad():
        outputs = network(**processor(images=[IMAGE], return_tensors="pt"))
    [theirs] = processor.post_process_semantic_segmentation(outputs, target_sizes=[(40, 56)])
    [ours] = segmenter.predict([IMAGE])
    assert segmenter.classes.names == NAMES
    assert len(np.unique(ours)) > 1
    assert np.array_equal(ours, theirs.numpy())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvison:fcn_resnet50", "Did you mean 'torchvision'"),
        ("python:a:b?weights=x", "weights is an option of torchvision models"),
        ("python:a:b?window=0", "window: expected pixels|cannot be imported"),
        ("python:a:b?mean=1,2", "mean is an option of"),
        ("onnx:x.onnx?std=1,0,1", "std: expected three numbers"),
        ("onnx:x.onnx?classes=voc", "there is no such file"),
    ],
)
def test_specs_that_cannot_be_are_refused(spec, message):
    with pytest.raises(InputError, match=message):
        load_segmenter(spec)
