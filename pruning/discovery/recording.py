"""Records the operators that a network runs, on shapes alone."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from pruning.discovery.float_sizes import NotedInt, noted_floats
from pruning.discovery.tracked_attributes import TrackedInt, tracked_attributes
from pruning.discovery.tracked_shapes import ReadSize, plain_shape, tracked_shapes
from pruning.errors import PruningError, first_line
from pruning.trial.comparison import output_leaves
from pruning.trial.trials import containers_in_training

RESHAPES = {"reshape", "view"}
_ONE_AT_A_TIME = RLock()  # a run replaces the shape of all tensors
EQUAL_PARTS = {"chunk", "unsafe_chunk", "tensor_split"}


@dataclass(eq=False)
class Value:
    """A tensor of the recorded run.

    Attributes:
        shape: its sizes.
        name: name of the parameter or buffer, "" for other tensors.
        is_buffer: whether it is a buffer.
    """

    shape: tuple[int, ...]
    name: str = ""
    is_buffer: bool = False


@dataclass(eq=False)
class Operator:
    """An operator of the recorded run.

    Attributes:
        function: torch's operator (ATen).
        arguments: its arguments by name, with a `Value` for every tensor.
        results: its results.
        module: path of the module whose forward calls it.
        sizes: tracked integers among the arguments of the function that the module calls, in order.
        equal_parts: whether the module asked for a number of equal parts, not for their sizes.
        read_sizes: for a reshape, the sizes that were read from the shape of a tensor, by dimension of the result, and
            those of which the dimension is a part, as C in `reshape(B, N, heads, C // heads)`.
        width_scales: whether an attention takes the scale of its logits from the width of its heads.
    """

    function: Any
    arguments: dict[str, Any]
    results: list[Value]
    module: str
    sizes: list[TrackedInt] = field(default_factory=list)
    equal_parts: bool = False
    width_scales: bool = False
    read_sizes: dict[int, ReadSize] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the operator, without its overload, and without the mark of operators that work in place."""
        name = self.function.overloadpacket.__name__
        return name if name.startswith("_") else name.rstrip("_")

    @property
    def values(self) -> list[Value]:
        """Tensors among the arguments, in order."""
        return [
            v
            for v in tree_leaves(list(self.arguments.values()), lambda x: isinstance(x, Value))
            if isinstance(v, Value)
        ]

    def __str__(self) -> str:
        shapes = ", ".join(str(list(v.shape)) for v in self.values)
        return f"{self.name}({shapes}) in {self.module or 'the network'}"


@dataclass
class Recording:
    """A recorded run.

    Attributes:
        operators: the operators in the order in which they ran.
        tensors: parameters and buffers by name; a tensor with several names once.
        outputs: tensors that the network returned.
        float_sizes: sizes that became floating-point numbers, each with the path of the module that runs.
    """

    operators: list[Operator]
    tensors: dict[str, Value]
    outputs: list[Value]
    float_sizes: list[tuple[str, NotedInt]] = field(default_factory=list)

    @property
    def unused(self) -> list[str]:
        """Names of the parameters that no operator reads."""
        read = {value for operator in self.operators for value in operator.values}
        return [name for name, value in self.tensors.items() if value not in read and not value.is_buffer]


@dataclass
class _Call:
    """A function of torch that a module calls. See `Operator` for the attributes."""

    name: str = ""
    sizes: list[TrackedInt] = field(default_factory=list)
    read_sizes: dict[int, ReadSize] = field(default_factory=dict)
    width_scales: bool = False


class _Context:
    """What runs at the moment: paths of modules and calls of functions, from the outermost."""

    def __init__(self) -> None:
        self.modules: list[str] = [""]
        self.calls: list[_Call] = []
        self.float_sizes: list[tuple[str, NotedInt]] = []

    def note_float(self, size: NotedInt) -> None:
        """Notes a size that becomes a floating-point number, unless it is one inside of an attention of torch."""
        if not any(call.width_scales for call in self.calls):
            self.float_sizes.append((self.modules[-1], size))


def writes_in_place(operator: Operator) -> bool:
    """Returns whether an operator writes into its first argument."""
    arguments = operator.function._schema.arguments
    return bool(arguments) and arguments[0].alias_info is not None and arguments[0].alias_info.is_write


class _FunctionMode(TorchFunctionMode):
    """Notes the arguments of the functions of torch that modules call."""

    def __init__(self, context: _Context):
        super().__init__()
        self.context = context

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, scale = getattr(func, "__name__", ""), args[6] if len(args) > 6 else kwargs.get("scale")
        read_sizes = _read_sizes(args[1:]) if name in RESHAPES else {}
        width_scales = name == "multi_head_attention_forward" or (
            name == "scaled_dot_product_attention" and scale is None
        )
        for size in args if name == "tensor" else args[1:] if "mul" in name or "div" in name else ():
            if isinstance(size, NotedInt):
                self.context.note_float(size)
        self.context.calls.append(_Call(name, list(_tracked((args, kwargs))), read_sizes, width_scales))
        try:
            return func(*args, **kwargs)
        finally:
            self.context.calls.pop()


def _tracked(arguments: Any) -> Iterator[TrackedInt]:
    """Yields the tracked integers among arguments, also those inside of slices."""
    for leaf in tree_leaves(arguments):
        for item in (leaf.start, leaf.stop, leaf.step) if isinstance(leaf, slice) else (leaf,):
            if isinstance(item, TrackedInt):
                yield item


def _read_sizes(arguments: Any) -> dict[int, ReadSize]:
    """Returns the sizes among the arguments of a reshape that were read from a tensor, or are a part, by position."""
    sizes = enumerate(getattr(leaf, "part_of", None) or leaf for leaf in tree_leaves(arguments))
    return {i: size for i, size in sizes if isinstance(size, ReadSize)}


class _DispatchMode(TorchDispatchMode):
    """Records operators with values in place of tensors."""

    def __init__(self, context: _Context, tensors: dict[int, Value], alive: list[Tensor]):
        super().__init__()
        self.context, self.values, self.alive = context, tensors, alive
        self.operators: list[Operator] = []

    def value(self, tensor: Tensor) -> Value:
        """Returns the value that stands for a tensor."""
        if id(tensor) not in self.values:
            self.alive.append(tensor)  # otherwise another tensor could get its id
            self.values[id(tensor)] = Value(plain_shape(tensor))
        return self.values[id(tensor)]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        arguments = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        arguments = {a.name: a.default_value for a in func._schema.arguments if a.name not in arguments} | arguments
        arguments = tree_map_only(Tensor, self.value, arguments)
        result = func(*args, **kwargs)
        results = [self.value(leaf) if isinstance(leaf, Tensor) else None for leaf in tree_leaves(result)]
        calls = self.context.calls
        innermost = calls[-1] if calls else _Call()
        self.operators.append(
            Operator(
                func,
                arguments,
                [r for r in results if r is not None],
                self.context.modules[-1],
                sizes=innermost.sizes,
                equal_parts=any(call.name in EQUAL_PARTS for call in calls),
                width_scales=any(call.width_scales for call in calls),
                read_sizes=innermost.read_sizes,
            )
        )
        return result


def record(network: nn.Module, run: Callable[[nn.Module], Any]) -> Recording:
    """Records a run of a network.

    The tensors of PyTorch's dispatcher are recorded, not a graph of `torch.export`: the network runs as it is, whatever
    its Python code does, on the meta device in a fraction of a second, while an export takes seconds and refuses a
    part of all networks. Composite operators arrive in parts, so that an attention is two matrix products and a
    softmax, whoever wrote it.

    Args:
        network: the network; its attributes are replaced while it runs.
        run: calls the network and returns its outputs.

    Raises:
        PruningError: the network does not run with sizes that are of a subclass of int.
    """
    context, values, alive, tensors = _Context(), {}, [], {}
    buffers = {id(b) for b in network.buffers()}
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if id(tensor) not in values:
            values[id(tensor)] = tensors[name] = Value(tuple(tensor.shape), name, id(tensor) in buffers)
            alive.append(tensor)
    mode = _DispatchMode(context, values, alive)
    try:
        with (
            _ONE_AT_A_TIME,
            _without_fast_path(),
            torch.no_grad(),
            tracked_attributes(network),
            _module_paths(network, context),
            _FunctionMode(context),
            mode,
            tracked_shapes(mode.value),
            noted_floats(context.note_float),
        ):
            result = run(network)
    except Exception as error:  # of any kind: the network is the user's
        raise PruningError(
            f"{type(network).__name__} runs, but not with sizes that remember where they come from, which are of a "
            f"subclass of int: {first_line(error)}"
        ) from error
    outputs = [values[id(t)] for t in output_leaves(result) if isinstance(t, Tensor) and id(t) in values]
    return Recording(mode.operators, tensors, outputs, context.float_sizes)


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Switches PyTorch's fused encoder off, which hides the operators of an attention."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def in_training(network: nn.Module, arguments: Mapping[str, Any]) -> Any:
    """Runs a network with its parts for the training alone, such as a second classifier; returns its outputs."""
    try:
        with containers_in_training(network):
            return network(**arguments)
    except Exception:  # the training may need other arguments: any error is possible
        return None


@contextmanager
def _module_paths(network: nn.Module, context: _Context) -> Iterator[None]:
    """Keeps the path of the running module in the context."""

    def enter(path: str) -> Callable:
        return lambda *_: context.modules.append(path)

    def leave(*_: Any) -> None:
        context.modules.pop()

    handles = []
    for path, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue  # it takes no hooks
        handles.append(module.register_forward_pre_hook(enter(path)))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
