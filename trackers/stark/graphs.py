"""Parts of STARK's network that a runtime computes while tracking."""

from collections.abc import Mapping

from torch import Tensor, nn

from trackers.boxes import xyxy_to_cxcywh
from trackers.pixels import network_input
from trackers.runtimes.graph import dtype_of
from trackers.stark.expectation import Expectation
from trackers.stark.network import STARKNetwork, Tokens
from trackers.stark.position import SinePosition

MAX_LOGIT = 10.0  # odds stay finite in half precision, too


class PositionGraph(nn.Module):
    """Function from the padded cells of a crop to its position embeddings."""

    def __init__(self, position: SinePosition):
        super().__init__()
        self.position = position

    def forward(self, padded: Tensor) -> dict[str, Tensor]:
        """Returns "position" (B, F * F, C) for padded cells (B, F, F) bool."""
        return {"position": self.position(padded)}


class TemplateGraph(nn.Module):
    """Function from the pixels of a template to its features."""

    def __init__(self, network: STARKNetwork):
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Returns "features" (B, N, C) of crops (B, s, s, 3), 0 to 255."""
        return {"features": self.network.features(network_input(pixels, dtype_of(self.network)))}


class SearchGraph(nn.Module):
    """Function from a search crop and tokens of templates to the target's box.

    Args:
        network: the network.
        expectation: weighting of the corner maps by the last box; None for none.
    """

    def __init__(self, network: STARKNetwork, expectation: Expectation | None):
        super().__init__()
        self.network, self.expectation = network, expectation

    def forward(
        self,
        pixels: Tensor,
        position: Tensor,
        padded: Tensor,
        template: Tensor,
        template_position: Tensor,
        template_padded: Tensor,
        last_box: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Finds the target in search crops.

        Args:
            pixels: crops (B, S, S, 3), 0 to 255.
            position, padded: position embeddings (B, F * F, C) and padded cells (B, F * F) bool of the crops.
            template, template_position, template_padded: features (B, N, C), position embeddings (B, N, C) and padded
                cells (B, N) bool of all templates.
            last_box: the last box, cxcywh in units of the crop's side, (B, 4), if there is an `Expectation`.

        Returns:
            "box" (B, 4), cxcywh in units of the crop's side; "score" (B,): the probability of the class head, or else
            the mean peak of the corner maps; and "evidence" (B,), see `_evidence`.
        """
        features = self.network.features(network_input(pixels, dtype_of(self.network)))
        known = Tokens(template, template_position, template_padded)
        found = self.network.locate(known, Tokens(features, position, padded))
        score = found["class_logit"].sigmoid() if "class_logit" in found else found["corners"].amax(2).mean(1).exp()
        box = found["boxes"]
        if self.expectation is not None:
            assert last_box is not None
            head = self.network.box_head
            weighted = self.expectation(found["corners"], last_box.to(box.dtype), head.offset)
            box = xyxy_to_cxcywh(head.expected_corners(weighted))
        return {"box": box, "score": score, "evidence": _evidence(found)}


def _evidence(found: Mapping[str, Tensor]) -> Tensor:
    """Returns the evidence (B,) of the target's presence from the network's outputs.

    It is the odds of the class head. Without a class head, it is the certainty of the corner maps: 1 over the geometric
    mean of their perplexities, e.g. 1 for two corners in one cell each, and 1 / n for corners that may be in n cells.
    On real video it tells presence from absence better than the peaks of the maps do.
    """
    if "class_logit" in found:
        return found["class_logit"].clamp(max=MAX_LOGIT).exp()
    corners = found["corners"]
    return (corners.exp() * corners).sum(2).mean(1).exp()
