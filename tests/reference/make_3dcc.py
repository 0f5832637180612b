"""Write what the published code of 3D common corruptions makes of an image; see README.md.

python make_3dcc.py CHECKOUT FOLDER
"""

import sys
import types
from pathlib import Path

import numpy as np
import torch

MISSING = ("natsort", "fire", "dataset", "matplotlib", "matplotlib.pyplot", "tqdm")


def load(path):
    """Run a published file on the CPU, without what it only needs for its loops over folders."""
    for name in MISSING:
        module = types.ModuleType(name)
        module.Fire = module.RGBAndDepthDataset = module.RGBAndReshadeDataset = object
        sys.modules.setdefault(name, module)
    names = {"__name__": path.stem}
    exec(path.read_text().replace(".cuda()", ""), names)
    names["parallel_apply"] = lambda modules, inputs: [
        module(*values) for module, values in zip(modules, inputs, strict=True)
    ]
    return names


def scene():
    """Return a depth map with a slope, a step and a near thing, ``(48, 48)`` in 0..1."""
    y, x = np.mgrid[:48, :48] / 48
    depth = 0.2 + 0.6 * (1 - y) + 0.1 * (x > 0.5)
    depth[30:44, 8:24] = 0.08
    return depth.astype(np.float32)


def main(folder, target):
    image = np.load(target / "picture.npz")["image"][:48, :48]
    depth = scene()
    rgb = torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32) / 255)[None]
    far = torch.from_numpy(depth)[None]
    dof, fog, flash = (load(folder / f"create_{name}.py") for name in ("dof", "fog", "flash"))
    arrays = {}
    for severity in (1, 3, 5):
        output, _ = dof["defocus_blur_3D"](rgb, far, n_quantiles=8, severity=severity)
        arrays[f"near_focus-{severity}"], arrays[f"far_focus-{severity}"] = output[0]
        arrays[f"fog_3d-{severity}"] = fog["fog_3d"](rgb, far, severity=severity)[0]
        arrays[f"flash-{severity}"] = flash["flash"](rgb, far, severity=severity)[0]
    pixels = {
        name: (np.clip(values.numpy(), 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        for name, values in arrays.items()
    }
    np.savez_compressed(target / "3dcc.npz", image=image, depth=depth, **pixels)


if __name__ == "__main__":
    main(Path(sys.argv[1]) / "create_3dcc", Path(sys.argv[2]))
