"""Optimisers, and parameter groups by weight decay and learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import nn

Name = Literal["adamw", "sgd", "rmsprop"]


class RMSPropTF(torch.optim.Optimizer):
    """RMSProp as TensorFlow computes it: epsilon under the root, learning rate in the momentum.

    mean = rho * mean + (1 - rho) * g^2;
    moved = momentum * moved + lr * g / sqrt(mean + epsilon);
    p = p - moved. torch adds epsilon to the root instead, which with epsilon 1 is another
    optimiser.

    Source: Kondratyuk et al., "MoViNets", CVPR 2021, with the settings of the released
    configurations (rho .9, momentum .9, epsilon 1).

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        rho: Decay of the mean of squares.
        momentum: Decay of the step.
        eps: Under the root.
        weight_decay: L2 added to the gradient, as that recipe does.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        rho: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1.0,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr, "rho": rho, "momentum": momentum, "eps": eps, "weight_decay": weight_decay
        }  # fmt: skip
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Do one update."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)
        return loss

    def _update(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["mean"] = torch.zeros_like(p)
            state["moved"] = torch.zeros_like(p)
        if group["weight_decay"]:
            grad = grad.add(p, alpha=group["weight_decay"])
        state["mean"].mul_(group["rho"]).addcmul_(grad, grad, value=1 - group["rho"])
        scaled = grad / (state["mean"] + group["eps"]).sqrt_()
        state["moved"].mul_(group["momentum"]).add_(scaled, alpha=group["lr"])
        p.sub_(state["moved"])


def decay_groups(
    model: nn.Module, lr: float, weight_decay: float, factors: Mapping[str, float] | None = None
) -> list[dict[str, Any]]:
    """Sort trainable parameters into groups by decay and by rate.

    Vectors and scalars do not decay: pulling biases, the scales of normalisations and ReZero
    scalars towards zero shrinks functions, not noise.

    Args:
        model: Parameters without gradients are left out. Those that a module names in `undecayed`
            do not decay either.
        lr: Learning rate.
        weight_decay: Of matrices and kernels.
        factors: On `lr`, by the name of the parameter; 1 for all others.
    """
    factors = factors or {}
    bare = {
        id(getattr(module, name))
        for module in model.modules()
        for name in getattr(module, "undecayed", ())
    }
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = factors.get(name, 1.0), parameter.ndim < 2 or id(parameter) in bare
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "lr": lr * factor, "weight_decay": 0.0 if fixed else weight_decay}
        for (factor, fixed), parameters in groups.items()
    ]


def make_optimizer(
    name: Name, groups: list[dict[str, Any]], *, momentum: float = 0.9
) -> torch.optim.Optimizer:
    """An optimiser over groups of parameters.

    Args:
        name: `adamw`, `sgd` (Nesterov) or `rmsprop` (TensorFlow's).
        groups: From `decay_groups`; the decay is decoupled for `adamw`, L2 in the gradient for
            the others.
        momentum: For `sgd` and `rmsprop`.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups)
    lr = groups[0]["lr"]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
    return RMSPropTF(groups, lr=lr, momentum=momentum)
