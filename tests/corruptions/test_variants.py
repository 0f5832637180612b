"""What each named variant mends, and hand calculations."""

import importlib.util

import numpy as np
import pytest

from shiftproof.corruptions import corrupt, find_function, frost_with, textures, weather
from shiftproof.corruptions.identity import identify_corruption
from shiftproof.errors import InputError, RunMismatchError


def test_brightness_by_hand():
    """HSV value + 0.2: the largest channel gains 51, the ratios stay."""
    image = np.array([[[200, 100, 50], [0, 0, 0], [255, 10, 20]]], np.uint8)
    expected = [[[251, 125, 62], [51, 51, 51], [255, 10, 20]]]
    assert np.abs(corrupt(image, "brightness", severity=2) - np.array(expected)).max() <= 1


def test_contrast_by_hand():
    """At severity 4 a tenth of the distance to the channel's mean, 100, is left."""
    image = np.repeat(np.array([[0, 50, 250]], np.uint8)[..., np.newaxis], 3, axis=2)
    result = corrupt(image, "contrast", severity=4)[0, :, 0]
    # 90 lies on a whole number: rounding decides whether it is cut off to 89.
    assert result.tolist() in ([90, 95, 115], [89, 95, 115])


def test_saturate_by_hand():
    """At severity 3 saturation is doubled: half of it becomes all."""
    image = np.array([[[200, 100, 100]]], np.uint8)
    assert np.abs(corrupt(image, "saturate", severity=3) - np.array([[[200, 0, 0]]])).max() <= 1


def test_pixelate_by_hand():
    """At severity 2 the side is halved: each 2 x 2 block becomes its mean."""
    image = np.array([[0, 10, 100, 100], [20, 30, 100, 104]], np.uint8)
    assert corrupt(image, "pixelate", severity=2).tolist() == [[15, 15, 101, 101]] * 2


def test_jpeg_is_pillows():
    from io import BytesIO

    from PIL import Image

    image = np.random.default_rng(0).integers(0, 256, (45, 37, 3), dtype=np.uint8)
    for array in (image, image[..., 1].copy()):
        for severity, quality in enumerate((25, 18, 15, 10, 7), start=1):
            file = BytesIO()
            Image.fromarray(array).save(file, "JPEG", quality=quality)
            expected = np.asarray(Image.open(file))
            assert np.array_equal(corrupt(array, "jpeg_compression", severity=severity), expected)


def test_gaussian_blur_is_scikit_images():
    from skimage.filters import gaussian

    image = np.random.default_rng(0).integers(0, 256, (45, 37, 3), dtype=np.uint8)
    for severity, sigma in enumerate((1, 2, 3, 4, 6), start=1):
        expected = gaussian(image / 255, sigma=sigma, channel_axis=-1, mode="nearest") * 255
        result = corrupt(image, "gaussian_blur", severity=severity)
        assert np.mean(result != expected.astype(np.uint8)) < 0.001


def test_a_small_image_in_a_jpeg_too_long():
    with pytest.raises(InputError, match="65500"):
        corrupt(np.zeros((1, 65_501), np.uint8), "jpeg_compression", severity=1)


@pytest.mark.parametrize("severity", [4, 5])
def test_defocus_corrected_keeps_the_brightness(severity):
    image = np.full((40, 40, 3), 200, np.uint8)
    assert corrupt(image, "defocus_blur", severity=severity).min() == 202
    corrected = corrupt(image, "defocus_blur", severity=severity, variant="corrected")
    assert np.array_equal(corrected, image)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_defocus_of_a_point_is_the_disk(severity):
    """A point of light shows the kernel: its area, its symmetry, its smoothed edge."""
    radius = (3, 4, 6, 8, 10)[severity - 1]
    image = np.zeros((61, 61), np.uint8)
    image[24:37, 24:37] = 255
    result = corrupt(image, "defocus_blur", severity=severity, variant="corrected").astype(float)
    assert np.array_equal(result, result[::-1])
    assert np.array_equal(result, result.T)
    assert abs(result.sum() / (255 * 169) - 1) < 0.015
    reach = np.flatnonzero(result.sum(axis=0))
    assert reach[0] in (24 - radius, 24 - radius - 1)


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_glass_corrected_exchanges(severity, monkeypatch):
    """An exchange keeps every pixel, a copy does not."""
    from shiftproof.corruptions import blur

    monkeypatch.setattr(blur, "blur_gaussian", lambda image, sigma: image.copy())
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    pixels = np.sort(image.reshape(-1, 3), axis=0)
    copied = corrupt(image, "glass_blur", severity=severity)
    exchanged = corrupt(image, "glass_blur", severity=severity, variant="corrected")
    assert np.array_equal(np.sort(exchanged.reshape(-1, 3), axis=0), pixels)
    assert not np.array_equal(np.sort(copied.reshape(-1, 3), axis=0), pixels)
    delta = (1, 2, 2, 3, 4)[severity - 1]
    # Pixels nearer to the first edges than the reach are never visited as the walk's pixel.
    assert np.array_equal(copied[0], image[0])
    assert not np.array_equal(copied[delta + 1 :], image[delta + 1 :])


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_zoom_corrected_is_centred(severity):
    image = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    turned = np.ascontiguousarray(image[::-1, ::-1])

    def error(variant):
        first = corrupt(image, "zoom_blur", severity=severity, variant=variant).astype(int)
        second = corrupt(turned, "zoom_blur", severity=severity, variant=variant).astype(int)
        return np.abs(first - second[::-1, ::-1]).max()

    assert error("corrected") <= 1
    assert error("published") > 10


def test_fog_corrected_reaches_both_ends():
    image = np.zeros((40, 200), np.uint8)
    image[0, 0] = 255
    amount = 2.5
    for key in ("a", "b", "c"):
        fogged = corrupt(image, "fog", severity=3, key=key, variant="corrected")
        assert fogged.min() == 0
        assert fogged.max() >= int(255 * amount / (1 + amount)) - 1


def test_fog_does_not_depend_on_channels():
    gray = np.full((50, 60), 90, np.uint8)
    color = np.repeat(gray[..., np.newaxis], 3, axis=2)
    fogged = corrupt(color, "fog", severity=3, key="a")
    assert np.array_equal(fogged[..., 0], fogged[..., 1])
    assert np.array_equal(fogged[..., 0], corrupt(gray, "fog", severity=3, key="a"))


def test_elastic_corrected_moves_across_by_the_width(monkeypatch):
    """On a wide image the published form moves as little across as down."""
    from shiftproof.corruptions import digital

    reaches = []

    def spy(rng, height, width, reach, sigma):
        reaches.append(reach)
        return np.zeros((height, width), np.float32)

    monkeypatch.setattr(digital, "_draw_displacements", spy)
    image = np.zeros((100, 300), np.uint8)
    corrupt(image, "elastic_transform", severity=1)
    corrupt(image, "elastic_transform", severity=1, variant="corrected")
    # 250 * 0.05 times 0.005 of the height, or of the width.
    assert reaches == pytest.approx([6.25, 6.25, 18.75, 6.25])


def test_elastic_of_nothing_moved_is_the_image(monkeypatch):
    from shiftproof.corruptions import digital

    monkeypatch.setattr(digital, "ELASTIC_TRANSFORM", (0.0,) * 5)
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert np.array_equal(corrupt(image, "elastic_transform", severity=3), image)


def test_frost_corrected_draws_five_textures(monkeypatch):
    shapes = []
    monkeypatch.setattr(
        weather,
        "_blend",
        lambda image, severity, texture, *_: shapes.append(texture.shape) or image,
    )
    image = np.zeros((8, 8, 3), np.uint8)
    for key in range(60):
        weather.frost_corrected(image, 3, np.random.default_rng(key))
    assert len(set(shapes)) == 5


def test_frost_imagenet_c_keeps_the_textures_scale():
    texture = textures.Texture(
        "ramp", np.tile(np.arange(200, dtype=np.uint8), (90, 1))[..., None].repeat(3, 2)
    )
    image = np.zeros((20, 30, 3), np.uint8)
    plain = weather._blend_frost(image, 1, np.random.default_rng(1), 1, [texture].__getitem__, 1.0)
    enlarged = frost_with([texture])(image, 1, np.random.default_rng(1))
    # 0.4 of a ramp of 1 per column rises 11.6 over 30 columns, enlarged by 1.1 only 10.5.
    assert int(plain[0, -1, 0]) - int(plain[0, 0, 0]) in (11, 12)
    assert int(enlarged[0, -1, 0]) - int(enlarged[0, 0, 0]) in (10, 11)


def test_frost_photographs_are_found_or_asked_for(tmp_path, monkeypatch):
    image = np.zeros((40, 40, 3), np.uint8)
    forget_photographs()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="imagecorruptions"):
        corrupt(image, "frost", severity=3, variant="photographs")

    package = tmp_path / "imagecorruptions"
    (package / "frost").mkdir(parents=True)
    import cv2

    for number, suffix in enumerate(("png", "png", "png", "jpg", "jpg"), start=1):
        picture = np.full((60, 60, 3), (0, 0, 40 * number), np.uint8)
        cv2.imwrite(str(package / "frost" / f"frost{number}.{suffix}"), picture)
    spec = importlib.util.spec_from_file_location("imagecorruptions", package / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    forget_photographs()
    frosted = corrupt(image, "frost", severity=3, variant="photographs")
    # The files are BGR to OpenCV and RGB to us: red.
    assert frosted[..., 0].min() > 20
    assert frosted[..., 1:].max() < 5
    # What is installed is the default.
    assert np.array_equal(corrupt(image, "frost", severity=3), frosted)
    assert identify_corruption("frost").startswith("frost with frost1.png, frost2.png, frost3.png")
    assert not np.array_equal(corrupt(image, "frost", severity=3, variant="drawn"), frosted)
    forget_photographs()

    with pytest.raises(InputError, match=r"frost1\.png is not in"):
        textures.read_photographs(tmp_path)


def forget_photographs():
    textures.find_photographs.cache_clear()
    textures.describe_published.cache_clear()


def test_frost_is_drawn_where_no_photographs_are_installed(monkeypatch):
    image = np.zeros((40, 40, 3), np.uint8)
    monkeypatch.setattr(textures, "find_photographs", lambda: ())
    textures.describe_published.cache_clear()
    drawn = corrupt(image, "frost", severity=3, variant="drawn")
    assert np.array_equal(corrupt(image, "frost", severity=3), drawn)
    assert identify_corruption("frost") == "frost with drawn textures"
    for variant in ("cifar-10-c", "imagenet-c"):
        assert identify_corruption(find_function("frost", variant)).endswith(" with drawn textures")
    textures.describe_published.cache_clear()


def test_a_copy_with_other_ice_is_not_gone_on_with(tmp_path, monkeypatch):
    from PIL import Image

    from shiftproof.data import export_corrupted

    (tmp_path / "photos").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "photos" / "a.png")

    def export(found):
        monkeypatch.setattr(textures, "find_photographs", lambda: found)
        textures.describe_published.cache_clear()
        export_corrupted(
            tmp_path / "photos", tmp_path / "out", corruptions=["frost"], severities=[3], workers=0
        )

    export(())
    export(())
    try:
        with pytest.raises(RunMismatchError, match="corruptions"):
            export(tuple(textures.draw_texture(n) for n in range(5)))
    finally:
        textures.describe_published.cache_clear()


def test_a_run_is_not_gone_on_with_under_other_ice(tmp_path, monkeypatch):
    from shiftproof.bench import run
    from support.tiny import make_model, write_photos

    write_photos(tmp_path / "photos", per_class=1)

    def bench(found):
        monkeypatch.setattr(textures, "find_photographs", lambda: found)
        textures.describe_published.cache_clear()
        return run(
            make_model(), tmp_path / "photos", corruptions=["frost"], severities=[3],
            out=tmp_path / "run", workers=0,
        )  # fmt: skip

    try:
        bench(())
        assert "frost with drawn textures" in (tmp_path / "run" / "run.json").read_text()
        with pytest.raises(RunMismatchError, match="frost with drawn textures"):
            bench(tuple(textures.draw_texture(n) for n in range(5)))
    finally:
        textures.describe_published.cache_clear()


def test_what_is_read_from_disk_hangs_on_no_ice_that_is_installed():
    from types import SimpleNamespace

    from shiftproof.bench.arguments import make_grid_settings

    def settings(source):
        described = SimpleNamespace(settings=lambda: {"source": source})
        grid = make_grid_settings(
            described, described, {"frost": "frost"}, [1], batch_size=1, seed=0, protocol={}
        )
        return grid["corruptions"]["frost"]

    assert settings("from disk") == "frost"
    assert settings("on the fly").startswith("frost with ")


@pytest.mark.parametrize(
    ("identity", "source", "warned"),
    [
        ("frost with drawn textures", "on the fly", True),
        ("frost (cifar-10-c) with drawn textures", "on the fly", True),
        ("frost with frost1.png (ab12)", "on the fly", False),
        ("frost with drawn textures", "from disk", False),
    ],
)
def test_the_page_says_loudly_that_frost_was_drawn(identity, source, warned):
    from types import SimpleNamespace

    from shiftproof.report.sections import describe_generated_frost

    settings = {"corruptions": {"fog": "fog", "frost": identity}, "images": {"source": source}}
    said = describe_generated_frost(SimpleNamespace(settings=settings))
    assert (said is not None) == warned
    assert said is None or "shiftproof[frost]" in said


def test_frost_needs_a_texture():
    with pytest.raises(InputError, match="at least one"):
        frost_with([])


@pytest.mark.parametrize("index", range(5))
def test_drawn_textures_have_the_photographs_statistics(index):
    style, pixels = textures.STYLES[index], textures.draw_texture(index).pixels.astype(float)
    assert pixels.shape == (style.height, style.width, 3)
    assert np.abs(pixels.mean(axis=(0, 1)) - style.mean).max() < 1
    assert np.abs(pixels.std(axis=(0, 1)) - style.deviation).max() < 1
    gray = pixels.mean(axis=2)
    window = np.hanning(style.height)[:, np.newaxis] * np.hanning(style.width)
    windowed = (gray - gray.mean()) * window / np.sqrt((window**2).mean())
    power = np.abs(np.fft.fft2(windowed)) ** 2 / gray.size
    frequency = np.hypot(
        np.fft.fftfreq(style.height)[:, np.newaxis], np.fft.fftfreq(style.width)[np.newaxis]
    )
    spectrum = [
        np.log10(power[(frequency > f / 1.35) & (frequency < f * 1.35)].mean())
        for f in textures.FREQUENCIES
    ]
    assert np.abs(np.array(spectrum) - style.spectrum).max() < 0.45
    slope = np.polyfit(np.log10(textures.FREQUENCIES), spectrum, 1)[0]
    wanted = np.polyfit(np.log10(textures.FREQUENCIES), style.spectrum, 1)[0]
    assert abs(slope - wanted) < 0.15


def test_snow_falls_in_two_directions():
    """The layer and the layer turned by 180 degrees: on black the result is symmetric."""
    snowed = corrupt(np.zeros((50, 70), np.uint8), "snow", severity=3)
    assert np.array_equal(snowed, snowed[::-1, ::-1])
    assert snowed.std() > 1


def test_snow_imagenet_c_is_as_dense_as_snow():
    """On 224 pixels the two forms differ in rounding and in where the layer is cut."""
    image = np.zeros((224, 224), np.uint8)

    def mean(variant):
        return np.mean(
            [corrupt(image, "snow", severity=3, key=str(n), variant=variant) for n in range(20)]
        )

    assert mean("imagenet-c") == pytest.approx(mean("published"), rel=0.02)


def test_motion_blur_keeps_within_45_degrees():
    """A vertical line is smeared sideways, at any draw of the angle."""
    image = np.zeros((80, 80), np.uint8)
    image[:, 60] = 255
    for key in "abcdef":
        row = corrupt(image, "motion_blur", severity=3, key=key)[40]
        assert np.count_nonzero(row) >= 15


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_defocus_of_a_wide_image_is_a_plain_convolution(severity):
    """Two thousand columns: running sums stay exact, and strips join."""
    import cv2

    radius, alias = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))[severity - 1]
    reach, size = (8, 3) if radius <= 8 else (radius, 5)
    x, y = np.meshgrid(*[np.arange(-reach, reach + 1)] * 2)
    disk = (x**2 + y**2 <= radius**2).astype(np.float64)
    kernel = cv2.GaussianBlur(disk / disk.sum(), (size, size), alias)
    image = np.random.default_rng(0).integers(0, 256, (30, 2100, 3), dtype=np.uint8)
    exact = np.clip(cv2.filter2D(image.astype(np.float64), -1, kernel), 0, 255)
    result = corrupt(image, "defocus_blur", severity=severity)
    # Cut off, and a level less where the exact sum is a whole number: with the 29 pixels of
    # severity 1 that is one value of 29.
    assert np.all(result <= exact + 1e-3)
    assert np.all(result >= exact - 1 - 1e-3)
    assert np.mean(result == np.floor(exact + 1e-6)) > (0.95 if severity == 1 else 0.999)
