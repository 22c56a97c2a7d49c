"""Checkpoints: one safetensors file each, with everything else as JSON in its header; no code.

A file is written under a temporary name, synced to the disk and renamed, so a checkpoint that is
listed is complete. The last two and the best are kept. A checksum detects later damage; then the
checkpoint before is used, with a warning.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foveate.core import FoveateError, WeightsError
from foveate.core.files import replace_file, sync_folder

FORMAT = 1
KEPT = 2
_NAME = re.compile(r"step-(\d{9})\.safetensors")

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Saved:
    """Content of a checkpoint: tensors by name, plain values, and the number of steps done."""

    step: int
    tensors: Tensors
    values: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Created with the first of them.
        keep: How many of the latest are kept.
    """

    def __init__(self, folder: Path, keep: int = KEPT) -> None:
        self.folder, self.keep = folder, keep
        self.warnings: list[str] = []
        self._damaged: set[int] = set()

    def clean(self) -> None:
        """Remove partial files of interrupted writes; only the writing process may call it."""
        for folder in (self.folder, self.folder.parent):
            for stale in folder.glob(".*.partial"):
                with suppress(OSError):
                    stale.unlink()

    def save(self, step: int, tensors: Tensors, values: dict[str, Any], best: int | None) -> Path:
        """Write a checkpoint, then remove those that are neither recent nor the best.

        Args:
            step: Steps done.
            tensors: By name; copied to the CPU.
            values: Anything JSON can hold.
            best: Step of the checkpoint to keep.

        Raises:
            FoveateError: It cannot be written (disk full, read-only); older ones are intact.
        """
        from safetensors.torch import save

        # Copies, because safetensors refuses tensors that share memory.
        flat = {
            name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, value in tensors.items()
        }
        text = json.dumps({"format": FORMAT, "step": step, "best": best, **values})
        header = {"state": text, "crc32": _checksum(flat, text)}
        path = self._path(step)
        try:
            replace_file(path, save(flat, metadata=header))
        except FoveateError as error:
            before = self.steps()
            hint = f"the checkpoint of step {before[-1]} is intact" if before else None
            raise FoveateError(f"checkpoint {error.cause}", error.hint or hint) from None
        self._damaged.discard(step)
        self._prune(best)
        return path

    def steps(self) -> list[int]:
        """Steps of the checkpoints, ascending, without those found to be damaged."""
        found = (_NAME.fullmatch(path.name) for path in self.folder.glob("step-*"))
        return sorted({int(match[1]) for match in found if match} - self._damaged)

    def load(self, step: int) -> Saved:
        """Read one checkpoint.

        Raises:
            WeightsError: It is missing or damaged.
        """
        from safetensors import SafetensorError, safe_open

        path = self._path(step)
        try:
            with safe_open(path, framework="pt") as stored:
                header = stored.metadata() or {}
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            text = header["state"]
            if _checksum(tensors, text) != header["crc32"]:
                raise WeightsError(f"{path.name}: damaged (its checksum is wrong)")
            values = json.loads(text)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "not a complete checkpoint"
            raise WeightsError(f"{path.name}: damaged ({reason.lower()})") from None
        if values.get("format") != FORMAT or values.get("step") != step:
            raise WeightsError(f"{path.name}: not a checkpoint of this version")
        return Saved(step, tensors, values)

    def latest(self) -> Saved | None:
        """The newest intact checkpoint, None if there are none at all.

        Raises:
            WeightsError: All checkpoints are damaged.
        """
        fault: WeightsError | None = None
        for step in reversed(self.steps()):
            try:
                return self.load(step)
            except WeightsError as error:
                fault = error
                self._damaged.add(step)
                self.warnings.append(f"{error}; the one before it is used")
        if fault is not None:
            raise fault
        return None

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:09d}.safetensors"

    def _prune(self, best: int | None) -> None:
        old = [step for step in self.steps()[: -self.keep] if step != best]
        gone = [*old, *self._damaged]
        for step in gone:
            # An extra checkpoint does no harm.
            with suppress(OSError):
                self._path(step).unlink()
        if gone:
            with suppress(OSError):
                sync_folder(self.folder)


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """An optimiser's state as flat tensors and plain values."""
    state = optimizer.state_dict()
    tensors: Tensors = {}
    scalars: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimizer/{index}/{key}"] = value
            else:
                scalars.setdefault(str(index), {})[key] = value
    return tensors, {"scalars": scalars, "groups": state["param_groups"]}


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Tensors, values: dict[str, Any]
) -> None:
    """Restore what `pack_optimizer` returned.

    Tensors get the memory format of their parameters, because the order of sums depends on it.

    Raises:
        WeightsError: The state belongs to other parameters.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for index, key, value in _entries(tensors):
        if index >= len(parameters):
            raise WeightsError("the checkpoint's optimiser has other parameters than this model")
        like = parameters[index]
        if value.shape == like.shape and value.ndim:
            value = torch.empty_like(like, dtype=value.dtype).copy_(value)
        state.setdefault(index, {})[key] = value
    for text, scalars in values["scalars"].items():
        state.setdefault(int(text), {}).update(scalars)
    groups = []
    for saved, own in zip(values["groups"], optimizer.state_dict()["param_groups"], strict=True):
        if saved["params"] != own["params"]:
            raise WeightsError("the checkpoint's optimiser has other parameters than this model")
        groups.append({k: tuple(v) if isinstance(own[k], tuple) else v for k, v in saved.items()})
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _entries(tensors: Tensors) -> Iterator[tuple[int, str, torch.Tensor]]:
    for name, value in tensors.items():
        if name.startswith("optimizer/"):
            _, index, key = name.split("/", 2)
            yield int(index), key, value


def _checksum(tensors: Tensors, text: str) -> str:
    """A checksum over names, values and the header; it detects damage, not forgery."""
    value = zlib.crc32(text.encode())
    for name in sorted(tensors):
        value = zlib.crc32(name.encode(), value)
        data = tensors[name].contiguous()
        value = zlib.crc32(data.reshape(-1).view(torch.uint8).numpy().tobytes(), value)
    return f"{value:08x}"
