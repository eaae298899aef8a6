"""The answers to each question of the family, by the name that configurations give them.

One line adds an answer of the package. A program adds its own: `CODES.add("mine", MyCode)`; the
command line imports such a program by `--plugin MODULE`. Names from files are looked up here and
never imported, so that a checkpoint from a stranger runs no code.
"""

from importlib import import_module
from typing import Any

from nextscale.errors import UsageError, unknown


class Registry:
    """Classes by name, imported when they are first needed.

    Args:
        kind: of the entries, for messages.
        homes: `module:class` by name.
    """

    def __init__(self, kind: str, homes: dict[str, str]) -> None:
        self.kind = kind
        self.homes: dict[str, Any] = dict(homes)

    def add(self, name: str, entry: Any) -> None:
        """Registers a class under a new name. Raises UsageError if the name is taken."""
        if name in self.homes and self.homes[name] is not entry:
            raise UsageError(f"{self.kind} {name!r} is registered already; give another name")
        self.homes[name] = entry

    def check(self, name: str) -> None:
        """Raises UsageError unless something has this name."""
        if name not in self.homes:
            raise unknown(self.kind, name, self.homes)

    def load(self, name: str) -> Any:
        """The class of a name. Raises UsageError if there is none."""
        self.check(name)
        home = self.homes[name]
        if isinstance(home, str):
            module, _, attribute = home.partition(":")
            home = getattr(import_module(module), attribute)
        return home


CODES = Registry(
    "code", {"vq": "nextscale.tokenizer.code:VQ", "fsq": "nextscale.tokenizer.code:FSQ"}
)
CONDITIONS = Registry("condition", {"class": "nextscale.models.condition:ClassCondition"})
NEXT_TOKEN = ("raster", "spiral", "z-curve")  # orders of single tokens, trained by `train ar`
ORDERS = Registry(
    "order",
    {
        "scales": "nextscale.models.orders:NextScale",
        "sub-steps": "nextscale.models.orders:SubSteps",
        **dict.fromkeys(NEXT_TOKEN, "nextscale.models.orders:NextToken"),
    },
)
HEADS = Registry(
    "head",
    {
        "softmax": "nextscale.models.heads:SoftmaxHead",
        "channels": "nextscale.models.heads:ChannelHead",
    },
)
SOURCES = Registry("data set", {"fashion-mnist": "nextscale.data.fashion_mnist:open_splits"})
