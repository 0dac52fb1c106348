"""Other formats of a forward: channels last, folded batch norms, ONNX Runtime and OpenVINO."""

import copy
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten
from torchvision.ops import FrozenBatchNorm2d

Inputs = Mapping[str, Any]
NORMS = nn.BatchNorm2d | FrozenBatchNorm2d


def channels_last(network: nn.Module) -> nn.Module:
    """Returns a copy whose convolutions use the channels-last format; inputs may have any format."""
    return copy.deepcopy(network).to(memory_format=torch.channels_last)


@torch.no_grad()
def folded(network: nn.Module, inputs: Inputs) -> nn.Module:
    """Returns a copy in evaluation mode whose batch norms are folded into the convolutions in front of them.

    One forward shows which norm reads which convolution. A norm with any other input is kept.
    """
    network = copy.deepcopy(network).eval()
    names = {module: name for name, module in network.named_modules()}
    outputs: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # keeps the tensors, so that no id is used twice
    read: dict[nn.Module, set[nn.Module | None]] = {}

    def observe(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            outputs[id(output)] = module, output
        else:
            read.setdefault(module, set()).add(outputs.get(id(args[0]), (None, None))[0])

    hooks = [m.register_forward_hook(observe) for m in names if isinstance(m, nn.Conv2d | NORMS)]
    network(**inputs)
    for hook in hooks:
        hook.remove()
    for norm, (conv, *others) in read.items():
        if conv is None or others:
            continue
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        network.set_submodule(names[norm], nn.Identity())
    return network


class Flat(nn.Module):
    """Forward of a network with positional tensors as inputs and outputs, in place of the nested `inputs`."""

    def __init__(self, network: nn.Module, inputs: Inputs):
        super().__init__()
        self.network = network
        self.leaves, self.structure = tree_flatten(dict(inputs))

    def tensors(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """Returns the tensors among `inputs`, the arguments of `forward`."""
        return tuple(leaf for leaf in tree_leaves(dict(inputs)) if isinstance(leaf, Tensor))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Returns the tensors of the network's result."""
        remaining = iter(tensors)
        leaves = [next(remaining) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return tuple(tree_leaves(self.network(**tree_unflatten(leaves, self.structure))))


def onnx_model(network: nn.Module, inputs: Inputs) -> tuple[bytes, list[np.ndarray]]:
    """Returns the ONNX model of the forward, and the values of its inputs in order."""
    flat = Flat(network, inputs).eval()
    tensors = flat.tensors(inputs)
    with torch.no_grad():
        program = torch.onnx.export(flat, tensors, dynamo=True, verbose=False)
    file = io.BytesIO()
    program.save(file)
    return file.getvalue(), [t.numpy() for t in tensors]


def onnx_call(network: nn.Module, inputs: Inputs, threads: int) -> Callable[[], Sequence[np.ndarray]]:
    """Returns a function that runs the forward with these inputs in ONNX Runtime, on the CPU."""
    import onnxruntime

    model, values = onnx_model(network, inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {i.name: value for i, value in zip(session.get_inputs(), values, strict=True)}
    return lambda: session.run(None, feed)


def openvino_call(network: nn.Module, inputs: Inputs, threads: int) -> Callable[[], Sequence[np.ndarray]]:
    """Returns a function that runs the forward with these inputs in OpenVINO, on the CPU, in single precision."""
    import openvino

    model, values = onnx_model(network, inputs)
    core = openvino.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(core.read_model(io.BytesIO(model)), "CPU", settings).create_infer_request()
    return lambda: list(request.infer(values, share_inputs=True).values())
