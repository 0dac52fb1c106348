"""Networks whose declarations pass `check_groups` although the network cannot be cut, and what a trial cut says."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from pruning.groups import Group, Slice


class Network(nn.Module):
    """Layers of a forward that is given as a function; unit group "units" of 8 units."""

    def __init__(self, forward: Callable[["Network", Tensor], Tensor], slices: tuple[Slice, ...], **layers: nn.Module):
        super().__init__()
        self.run, self.slices, self.norms = forward, slices, ()
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)

    def groups(self) -> list[Group]:
        return [Group("units", "hidden", 8, self.slices, self.norms)]


@dataclass(frozen=True)
class Fault:
    """A network with a wrong declaration.

    Attributes:
        build: returns the network.
        message: pattern of the error of a trial cut.
        inputs: shape of the network's input.
    """

    build: Callable[[], Network]
    message: str
    inputs: tuple[int, ...] = (2, 3, 6, 6)


def read(*layers: str, **options: object) -> tuple[Slice, ...]:
    return tuple(Slice(f"{layer}.weight", 1, **options) for layer in layers)


def write(*layers: str, gated: bool = False, tensors: tuple[str, ...] = ("weight", "bias")) -> tuple[Slice, ...]:
    return tuple(Slice(f"{layer}.{t}", 0, gated=gated) for layer in layers for t in tensors)


def convolutions(norm: nn.Module, tensors: tuple[str, ...] = ("weight", "bias")) -> Network:
    """Returns a network with a norm between two convolutions, declared like a BatchNorm."""
    slices = (*write("conv1"), *write("norm", gated=True, tensors=tensors), *read("conv2"))
    layers = {"conv1": nn.Conv2d(3, 8, 3), "norm": norm, "conv2": nn.Conv2d(8, 4, 1)}
    return Network(lambda n, x: n.conv2(n.norm(n.conv1(x)).relu()), slices, **layers)


def between(middle: nn.Module, extra: tuple[Slice, ...], inner: int = 1) -> Network:
    """Returns a network with a layer between a gated convolution and a linear layer over the pooled map."""
    slices = (*write("conv", gated=True), *extra, Slice("fc.weight", 1, inner=inner))
    layers = {"conv": nn.Conv2d(3, 8, 3), "middle": middle, "fc": nn.Linear(8 * inner, 4)}
    return Network(lambda n, x: n.fc(n.middle(n.conv(x)).mean((2, 3))), slices, **layers)


def linear(forward: Callable, extra: tuple[Slice, ...] = (), **layers: nn.Module) -> Network:
    """Returns a network with two linear layers, `fc1` and `fc2`."""
    slices = (*write("fc1", gated=True), *extra, *read("fc2"))
    return Network(forward, slices, **({"fc1": nn.Linear(3, 8), "fc2": nn.Linear(8, 4)} | layers))


def attention() -> Network:
    rows = tuple(Slice(f"attn.in_proj_{t}", 0, (0, 8, 16), gated=True) for t in ("weight", "bias"))
    layers = {"attn": nn.MultiheadAttention(8, 2, batch_first=True), "fc": nn.Linear(8, 4)}
    return Network(lambda n, x: n.fc(n.attn(x, x, x)[0]), (*rows, *read("attn.out_proj")), **layers)


def tied() -> Network:
    """Returns a network whose output layer is its embedding, as in language models."""
    network = Network(
        lambda n, x: n.out(n.fc(n.embed(x.long()))),
        (Slice("embed.weight", 1, gated=True), *read("fc")),
        embed=nn.Embedding(5, 8),
        fc=nn.Linear(8, 8),
        out=nn.Linear(8, 5, bias=False),
    )
    network.out.weight = network.embed.weight
    return network


def table() -> Network:
    """Returns a network with a buffer for each unit that is not declared."""
    network = linear(lambda n, x: n.fc2(n.fc1(x) * n.scale))
    network.register_buffer("scale", torch.rand(8) + 1)
    return network


def broadcast() -> Network:
    """Returns a network in which an undeclared parameter of a group of two units broadcasts over the last unit."""
    slices = write("fc1", gated=True)
    network = Network(lambda n, x: (n.fc1(x) * n.scale).sum(-1), slices, fc1=nn.Linear(3, 2), fc2=nn.Linear(3, 1))
    network.scale = nn.Parameter(torch.ones(2))
    network.groups = lambda: [Group("units", "hidden", 2, slices)]
    return network


def residual() -> Network:
    """Returns a network that adds two groups which should be one."""
    slices = (*write("fc1", gated=True), *read("fc2"))
    layers = {"fc1": nn.Linear(3, 8), "other": nn.Linear(3, 8), "fc2": nn.Linear(8, 4), "fc3": nn.Linear(8, 4)}
    network = Network(lambda n, x: n.fc2(n.fc1(x) + n.other(x)), slices, **layers)
    second = Group("others", "hidden", 8, (*write("other", gated=True), *read("fc3")))
    network.groups = lambda: [Group("units", "hidden", 8, slices), second]
    return network


def layer_norm(zeros: bool = False) -> Network:
    """Returns a network with a LayerNorm that is cut, but not listed in `norms`."""
    network = linear(lambda n, x: n.fc2(n.norm(n.fc1(x))), write("norm"), norm=nn.LayerNorm(8))
    if zeros:  # as in networks whose branches begin as zeros
        nn.init.zeros_(network.fc2.weight)
    return network


def gated_twice() -> Network:
    slices = (*write("fc1", gated=True, tensors=("weight",)), *read("fc2", gated=True))
    return Network(lambda n, x: n.fc2(n.fc1(x).relu()), slices, fc1=nn.Linear(3, 8, bias=False), fc2=nn.Linear(8, 4))


def weight_norm(kind: Callable) -> Network:
    """Returns a network whose first convolution is parametrized, declared as if it were plain."""
    parts = ("parametrizations.weight.original", "bias")
    slices = (*write("conv", tensors=parts, gated=True), *read("fc"))
    layers = {"conv": kind(nn.Conv2d(3, 8, 3)), "fc": nn.Linear(8, 4)}
    return Network(lambda n, x: n.fc(n.conv(x).mean((2, 3))), slices, **layers)


CHANNELS = r"group 'units' \(7 of 8 units\) cannot be pruned: "
FAULTS = {
    "group norm": Fault(
        lambda: convolutions(nn.GroupNorm(4, 8)),
        CHANNELS + r"the cut leaves \[2, 2, 2, 1\] channels in the 4 groups of 'norm'.* Whole groups must go",
    ),
    "group norm of one group": Fault(lambda: between(nn.GroupNorm(1, 8, affine=False), ()), "the outputs differ by"),
    "RMS norm": Fault(
        lambda: linear(lambda n, x: n.fc2(n.norm(n.fc1(x))), write("norm", tensors=("weight",)), norm=nn.RMSNorm(8)),
        "the outputs differ by .* in `norms`",
        (2, 3),
    ),
    "RMS norm without weights": Fault(
        lambda: linear(lambda n, x: n.fc2(n.norm(n.fc1(x))), norm=nn.RMSNorm(8, elementwise_affine=False)),
        r"'norm' \(RMSNorm\) fails",
        (2, 3),
    ),
    "instance norm, undeclared": Fault(
        lambda: between(nn.InstanceNorm2d(8, affine=True), ()),
        r"'middle' \(InstanceNorm2d\) fails: its input has 7 channels",
    ),
    "batch norm, undeclared": Fault(
        lambda: between(nn.BatchNorm2d(8), ()),
        r"'middle' \(BatchNorm2d\) fails: its input has 7 channels, .* read 8. Declare Slice\('middle.weight', 0\), "
        r"Slice\('middle.bias', 0\), Slice\('middle.running_mean', 0\), Slice\('middle.running_var', 0\) in the group",
    ),
    "batch norm without its statistics": Fault(
        lambda: between(nn.BatchNorm2d(8), write("middle")),
        r"'middle.weight' .* not the same entries of .*: .* Declare Slice\('middle.running_mean', 0\)",
    ),
    "batch norm whose input is not cut": Fault(
        lambda: Network(
            lambda n, x: n.conv2(n.norm(n.conv1(x))),
            (*write("norm", gated=True), *write("norm", tensors=("running_mean", "running_var")), *read("conv2")),
            conv1=nn.Conv2d(3, 8, 1),
            norm=nn.BatchNorm2d(8),
            conv2=nn.Conv2d(8, 4, 1),
        ),
        r"'norm' \(BatchNorm2d\) fails: its input has 8 .* read 7. The layer that produces this input is not",
    ),
    "reader of a flattened map, undeclared": Fault(
        lambda: Network(
            lambda n, x: n.fc(n.conv(x).flatten(1)),
            write("conv", gated=True),
            conv=nn.Conv2d(3, 8, 3),
            fc=nn.Linear(8 * 16, 4),
        ),
        r"'fc' \(Linear\) fails: .* has 112 channels, .* reads 128. Declare Slice\('fc.weight', 1, inner=16\)",
    ),
    "reader of a concatenation, undeclared": Fault(
        lambda: Network(
            lambda n, x: n.conv2(torch.cat([x, n.conv1(x)], 1)),
            write("conv1", gated=True),
            conv1=nn.Conv2d(3, 8, 1),
            conv2=nn.Conv2d(11, 4, 1),
        ),
        r"reads 11. Declare Slice\('conv2.weight', 1, offsets=\(START,\)\) .* START is the first entry",
    ),
    "depthwise convolution": Fault(
        lambda: between(nn.Conv2d(8, 8, 3, groups=8), write("middle")),
        CHANNELS + r"the cut leaves .* outputs in the 8 groups .*attributes=\(\('middle.groups', 1\),\)",
    ),
    "depthwise convolution, undeclared": Fault(
        lambda: between(nn.Conv2d(8, 8, 3, groups=8), ()), r"'middle' \(Conv2d\) fails with RuntimeError"
    ),
    "grouped convolution": Fault(
        lambda: between(nn.Conv2d(8, 8, 3, groups=2), write("middle")),
        r"the cut leaves \[4, 3\] outputs in the 2 groups of the",
    ),
    "transposed convolution": Fault(
        lambda: between(nn.ConvTranspose2d(8, 8, 3), (Slice("middle.weight", 0),)),
        r"'fc' \(Linear\) fails: its input has 8 channels, but 'fc.weight' reads 7",
    ),
    "attention of torch": Fault(attention, r"leaves \[4, 3\] dims .* 'attn', with 2 heads after the cut", (2, 5, 8)),
    "recurrence": Fault(
        lambda: Network(
            lambda n, x: n.fc2(n.rnn(n.fc1(x))[0]),
            (*write("fc1", gated=True), Slice("rnn.weight_ih_l0", 1)),
            fc1=nn.Linear(3, 8),
            rnn=nn.GRU(8, 4),
            fc2=nn.Linear(4, 4),
        ),
        "surgery does not support GRU: 'rnn'",
        (2, 5, 3),
    ),
    "tied weights": Fault(tied, r"'out' \(Linear\) fails: its input has 8 channels, but 'out.weight' reads 7", (2, 5)),
    "embedding, reader undeclared": Fault(
        lambda: Network(
            lambda n, x: n.fc(n.embed(x.long())),
            (Slice("embed.weight", 1, gated=True),),
            embed=nn.Embedding(5, 8),
            fc=nn.Linear(8, 4),
        ),
        r"'fc' \(Linear\) fails: its input has 7 channels, .* reads 8. Declare Slice\('fc.weight', 1\) in the group",
        (2, 5),
    ),
    "weight norm": Fault(
        lambda: weight_norm(lambda conv: nn.utils.parametrize.register_parametrization(conv, "weight", Scale())),
        "surgery does not support parametrizations: 'conv'",
    ),
    "spectral norm": Fault(
        lambda: weight_norm(parametrizations.spectral_norm),
        "surgery does not support parametrizations: 'conv'",
    ),
    "buffer sized by the units": Fault(
        table,
        r"the forward of Network fails with RuntimeError.* The group may lack Slice\('scale', 0\), with 8",
        (2, 3),
    ),
    "pixel shuffle": Fault(
        lambda: Network(
            lambda n, x: n.conv2(n.shuffle(n.conv1(x))),
            (*write("conv1", gated=True), *read("conv2")),
            conv1=nn.Conv2d(3, 8, 3),
            shuffle=nn.PixelShuffle(2),
            conv2=nn.Conv2d(2, 4, 1),
        ),
        "(?s)reaches entry 8 of dim 1 of 'conv2.weight'",
    ),
    "pixel shuffle, reader undeclared": Fault(
        lambda: Network(
            lambda n, x: n.conv2(n.shuffle(n.conv1(x))),
            write("conv1", gated=True),
            conv1=nn.Conv2d(3, 8, 3),
            shuffle=nn.PixelShuffle(2),
            conv2=nn.Conv2d(2, 4, 1),
        ),
        r"'shuffle' \(PixelShuffle\) fails",
    ),
    "number in a reshape": Fault(
        lambda: linear(lambda n, x: n.fc2(n.fc1(x).view(-1, 8))), "the forward of Network fails", (2, 3)
    ),
    "heads of fixed width": Fault(
        lambda: linear(lambda n, x: n.fc2(n.fc1(x).unflatten(-1, (2, -1)).softmax(-1).flatten(1))),
        "the forward of Network fails",
        (2, 3),
    ),
    "softmax over the units": Fault(
        lambda: linear(lambda n, x: n.fc2(n.fc1(x).softmax(-1))), "the outputs differ by", (2, 3)
    ),
    "mean over the units": Fault(
        lambda: Network(lambda n, x: n.fc1(x).mean(-1), write("fc1", gated=True), fc1=nn.Linear(3, 8)),
        "the outputs differ by",
        (2, 3),
    ),
    "activation of a closed unit": Fault(
        lambda: linear(lambda n, x: n.fc2(n.fc1(x).sigmoid())), "the outputs differ by", (2, 3)
    ),
    "layer norm, not in norms": Fault(layer_norm, "the outputs differ by .* in `norms`", (2, 3)),
    "layer norm behind a layer of zeros": Fault(lambda: layer_norm(True), "the outputs differ by", (2, 3)),
    "reader undeclared": Fault(
        lambda: linear(lambda n, x: n.fc2(n.fc1(x)) + n.fc3(n.fc1(x)), fc3=nn.Linear(8, 4)),
        r"'fc3' \(Linear\) fails: its input has 7 channels, .* Declare Slice\('fc3.weight', 1\) in the group",
        (2, 3),
    ),
    "bias undeclared": Fault(
        lambda: Network(
            lambda n, x: n.fc2(n.fc1(x)),
            (*write("fc1", tensors=("weight",), gated=True), *read("fc2")),
            fc1=nn.Linear(3, 8),
            fc2=nn.Linear(8, 4),
        ),
        r"'fc1.weight' .* not the same entries of 'fc1.bias': .* Declare Slice\('fc1.bias', 0, gated=True\)",
        (2, 3),
    ),
    "bias cut but not gated": Fault(
        lambda: Network(
            lambda n, x: n.fc2(n.fc1(x)),
            (*write("fc1", tensors=("weight",), gated=True), *write("fc1", tensors=("bias",)), *read("fc2")),
            fc1=nn.Linear(3, 8),
            fc2=nn.Linear(8, 4),
        ),
        "the outputs differ by",
        (2, 3),
    ),
    "parameter that broadcasts": Fault(broadcast, "the outputs differ by", (2, 3)),
    "two groups that are one": Fault(residual, "'units' .* cannot be pruned", (2, 3)),
    "units that are outputs": Fault(
        lambda: Network(lambda n, x: n.fc1(x), write("fc1", gated=True), fc1=nn.Linear(3, 8)),
        "the outputs have the shapes",
        (2, 3),
    ),
    "gated at producer and reader": Fault(gated_twice, "square of its value.*'fc1.weight', 'fc2.weight'", (2, 3)),
}


class Scale(nn.Module):
    """Parametrization with a scale for every unit that the group does not declare."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(8, 1, 1, 1) + 1)

    def forward(self, weight: Tensor) -> Tensor:
        return self.scale * weight
