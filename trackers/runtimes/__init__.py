"""Runtimes: PyTorch, ONNX Runtime and OpenVINO run the graphs of a tracker for its online rules.

Modules import their own library alone, so a device needs one of them.
"""
