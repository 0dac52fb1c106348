"""Numbers in modules that count units, such as `num_heads`, or an entry of a list of split sizes."""

from typing import Any

from torch import nn

from pruning.errors import PruningError


class CountAttribute:
    """Number of units that a module holds besides its tensors.

    Attributes:
        module: the module that holds the number.
        name: the name of the attribute.
        keys: positions inside nested lists or tuples, if the attribute is no number itself.

    Args:
        network: the network.
        path: path of the number, e.g. "blocks.0.attn.num_heads", or "split_sizes.1" for the second entry of a list.

    Raises:
        PruningError: the network has no whole number there.
    """

    def __init__(self, network: nn.Module, path: str):
        parts, self.module = path.split("."), network
        while len(parts) > 1 and parts[0] in self.module._modules:
            self.module = self.module.get_submodule(parts.pop(0))
        self.name, *self.keys = parts
        try:
            value = self.value
        except (AttributeError, IndexError, TypeError, ValueError):
            value = None
        if type(value) is not int:
            raise PruningError(
                f"'{path}' must be a whole number in a {type(self.module).__name__} of the network, e.g. "
                f"'attn.num_heads' or, for an entry of a list, 'split_sizes.1'; found {value!r:.80}"
            )

    @property
    def place(self) -> tuple[Any, ...]:
        """Identity of the number: equal for two paths of one number, as a module may have several names."""
        return id(self.module), self.name, *self.keys

    @property
    def value(self) -> Any:
        """The number."""
        value = getattr(self.module, self.name)
        for key in self.keys:
            value = value[int(key)]
        return value

    def subtract(self, count: int) -> None:
        """Makes the number smaller by `count`. A list or tuple is replaced, as other modules may hold the same one."""
        entry = self.value - count
        containers = [getattr(self.module, self.name)]
        for key in self.keys[:-1]:
            containers.append(containers[-1][int(key)])
        for container, key in zip(reversed(containers), reversed(self.keys), strict=False):
            entries = list(container)
            entries[int(key)] = entry
            entry = entries if isinstance(container, list) else tuple(entries)
        setattr(self.module, self.name, entry)
