"""Export of a tracker: a folder of graphs for ONNX Runtime or OpenVINO, and its comparison with PyTorch."""
