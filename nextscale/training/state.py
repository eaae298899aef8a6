"""Gathers and restores the weights, their average and the optimizer of a run.

A sharded network is gathered whole, so that a checkpoint fits any number of processes.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as distributed

from nextscale.training.average import MovingAverage
from nextscale.training.saved import check_moments, check_tensors, refused
from nextscale.training.stage import Weights

WHOLE = distributed.StateDictOptions(full_state_dict=True)


class TrainState:
    """Weights, average and optimizer of a run.

    Args:
        accelerator: of the run; it has prepared network and optimizer.
        network: a stage's objective.
        optimizer: of the network.
        ema: decay of the average; 0 keeps none.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        network: nn.Module,
        optimizer: AcceleratedOptimizer,
        ema: float,
    ) -> None:
        self.network, self.optimizer = network, optimizer
        self.scaler = accelerator.scaler  # of fp16 gradients
        self.average = MovingAverage(network, ema) if ema else None

    def weights(self) -> Weights:
        """Copies of the whole weights of the network. All processes take part."""
        state = distributed.get_model_state_dict(self.network, options=WHOLE)
        return {name: cast(Tensor, value).clone() for name, value in state.items()}

    def averaged(self) -> AbstractContextManager[None]:
        """A context in which the network holds the averaged weights, if there is an average."""
        return self.average.applied() if self.average else nullcontext()

    def averaged_weights(self) -> Weights:
        """Copies of the whole weights that are validated and exported. All processes take part."""
        with self.averaged():
            return self.weights()

    def state_dict(self) -> dict[str, Any]:
        """Returns whole tensors that a resumed run needs. All processes take part."""
        optimizer = self.optimizer.optimizer
        return {
            "network": self.weights(),
            "optimizer": distributed.get_optimizer_state_dict(
                self.network, optimizer, options=WHOLE
            ),
            "average": self.average.state_dict() if self.average else [],
            "scaler": self.scaler.state_dict() if self.scaler else {},
        }

    def load_state_dict(self, saved: Mapping[str, Any], place: Path) -> None:
        """Restores `state_dict`; the options of optimizer and scaler stay as built.

        Args:
            saved: result of `load_training`.
            place: the checkpoint's folder, for the error.

        Raises:
            UsageError: if it is incomplete, not finite or belongs to another network.
        """
        optimizer, step = self.optimizer.optimizer, saved["step"]
        network: Any = distributed.get_model_state_dict(self.network)
        check_tensors(saved["network"], network, "network", place)
        built: Any = distributed.get_optimizer_state_dict(self.network, optimizer)
        updates = (0 if self.scaler else step, step)  # a scaler skips some
        moments = saved["optimizer"]["state"]
        check_moments(moments, built["state"], updates, place)
        averages = self.average.values if self.average else []
        check_tensors(numbered(saved["average"]), numbered(averages), "average", place)
        try:
            distributed.set_state_dict(
                self.network,
                optimizer,
                model_state_dict=saved["network"],
                optim_state_dict={**built, "state": moments},
                options=WHOLE,
            )
            if self.average:
                self.average.load_state_dict(saved["average"])
            if self.scaler:
                changing = {name: saved["scaler"][name] for name in ("scale", "_growth_tracker")}
                self.scaler.load_state_dict(self.scaler.state_dict() | changing)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise refused(place, f"it does not fit this run: {reason}") from error


def numbered(tensors: list[Tensor]) -> dict[str, Tensor]:
    """Tensors by their number, as a state dict."""
    return {str(i): tensor for i, tensor in enumerate(tensors)}
