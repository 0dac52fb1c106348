"""Renders drawn scenes: layers from back to front, each read from its picture where the crop shows it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.scenes.bank import Bank
from datamodules.scenes.draw import LEVELS, Scene
from datamodules.scenes.lens import expose


class Renderer:
    """Makes crops of scenes on the device that the bank's tensors are on, and never waits for it."""

    def __init__(self, bank: Bank):
        self.objects = _pyramid(bank.objects.flatten(0, 1))
        self.backdrops = _pyramid(bank.backdrops)
        self.tones = bank.tones

    @torch.no_grad()
    def __call__(self, scene: Scene, size: int, repeats_border: bool, generator: torch.Generator) -> Tensor:
        """The crops of a role.

        Args:
            scene: of `draw`, on the same device, of B samples with n crops each.
            size: S, of the crops.
            repeats_border: what crops show outside of the frame: its border; else nothing.
            generator: of the noise.

        Returns:
            (B, n, 3, S, S) uint8.
        """
        batch = scene["ground"].shape
        parts = {name: value.flatten(0, 1) for name, value in scene.items() if isinstance(value, Tensor)}
        ticks = (torch.arange(size, device=parts["view"].device) + 0.5) / size
        low, high = parts["frame"][:, None, :2], parts["frame"][:, None, 2:]
        where = ticks[None, :, None].expand(len(low), -1, 2)  # (M, S, xy): columns and rows apart, as crops are upright
        inside = (where >= low) & (where <= high)
        inside = inside[:, None, None, :, 0] & inside[:, None, :, None, 1]
        if repeats_border:
            where = where.clamp(low, high)
        picture = torch.empty(len(where), 3, size, size, device=where.device)
        for level, chosen in enumerate(scene["reads"][0]):
            pictures = self.backdrops[level][parts["ground"][chosen]]
            picture[chosen] = _read(pictures, parts["view"][chosen], where[chosen], "reflection")
        for layer, reads in enumerate(scene["reads"][1:]):
            for level, chosen in enumerate(reads):
                things = self.objects[level][parts["thing"][chosen, layer]]
                seen = _read(things, parts["place"][chosen, layer], where[chosen], "zeros")
                colour, alpha = seen[:, :3], seen[:, 3:]
                worn = parts["pattern"][chosen, layer]
                # Patterns are about twice as fine as what they lie on.
                pictures = self.backdrops[min(level + 1, LEVELS - 1)][worn]
                pattern = _read(pictures, parts["weave"][chosen, layer], where[chosen], "reflection")
                depth = parts["depth"][chosen, layer, None, None, None]
                colour = colour + depth * alpha * (pattern - self.tones[worn, :, None, None])
                colour = (colour * parts["gain"][chosen, layer, :, None, None]).clamp_min(0)
                picture[chosen] = picture[chosen] * (1 - alpha) + torch.minimum(colour, alpha)
        picture = expose(picture, parts["light"], scene["changed"], generator)
        if not repeats_border:
            picture = picture * inside
        mirror = parts["mirror"][:, None, None, None]
        picture = torch.where(mirror, picture.flip(-1), picture)
        return (255 * picture).round().to(torch.uint8).unflatten(0, batch)


def _read(pictures: Tensor, maps: Tensor, where: Tensor, outside: str) -> Tensor:
    """Pictures (M, C, h, w) uint8 as 0..1 at `maps` (M, 2, 3) of columns and rows `where` (M, S, 2): (M, C, S, S)."""
    across = where[:, None, :, :1] * maps[:, None, None, :, 0] + maps[:, None, None, :, 2]
    places = across + where[:, :, None, 1:] * maps[:, None, None, :, 1]
    return F.grid_sample(pictures.float(), places, "bilinear", outside, align_corners=False) / 255


def _pyramid(pictures: Tensor) -> list[Tensor]:
    """Pictures (N, C, H, W) uint8, and smaller ones."""
    levels = [pictures]
    for _ in range(LEVELS - 1):
        parts = [F.avg_pool2d(part.float(), 2).round().to(torch.uint8) for part in levels[-1].split(256)]
        levels.append(torch.cat(parts))
    return levels
