"""ONNX graphs that adapt by themselves: their batch norm mixes each batch's statistics in.

Needs the packages ``onnx`` and, to calibrate, ``onnxruntime``; no torch.
"""
