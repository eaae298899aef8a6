"""Where networks compute: one rule for the command line, the Python API and trainings."""

import torch

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
