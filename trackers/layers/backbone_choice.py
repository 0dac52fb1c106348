"""Choice of a convolutional backbone by its name or arguments."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from trackers.errors import TrackerError
from trackers.layers.backbones import ResNet, SmallResNet, is_resnet
from trackers.layers.timm_backbone import TimmBackbone

Backbone: TypeAlias = ResNet | TimmBackbone
STAGES = {8: 2, 16: 3}  # stages of a ResNet by the stride of the last one


def build_backbone(settings: str | Mapping[str, Any], stride: int | None, maps: int) -> Backbone:
    """Returns the backbone that a recipe describes, with fresh weights.

    Args:
        settings: name of a ResNet of torchvision or of a CNN of timm; or a mapping of arguments: of `SmallResNet` if
            "stem" is among them, else of `ResNet` or `TimmBackbone`, whichever has the name.
        stride: pixels per cell of the features; None for the default of the backbone.
        maps: number of the last maps that are needed. A ResNet returns all its maps.

    Raises:
        TrackerError: there is no such network, or it has no features of that stride.
    """
    arguments: dict[str, Any] = {"name": settings} if isinstance(settings, str) else dict(settings)
    if "stem" in arguments and "name" in arguments:
        raise TrackerError(
            f"tracker.backbone has the name {arguments['name']} and the sizes of a small ResNet; set the name alone: "
            f"tracker.backbone={arguments['name']}"
        )
    backbone: Backbone
    if "stem" in arguments:
        backbone = SmallResNet(**arguments)
    elif "name" not in arguments:
        raise TrackerError(f"tracker.backbone={arguments} has no name; e.g. tracker.backbone=mobilenetv2_100")
    elif is_resnet(str(arguments["name"])):
        if stride in STAGES:
            arguments.setdefault("stages", STAGES[stride])
        backbone = ResNet(**arguments)
    else:
        if stride is not None:
            arguments.setdefault("stride", stride)
        backbone = TimmBackbone(**arguments, maps=maps)
    if stride not in (None, backbone.stride):
        raise TrackerError(
            f"tracker.stride={stride} is not possible with tracker.backbone={settings}, whose features have stride "
            f"{backbone.stride}; set tracker.stride={backbone.stride}"
        )
    return backbone
