"""The keys and choices that a script has, for messages about those that it does not have."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

SHARED = "common"  # file of a group that the others include
SCRIPTS = ("train", "prune", "eval")


class ScriptKeys:
    """Keys of a script, and of the other two.

    Args:
        loader: Hydra's loader of configurations.
        script: name of the script.
        chosen: overrides that choose files of conf/, or name further folders of such files. Choices are left out if
            they cannot be composed.
    """

    def __init__(self, loader: Any, script: str, chosen: Sequence[str] = ()):
        self.loader, self.script, self._chosen = loader, script, list(chosen)
        self._folders = [line for line in chosen if line.lstrip("+").startswith("hydra.searchpath=")]

    @cached_property
    def tree(self) -> dict[str, Any]:
        """The composed configuration as nested plain data, with Hydra's own section."""
        try:
            return _tree(self.loader, self.script, self._chosen)
        except (HydraException, ValueError):
            return _tree(self.loader, self.script, self._folders)

    @property
    def groups(self) -> dict[str, str | None]:
        """The choice of each group in the script's list of defaults."""
        return self.tree["hydra"]["runtime"]["choices"]

    def all(self) -> list[str]:
        """Returns all dotted keys and all groups, without Hydra's own."""
        own = {name: value for name, value in self.tree.items() if name != "hydra"}
        groups = (group for group in self.groups if not group.startswith("hydra") and "@" not in group)
        return list(dict.fromkeys([*groups, *_paths(own)]))

    def choices(self, group: str) -> list[str]:
        """Returns the choices of a group; [] if there is no such group."""
        options = self.loader.get_group_options(group, ObjectType.CONFIG, self.script, self._folders)
        return [name for name in options if name != SHARED]

    def has(self, key: str) -> bool:
        """Returns whether the configuration has a key."""
        node: Any = self.tree
        for name in key.replace("[", ".").replace("]", "").split("."):
            if isinstance(node, Mapping) and name in node:
                node = node[name]
            elif isinstance(node, list) and name.lstrip("-").isdigit() and int(name) < len(node):
                node = node[int(name)]
            else:
                return False
        return True

    def others_with(self, name: str) -> list[str]:
        """Returns the other scripts that have a section, a key or a group of this name."""
        others = (ScriptKeys(self.loader, script) for script in SCRIPTS if script != self.script)
        return [f"{keys.script}.py" for keys in others if name in keys.tree or name in keys.groups]


def _tree(loader: Any, script: str, overrides: list[str]) -> dict[str, Any]:
    cfg = loader.load_configuration(script, overrides, RunMode.RUN)
    tree: Any = OmegaConf.to_container(cfg, resolve=False)
    return tree


def _paths(node: Mapping[str, Any], at: str = "") -> Iterator[str]:
    for name, value in node.items():
        if not str(name).startswith("_"):
            yield f"{at}{name}"
            if isinstance(value, Mapping):
                yield from _paths(value, f"{at}{name}.")
