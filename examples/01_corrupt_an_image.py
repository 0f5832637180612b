"""Corrupt one photograph, and see that the key alone decides the noise."""

import numpy as np
from PIL import Image

import shiftproof
from shiftproof.corruptions import COMMON
from shiftproof.data import DemoPhotographs

data = DemoPhotographs()
sample = data.samples[0]
photograph = data.read(sample)

snowy = shiftproof.corrupt(photograph, "snow", severity=3, seed=0, key=sample.id)
again = shiftproof.corrupt(photograph, "snow", severity=3, seed=0, key=sample.id)
other = shiftproof.corrupt(photograph, "snow", severity=3, seed=0, key="another image")
print("same key, same pixels:", np.array_equal(snowy, again))
print("other key, other snow:", not np.array_equal(snowy, other))

# Severity is not part of the key: the five severities of an image share their noise.
strip = np.hstack(
    [photograph]
    + [shiftproof.corrupt(photograph, "fog", severity=s, key=sample.id) for s in (1, 2, 3, 4, 5)]
)
Image.fromarray(strip).save("fog.png")
print(
    f"fog.png shows {sample.id} clean and in five severities; there are {len(COMMON)} corruptions"
)
