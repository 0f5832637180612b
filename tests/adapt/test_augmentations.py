"""The augmentations of CoTTA, RoTTA and MEMO: their ranges, and each operation by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from shiftproof.adapt.learning.augmix import (
    OPERATIONS,
    apply_operation,
    augment_by_mixing,
    draw_crop,
)
from shiftproof.adapt.learning.jitter import Jitter, apply_jitter, draw_jitter
from shiftproof.adapt.learning.pixels import PixelSpace
from shiftproof.models import Preprocess
from shiftproof.rng import generator

STILL = {
    "colors": (), "degrees": 0.0, "shift": (0, 0), "scale": 1.0, "blur": 0.001, "mirror": False,
    "noise_seed": 0,
}  # fmt: skip


def picture(height=32, width=32, seed=0):
    smooth = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(smooth).resize((width, height), Image.Resampling.BICUBIC))


def pixels(*sizes):
    return torch.from_numpy(picture(*sizes).copy()).permute(2, 0, 1)[None] / 255


class TestJitter:
    def test_the_published_ranges_are_drawn_to_their_ends(self):
        """Wang et al. 2022: each range with 400 draws, so that the ends are reached within 3 %."""
        draws = [draw_jitter(generator(0, str(i)), 64, 64) for i in range(400)]
        ranges = {
            "brightness": (0.6, 1.4), "contrast": (0.7, 1.3), "saturation": (0.5, 1.5),
            "hue": (-0.06, 0.06), "gamma": (0.7, 1.3),
        }  # fmt: skip
        values = {n: [dict(d.colors)[n] for d in draws] for n in ranges}
        values |= {n: [getattr(d, n) for d in draws] for n in ("degrees", "scale", "blur")}
        values["shift"] = [d.shift[0] for d in draws]
        # 1 / 16 of a padded width of 128.
        ranges |= {
            "degrees": (-15, 15),
            "scale": (0.9, 1.1),
            "blur": (0.001, 0.5),
            "shift": (-8, 8),
        }
        for name, (low, high) in ranges.items():
            margin = 0.03 * (high - low)
            assert low <= min(values[name]) <= low + margin, name
            assert high - margin <= max(values[name]) <= high, name
        assert 160 < sum(d.mirror for d in draws) < 240
        assert len({tuple(n for n, _ in d.colors) for d in draws}) > 100  # of 120 orders

    def test_the_same_key_is_the_same_augmentation(self):
        first, again = (draw_jitter(generator(3, "a"), 20, 30) for _ in range(2))
        assert first == again
        state = torch.random.get_rng_state()
        assert torch.equal(apply_jitter(pixels(), first), apply_jitter(pixels(), again))
        assert torch.equal(torch.random.get_rng_state(), state)

    @pytest.mark.parametrize("sizes", [(32, 32), (21, 34), (7, 5)])
    def test_size_dtype_and_range_are_kept(self, sizes):
        for number in range(5):
            looked = apply_jitter(pixels(*sizes), draw_jitter(generator(0, str(number)), *sizes))
            assert looked.shape == (1, 3, *sizes)
            assert looked.dtype == torch.float32
            assert 0 <= float(looked.min()) <= float(looked.max()) <= 1

    def test_standing_still_is_noise_alone(self):
        grey = torch.full((4, 3, 64, 64), 0.5)
        noise = apply_jitter(grey, Jitter(**STILL)) - 0.5
        assert float(noise.std()) == pytest.approx(0.005, rel=0.02)
        assert abs(float(noise.mean())) < 1e-4

    def test_each_operation_by_hand(self):
        x = pixels()

        def look(**changes):
            return apply_jitter(x, Jitter(**{**STILL, **changes}))

        close = {"atol": 0.03, "rtol": 0}  # six standard deviations of the noise
        torch.testing.assert_close(look(mirror=True), x.flip(-1), **close)
        torch.testing.assert_close(look(shift=(4, 0))[..., 4:], x[..., :-4], **close)
        torch.testing.assert_close(look(shift=(0, 3))[..., 3:, :], x[..., :-3, :], **close)
        # What comes in is the edge.
        torch.testing.assert_close(
            look(shift=(4, 0))[..., :4], x[..., :1].expand(-1, -1, -1, 4), **close
        )
        torch.testing.assert_close(look(colors=(("brightness", 0.7),)), 0.7 * x, **close)
        torch.testing.assert_close(look(colors=(("gamma", 1.3),)), x**1.3, **close)
        colors = (("brightness", 1.4), ("gamma", 0.7))
        torch.testing.assert_close(look(colors=colors), (1.4 * x).clamp(0, 1) ** 0.7, **close)
        for name in ("contrast", "saturation", "hue"):
            expected = getattr(F, f"adjust_{name}")(x, 0.06)
            torch.testing.assert_close(look(colors=((name, 0.06),)), expected, **close)


class TestAugMix:
    def test_the_operations_by_hand(self):
        image = picture(30, 60)
        look = {
            n: np.asarray(apply_operation(Image.fromarray(image), n, 1.0, mirrored=False))
            for n in OPERATIONS
        }
        # Level 1 of 10 of a third of 60 and 30 pixels; Pillow's matrix says where from.
        np.testing.assert_array_equal(look["translate_x"][:, :-2], image[:, 2:])
        np.testing.assert_array_equal(look["translate_y"][:-1], image[1:])
        assert (look["translate_x"][:, -2:] == 128).all()
        np.testing.assert_array_equal(look["posterize"], image & 0xF0)
        np.testing.assert_array_equal(
            look["solarize"], np.where(image >= 256 - 25, 255 - image, image)
        )
        low, high = image.min((0, 1)).astype(float), image.max((0, 1))
        np.testing.assert_allclose(look["autocontrast"], (image - low) * 255 / (high - low), atol=1)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_rotations_and_shears_by_hand(self, sign):
        def look(image, name):
            picture = Image.fromarray(image)
            return np.asarray(apply_operation(picture, name, 1.0, mirrored=sign < 0)).astype(float)

        # 3 degrees move a line at column 50 up by (50 - 29.5) tan(3) = 1.07 rows.
        line = np.zeros((30, 60, 3), np.uint8)
        line[14:16] = 200
        column = look(line, "rotate")[8:22, 50, 0]
        row = (column * np.arange(8, 22)).sum() / column.sum()
        assert row == pytest.approx(14.5 - sign * 1.07, abs=0.1)
        # A shear of 0.03 moves the last of 30 rows, or the last of 30 columns, by 0.89 pixels.
        steps = np.repeat(np.arange(30, dtype=np.uint8)[None, :, None] * 8, 30, 0).repeat(3, 2)
        moved = look(steps, "shear_x")[29, 5:25] - steps[29, 5:25]
        np.testing.assert_allclose(moved, sign * 0.03 * 29.5 * 8, atol=1)
        moved = look(steps.transpose(1, 0, 2).copy(), "shear_y")[5:25, 29] - steps[29, 5:25]
        np.testing.assert_allclose(moved, sign * 0.03 * 29.5 * 8, atol=1)
        shifted = look(steps, "translate_x")[:, 5:25] - steps[:, 5:25]
        np.testing.assert_array_equal(shifted, sign * 8)  # one pixel of thirty thirds of ten

    def test_a_mixture_stays_in_range_and_comes_from_its_key(self):
        for crop in ("resized", "padded"):
            first, again = (augment_by_mixing(picture(), generator(1, "x"), crop) for _ in range(2))
            other = augment_by_mixing(picture(), generator(2, "x"), crop)
            np.testing.assert_array_equal(first, again)
            assert not np.array_equal(first, other)
            assert first.dtype == np.float32
            assert 0 <= first.min() <= first.max() <= 1

    def test_a_uniform_grey_stays_as_it_is(self):
        """Grey of 128 is what comes in at the edges, and below what solarize turns over."""
        grey = np.full((24, 24, 3), 128, np.uint8)
        values = [augment_by_mixing(grey, generator(i), "resized") for i in range(20)]
        np.testing.assert_allclose(np.stack(values), 128 / 255, atol=0.01)

    def test_crops_have_the_published_areas_and_ratios(self):
        boxes = [draw_crop(generator(i), 200, 100) for i in range(500)]
        sizes = np.array([(b[2] - b[0], b[3] - b[1]) for b in boxes], float)
        areas, ratios = sizes.prod(1) / 20_000, sizes[:, 0] / sizes[:, 1]
        assert all(min(b[:2]) >= 0 and b[2] <= 200 and b[3] <= 100 for b in boxes)
        assert 0.075 < areas.min() < 0.12
        fits = areas < 0.999
        assert 0.72 < ratios[fits].min() < 0.8
        assert 1.28 < ratios[fits].max() < 1.37


class TestPixelSpace:
    def test_there_and_back(self):
        preprocess = Preprocess((32, 32), 32)
        space = PixelSpace(preprocess, "X")
        image = picture()
        inputs = torch.from_numpy(preprocess.normalize(image[None]))
        looked = space.to_pixels(inputs)
        expected = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
        torch.testing.assert_close(looked, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(space.to_inputs(looked), inputs, atol=1e-5, rtol=0)

    def test_grey_is_three_equal_channels(self):
        preprocess = Preprocess((32, 32), 32, mean=(0.4,), std=(0.2,), channels=1)
        space = PixelSpace(preprocess, "X")
        inputs = torch.from_numpy(preprocess.normalize(picture()[None]))
        looked = space.to_pixels(inputs)
        assert looked.shape == (1, 3, 32, 32)
        torch.testing.assert_close(space.to_inputs(looked), inputs, atol=1e-5, rtol=0)
