"""Statistics and their mixtures against numpy over whole sets, simulations, and torch's own."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from shiftproof.adapt import BatchNorm, SelfLearning
from shiftproof.adapt.normalization import gradient, loops
from shiftproof.adapt.normalization.gradient import (
    Mixture,
    attach_statistics_gradient,
    normalize,
    normalize_by_mixture,
)
from shiftproof.adapt.normalization.shares import Shares
from shiftproof.adapt.normalization.statistics import (
    ArrayStatistics,
    LayerInput,
    Statistics,
    are_all_finite,
    blend,
    compute_statistics,
    is_channels_last,
    measure_prior,
    mix,
    pool,
    pool_processes,
    share_arrays,
)
from shiftproof.errors import InputError
from support.forked import start_process, wait_for
from support.small_networks import convolutional, noise

BATCHES = [noise(6, seed=1), 2 * noise(3, seed=2) - 1, noise(1, seed=3), noise(5, seed=4) / 2]


def statistics(mean, variance):
    return Statistics(torch.tensor([float(mean)]), torch.tensor([float(variance)]))


def numpy_statistics(values):
    values = values.detach().double().numpy()
    return values.mean((0, 2, 3)), values.var((0, 2, 3))


def check_layer(layer, values, rtol=1e-5):
    mean, variance = numpy_statistics(values)
    np.testing.assert_allclose(layer.running_mean.numpy(), mean, rtol=rtol, atol=1e-5)
    np.testing.assert_allclose(layer.running_var.numpy(), variance, rtol=rtol)


class TestFunctions:
    def test_pool_is_the_statistics_of_all_values(self):
        pooled, count = compute_statistics(BATCHES[0]), len(BATCHES[0])
        for batch in BATCHES[1:]:
            pooled = pool(pooled, count, compute_statistics(batch), len(batch))
            count += len(batch)
        mean, variance = numpy_statistics(torch.cat(BATCHES))
        np.testing.assert_allclose(pooled.mean.numpy(), mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(pooled.variance.numpy(), variance, rtol=1e-5)

    def test_pool_of_two_points(self):
        """0 once and 4 three times: mean 3, variance 3."""
        mean, variance = pool(statistics(0, 0), 1, statistics(4, 0), 3)
        assert (mean.item(), variance.item()) == (3.0, 3.0)

    def test_blend_of_one_part(self):
        source, target = statistics(1, 2), statistics(5, 10)
        assert blend(source, target, 0.25) == (torch.tensor([2.0]), torch.tensor([4.0]))
        assert blend(source, target, 0.25, "mean") == (torch.tensor([2.0]), torch.tensor([2.0]))
        assert blend(source, target, 0.25, "variance") == (torch.tensor([1.0]), torch.tensor([4.0]))

    def test_a_weight_of_1_gives_the_target_to_the_last_bit(self):
        target = compute_statistics(noise())
        source = Statistics(torch.full((3,), 1e10), torch.full((3,), 1e10))
        mixed = mix(source, target, prior=0, count=6)
        assert torch.equal(mixed.mean, target.mean)
        assert torch.equal(mixed.variance, target.variance)

    def test_an_infinite_prior_is_the_source_whatever_the_target(self):
        source = statistics(1, 2)
        for value in (math.inf, math.nan):
            assert mix(source, statistics(value, value), prior=math.inf, count=1) == source

    def test_half_precision_is_mixed_in_float32_and_kept(self):
        source = Statistics(torch.tensor([1.0]).half(), torch.tensor([2.0]).half())
        target = compute_statistics(torch.tensor([[0.0], [2.0]]).half())
        assert target.mean.dtype == torch.float32
        mixed = mix(source, target, prior=1, count=1)
        assert mixed.mean.dtype == torch.float16
        assert mixed.variance.item() == 1.5

    def test_all_finite(self):
        assert are_all_finite({})
        assert are_all_finite({"a": statistics(0, 1), "b": statistics(1e30, 1)})
        assert not are_all_finite({"a": statistics(0, 1), "b": statistics(0, math.inf)})
        assert not are_all_finite({"a": statistics(math.nan, 1)})


class TestMeasuredPrior:
    """Against simulations in which the truth is known: the best N is that of least square error."""

    @staticmethod
    def images(rng, count, mean, deviation, between, channels=64, positions=16):
        """Images whose own means differ by ``between``, with ``deviation`` in all."""
        own = rng.normal(0, between, (count, channels, 1))
        inner = np.sqrt(deviation**2 - between**2)
        values = mean + own + rng.normal(0, inner, (count, channels, positions))
        return torch.from_numpy(values).float()[..., None]

    @pytest.mark.parametrize("count", [2, 8, 32])
    @pytest.mark.parametrize(
        ("shift", "deviation"), [(0.2, 1.0), (0.5, 1.0), (1.5, 1.0), (0.3, 1.6)]
    )
    def test_the_mixture_is_near_that_of_the_best_constant(self, shift, deviation, count):
        rng = np.random.default_rng(0)
        source = Statistics(torch.zeros(64), torch.ones(64))
        candidates = [0, *np.geomspace(0.1, 300, 30), math.inf]
        errors, measured = np.zeros(len(candidates)), 0.0
        for _ in range(12):
            batch = self.images(rng, count, shift, deviation, 0.6)
            target = compute_statistics(batch)

            def error(prior, target=target):
                mixed = mix(source, target, prior=prior, count=count)
                means = (mixed.mean - shift).square()
                return float((means + (mixed.variance.sqrt() - deviation).square()).mean())

            errors += [error(prior) for prior in candidates]
            measured += error(measure_prior(source, batch))
        # Of two images little can be measured: there it may be a fifth worse than the source.
        near, never_worse = (1.4, 1.2) if count == 2 else (1.25, 1.02)
        assert measured <= near * errors.min() + 1e-4
        assert measured <= never_worse * min(errors[0], errors[-1])

    def test_it_is_the_ratio_of_variance_to_shift(self):
        """V = 0.36 between images and almost nothing in the deviation, D = 0.25."""
        batch = self.images(np.random.default_rng(0), 512, 0.5, 1.0, 0.6, positions=400)
        source = Statistics(torch.zeros(64), torch.ones(64))
        assert measure_prior(source, batch) == pytest.approx(0.36 / 0.25, rel=0.25)

    def test_without_a_shift_it_is_large(self):
        rng = np.random.default_rng(0)
        source = Statistics(torch.zeros(64), torch.ones(64))
        found = [measure_prior(source, self.images(rng, 16, 0, 1, 0.6)) for _ in range(20)]
        assert np.median(found) > 100

    def test_the_scale_of_the_layer_does_not_matter(self):
        batch = self.images(np.random.default_rng(0), 8, 0.5, 1.0, 0.6)
        source = Statistics(torch.zeros(64), torch.ones(64))
        scaled = Statistics(torch.full((64,), 30.0), torch.full((64,), 100.0))
        assert measure_prior(scaled, 10 * batch + 30) == pytest.approx(
            measure_prior(source, batch), rel=1e-3
        )

    def test_a_single_image_and_flat_inputs(self):
        source = Statistics(torch.zeros(64), torch.ones(64))
        assert measure_prior(source, torch.full((1, 64, 4, 4), 10.0)) < 0.1
        assert measure_prior(source, torch.zeros(1, 64, 4, 4).normal_(0, 1)) > 10
        flat = torch.from_numpy(np.random.default_rng(0).normal(2, 1, (64, 64))).float()
        assert 0 < measure_prior(source, flat.requires_grad_()) < 1

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_what_is_not_finite_takes_the_source(self, value):
        batch = torch.zeros(4, 64, 2, 2)
        batch[0, 0, 0, 0] = value
        source = Statistics(torch.zeros(64), torch.ones(64))
        assert measure_prior(source, batch) > 0  # the caller sees the batch's statistics

    @pytest.mark.parametrize("positions", [(5,), (5, 3)])
    def test_tokens_are_positions_and_not_images(self, positions):
        """Rows that follow each other within an image, as LeViT and window attention lay them out."""
        rng = np.random.default_rng(0)
        source = Statistics(torch.zeros(64), torch.ones(64))
        batch = self.images(rng, 8, 0.5, 1.0, 0.6, positions=4 * math.prod(positions))
        maps = batch.reshape(8, 64, 4, *positions)
        rows = maps.movedim(2, 1).flatten(0, 1)  # (8 * 4, 64, ...)
        expected = measure_prior(source, maps)
        assert measure_prior(source, rows, images=8) == pytest.approx(expected, rel=1e-5)
        assert measure_prior(source, rows) != pytest.approx(expected, rel=0.02)

    def test_rows_that_are_no_share_of_the_images_count_as_images(self):
        """The boxes of a detector."""
        rng = np.random.default_rng(0)
        source = Statistics(torch.zeros(64), torch.ones(64))
        boxes = self.images(rng, 13, 0.5, 1.0, 0.6)
        expected = measure_prior(source, boxes)
        assert measure_prior(source, boxes, images=4) == expected
        assert measure_prior(source, boxes, images=20) == expected

    @pytest.mark.parametrize("prior", [0, 16, "auto"])
    @pytest.mark.parametrize("kind", ["batchnorm", "selflearning"])
    def test_the_layout_of_tokens_does_not_matter(self, kind, prior):
        class Tokens(nn.Module):
            def __init__(self, by_rows):
                super().__init__()
                self.by_rows = by_rows
                self.embed, self.norm = nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm1d(8)
                self.head = nn.Linear(8, 5)

            def forward(self, x):
                tokens = self.embed(x).flatten(2)  # (N, C, L)
                if not self.by_rows:
                    return self.head(self.norm(tokens).mean(2))
                rows = tokens.transpose(1, 2)
                return self.head(self.norm(rows.flatten(0, 1)).reshape_as(rows).mean(1))

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = Tokens(False).state_dict()
        outputs = []
        for by_rows in (False, True):
            module = Tokens(by_rows)
            module.load_state_dict(state)
            made = BatchNorm if kind == "batchnorm" else SelfLearning
            outputs.append(made(module, prior=prior)(BATCHES[0]))
        torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)

    def test_layer_by_layer_it_is_what_batch_norm_mixes_with(self):
        adapter = BatchNorm(convolutional(), prior="layerwise")
        adapter(BATCHES[0])
        values = convolutional()[0](BATCHES[0]).detach()
        layer = convolutional()[1]
        prior = measure_prior(Statistics(layer.running_mean, layer.running_var), values)
        mean, _ = numpy_statistics(values)
        share = 6 / (prior + 6)
        expected = (1 - share) * layer.running_mean.numpy() + share * mean
        assert 0.05 < share < 0.999
        np.testing.assert_allclose(adapter.merge()[1].running_mean, expected, rtol=1e-4)


class TestShares:
    """The share of a batch in each layer, on layers whose V and D are known."""

    SOURCE = Statistics(torch.zeros(64), torch.ones(64))

    def batch(self, shift, count=512):
        """V = 0.36 between images and 0.64 within, D the square of the shift."""
        rng = np.random.default_rng(0)
        return TestMeasuredPrior().images(rng, count, shift, 1.0, 0.6, positions=400)

    def measure(self, prior, *batches):
        shares = Shares(prior)
        return [
            shares.measure(
                str(place), self.SOURCE, LayerInput(batch), count=len(batch), images=len(batch)
            )
            for place, batch in enumerate(batches)
        ]

    def test_a_number_is_the_papers(self):
        assert self.measure(16, self.batch(0.5, 48)) == [0.75]
        assert self.measure(math.inf, self.batch(0.5, 48)) == [0]

    def test_layers_by_themselves(self):
        shifted, same = self.batch(1.0), self.batch(0.0)
        first, second = self.measure("layerwise", same, shifted)
        assert first < 0.5
        assert second == pytest.approx(512 / (512 + 0.36), abs=1e-3)

    def test_a_layer_counts_with_the_mean_of_those_before_it(self):
        """By hand: own shares 0 and about 1 give 0 and 1 * (0 + 1) / 2."""
        shifted, same = self.batch(1.0), self.batch(0.0)
        assert self.measure("auto", same, shifted) == pytest.approx([0, 0.5], abs=0.01)
        assert self.measure("auto", shifted, same) == pytest.approx([1, 0], abs=0.01)

    def test_chance_must_be_exceeded_several_times(self):
        """Of 4 images chance gives V / n = 0.09 on average, 3 (1 + 6 / 3) times that is 0.81."""
        for shift, is_seen in ((0.3, False), (1.0, True)):
            [share] = self.measure("auto", self.batch(shift, 4))
            [alone] = self.measure("layerwise", self.batch(shift, 4))
            assert (share > 0) == is_seen
            assert alone > 0

    def test_what_runs_again_for_a_gradient_gets_the_same(self):
        shifted, same = self.batch(1.0, 8), self.batch(0.5, 8)
        shares = Shares("auto")

        def measure(name, batch, again):
            return shares.measure(
                name, self.SOURCE, LayerInput(batch), count=8, images=8, again=again
            )

        given = [measure("a", shifted, False), measure("b", same, False), measure("a", same, False)]
        assert len(set(given)) == 3
        repeated = [measure("b", same, True), measure("a", shifted, True), measure("a", same, True)]
        assert repeated == [given[1], given[0], given[2]]


class TestStream:
    def test_without_a_prior_it_is_all_images_so_far(self):
        """The first layer; the last batch is 5 images of another contrast."""
        adapter = BatchNorm(convolutional(), over="stream", prior=0)
        for position in range(len(BATCHES)):
            result = adapter(BATCHES[position])
            seen = torch.cat(BATCHES[: position + 1])
            check_layer(adapter.merge()[1], convolutional()[0](seen))
            with torch.no_grad():
                torch.testing.assert_close(adapter.merge()(BATCHES[position]), result)

    def test_with_a_prior_it_weighs_the_source_by_images(self):
        adapter = BatchNorm(convolutional(), over="stream", prior=10)
        for batch in BATCHES:
            adapter(batch)
        mean, variance = numpy_statistics(convolutional()[0](torch.cat(BATCHES)))
        layer, merged = convolutional()[1], adapter.merge()[1]
        for before, now, target in (
            (layer.running_mean, merged.running_mean, mean),
            (layer.running_var, merged.running_var, variance),
        ):
            np.testing.assert_allclose(now, 10 / 25 * before.numpy() + 15 / 25 * target, rtol=1e-5)

    def test_momentum_is_torch_s_running_mean(self):
        """Torch's running variance takes the unbiased one, ours the biased: n / (n - 1) apart."""
        reference = nn.BatchNorm2d(4, momentum=0.2).train()
        reference.running_mean.copy_(convolutional()[1].running_mean)
        reference.running_var.copy_(convolutional()[1].running_var)
        adapter = BatchNorm(convolutional(), over="stream", momentum=0.2)
        biased = reference.running_var.clone()
        for batch in BATCHES:
            values = convolutional()[0](batch).detach()
            with torch.no_grad():
                before = reference.running_var.clone()
                reference(values)
                own = (reference.running_var - 0.8 * before) / 0.2
            count = values.numel() / 4
            biased = 0.8 * biased + 0.2 * own * (count - 1) / count
            adapter(batch)
            merged = adapter.merge()[1]
            torch.testing.assert_close(merged.running_mean, reference.running_mean)
            torch.testing.assert_close(merged.running_var, biased, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("momentum", [None, 0.2])
    def test_warm_up_uses_the_source_until_enough_were_seen(self, momentum):
        options = {"over": "stream", "prior": 0, "momentum": momentum}
        adapter = BatchNorm(convolutional(), warm_up=9, **options)
        cold = BatchNorm(convolutional(), **options)
        with torch.no_grad():
            assert torch.equal(adapter(BATCHES[0]), convolutional()(BATCHES[0]))
        assert torch.equal(adapter.merge()[1].running_mean, convolutional()[1].running_mean)
        cold(BATCHES[0])
        # Nine images with this batch; the first batch counts in the first layer.
        result = adapter(BATCHES[1])
        with torch.no_grad():
            torch.testing.assert_close(adapter.merge()(BATCHES[1]), result)
            assert not torch.allclose(result, convolutional()(BATCHES[1]), atol=1e-3)
        cold(BATCHES[1])
        torch.testing.assert_close(adapter.merge()[1].running_mean, cold.merge()[1].running_mean)

    @pytest.mark.parametrize("over", ["batch", "stream"])
    def test_a_layer_that_runs_three_times_counts_each_time(self, over):
        """All of its inputs weigh the same; checked by a layer that nothing comes before."""

        class Thrice(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm = nn.BatchNorm2d(3)

            def forward(self, x):
                return self.norm(x) + self.norm(2 * x) + self.norm(x - 5)

        adapter = BatchNorm(Thrice(), over=over, prior=0)
        x = noise()
        adapter(x)
        if over == "stream":
            check_layer(adapter.merge().norm, torch.cat([x, 2 * x, x - 5]))
        else:
            expected = sum(
                (v - v.mean((0, 2, 3), keepdim=True))
                / (v.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
                for v in (x, 2 * x, x - 5)
            )
            torch.testing.assert_close(adapter(x), expected, rtol=1e-4, atol=1e-4)

    def test_images_of_another_size(self):
        """Each image weighs the same, whatever its size."""
        adapter = BatchNorm(convolutional(), over="stream", prior=0)
        small = noise(6, size=11, seed=5)
        adapter(BATCHES[0])
        adapter(small)
        parts = [numpy_statistics(convolutional()[0](x))[0] for x in (BATCHES[0], small)]
        np.testing.assert_allclose(
            adapter.merge()[1].running_mean, (parts[0] + parts[1]) / 2, rtol=1e-4, atol=1e-5
        )

    def test_a_frozen_stream_is_what_merged_has(self):
        adapter = BatchNorm(convolutional(), over="stream")
        for batch in BATCHES:
            adapter(batch)
        with adapter.frozen(), torch.no_grad():
            torch.testing.assert_close(adapter(BATCHES[0]), adapter.merge()(BATCHES[0]))


class TestSet:
    def test_as_many_passes_as_layers_are_layer_after_layer(self):
        """By hand on the whole set at once: each layer sees the layers before it adapted."""
        module = convolutional()
        values = torch.cat(BATCHES)
        with torch.no_grad():
            for layer in module:
                if isinstance(layer, nn.BatchNorm2d):
                    mean, variance = numpy_statistics(values)
                    for buffer, target in (
                        (layer.running_mean, mean),
                        (layer.running_var, variance),
                    ):
                        mixed = 16 / 31 * buffer.double().numpy() + 15 / 31 * target
                        buffer.copy_(torch.from_numpy(mixed))
                values = layer(values)
        adapter = BatchNorm(convolutional(), over="set", prior=16)
        for _ in range(2):
            for batch in BATCHES:
                adapter(batch)
            adapter.end_epoch()
        for at in (1, 5):
            torch.testing.assert_close(adapter.merge()[at].running_mean, module[at].running_mean)
            torch.testing.assert_close(adapter.merge()[at].running_var, module[at].running_var)
        with adapter.frozen():
            torch.testing.assert_close(torch.cat([adapter(b) for b in BATCHES]), values)

    def test_the_first_pass_normalises_by_the_batch(self):
        adapter, plain = BatchNorm(convolutional(), over="set"), BatchNorm(convolutional())
        for batch in BATCHES:
            assert torch.equal(adapter(batch), plain(batch))

    def test_an_epoch_without_images_changes_nothing(self):
        adapter = BatchNorm(convolutional(), over="set")
        adapter(BATCHES[0])
        adapter.end_epoch()
        expected = adapter(BATCHES[1])
        adapter.end_epoch()
        adapter.end_epoch()
        assert adapter.merge()[1].running_mean.isfinite().all()
        assert expected.isfinite().all()


class TestParts:
    @pytest.mark.parametrize("parts", ["mean", "variance"])
    def test_the_other_part_stays_the_source_s(self, parts):
        adapter = BatchNorm(convolutional(), prior=0, parts=parts)
        adapter(BATCHES[0])
        mean, variance = numpy_statistics(convolutional()[0](BATCHES[0]))
        merged, layer = adapter.merge()[1], convolutional()[1]
        if parts == "mean":
            np.testing.assert_allclose(merged.running_mean, mean, rtol=1e-4, atol=1e-5)
            assert torch.equal(merged.running_var, layer.running_var)
        else:
            np.testing.assert_allclose(merged.running_var, variance, rtol=1e-4)
            assert torch.equal(merged.running_mean, layer.running_mean)

    @pytest.mark.parametrize(
        ("layers", "adapted"),
        [("first-1", [1]), ("last-1", [5]), ("last-10%", [5]), (["5"], [5]), ("all", [1, 5])],
    )
    def test_layers_that_are_not_chosen_stay_the_source_s(self, layers, adapted):
        adapter = BatchNorm(convolutional(), prior=0, layers=layers)
        adapter(BATCHES[0])
        same = [
            at
            for at in (1, 5)
            if torch.equal(adapter.merge()[at].running_mean, convolutional()[at].running_mean)
        ]
        assert same == [at for at in (1, 5) if at not in adapted]
        assert adapter.settings["adapted"] == len(adapted)


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"momentum": 0.1}, "over='stream'"),
            ({"over": "stream", "momentum": 0}, "momentum: expected above 0"),
            ({"over": "stream", "momentum": "0.1"}, "momentum: expected above 0"),
            ({"over": "stream", "momentum": True}, "momentum: expected above 0"),
            ({"warm_up": 4}, "warm_up: expected a number of images"),
            ({"over": "stream", "warm_up": True}, "warm_up: expected"),
            ({"over": "stream", "warm_up": -1}, "warm_up: expected"),
            ({"over": "streams"}, "Did you mean 'stream'"),
            ({"parts": "means"}, "Did you mean 'mean'"),
        ],
    )
    def test_options(self, options, words):
        with pytest.raises(InputError, match=words):
            BatchNorm(convolutional(), **options)


def _synchronised_worker(rank, folder):
    torch.set_num_threads(1)
    address = (folder / "store").as_uri()
    torch.distributed.init_process_group("gloo", address, rank=rank, world_size=2)
    module = nn.SyncBatchNorm.convert_sync_batchnorm(convolutional())
    results = {}
    for name, options in {"batch": {"prior": 4}, "stream": {"over": "stream", "prior": 4}}.items():
        adapter = BatchNorm(module, **options)
        for first, second in ((0, 4), (4, 5)):
            own = slice(first, second) if rank == 0 else slice(5 + first, 5 + second)
            outputs = adapter(noise(10, seed=1)[own])
        results[name] = (outputs, adapter.merge().state_dict())
    values = noise(10, seed=2)[:6] if rank == 0 else noise(10, seed=2)[6:]
    plain = nn.BatchNorm2d(3)
    pooled, count = pool_processes(compute_statistics(values), len(values), nn.SyncBatchNorm(3))
    own, alone = pool_processes(compute_statistics(values), len(values), plain)
    results["pooled"] = (tuple(pooled), count, tuple(own), alone)
    pooled = Statistics(*(part.detach() for part in pooled))
    values = values.clone().requires_grad_()
    handed = attach_statistics_gradient(values, *pooled, 1e-5, torch.distributed.group.WORLD)
    normal = nn.functional.batch_norm(handed, *pooled)
    (normal**3 + normal).sum().backward()
    results["gradient"] = values.grad
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()),
    reason="torch has no gloo here",
)
def test_two_processes_are_as_one(tmp_path):
    processes = [start_process(_synchronised_worker, rank, tmp_path) for rank in range(2)]
    assert wait_for(*processes) == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    x = noise(10, seed=1)
    batches = [x[[0, 1, 2, 3, 5, 6, 7, 8]], x[[4, 9]]]
    for name, options in {"batch": {"prior": 4}, "stream": {"over": "stream", "prior": 4}}.items():
        alone = BatchNorm(convolutional(), **options)
        for batch in batches:
            outputs = alone(batch)
        both = torch.cat([first[name][0], second[name][0]])
        torch.testing.assert_close(both, outputs, rtol=1e-4, atol=1e-5)
        for state in (first[name][1], second[name][1]):
            torch.testing.assert_close(state, dict(alone.merge().state_dict()))
    mean, variance = numpy_statistics(noise(10, seed=2))
    pooled, count, own, images = second["pooled"]
    np.testing.assert_allclose(pooled[0], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooled[1], variance, rtol=1e-5)
    assert count == 10
    # An ordinary batch norm is each process's own.
    torch.testing.assert_close(own[0], noise(10, seed=2)[6:].mean((0, 2, 3)))
    assert images == 4
    both = torch.cat([first["gradient"], second["gradient"]])
    torch.testing.assert_close(both, gradient_of_torch(noise(10, seed=2)), rtol=1e-4, atol=1e-4)


def gradient_of_torch(values):
    values = values.clone().requires_grad_()
    normal = nn.functional.batch_norm(values, None, None, training=True)
    (normal**3 + normal).sum().backward()
    return values.grad


class TestGradient:
    """Against torch's own batch norm in training mode, and by finite differences."""

    @pytest.mark.parametrize("fused", [True, False])
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_it_is_torch_s(self, monkeypatch, fused, layout):
        if not fused:
            monkeypatch.setattr("shiftproof.adapt.normalization.gradient._FUSED_DEVICES", ())
        x = noise(10, seed=2).contiguous(memory_format=layout)
        values = x.clone().requires_grad_()
        statistics = compute_statistics(values.detach())
        handed = attach_statistics_gradient(values, *statistics, 1e-5)
        assert torch.equal(handed, values)
        normal = nn.functional.batch_norm(handed, *statistics)
        (normal**3 + normal).sum().backward()
        torch.testing.assert_close(values.grad, gradient_of_torch(x), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("share", [1.0, 0.3])
    def test_it_is_that_of_finite_differences(self, share):
        """Of a mixture with the constants 2 and 3, too."""

        def normalize(x):
            own_mean, own_variance = (part.detach() for part in compute_statistics(x))
            mean = (1 - share) * 2 + share * own_mean
            variance = (1 - share) * 3 + share * own_variance
            handed = attach_statistics_gradient(
                x, mean, variance, 0.1, batch_mean=own_mean, share=share
            )
            return (handed - mean[:, None]) / (variance[:, None] + 0.1).sqrt()

        x = noise(4, 3, seed=1).flatten(2).double().requires_grad_()
        assert torch.autograd.gradcheck(normalize, x)

    @pytest.mark.parametrize("share", [1.0, 0.3])
    @pytest.mark.parametrize("shape", [(5, 3, 4, 6), (40, 3), (3, 3, 2, 4, 5)])
    def test_a_layer_and_its_statistics_in_one(self, shape, share):
        """Against autograd through the mixture, written out in float64."""
        rng = np.random.default_rng(0)
        layer = nn.BatchNorm2d(3)
        layer.weight.data, layer.bias.data = torch.tensor([[2.0, -1, 0.5], [1, 0, 3]])
        table = rng.normal(1.5, 2, (shape[0], *shape[2:], 3)).astype(np.float32)
        x = torch.from_numpy(table).movedim(-1, 1).requires_grad_()
        own = compute_statistics(x)
        constant = Statistics(torch.full((3,), 2.0), torch.full((3,), 3.0))
        mixture = Mixture(blend(constant, own, share), own.mean, share)
        found = normalize_by_mixture(layer, x, mixture)
        (found**3 + found).sum().backward()

        wide = x.detach().double().requires_grad_()
        weight, bias = (p.detach().double().requires_grad_() for p in layer.parameters())
        axes = [axis for axis in range(wide.ndim) if axis != 1]
        variance, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
        mean, variance = (1 - share) * 2 + share * mean, (1 - share) * 3 + share * variance
        form = (1, 3, *[1] * (wide.ndim - 2))
        normal = (wide - mean) / (variance + layer.eps).sqrt()
        expected = weight.view(form) * normal + bias.view(form)
        (expected**3 + expected).sum().backward()
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
        pairs = [(x, wide), (layer.weight, weight), (layer.bias, bias)]
        for mine, theirs in pairs:
            largest = float(theirs.grad.abs().max())
            torch.testing.assert_close(
                mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-5 * largest
            )


class TestMoments:
    """The compiled pass, against numpy in float64."""

    @pytest.mark.parametrize(("mean", "deviation"), [(0, 1), (100, 1), (1000, 0.1), (-5, 30)])
    @pytest.mark.parametrize("shape", [(3, 7, 13, 11), (1, 2, 1, 1), (70, 5)])
    def test_exact_wherever_the_mean_is(self, shape, mean, deviation):
        rng = np.random.default_rng(0)
        values = rng.normal(mean, deviation, shape).astype(np.float32)
        x = torch.from_numpy(values)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        assert is_channels_last(x)
        found = compute_statistics(x)
        axes = tuple(axis for axis in range(x.ndim) if axis != 1)
        expected = values.astype(np.float64)
        np.testing.assert_allclose(
            found.mean.numpy(), expected.mean(axes), rtol=1e-6, atol=1e-6 * deviation
        )
        np.testing.assert_allclose(found.variance.numpy(), expected.var(axes), rtol=1e-5, atol=1e-9)

    @pytest.mark.parametrize("images", [8, 4, 1])
    def test_the_measured_prior_is_that_of_other_layouts(self, images):
        """A batch in channels first, whose prior torch's own operations measure."""
        rng = np.random.default_rng(0)
        x = torch.from_numpy(rng.normal(0.7, 1.4, (8, 5, 6, 7)).astype(np.float32))
        source = Statistics(torch.zeros(5), torch.ones(5))
        expected = measure_prior(source, x, images)
        table = x.contiguous(memory_format=torch.channels_last)
        assert is_channels_last(table)
        assert not is_channels_last(x)
        assert measure_prior(source, table, images) == pytest.approx(expected, rel=1e-5)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_what_is_not_finite_stays_so_in_its_channel(self, value):
        x = torch.randn(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
        x[1, 2, 3, 3] = value
        found = compute_statistics(x)
        assert torch.isfinite(found.variance).tolist() == [True, True, False]

    def test_neither_channels_first_nor_a_part_is_a_table(self):
        x = torch.randn(4, 3, 5, 5)
        assert not is_channels_last(x)
        assert not is_channels_last(x.contiguous(memory_format=torch.channels_last)[:, :, 1:])


class TestArrays:
    """What is calculated by arrays is what torch calculates."""

    @staticmethod
    def pairs(count=5):
        rng = np.random.default_rng(0)
        return [
            Statistics(*torch.from_numpy(rng.uniform(0.5, 3, (2, count)).astype(np.float32)))
            for _ in range(2)
        ]

    @pytest.mark.parametrize("parts", ["both", "mean", "variance"])
    @pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
    def test_a_mixture_has_the_same_bits(self, weight, parts):
        source, target = self.pairs()
        expected = blend(source, target, weight, parts)
        found = blend(share_arrays(source), share_arrays(target), weight, parts)
        assert isinstance(found, ArrayStatistics)
        assert all(map(torch.equal, found, expected))
        assert all(map(np.array_equal, found.arrays, expected))

    def test_other_precisions_have_no_arrays(self):
        wide = Statistics(*(part.double() for part in self.pairs()[0]))
        assert share_arrays(wide) is wide

    @pytest.mark.parametrize(
        "copied", [copy.deepcopy, copy.copy, lambda s: pickle.loads(pickle.dumps(s))]
    )
    def test_the_arrays_of_a_copy_are_those_of_its_tensors(self, copied):
        first = share_arrays(self.pairs()[0])
        assert first.arrays
        twin = copied(first)
        twin.mean.add_(1)
        assert np.array_equal(twin.arrays[0], twin.mean)

    def test_both_kinds_must_be_finite(self):
        sound, broken = self.pairs()
        broken.variance[1] = math.nan
        for one in (sound, share_arrays(sound)):
            assert are_all_finite({"a": one, "b": share_arrays(sound)})
            assert not are_all_finite({"a": one, "b": broken})
            assert not are_all_finite({"a": one, "b": share_arrays(broken)})

    @pytest.mark.parametrize("shape", [(3, 5, 4, 6), (2, 5), (2, 5, 1, 1), (2, 5, 3, 2, 2)])
    def test_normalizing_is_that_of_torch(self, shape, monkeypatch):
        rng = np.random.default_rng(1)
        x = torch.from_numpy(rng.normal(3, 2, shape).astype(np.float32))
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
        statistics, factors = self.pairs()
        expected = nn.functional.batch_norm(x, *statistics, *factors, eps=1e-3)
        looped = []
        monkeypatch.setattr(loops, "normalize", spy(loops.normalize, looped))
        found = normalize(x, share_arrays(statistics), *factors, 1e-3)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
        assert found.stride() == x.stride()
        assert len(looped) == 1

    def test_what_is_large_is_left_to_torch(self, monkeypatch):
        monkeypatch.setattr(gradient, "MAX_CACHED_VALUES", 59)
        monkeypatch.setattr(loops, "normalize", None)
        x = noise(5).contiguous(memory_format=torch.channels_last)
        statistics, factors = self.pairs(x.shape[1])
        expected = nn.functional.batch_norm(x, *statistics, *factors)
        assert torch.equal(normalize(x, share_arrays(statistics), *factors, 1e-5), expected)

    def test_a_wrong_number_of_dimensions_is_refused_as_by_torch(self):
        net = nn.Sequential(nn.Flatten(2), nn.BatchNorm2d(3))
        with pytest.raises(ValueError, match="expected 4D input"):
            BatchNorm(net, prior=16)(noise(4))


def spy(function, calls):
    """Return a function that notes its calls."""

    def run(*args):
        calls.append(args)
        return function(*args)

    return run


@pytest.mark.parametrize(("margin", "expected"), [(1.0, 2 / 3), (1.5, 2 / 2.5)])
def test_the_measured_prior_by_hand(margin, expected):
    # Means 1 and 3 of flat images: V = 2; the batch has mean 2 and deviation 1, so D = 4 - margin V / 2.
    source = Statistics(torch.zeros(1), torch.ones(1))
    batch = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 4, 4)
    assert measure_prior(source, batch, margin=margin) == pytest.approx(expected)
