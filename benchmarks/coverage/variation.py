"""Weights for a comparison: initial zeros and ones would hide that a tensor was cut at the wrong places."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@torch.no_grad()
def vary(network: nn.Module, images: Tensor) -> None:
    """Gives every entry of every parameter a value of its own, and batch norms random statistics near the true ones.

    Args:
        network: in float64, where random values are distinct; it is left in eval mode.
        images: a batch that the batch norms measure, (B, 3, H, W). Without it, deep networks without pretrained
            weights would return the same output for all images.
    """
    for parameter in network.parameters():
        if parameter.numel() > 1 and parameter.min() == parameter.max():
            constant = float(parameter.flatten()[0])
            if parameter.squeeze().dim() > 1:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
            elif abs(constant) < 0.05:  # biases, and scales of branches that start near 0
                parameter.uniform_(0.1, 0.3)
            else:
                parameter.mul_(torch.rand_like(parameter) + 0.5)
        parameter.mul_(1 + 1e-3 * torch.rand_like(parameter)).add_(1e-6 * torch.rand_like(parameter))
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.train()
        norm.momentum, norm.former = 1.0, norm.momentum
    network(images)
    network.eval()
    for norm in norms:
        norm.momentum = norm.former
        del norm.former
        norm.running_mean.add_(0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean))
        norm.running_var.add_(1e-3).mul_(torch.rand_like(norm.running_var) + 0.5)
