"""The optimizer of a run: AdamW, alone or combined with Muon."""

from typing import Any

from torch.optim import AdamW, Muon, Optimizer

MOMENTUM = 0.95  # of Muon


class MuonAndAdamW(Optimizer):
    """Muon for the groups whose `muon` is true and AdamW for the others, as one optimizer.

    Muon's updates are orthogonalised (Jordan et al. 2024, kellerjordan.github.io/posts/muon) and
    scaled so that their root mean square is AdamW's (arXiv 2502.16982 Sec. 2.2); so one learning
    rate and one decay serve both.

    Args:
        groups: of parameters; those of Muon hold matrices alone.
        lr: learning rate.
        betas: of AdamW.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})
        muon, rest = self.parted()
        self.muon = Muon(muon, lr, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")
        self.adamw = AdamW(rest, lr, betas, fused=True)

    def parted(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """The groups of Muon and those of AdamW, not copied."""
        groups = self.param_groups
        return [g for g in groups if g["muon"]], [g for g in groups if not g["muon"]]

    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Updates all parameters once; a closure is not supported."""
        self.muon.param_groups, self.adamw.param_groups = self.parted()
        self.muon.state = self.adamw.state = self.state  # load_state_dict replaces the state object
        self.muon.step(closure)
        self.adamw.step(closure)


def build_optimizer(
    groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]
) -> Optimizer:
    """Muon and AdamW if a group sets `muon`, otherwise AdamW alone."""
    if any(group.get("muon") for group in groups):
        return MuonAndAdamW(groups, lr, betas)
    return AdamW(groups, lr, betas, fused=True)
