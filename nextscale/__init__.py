"""Next-scale visual autoregressive generation (VAR, arXiv 2404.02905): train, draw, edit, measure.

`import nextscale` is quick: torch is imported at the first use of a name below.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nextscale.checkpoints import published as released
    from nextscale.checkpoints.checkpoint import load, push, save
    from nextscale.pipeline import Pipeline

    __version__: str

__all__ = ["Pipeline", "__version__", "load", "push", "released", "save"]

_HOMES = {
    "Pipeline": "nextscale.pipeline",
    "load": "nextscale.checkpoints.checkpoint",
    "push": "nextscale.checkpoints.checkpoint",
    "save": "nextscale.checkpoints.checkpoint",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "released":
        return import_module("nextscale.checkpoints.published")
    if name == "__version__":
        return metadata.version("nextscale")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
