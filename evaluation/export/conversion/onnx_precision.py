"""ONNX models with fewer bits: weights in half precision, and integer arithmetic."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trackers.runtimes.libraries import required

Sample = dict[str, np.ndarray]  # inputs of a call by name
SMALLEST = 256  # entries of a tensor that is worth a conversion
QUANTISED = ("Conv", "Gemm", "MatMul")  # operators that have weights


def with_half_weights(model: bytes) -> bytes:
    """Returns a model whose large weights are stored in half precision. It converts them back when it is opened.

    So the file is half as large, and all computing is in single precision. Tensors with a value beyond 65,504 keep
    single precision.
    """
    onnx = required("onnx", "precision=fp16", "export")
    proto = onnx.load_from_string(model)
    casts = []
    for tensor in proto.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.size < SMALLEST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name, half = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), half))
        casts.append(onnx.helper.make_node("Cast", [half], [name], name=f"{name}.cast", to=onnx.TensorProto.FLOAT))
    nodes = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*casts, *nodes])
    return proto.SerializeToString()


def quantised(model: bytes, samples: Sequence[Sample]) -> bytes:
    """Returns a model whose convolutions and matrix products compute with 8-bit integers (QDQ of ONNX Runtime).

    Args:
        model: in single precision.
        samples: inputs on which the ranges of the activations are measured.
    """
    tools = required("onnxruntime.quantization", "precision=int8", "export")
    shapes = required("onnxruntime.quantization.shape_inference", "precision=int8", "export")

    class Reader(tools.CalibrationDataReader):
        """Gives the samples one by one, and None at the end."""

        def __init__(self) -> None:
            self.remaining = iter(samples)

        def get_next(self) -> Any:
            """Returns the next sample."""
            return next(self.remaining, None)

    with tempfile.TemporaryDirectory() as name:
        given, prepared, made = (Path(name) / f"{word}.onnx" for word in ("given", "prepared", "made"))
        given.write_bytes(model)
        # Folds batch norms into convolutions. Its symbolic shapes fail on the graphs of DiMP, and are not needed.
        shapes.quant_pre_process(given, prepared, skip_symbolic_shape=True)
        tools.quantize_static(
            prepared,
            made,
            Reader(),
            quant_format=tools.QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=_without_weights(prepared),
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        return made.read_bytes()


def _without_weights(file: Path) -> list[str]:
    """Returns the convolutions of a model whose filters are no constants, e.g. those with a filter of DiMP."""
    graph = required("onnx", "precision=int8", "export").load(file).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "Conv" and node.input[1] not in constants]
