"""A network's forward for other runtimes: memory format, folded batch norms, and ONNX Runtime."""

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
    """A copy whose convolutions read and write channels last; inputs may stay as they are."""
    return copy.deepcopy(network).to(memory_format=torch.channels_last)


@torch.no_grad()
def folded(network: nn.Module, inputs: Inputs) -> nn.Module:
    """A copy in evaluation mode whose batch norms are folded into the convolutions in front of them.

    What follows what is seen in one forward. A norm that reads anything else than one convolution stays.
    """
    network = copy.deepcopy(network).eval()
    names = {module: name for name, module in network.named_modules()}
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # the tensor is held, so that its id is not given to another
    read: dict[nn.Module, set[nn.Module | None]] = {}

    def see(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(output)] = module, output
        else:
            read.setdefault(module, set()).add(made.get(id(args[0]), (None, None))[0])

    hooks = [m.register_forward_hook(see) for m in names if isinstance(m, nn.Conv2d | NORMS)]
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
    """A forward with positional tensors in and out, whatever `inputs` nest."""

    def __init__(self, network: nn.Module, inputs: Inputs):
        super().__init__()
        self.network = network
        self.leaves, self.structure = tree_flatten(dict(inputs))

    def tensors(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """What to call it with."""
        return tuple(leaf for leaf in tree_leaves(dict(inputs)) if isinstance(leaf, Tensor))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors of the network's result in the order of their names."""
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, Tensor) else leaf for leaf in self.leaves]
        return tuple(tree_leaves(self.network(**tree_unflatten(leaves, self.structure))))


def onnx_call(network: nn.Module, inputs: Inputs, threads: int) -> Callable[[], Sequence[np.ndarray]]:
    """The forward in ONNX Runtime, with these inputs, on the CPU."""
    import onnxruntime

    flat = Flat(network, inputs).eval()
    tensors = flat.tensors(inputs)
    with torch.no_grad():
        program = torch.onnx.export(flat, tensors, dynamo=True, verbose=False)
    file = io.BytesIO()
    program.save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {i.name: t.numpy() for i, t in zip(session.get_inputs(), tensors, strict=True)}
    return lambda: session.run(None, feed)
