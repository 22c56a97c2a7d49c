"""Features of a frozen network, computed once instead of in every epoch."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from foveate.core import ConfigError, FoveateError
from foveate.core.files import replace_file
from foveate.train.kit.batches import Batches, Prepare, worker_errors
from foveate.train.kit.distributed import ProcessGroup

_HEAD = ("classifier", "dropout")
VERSION = 1  # raise it when features or their file change: stored ones are then computed again

T = TypeVar("T")


class Head(nn.Module):
    """The part of a network behind its pooled features, as a module.

    It shares its layers with the network, so training it trains the network.

    Args:
        network: Has `features` and `classify`; the head's layers are named `classifier…`.

    Raises:
        ConfigError: The network does not have these two parts.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for method in ("features", "classify"):
            if not hasattr(network, method):
                raise ConfigError(
                    f"freeze=backbone: {type(network).__name__} has no {method}()",
                    "train it with freeze=none",
                )
        self.parts = nn.ModuleDict(
            {name: part for name, part in network.named_children() if name.startswith(_HEAD)}
        )
        classify: Any = network.classify
        self._classify: Callable[[torch.Tensor], torch.Tensor] = classify

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) for pooled features (B, channels)."""
        return self._classify(pooled)


def is_head(name: str) -> bool:
    """Whether a parameter of that name belongs to the head."""
    return name.startswith(_HEAD)


@dataclass(frozen=True)
class FeatureSet:
    """Pooled features of the samples of a split.

    Attributes:
        x: (N, views, channels); view 0 is the sample as it is, view 1 its mirror image.
        y: (N,) or (N, classes).
        index: (N,) positions of the records in their split; failed ones are missing.
        failures: What could not be read.
        warnings: What was damaged but could be read.
        saved: Seconds that were not spent because they were read from a file.
    """

    x: torch.Tensor
    y: torch.Tensor
    index: torch.Tensor
    failures: list[str]
    warnings: list[str]
    saved: float = 0.0


def key_of(network: nn.Module, **inputs: Any) -> str:
    """A digest of everything that features depend on: weights, data and preprocessing."""
    digest = hashlib.sha256(json.dumps([VERSION, inputs], sort_keys=True, default=str).encode())
    for name, value in sorted(network.state_dict().items()):
        if not is_head(name):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()


def kept_features(
    folder: Path,
    split: str,
    key: str,
    network: nn.Module,
    batches: Batches,
    prepare: Prepare,
    mirror: bool,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureSet:
    """The features of a split, read from the run folder or computed and stored there.

    Args:
        folder: Where they are stored.
        split: Its name.
        key: From `key_of`; features with another key are not used.
        network: Has `features`; evaluated without gradients.
        batches: The samples, in the order of the split and without augmentation.
        prepare: Applied to each batch.
        mirror: Compute the mirror images too.
        progress: Called after each batch with batches done and batches in all.

    Raises:
        FoveateError: They cannot be written, or no sample could be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save

    path = folder / f"{split}-{key[:16]}.safetensors"
    if path.is_file():
        try:
            held = load_file(path)
            problems = json.loads(bytes(held["problems"].numpy()))
            spent = problems.pop("seconds", 0.0)
            return FeatureSet(held["x"], held["y"], held["index"], **problems, saved=spent)
        except (SafetensorError, OSError, KeyError, ValueError, TypeError):
            pass  # damaged: computed again
    began = time.perf_counter()
    found = compute(network, batches, prepare, mirror, progress)
    spent = time.perf_counter() - began
    problems = json.dumps(
        {"failures": found.failures, "warnings": found.warnings, "seconds": spent}
    )
    text = torch.frombuffer(bytearray(problems.encode()), dtype=torch.uint8)
    data = {"x": found.x, "y": found.y, "index": found.index, "problems": text}
    replace_file(path, save({name: value.contiguous() for name, value in data.items()}))
    return found


def computed_once(group: ProcessGroup, batches: Batches, make: Callable[[], T]) -> T:
    """What `make` returns, called in the main process first, so that the others read its files."""
    with worker_errors(batches):
        found = make() if group.is_main else None
    group.barrier()
    return make() if found is None else found


@torch.no_grad()
def compute(
    network: nn.Module,
    batches: Batches,
    prepare: Prepare,
    mirror: bool,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureSet:
    """Pooled features (the mean over frames) of one epoch of batches.

    Raises:
        FoveateError: No sample could be read.
    """
    network.eval()
    # The copy with folded norms, if there is one, is about twice as fast.
    device = next(network.parameters()).device
    folded: Any = getattr(network, "for_inference", None) if device.type == "cpu" else None
    fast: Any = network if folded is None else folded()
    features: Any = getattr(fast, "features", None) or _stepped(fast)
    rows: list[dict[str, torch.Tensor]] = []
    for done, batch in enumerate(batches.batches(0), 1):
        if len(batch["x"]):
            x = prepare(batch["x"])
            views = [x, x.flip(-1)] if mirror else [x]
            pooled = torch.stack([features(view).float().mean(1).cpu() for view in views], 1)
            rows.append({"x": pooled, "y": batch["y"].cpu(), "index": batch["index"].cpu()})
        if progress is not None:
            progress(done, len(batches))
    failures = [str(failure) for failure in batches.failures]
    if not rows:
        raise FoveateError("no sample could be read", failures[0] if failures else None)
    joined = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    return FeatureSet(
        joined["x"], joined["y"], joined["index"], failures, list(batches.warnings)
    )  # fmt: skip


def several(sets: Sequence[FeatureSet]) -> FeatureSet:
    """Join sets of features as further views of the same samples; failures are those of the first.

    Raises:
        FoveateError: The sets have different samples, because files changed meanwhile.
    """
    first = sets[0]
    if any(not torch.equal(one.index, first.index) for one in sets):
        raise FoveateError("clips of a split could be read at first and not later")
    if len(sets) == 1:
        return first
    x = torch.cat([one.x for one in sets], 1)
    return replace(first, x=x, saved=sum(one.saved for one in sets))


def draw_view(x: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """A random one of the views (views, channels) of a sample."""
    return x[int(torch.randint(len(x), (), generator=random))]


def _stepped(network: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Features of whole clips from a module that has only the step form."""

    def features(x: torch.Tensor) -> torch.Tensor:
        state = network.initial_state(x.shape[0], *x.shape[-2:])
        found: torch.Tensor = network.step_features(x, state)[0]
        return found

    return features
