"""Parts of OSTrack's network that a runtime computes while tracking."""

import torch
from torch import Tensor, nn

from trackers.ostrack.head import best_box
from trackers.ostrack.network import OSTrackNetwork
from trackers.ostrack.response import Response
from trackers.pixels import network_input
from trackers.runtimes.graph import dtype_of


class TemplateGraph(nn.Module):
    """Function from the pixels of a template to its tokens."""

    def __init__(self, network: OSTrackNetwork):
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Returns "tokens" (B, Nz, C) of crops (B, s, s, 3), 0 to 255."""
        return {"tokens": self.network.backbone.embed_template(network_input(pixels, dtype_of(self.network)))}


class SearchGraph(nn.Module):
    """Function from a search crop to the target's box.

    Args:
        network: the network.
        response: response of the cells; None for the score times a Hann window, which favours small motion.

    Attributes:
        window: the Hann window, (F, F).
    """

    window: Tensor

    def __init__(self, network: OSTrackNetwork, response: Response | None):
        super().__init__()
        self.network, self.response = network, response
        parameter = next(network.parameters())
        k = torch.arange(1, network.cells + 1, device=parameter.device)
        hann = 0.5 * (1 - torch.cos(2 * torch.pi * k / (network.cells + 1)))
        self.register_buffer("window", torch.outer(hann, hann), persistent=False)

    def forward(self, template: Tensor, pixels: Tensor, last_size: Tensor | None = None) -> dict[str, Tensor]:
        """Finds the target in search crops.

        Args:
            template: tokens of the template, (B, Nz, C).
            pixels: crops (B, S, S, 3), 0 to 255.
            last_size: width and height of the last box in units of the crop's side, (B, 2), if there is a `Response`.

        Returns:
            "box" (B, 4), cxcywh in units of the crop's side, at the highest response; "response" (B,), the highest
            response; and "peak" (B,), the highest score.
        """
        maps = self.network.search(template, network_input(pixels, dtype_of(self.network)))
        scores = maps["score_map"]
        if self.response is None:
            response = scores * self.window
        else:
            assert last_size is not None
            response = self.response(scores, maps["size_map"], last_size, self.window)
        box, highest = best_box(maps, response)
        return {"box": box, "response": highest, "peak": scores.flatten(1).amax(1)}
