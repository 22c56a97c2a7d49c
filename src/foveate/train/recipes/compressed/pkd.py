"""Progressive knowledge distillation of internal classifiers, and its baselines.

Source: Soufleri et al. (arXiv 2407.02713): the heads of frozen networks learn from one teacher
after another, the motion-vector network first, then the residual and the I-frame network. The
release's third teacher is the student's own last classifier, which is the I-frame network only for
I-frame heads; both variants are here. The release trains its baselines for half the epochs; here
all variants train equally long, on the same cached maps, in the same order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from foveate.core import ConfigError, LimitError
from foveate.models.coviar import ExitNetwork, InternalClassifier

OWN = "own"  # the student's last classifier
ORDERS = {
    "ce": (),
    "kd": ("iframe",),
    "anti": (OWN, "residual", "mv"),
    "pkd": ("mv", "residual", "iframe"),
    "pkd-own": ("mv", "residual", OWN),
}
"""Teachers of each variant, in order: none (labels only), the I-frame network alone, the reverse
order, the order of the paper's abstract, and that of its release."""
_MOST_BYTES = 4_000_000_000


@dataclass(frozen=True)
class Teacher:
    """What the heads learn from until an epoch.

    Attributes:
        name: A network whose logits are given, or `own`: the student's last classifier.
        until: The first epoch of the next teacher.
    """

    name: str
    until: int


@dataclass(frozen=True)
class HeadRecipe:
    """How heads are trained.

    Attributes:
        teachers: In order; none means labels alone.
        epochs: Of all teachers together.
        temperature: Of teacher and student; the loss is not scaled by it, as in the release.
        hard_weight: Of cross-entropy with the labels, added to distillation.
        lr: Of Adam, divided by ten after one half, two thirds and five sixths of the epochs.
        batch: Clips of a step.
        seed: Of the order.
    """

    teachers: tuple[Teacher, ...] = ()
    epochs: int = 300
    temperature: float = 1.0
    hard_weight: float = 0.0
    lr: float = 0.005
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Validate the settings."""
        ends = [teacher.until for teacher in self.teachers]
        if self.epochs < 1 or self.batch < 1 or self.temperature <= 0 or self.lr <= 0:
            raise ConfigError("epochs, batch, temperature and lr must be positive")
        if ends and (ends != sorted(set(ends)) or ends[0] < 1 or ends[-1] != self.epochs):
            raise ConfigError(
                f"teachers end at epochs {ends}", f"let them ascend, the last at {self.epochs}"
            )
        if not self.teachers and self.hard_weight <= 0:
            raise ConfigError("there is nothing to learn from", "name a teacher or set hard_weight")

    def teacher(self, epoch: int) -> str | None:
        """The teacher of an epoch."""
        return next((t.name for t in self.teachers if epoch < t.until), None)


def head_recipe(name: str, epochs: int = 300, **settings: float) -> HeadRecipe:
    """A published variant or baseline, all of the same length.

    Args:
        name: One of `ORDERS`; teachers change after 1/6 and 1/3 of the epochs.
        epochs: Of all teachers together.
        **settings: Other fields of `HeadRecipe`.

    Raises:
        ConfigError: There is no such variant, or there are fewer epochs than teachers.
    """
    first, second = max(1, round(epochs / 6)), max(2, round(epochs / 3))
    if name not in ORDERS:
        raise ConfigError(f"there is no head recipe {name!r}", f"one of: {', '.join(ORDERS)}")
    ends = {0: (), 1: (epochs,), 3: (first, second, epochs)}[len(ORDERS[name])]
    teachers = tuple(Teacher(who, end) for who, end in zip(ORDERS[name], ends, strict=True))
    fixed = {"hard_weight": 1.0} if name == "ce" else {}
    return HeadRecipe(teachers, epochs, **{**fixed, **settings})  # type: ignore[arg-type]


@dataclass(frozen=True)
class ExitCache:
    """Input of the heads of one network, computed once.

    Attributes:
        maps: For each exit but the last, its head's input (N, T, C, h, w) in half precision.
        logits: (N, classes) of the last exit, averaged over segments.
    """

    maps: dict[str, Tensor]
    logits: Tensor


def cache_exits(network: ExitNetwork, clips: Iterable[Tensor]) -> ExitCache:
    """Run the frozen network once over clips (B, channels, T, H, W).

    Raises:
        LimitError: The maps would take more than four gigabytes.
        ConfigError: There are no clips.
    """
    network.eval()
    maps: dict[str, list[Tensor]] = {name: [] for name in network.heads}
    logits: list[Tensor] = []
    held = 0
    for x in clips:
        for name, found in network.maps(x):
            if name == "final":
                with torch.no_grad():
                    logits.append(network.network.classify(found).mean(1))
                continue
            head = network.heads[name]
            assert isinstance(head, InternalClassifier)
            needed = head.shrunk(found)
            kept = needed.unflatten(0, (x.shape[0], -1)).half()
            held += kept.nbytes
            if held > _MOST_BYTES:
                raise LimitError(
                    f"maps of exits exceed {_MOST_BYTES} bytes", "use fewer or smaller clips"
                )
            maps[name].append(kept)
    if not logits:
        raise ConfigError("no clips to compute exits of")
    return ExitCache({name: torch.cat(parts) for name, parts in maps.items()}, torch.cat(logits))


def train_heads(
    network: ExitNetwork,
    cache: ExitCache,
    labels: Tensor,
    how: HeadRecipe,
    teachers: Mapping[str, Tensor] | None = None,
) -> list[float]:
    """Train all heads of a network on cached maps; the network itself does not change.

    Args:
        network: Its heads are trained in place.
        cache: From `cache_exits` with the same network.
        labels: (N,).
        how: The recipe.
        teachers: Logits (N, classes) of other networks on the same clips, by name.

    Returns:
        Mean loss of every epoch, summed over heads.

    Raises:
        ConfigError: A teacher's logits are missing or of the wrong shape.
    """
    known = {**(teachers or {}), OWN: cache.logits}
    for teacher in how.teachers:
        if known.get(teacher.name) is None or known[teacher.name].shape != cache.logits.shape:
            raise ConfigError(f"the logits of teacher {teacher.name!r} are missing or do not fit")
    if labels.shape != (len(cache.logits),):
        raise ConfigError(f"{tuple(labels.shape)} labels for {len(cache.logits)} clips")
    if not cache.maps:
        return []  # a video network has no heads inside
    network.train()
    # The release's optimiser omits the biases of the linear layers; here they are trained too.
    optimiser = torch.optim.Adam(network.heads.parameters(), lr=how.lr, eps=1e-3)
    drops = sorted({max(1, round(how.epochs * part)) for part in (1 / 2, 2 / 3, 5 / 6)})
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, drops)
    random = torch.Generator().manual_seed(how.seed)
    losses = []
    for epoch in range(how.epochs):
        who = how.teacher(epoch)
        total = 0.0
        order = torch.randperm(len(labels), generator=random)
        for rows in _even(order, how.batch):
            target = None if who is None else known[who][rows]
            loss = torch.stack(
                [
                    head_loss(_logits(network, name, maps[rows]), labels[rows], target, how)
                    for name, maps in cache.maps.items()
                ]
            ).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        schedule.step()
        losses.append(total / len(labels))
    network.eval()
    return losses


def head_loss(logits: Tensor, labels: Tensor, teacher: Tensor | None, how: HeadRecipe) -> Tensor:
    """Cross-entropy with the teacher's softened probabilities, and with the labels if weighted.

    Args:
        logits: (B, classes) of a head, averaged over segments.
        labels: (B,).
        teacher: (B, classes) logits, None for labels alone.
        how: Temperature and weight.
    """
    loss = logits.new_zeros(())
    if teacher is not None:
        soft = (teacher / how.temperature).softmax(-1)
        loss = functional.cross_entropy(logits / how.temperature, soft)
    if how.hard_weight:
        loss = loss + how.hard_weight * functional.cross_entropy(logits, labels)
    return loss


@torch.no_grad()
def exit_logits(network: ExitNetwork, cache: ExitCache, batch: int = 64) -> Tensor:
    """(N, exits, classes) of all exits from cached maps, the last exit's included."""
    network.eval()
    columns = []
    for name, maps in cache.maps.items():
        parts = [_logits(network, name, maps[at : at + batch]) for at in range(0, len(maps), batch)]
        columns.append(torch.cat(parts))
    return torch.stack([*columns, cache.logits], 1)


def _logits(network: ExitNetwork, name: str, maps: Tensor) -> Tensor:
    """Logits (B, classes) of a head on cached maps (B, T, C, h, w)."""
    found: Tensor = network.heads[name](maps.flatten(0, 1).float())
    logits: Tensor = found.unflatten(0, maps.shape[:2]).mean(1)
    return logits


def _even(order: Tensor, batch: int) -> tuple[Tensor, ...]:
    """Batches of nearly equal size, because BatchNorm needs several clips."""
    return order.tensor_split(max(1, -(-len(order) // batch)))
