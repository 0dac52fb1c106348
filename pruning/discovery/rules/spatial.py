"""Rules of operators that mix positions of pictures, channel by channel: pooling, interpolation, sampling."""

from pruning.discovery.flow import Flow
from pruning.discovery.recording import Operator


def spatial(flow: Flow, operator: Operator) -> None:
    """Keeps batch and channels, and mixes the positions behind them."""
    x = operator.values[0]
    rank = len(x.shape)
    spatial_dims = SPATIAL_DIMS[operator.name]
    labels = list(flow.of(x))
    for d in range(rank - spatial_dims, rank):
        flow.freeze_mixed(operator, labels[d])
        labels[d] = None
    for result in operator.results:
        flow.set(result, labels if len(result.shape) == rank else [None] * len(result.shape))
    for other in operator.values[1:]:
        flow.freeze(other, str(operator))


SPATIAL_DIMS = {
    "max_pool2d_with_indices": 2,
    "max_pool2d": 2,
    "avg_pool2d": 2,
    "avg_pool1d": 1,
    "max_pool1d": 1,
    "avg_pool3d": 3,
    "max_pool3d_with_indices": 3,
    "_adaptive_avg_pool2d": 2,
    "adaptive_avg_pool2d": 2,
    "_adaptive_avg_pool3d": 3,
    "adaptive_max_pool2d": 2,
    "adaptive_avg_pool1d": 1,
    "upsample_bilinear2d": 2,
    "_upsample_bilinear2d_aa": 2,
    "upsample_nearest2d": 2,
    "_upsample_nearest_exact2d": 2,
    "upsample_bicubic2d": 2,
    "_upsample_bicubic2d_aa": 2,
    "upsample_linear1d": 1,
    "upsample_nearest1d": 1,
    "upsample_trilinear3d": 3,
    "upsample_nearest3d": 3,
    "grid_sampler_2d": 2,
}
SPATIAL = dict.fromkeys(SPATIAL_DIMS, spatial)
