"""OpenVINO models of graphs, in several precisions."""

import io
import logging
from collections.abc import Sequence
from pathlib import Path

from evaluation.export.conversion.onnx_precision import Sample
from trackers.runtimes.graph_spec import GraphSpec
from trackers.runtimes.libraries import required


def write_openvino(model: bytes, spec: GraphSpec, file: Path, half: bool, samples: Sequence[Sample]) -> None:
    """Writes a graph as OpenVINO's two files, .xml and .bin.

    Args:
        model: the graph in ONNX, in single precision.
        spec: inputs and outputs of the graph. The model is written for one target.
        file: the .xml file.
        half: whether weights are written in half precision.
        samples: inputs on which the ranges of the activations are measured, for 8-bit integers; none for floats.
    """
    library = required("openvino", "format=openvino", "export")
    converted = library.Core().read_model(io.BytesIO(model))
    converted.reshape({name: list(of.shape) for name, of in spec.inputs.items()})
    if samples:
        nncf = required("nncf", "format=openvino precision=int8", "export")
        nncf.set_log_level(logging.ERROR)
        # Sums and softmaxes of transformers keep their range with this type, and it changes nothing else.
        converted = nncf.quantize(
            converted,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            model_type=nncf.ModelType.TRANSFORMER,
        )
    library.save_model(converted, file, compress_to_fp16=half)
