"""States and their files: small, whole or not at all, and refused where they do not belong."""

import json
import os
import signal

import numpy as np
import pytest
import safetensors.numpy
import torch
import torchvision

from shiftproof.adapt import BatchNorm, RDumb, SelfLearning, load, make_adapter, save
from shiftproof.adapt.base.state import read_state, save_state
from shiftproof.errors import BrokenFileError, InputError, RunError
from shiftproof.models import Classifier, Preprocess
from support.small_networks import classifier, convolutional, noise, pictures, portrait

SPECS = [
    "batchnorm",
    "batchnorm:over=stream",
    "batchnorm:over=set",
    "rpl",
    "hard:momentum=0.9,lr=0.1",
    "ent:parameters=all,answers=after",
    "rdumb:every=2+ent:momentum=0.9",
    "lame",
]


def learnt(spec, count=3):
    adapter = make_adapter(spec, classifier())
    for seed in range(count):
        adapter.predict(pictures(seed=seed))
    return adapter


class TestFiles:
    @pytest.mark.parametrize("spec", SPECS)
    def test_a_round_trip_goes_on_where_it_stopped(self, spec, tmp_path):
        adapter, again = learnt(spec), make_adapter(spec, classifier())
        save(adapter, tmp_path / "adapter.safetensors")
        load(again, str(tmp_path / "adapter.safetensors"))
        assert portrait(again) == portrait(adapter)
        for seed in range(3, 6):
            batch = pictures(seed=seed)
            np.testing.assert_array_equal(again.predict(batch), adapter.predict(batch))

    def test_other_programs_can_read_them(self, tmp_path):
        adapter = learnt("rpl")
        save(adapter, tmp_path / "a.safetensors")
        tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
        [weight] = [p for n, p in adapter.merge().named_parameters() if n == "1.weight"]
        np.testing.assert_array_equal(tensors["parameter/1.weight"], weight.detach().numpy())

    def test_resnet_50_takes_less_than_a_megabyte(self, tmp_path):
        network = torchvision.models.resnet50(weights=None)
        adapter = SelfLearning(network)
        save(adapter, tmp_path / "a.safetensors")
        assert (tmp_path / "a.safetensors").stat().st_size < 0.3e6
        whole = sum(p.numel() * p.element_size() for p in network.parameters())
        assert whole > 100e6
        shared = sum(
            mine.data_ptr() == theirs.data_ptr()
            for mine, theirs in zip(
                adapter._network.module.parameters(), network.parameters(), strict=True
            )
        )
        assert shared == 161 - 2 * 53  # all but the affine ones lie where the caller's lie

    def test_a_batch_norm_state_is_that_of_its_layers(self):
        adapter = BatchNorm(convolutional(), prior="measured")
        adapter(noise())
        assert sum(value.numel() for value in adapter.state().values()) == 2 * (4 + 6) + 1

    def test_beside_them_it_remembers_at_most_sixteen_answers(self):
        adapter = BatchNorm(convolutional())
        for seed in range(3):
            adapter(noise(7, seed=seed))
        assert adapter.state()["answers"].shape == (16, 5)

    def test_the_device_of_the_classifier_does_not_matter(self, tmp_path):
        adapter = learnt("rpl")
        save(adapter, tmp_path / "a.safetensors")
        raw = (tmp_path / "a.safetensors").read_bytes()
        size = int.from_bytes(raw[:8], "little")
        header = raw[8 : 8 + size].replace(rb"\"device\": \"cpu\"", rb"\"device\": \"gpu\"")
        assert header != raw[8 : 8 + size]
        (tmp_path / "a.safetensors").write_bytes(raw[:8] + header + raw[8 + size :])
        load(make_adapter("rpl", classifier()), tmp_path / "a.safetensors")


class TestRefusals:
    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ("rpl:lr=0.5", "lr was 'auto', now 0.5"),
            ("ent", "loss was 'rpl', now 'ent'"),
            ("batchnorm", "adapter was 'selflearning', now 'batchnorm'"),
            ("rpl:layers=last-1", "layers was 'all', now 'last-1'"),
        ],
    )
    def test_other_settings(self, spec, words, tmp_path):
        save(learnt("rpl"), tmp_path / "a.safetensors")
        adapter = learnt(spec)
        before = portrait(adapter)
        with pytest.raises(InputError, match=words):
            load(adapter, tmp_path / "a.safetensors")
        assert portrait(adapter) == before

    @pytest.mark.parametrize("wrap", [classifier, lambda module: module])
    def test_other_weights(self, wrap, tmp_path):
        """A plain module says who it is by its weights, too."""
        save(BatchNorm(wrap(convolutional())), tmp_path / "a.safetensors")
        load(BatchNorm(wrap(convolutional())), tmp_path / "a.safetensors")
        with pytest.raises(InputError, match=r"fingerprint was '\w{32}', now"):
            load(BatchNorm(wrap(convolutional(seed=1))), tmp_path / "a.safetensors")

    def test_what_was_learnt_does_not_count_as_other_weights(self, tmp_path):
        adapter = SelfLearning(convolutional(), lr=0.1, parameters="all")
        adapter(noise())
        save(adapter, tmp_path / "a.safetensors")
        load(SelfLearning(convolutional(), lr=0.1, parameters="all"), tmp_path / "a.safetensors")
        load(adapter, tmp_path / "a.safetensors")

    def test_a_model_of_other_layers(self):
        wide = torchvision.models.resnet18(num_classes=5)
        for kind in (BatchNorm, SelfLearning):
            adapter, other = kind(convolutional()), kind(wide)
            adapter(noise())
            other(noise(2, 32))
            before = portrait(adapter)
            with pytest.raises(InputError, match="of another"):
                adapter.load_state(other.state())
            assert portrait(adapter) == before

    @pytest.mark.parametrize(
        ("spec", "change", "words"),
        [
            ("rpl", lambda s: s.pop("parameter/1.weight"), "no 'parameter/1.weight'"),
            ("rpl", lambda s: s.update({"parameter/9": torch.ones(1)}), "holds 'parameter/9'"),
            ("rpl", lambda s: s.update({"teacher/1.weight": torch.ones(4)}), "holds 'teacher/"),
            ("rpl", lambda s: s.update({"momentum/1.weight": torch.ones(4)}), "holds 'momentum/"),
            ("rpl", lambda s: s["parameter/1.bias"].fill_(torch.nan), "NaN or infinite"),
            ("rpl", lambda s: s.update({"parameter/1.bias": torch.ones(4).long()}), "int64"),
            ("hard", lambda s: s.pop("teacher/5.bias"), "no 'teacher/5.bias'"),
            ("rpl", lambda s: s["last/1/mean"].fill_(torch.inf), "NaN or infinite"),
            ("batchnorm", lambda s: s.pop("last/1/variance"), "no 'last/1/variance'"),
            ("batchnorm", lambda s: s.pop("last/images"), "no 'last/images'"),
            ("batchnorm", lambda s: s.update({"last/2/mean": torch.ones(4)}), "a layer '2'"),
            ("batchnorm", lambda s: s.update({"collected/1/mean": torch.ones(4)}), "holds 'coll"),
            ("batchnorm:over=stream", lambda s: s["collected/images"].zero_(), "of no images"),
            ("batchnorm:over=stream", lambda s: s["collected/images"].fill_(-3), "is -3"),
            ("batchnorm:over=stream", lambda s: s.pop("collected/images"), "collected/images"),
        ],
    )
    def test_damaged_states(self, spec, change, words):
        adapter = learnt(spec)
        before = portrait(adapter)
        state = adapter.state()
        change(state)
        with pytest.raises(InputError, match=words):
            adapter.load_state(state)
        assert portrait(adapter) == before

    def test_settings_that_are_no_mapping(self, tmp_path):
        path = tmp_path / "a.safetensors"
        for value in ([], 7, "x", None):
            save_state({"a": torch.zeros(2)}, value, path)
            with pytest.raises(BrokenFileError, match="no mapping"):
                read_state(path)

    def test_one_state_is_always_the_same_bytes(self, tmp_path):
        path = tmp_path / "a.safetensors"
        found = set()
        for _ in range(12):
            save_state({"a": torch.zeros(2), "é": torch.ones(3)}, {"k": "é", "b": 1}, path)
            found.add(path.read_bytes())
        assert len(found) == 1
        settings, state = read_state(path)
        assert settings == {"k": "é", "b": 1}
        assert state["é"].tolist() == [1, 1, 1]

    def test_damaged_files(self, tmp_path):
        path = tmp_path / "a.safetensors"
        save(learnt("rpl"), path)
        whole = path.read_bytes()
        size = int.from_bytes(whole[:8], "little")
        plain = safetensors.numpy.save({"x": np.zeros(1)})
        other = safetensors.numpy.save({"x": np.zeros(1)}, {"format": "shiftproof adapter 1"})
        nested = safetensors.numpy.save(
            {"x": np.zeros(1)},
            {"format": "shiftproof adapter 1", "settings": "[" * 100_000},
        )
        adapter = learnt("rpl")
        before = portrait(adapter)
        for broken in (
            *(b"", b"x", whole[:7], whole[: 8 + size // 2], whole[:-4], whole + b"\0"),
            *(b"\xff" * 8 + whole[8:], whole[:8] + b"{" * size + whole[8 + size :]),
            *(plain, other, nested, b"PK\x03\x04" + bytes(100)),
        ):
            path.write_bytes(broken)
            with pytest.raises(BrokenFileError, match="cannot be read as what `save` wrote"):
                load(adapter, path)
        for missing in (tmp_path / "none", tmp_path):
            with pytest.raises(BrokenFileError, match="cannot be read as what `save` wrote"):
                load(adapter, missing)
        assert portrait(adapter) == before


class TestCrashes:
    def test_a_full_disk_leaves_the_file_before(self, tmp_path, monkeypatch):
        path = tmp_path / "a.safetensors"
        save(learnt("rpl", 1), path)
        before = path.read_bytes()

        def full(_descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match="disk is full"):
            save(learnt("rpl", 2), path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork is killed")
    @pytest.mark.filterwarnings("ignore:.*fork\\(\\):DeprecationWarning")
    def test_a_kill_leaves_the_file_before(self, tmp_path):
        path = tmp_path / "a.safetensors"
        save(learnt("rpl", 1), path)
        before = path.read_bytes()
        after = learnt("rpl", 2)
        child = os.fork()
        if child == 0:
            try:
                os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
                save(after, path)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        assert path.read_bytes() == before
        load(learnt("rpl", 2), path)


class TestSettings:
    @pytest.mark.parametrize("spec", SPECS)
    def test_they_are_json_and_do_not_change_by_learning(self, spec):
        adapter = make_adapter(spec, classifier())
        before = json.dumps(adapter.settings, allow_nan=False)
        adapter.predict(pictures())
        assert json.dumps(adapter.settings, allow_nan=False) == before

    def test_a_plain_module_is_told_by_its_class_and_weights(self):
        settings = BatchNorm(convolutional()).settings
        assert settings["module"]["name"] == "torch.nn.modules.container.Sequential"
        assert settings["module"] == RDumb(BatchNorm(convolutional())).settings["inner"]["module"]

    def test_some_of_the_outputs_are_told_from_others(self, tmp_path):
        def chosen(outputs):
            preprocess = Preprocess((16, 16), 16)
            return BatchNorm(Classifier(convolutional(), preprocess, ["a", "b"], outputs=outputs))

        save(chosen([0, 1]), tmp_path / "a.safetensors")
        with pytest.raises(InputError, match="outputs"):
            load(chosen([0, 2]), tmp_path / "a.safetensors")


def test_one_state_gives_one_file_each_time(tmp_path):
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.float64)}
    settings = {"adapter": "any", "name": "K\u00e4the"}
    written = set()
    for number in range(12):
        path = tmp_path / f"{number}.safetensors"
        save_state(tensors, settings, path)
        written.add(path.read_bytes())
    assert len(written) == 1
    read_settings, state = read_state(path)
    assert read_settings == settings
    assert all(torch.equal(state[name], tensors[name]) for name in tensors)
