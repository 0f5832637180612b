"""Adapt the batch-norm statistics to images of low contrast, and save the result as a module."""

import numpy as np

import shiftproof
from shiftproof import load_classifier
from shiftproof.adapt import BatchNorm
from shiftproof.data import DemoPhotographs

model = load_classifier("demo")
data = DemoPhotographs()
labels = np.array([sample.label for sample in data.samples])
faint = np.stack(
    [
        shiftproof.corrupt(
            model.preprocess.geometry(data.read(sample)), "contrast", severity=4, key=sample.id
        )
        for sample in data.samples
    ]
)

adapted = BatchNorm(model, prior=16)
before = model.predict(faint).argmax(axis=1)
after = adapted.predict(faint).argmax(axis=1)
print(f"right at low contrast: {np.mean(before == labels):.0%} as published, ", end="")
print(f"{np.mean(after == labels):.0%} adapted, without a label")

plain = adapted.merge()  # an ordinary torch module, ready for torch.save or torch.onnx.export
print("the repaired model is a", type(plain).__name__)
adapted.reset()
