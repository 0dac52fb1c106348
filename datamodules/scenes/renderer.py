"""Renders drawn scenes on the training device, layer by layer from back to front."""

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.scenes.bank import Bank
from datamodules.scenes.camera import apply_camera
from datamodules.scenes.draw import LEVELS, Scene


class Renderer:
    """Renders crops of scenes on the device of the bank, without waiting for the device."""

    def __init__(self, bank: Bank):
        self.objects = _pyramid(bank.objects.flatten(0, 1))
        self.backdrops = _pyramid(bank.backdrops)
        self.backdrop_colours = bank.backdrop_colours

    @torch.no_grad()
    def __call__(self, scene: Scene, size: int, repeats_border: bool, generator: torch.Generator) -> Tensor:
        """Returns the crops of one role, (B, n, 3, S, S) uint8.

        Args:
            scene: drawn by `draw_scenes`, on the same device: B samples with n crops each.
            size: S, side of the crops.
            repeats_border: whether crops repeat the border of the frame beyond it; otherwise they are black there.
            generator: random generator of the noise.
        """
        batch = scene["backdrop"].shape
        parts = {name: value.flatten(0, 1) for name, value in scene.items() if isinstance(value, Tensor)}
        ticks = (torch.arange(size, device=parts["backdrop_map"].device) + 0.5) / size
        low, high = parts["frame"][:, None, :2], parts["frame"][:, None, 2:]
        points = ticks[None, :, None].expand(len(low), -1, 2)  # (M, S, xy): crops are upright, so x and y are separate
        inside = (points >= low) & (points <= high)
        inside = inside[:, None, None, :, 0] & inside[:, None, :, None, 1]
        if repeats_border:
            points = points.clamp(low, high)
        picture = torch.empty(len(points), 3, size, size, device=points.device)
        for level, chosen in enumerate(scene["levels"][0]):
            pictures = self.backdrops[level][parts["backdrop"][chosen]]
            picture[chosen] = _sample(pictures, parts["backdrop_map"][chosen], points[chosen], "reflection")
        for layer, crops_by_level in enumerate(scene["levels"][1:]):
            for level, chosen in enumerate(crops_by_level):
                objects = self.objects[level][parts["object"][chosen, layer]]
                sampled = _sample(objects, parts["object_map"][chosen, layer], points[chosen], "zeros")
                colour, alpha = sampled[:, :3], sampled[:, 3:]
                numbers = parts["pattern"][chosen, layer]
                # Patterns are shown at about half the scale of their objects.
                pictures = self.backdrops[min(level + 1, LEVELS - 1)][numbers]
                pattern = _sample(pictures, parts["pattern_map"][chosen, layer], points[chosen], "reflection")
                strength = parts["pattern_strength"][chosen, layer, None, None, None]
                colour = colour + strength * alpha * (pattern - self.backdrop_colours[numbers, :, None, None])
                colour = (colour * parts["gain"][chosen, layer, :, None, None]).clamp_min(0)
                picture[chosen] = picture[chosen] * (1 - alpha) + torch.minimum(colour, alpha)
        picture = apply_camera(picture, parts["camera"], scene["affected"], generator)
        if not repeats_border:
            picture = picture * inside
        mirror = parts["mirror"][:, None, None, None]
        picture = torch.where(mirror, picture.flip(-1), picture)
        return (255 * picture).round().to(torch.uint8).unflatten(0, batch)


def _sample(pictures: Tensor, maps: Tensor, points: Tensor, outside: str) -> Tensor:
    """Samples pictures through affine maps.

    Args:
        pictures: (M, C, h, w) uint8.
        maps: (M, 2, 3), from crop to picture coordinates.
        points: x and y of columns and rows, (M, S, 2).
        outside: padding mode of `grid_sample`.

    Returns:
        (M, C, S, S) in 0..1.
    """
    across = points[:, None, :, :1] * maps[:, None, None, :, 0] + maps[:, None, None, :, 2]
    grid = across + points[:, :, None, 1:] * maps[:, None, None, :, 1]
    return F.grid_sample(pictures.float(), grid, "bilinear", outside, align_corners=False) / 255


def _pyramid(pictures: Tensor) -> list[Tensor]:
    """Returns pictures (N, C, H, W) uint8 at full, half and quarter resolution."""
    levels = [pictures]
    for _ in range(LEVELS - 1):
        parts = [F.avg_pool2d(part.float(), 2).round().to(torch.uint8) for part in levels[-1].split(256)]
        levels.append(torch.cat(parts))
    return levels
