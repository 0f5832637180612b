"""A command of every verb, on inputs that need not exist before its first line is printed."""

from __future__ import annotations

_GRID = ("-c", "fog", "-s", "3", "-w", "0")
_PHOTOS = ("-d", "photos", "-w", "0")

COMMANDS: dict[str, tuple[str, ...]] = {
    "bench": ("-m", "python:own:classify", "-d", "photos", *_GRID, "-o", "out"),
    "detect": ("-m", "python:own:detect", "-d", "blocks", *_GRID, "-o", "out"),
    "segment": (
        "-m", "python:own:segment", "-d", "maps", "--classes", "maps.txt", *_GRID, "-o", "out",
    ),
    "report": ("before",),
    "compare": ("before", "after"),
    "demo": ("--quick", "--out", "out", "-w", "0"),
    "init": ("--model", "demo", "--data", "photos"),
    "data": ("photos",),
    "models": (),
    "corruptions": (),
    "doctor": (),
    "breaking": ("-m", "python:own:classify", *_PHOTOS, "-c", "fog", "-o", "out"),
    "perturb": ("-m", "python:own:flip", "-d", "photos", "-p", "brightness", "-o", "out"),
    "score": ("-p", "found", "-d", "blocks/annotations/blocks.json", "-o", "out", "-w", "0"),
    "evaluate": ("-m", "python:own:classify", "-d", "val=photos", "-w", "0", "-o", "out"),
    "probe": ("-m", "python:own:encode", *_PHOTOS, "-f", "brightness", "-o", "out"),
    "conditions": ("before", "--by", "part:1"),
    "reproduce": ("aninfonce", "-o", "out"),
    "corrupt": ("photos", "out", *_GRID),
    "stylize": ("photos", "out", "-w", "0"),
    "export": ("model.onnx", "out"),
    "log": ("before", "--to", "tensorboard:out"),
    "embed": ("-m", "python:own:encode", *_PHOTOS, "-o", "out"),
    "audit": ("train", "-t", "sketch.npy", "-o", "out", "--k", "2", "-w", "0"),
    "plan": ("--train-rows", "1M", "--test-rows", "1k", "--dim", "64"),
    "prune": ("train", "-t", "sketch.npy", "--threshold", "0.9", "-o", "out", "-w", "0"),
    "dedup": ("train", "--threshold", "0.9", "-o", "out", "-w", "0"),
    "coreset": ("train", "-t", "sketch.npy", "--size", "9", "-o", "out", "-w", "0"),
    "subset": ("train", "-k", "keep.npy", "-o", "out"),
}  # fmt: skip
"""The words after each verb; the output is named "out"."""
