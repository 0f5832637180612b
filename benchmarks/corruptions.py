"""Time every corruption beside the peers, in one process, on one thread.

    python benchmarks/corruptions.py --out benchmarks/results/corruptions.json
    python benchmarks/corruptions.py --table benchmarks/results/corruptions.json

CPU time of the process, median of repeats. imagecorruptions-imaug 1.1.5 computes the same thing
and is the peer to beat; corrupt-tta 0.1.7, albumentations, kornia and torchvision compute something
near it, and are marked so. The peers are installed with: pip install "shiftproof[bench]", and
corrupt-tta beside them with --no-deps, because it asks for another build of OpenCV.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shiftproof.corruptions import COMMON, HOLDOUT, corrupt
from shiftproof.types import Image

SIZES = {"224x224": (224, 224), "640x480": (480, 640), "2048x1024": (1024, 2048)}
SEVERITIES = (1, 3, 5)
SCALING = (0.05, 0.2, 0.8, 3.2, 8.0, 32.0)
"""Megapixels."""

Call = Callable[[], object]


def picture(height: int, width: int) -> Image:
    """Waves, edges, a bright sky and grain: flat, smooth and rough parts as a photograph has."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    base = 120 + 60 * np.sin(x / 37) * np.cos(y / 23) + 50 * ((x // 61 + y // 47) % 2)
    noisy = base[..., np.newaxis] + np.array([20, 0, -30]) + rng.normal(0, 7, (height, width, 3))
    noisy[: height // 8] = (250, 252, 255)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def cpu_ms(call: Call, budget: float, fewest: int) -> float:
    """Return the median CPU milliseconds of ``call``, repeated for ``budget`` seconds or more."""
    call()
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < fewest or (time.perf_counter() - start < budget and len(times) < 50):
        before = time.process_time()
        call()
        times.append(time.process_time() - before)
    return float(np.median(times)) * 1000


def same_semantics(image: Image, name: str, severity: int) -> Call | None:
    try:
        import imagecorruptions
    except ImportError:
        return None
    return lambda: imagecorruptions.corrupt(image, severity=severity, corruption_name=name)


def near_equivalents(image: Image, name: str) -> dict[str, Call]:
    """Return what other libraries have nearest to a corruption at severity 3."""
    calls: dict[str, Call] = {}
    try:
        import albumentations as A

        near = {
            "gaussian_noise": lambda: A.GaussNoise(std_range=(0.18, 0.18), p=1),
            "shot_noise": lambda: A.ShotNoise(scale_range=(0.08, 0.08), p=1),
            "impulse_noise": lambda: A.SaltAndPepper(amount=(0.09, 0.09), p=1),
            "defocus_blur": lambda: A.Defocus(radius=(6, 6), alias_blur=(0.5, 0.5), p=1),
            "glass_blur": lambda: A.GlassBlur(sigma=1, max_delta=2, iterations=3, p=1),
            "motion_blur": lambda: A.MotionBlur(blur_limit=(31, 31), p=1),
            "zoom_blur": lambda: A.ZoomBlur(max_factor=(1.2, 1.2), step_factor=(0.02, 0.02), p=1),
            "snow": lambda: A.RandomSnow(p=1),
            "fog": lambda: A.RandomFog(p=1),
            "brightness": lambda: A.RandomBrightnessContrast((0.3, 0.3), (0, 0), p=1),
            "contrast": lambda: A.RandomBrightnessContrast((0, 0), (-0.8, -0.8), p=1),
            "elastic_transform": lambda: A.ElasticTransform(alpha=20, sigma=5, p=1),
            "pixelate": lambda: A.Downscale(scale_range=(0.4, 0.4), p=1),
            "jpeg_compression": lambda: A.ImageCompression(quality_range=(15, 15), p=1),
            "gaussian_blur": lambda: A.GaussianBlur(sigma_limit=(3, 3), blur_limit=(25, 25), p=1),
            "spatter": lambda: A.Spatter(p=1),
            "saturate": lambda: A.HueSaturationValue((0, 0), (60, 60), (0, 0), p=1),
        }
        if name in near:
            transform = near[name]()
            calls["albumentations"] = lambda: transform(image=image)["image"]
    except ImportError:
        pass
    try:
        import torch
        from torchvision.transforms import v2

        torch.set_num_threads(1)
        tensor = torch.from_numpy(image).permute(2, 0, 1).contiguous()
        modules: dict[str, Any] = {
            "gaussian_blur": v2.GaussianBlur(25, sigma=3.0),
            "elastic_transform": v2.ElasticTransform(20.0, 5.0),
            "jpeg_compression": v2.JPEG(15),
            "saturate": v2.ColorJitter(saturation=(2, 2)),
            "brightness": v2.ColorJitter(brightness=(1.3, 1.3)),
            "contrast": v2.ColorJitter(contrast=(0.2, 0.2)),
        }
        if name in modules:
            calls["torchvision"] = lambda: modules[name](tensor)
    except ImportError:
        pass
    try:
        import kornia.augmentation as K
        import torch

        batch = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        made = {
            "gaussian_noise": lambda: K.RandomGaussianNoise(std=0.18, p=1),
            "impulse_noise": lambda: K.RandomSaltAndPepperNoise(amount=(0.09, 0.09), p=1),
            "motion_blur": lambda: K.RandomMotionBlur(31, 45.0, 0.5, p=1),
            "gaussian_blur": lambda: K.RandomGaussianBlur((25, 25), (3.0, 3.0), p=1),
            "elastic_transform": lambda: K.RandomElasticTransform(p=1),
            "jpeg_compression": lambda: K.RandomJPEG((15.0, 15.0), p=1),
            "saturate": lambda: K.RandomSaturation((2.0, 2.0), p=1),
            "brightness": lambda: K.RandomBrightness((1.3, 1.3), p=1),
            "contrast": lambda: K.RandomContrast((0.2, 0.2), p=1),
        }
        if name in made:
            module = made[name]()
            calls["kornia"] = lambda: module(batch)
    except ImportError:
        pass
    try:
        import corrupt_tta

        calls["corrupt-tta"] = partial(corrupt_tta.corrupt, image, 3, name)
    except ImportError:
        pass
    return calls


def versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.processor() or "unknown"}
    for package in (
        "numpy", "numba", "opencv-python-headless", "Pillow", "imagecorruptions-imaug",
        "corrupt-tta", "albumentations", "kornia", "torchvision",
    ):  # fmt: skip
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    return found


def peak_images(name: str) -> float:
    """Return the peak memory of one corruption at 2048 x 1024, in float32 images of that size."""
    code = (
        f"import sys, resource; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from corruptions import picture, corrupt\n"
        "import numpy as np\n"
        "small, image = picture(64, 64), picture(1024, 2048)\n"
        f"corrupt(small, {name!r}, severity=5)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        # The picture's own making takes more than a corruption; what counts is beyond what is held.
        "def held():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"
        "start = held()\n"
        f"corrupt(image, {name!r}, severity=5)\n"
        "peak = [l for l in open('/proc/self/status') if l.startswith('VmHWM')][0].split()[1]\n"
        "print((int(peak) * 1024 - start) / (image.size * 4))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return round(float(done.stdout), 2)


def measure(names: tuple[str, ...], peers: bool, quick: bool) -> dict[str, Any]:
    rows = []
    for size, (height, width) in SIZES.items():
        image = picture(height, width)
        large = size == "2048x1024"
        for name in names:
            for severity in (3,) if quick else SEVERITIES:
                ours = partial(corrupt, image, name, severity=severity)
                row: dict[str, Any] = {"name": name, "size": size, "severity": severity}
                row["shiftproof"] = round(cpu_ms(ours, 0.3, 5), 4)
                peer = same_semantics(image, name, severity) if peers else None
                if peer is not None:
                    row["imagecorruptions"] = round(cpu_ms(peer, 0.2, 2 if large else 3), 4)
                if peers and severity == 3:
                    others = {}
                    for library, call in near_equivalents(image, name).items():
                        try:
                            others[library] = round(cpu_ms(call, 0.1, 2), 4)
                        except Exception as error:  # a peer that fails on this input is no news
                            print(f"{library} {name}: {error}", file=sys.stderr)
                    row["other semantics"] = others
                rows.append(row)
                print(json.dumps(row), file=sys.stderr)
    return {"versions": versions(), "rows": rows}


def scaling() -> list[dict[str, Any]]:
    """Time each corruption from 0.05 to 32 megapixels, in nanoseconds per pixel."""
    rows = []
    for megapixels in SCALING:
        side = round((megapixels * 1e6) ** 0.5)
        image = picture(side, side)
        for name in COMMON:
            spent = cpu_ms(partial(corrupt, image, name, severity=3), 0.1, 2)
            rows.append(
                {"name": name, "side": side, "ns per pixel": round(spent * 1e6 / side**2, 2)}
            )
    return rows


def summary(rows: list[dict[str, Any]], severity: int = 3) -> str:
    """Return a Markdown table per size: milliseconds here and there, and their ratio."""
    lines = []
    for size in SIZES:
        chosen = [r for r in rows if r["size"] == size and r["severity"] == severity]
        lines += [f"### {size}, severity {severity}", ""]
        lines += ["| corruption | here, ms | peer, ms | ratio | other semantics, ms |"]
        lines += ["|---|---|---|---|---|"]
        for row in chosen:
            peer = row.get("imagecorruptions")
            others = ", ".join(f"{k} {v:.2f}" for k, v in row.get("other semantics", {}).items())
            ratio = f"{peer / row['shiftproof']:.1f}" if peer else ""
            lines.append(
                f"| {row['name']} | {row['shiftproof']:.2f} | {peer or 0:.2f} | {ratio} | {others} |"
            )
        common = [r for r in chosen if r["name"] in COMMON and "imagecorruptions" in r]
        if common:
            ours, theirs = (sum(r[k] for r in common) for k in ("shiftproof", "imagecorruptions"))
            ratios = [r["imagecorruptions"] / r["shiftproof"] for r in common]
            mean = float(np.exp(np.mean(np.log(ratios))))
            lines.append(f"| sum of the 15 | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f} | |")
            lines.append(f"| geometric mean of the 15 | | | {mean:.1f} | |")
        lines.append("")
    return "\n".join(lines)


def plot(rows: list[dict[str, Any]], severity: int = 3) -> str:
    """Return an SVG: how many times faster than the peer each corruption is, at the three sizes."""
    names = [n for n in (*COMMON, *HOLDOUT) if any(r["name"] == n for r in rows)]
    left, line, width = 150, 30, 560
    decades = 2.2
    colors = dict(zip(SIZES, ("#56b4e9", "#0072b2", "#d55e00"), strict=True))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 60} '
        f'{line * len(names) + 60}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for times in (1, 3, 10, 30, 100):
        x = left + np.log10(times) / decades * width
        parts.append(
            f'<line x1="{x:.0f}" x2="{x:.0f}" y1="30" y2="{line * len(names) + 34}" '
            f'stroke="#ccc"/><text x="{x:.0f}" y="24" text-anchor="middle">{times} times</text>'
        )
    for row, name in enumerate(names):
        y = 36 + row * line
        parts.append(f'<text x="{left - 8}" y="{y + 16}" text-anchor="end">{name}</text>')
        for offset, (size, color) in enumerate(colors.items()):
            for r in rows:
                if (r["name"], r["size"], r["severity"]) == (name, size, severity):
                    ratio = r["imagecorruptions"] / r["shiftproof"]
                    bar = np.log10(max(ratio, 1)) / decades * width
                    parts.append(
                        f'<rect x="{left}" y="{y + 8 * offset}" width="{bar:.0f}" height="7" '
                        f'fill="{color}"><title>{name} {size}: {ratio:.1f}</title></rect>'
                    )
    for offset, (size, color) in enumerate(colors.items()):
        x, y = left + 150 * offset, line * len(names) + 50
        parts.append(
            f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{color}"/>'
            f'<text x="{x + 16}" y="{y}">{size}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="write the measurements to this JSON file")
    parser.add_argument("--table", type=Path, help="print the tables of an earlier file")
    parser.add_argument("--plot", type=Path, help="with --table: draw them into this SVG file")
    parser.add_argument("--names", nargs="+", default=[*COMMON, *HOLDOUT])
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--quick", action="store_true", help="severity 3 alone, no scaling")
    arguments = parser.parse_args()
    if arguments.table:
        rows = json.loads(arguments.table.read_text())["rows"]
        print(summary(rows))
        if arguments.plot:
            arguments.plot.write_text(plot(rows) + "\n")
        return
    warnings.filterwarnings("ignore")
    cv2.setNumThreads(1)
    result = measure(tuple(arguments.names), not arguments.no_peers, arguments.quick)
    result["peak memory in float32 images at 2048x1024"] = {
        name: peak_images(name) for name in arguments.names
    }
    if not arguments.quick:
        result["scaling"] = scaling()
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print(summary(result["rows"]))


if __name__ == "__main__":
    main()
