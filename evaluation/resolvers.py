"""Words that configurations may use, besides those of OmegaConf."""

from typing import Any

from omegaconf import OmegaConf


def below(value: float, limit: float, small: Any, large: Any) -> Any:
    """`${below:VALUE,LIMIT,SMALL,LARGE}`: SMALL if the value lies below the limit, else LARGE."""
    return small if value < limit else large


OmegaConf.register_new_resolver("below", below, replace=True)
