"""Where networks compute: one rule for the command line, the Python API and trainings."""

from collections.abc import Callable, Hashable, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from nextscale.errors import UsageError


def best_device() -> torch.device:
    """An accelerator if there is one, else the CPU."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found or torch.device("cpu")


def usable_device(device: torch.device | str) -> torch.device:
    """A device that works; `auto` is `best_device`.

    Raises:
        UsageError: if torch cannot use it.
    """
    try:
        chosen = best_device() if device == "auto" else torch.device(device)
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError) as error:  # the latter: torch was built without it
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(". ")
        raise UsageError(
            f"device {str(device)!r} cannot be used ({reason}); give auto, cpu, or a device that "
            "torch finds"
        ) from error
    return chosen


_CONSTANTS: dict[Hashable, Tensor] = {}


def constant(
    values: Sequence[float], device: torch.device, dtype: torch.dtype = torch.long
) -> Tensor:
    """Numbers (n,) on a device, copied there once in the life of this process; read only."""
    key = (tuple(values), device, dtype)
    return kept(key, lambda: torch.tensor(values, dtype=dtype, device=device))


def kept(key: Hashable, make: Callable[[], Tensor]) -> Tensor:
    """A tensor that is made once in the life of this process; read only.

    Args:
        key: names the tensor, its device too.
    """
    if torch.compiler.is_compiling():
        return make()
    if key not in _CONSTANTS:
        # Autograd may save it later; a mode that counts what is computed would see it only once.
        with torch.inference_mode(False), _disable_current_modes():
            _CONSTANTS[key] = make()
    fake = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    return _CONSTANTS[key] if fake is None else fake.from_tensor(_CONSTANTS[key])
