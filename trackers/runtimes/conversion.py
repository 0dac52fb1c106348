"""Conversion of graphs from PyTorch to ONNX, which ONNX Runtime and OpenVINO read."""

import copy
import logging
import warnings
from collections.abc import Mapping

import torch

from trackers.errors import TrackerError
from trackers.runtimes.graph import Graph
from trackers.runtimes.graph_spec import TYPES, GraphSpec, InputSpec
from trackers.runtimes.libraries import required

log = logging.getLogger(__name__)

OPSET = 20  # version of the operators; ONNX Runtime reads it from 1.17 on, OpenVINO from 2024 on


def spec_of(graph: Graph) -> GraphSpec:
    """Returns the inputs and outputs of a graph in float32."""
    inputs = {}
    for name, example in graph.inputs.items():
        kind = "float32" if example.is_floating_point() else str(example.dtype).removeprefix("torch.")
        if kind not in TYPES:
            raise TrackerError(f"the input {name} of a graph has the type {kind}; use one of {', '.join(TYPES)}")
        inputs[name] = InputSpec(kind, tuple(example.shape), name in graph.batched)
    return GraphSpec(inputs, graph.outputs)


def to_onnx(graph: Graph) -> bytes:
    """Returns a graph as an ONNX model in float32. Of batched inputs the number of targets is open.

    The module is copied to the CPU, and is not changed itself.

    Raises:
        TrackerError: a package for the conversion is not installed.
    """
    required("onnxscript", "the conversion to ONNX", "export")
    for library in ("onnxscript", "onnx_ir"):
        logging.getLogger(library).setLevel(logging.ERROR)  # their notes on each step
    module = copy.deepcopy(graph.module).cpu().float().eval().requires_grad_(False)
    # PyTorch takes a dim of 1 for fixed, so the examples of batched inputs have two targets.
    examples = {name: _example(value, name in graph.batched) for name, value in graph.inputs.items()}
    targets = torch.export.Dim("targets", min=1, max=4096)
    shapes = {name: {0: targets} if name in graph.batched else None for name in examples}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's notes on its own conversion
        program = torch.onnx.export(
            module,
            kwargs=examples,
            output_names=list(graph.outputs),
            dynamic_shapes=shapes if graph.batched else None,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    for value in program.model.graph.inputs:
        if value.name in graph.batched and value.shape is not None and isinstance(value.shape[0], int):
            raise TrackerError(
                f"the graph fixes the number of targets of {value.name} to {value.shape[0]}; in its forward write "
                "x.shape[0] in place of len(x)"
            )
    for node in program.model.graph.all_nodes():  # notes that name files of this machine
        node.metadata_props.clear()
    return program.model_proto.SerializeToString()


def converted(graphs: Mapping[str, Graph]) -> tuple[dict[str, bytes], dict[str, GraphSpec]]:
    """Returns ONNX models and descriptions of graphs, by name."""
    log.info("converting %d graphs to ONNX, which takes seconds", len(graphs))
    return {name: to_onnx(graph) for name, graph in graphs.items()}, {name: spec_of(g) for name, g in graphs.items()}


def _example(value: torch.Tensor, is_batched: bool) -> torch.Tensor:
    value = value.detach().cpu()
    value = value.float() if value.is_floating_point() else value
    return torch.cat([value, value]) if is_batched else value.clone()
