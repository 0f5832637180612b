"""Exporting self-adapting ONNX graphs, whose batch norm mixes source and batch statistics.

Needs the packages ``onnx`` and, to calibrate, ``onnxruntime``; no torch.
"""
