"""Convolutional stem of a ViT, for trackers that are trained from scratch."""

from torch import Tensor, nn

from pruning.groups import Group, Slice


class ConvStem(nn.Module):
    """Two strided convolutions (stride 8) that replace the patch embedding of a ViT.

    Trained from scratch, they learn faster than a patch embedding. The norm is a LayerNorm and not a BatchNorm, because
    template and search crops, which have different statistics, share it.

    Args:
        embed_dim: channels of the tokens.
        hidden: channels between the convolutions.
        in_chans: channels of the pictures.
        unused: further arguments that timm passes to an `embed_layer`.
    """

    def __init__(self, embed_dim: int, hidden: int, in_chans: int = 3, **unused: object):
        super().__init__()
        self.conv1 = nn.Conv2d(in_chans, hidden, 4, stride=4)
        self.norm = nn.LayerNorm(hidden)
        self.conv2 = nn.Conv2d(hidden, embed_dim, 3, stride=2, padding=1)
        self.num_patches = 0  # timm reads it to build a position embedding, which trackers do not use

    def forward(self, x: Tensor) -> Tensor:
        """Embeds pictures (B, 3, H, W) as tokens (B, H / 8 * W / 8, C), row by row."""
        x = self.norm(self.conv1(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.conv2(nn.functional.gelu(x)).flatten(2).transpose(1, 2)

    def groups(self) -> list[Group]:
        """Returns the group of the channels between the convolutions."""
        slices = (
            Slice("conv1.weight", 0, gated=True),
            Slice("conv1.bias", 0, gated=True),
            Slice("norm.weight", 0),
            Slice("norm.bias", 0),
            Slice("conv2.weight", 1),
        )
        return [Group("hidden", "stem", self.conv1.out_channels, slices, norms=("norm",))]
