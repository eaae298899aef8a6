"""Published weights to pipelines, one rename table a family."""

from nextscale.checkpoints.published.var import from_released

__all__ = ["from_released"]
