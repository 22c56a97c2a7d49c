"""Checkpoints: whole or not there, pruned, and damage is met with the one before."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from foveate.core import FoveateError, WeightsError
from foveate.train.kit.checkpoint import Checkpoints, pack_optimizer, unpack_optimizer


def tensors(step: int) -> dict[str, torch.Tensor]:
    shared = torch.full((40,), float(step))
    return {
        "model/a": shared, "model/b": shared, "n": torch.tensor(step),
        "model/half": torch.ones(3, dtype=torch.bfloat16),
        "model/last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }  # fmt: skip


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "run" / "checkpoints")


def put(kept: Checkpoints, *steps: int, best: int | None = None) -> None:
    for step in steps:
        kept.save(step, tensors(step), {"epoch": step // 2}, best)


def names(kept: Checkpoints) -> list[str]:
    return sorted(path.name for path in kept.folder.iterdir())


def test_what_is_saved_is_loaded_bit_by_bit(kept: Checkpoints) -> None:
    given = tensors(3)
    path = kept.save(3, given, {"figures": {"top1": 0.1 + 0.2}, "text": "naïve"}, None)
    saved = kept.load(3)
    assert saved.step == 3
    assert saved.values["figures"]["top1"] == 0.1 + 0.2
    assert saved.values["text"] == "naïve"
    assert saved.tensors.keys() == given.keys()
    for name, value in given.items():
        assert saved.tensors[name].dtype == value.dtype
        assert torch.equal(saved.tensors[name], value)
    assert path.read_bytes()[8:9] == b"{", "a safetensors file: a JSON header, then numbers"


def test_the_last_two_and_the_best_stay(kept: Checkpoints) -> None:
    put(kept, 1, 2, best=2)
    put(kept, 3, 4, 5, best=2)
    assert kept.steps() == [2, 4, 5]
    put(kept, 6, best=6)
    assert kept.steps() == [5, 6]


def test_there_may_be_none(kept: Checkpoints) -> None:
    assert kept.latest() is None
    with pytest.raises(WeightsError, match="damaged"):
        kept.load(1)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "header", "other", "garbage"])
def test_a_damaged_one_is_told_and_the_one_before_is_used(kept: Checkpoints, damage: str) -> None:
    put(kept, 1, 2)
    path = kept.folder / "step-000000002.safetensors"
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
    elif damage == "header":
        at = data.index(b'"step\\"') if b'"step\\"' in data else data.index(b"epoch")
        data[at + 1] ^= 1
    elif damage == "other":
        data = bytearray((kept.folder / "step-000000001.safetensors").read_bytes())
    elif damage == "garbage":
        data = bytearray(os.urandom(len(data)))
    else:
        data = data[: len(data) // 2] if damage == "cut" else bytearray()
    path.write_bytes(data)
    again = Checkpoints(kept.folder)
    saved = again.latest()
    assert saved is not None
    assert saved.step == 1
    assert len(again.warnings) == 1
    assert again.warnings[0].startswith("step-000000002.safetensors: ")
    assert again.warnings[0].endswith("; the one before it is used")
    assert again.steps() == [1], "nobody is told that the damaged one is kept"
    put(again, 3)
    assert names(again) == ["step-000000001.safetensors", "step-000000003.safetensors"]


def test_a_run_whose_checkpoints_are_all_damaged_cannot_go_on(kept: Checkpoints) -> None:
    put(kept, 1, 2)
    for path in kept.folder.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WeightsError, match="damaged"):
        kept.latest()


@pytest.mark.parametrize("failing", ["fsync", "replace", "write"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_leaves_the_old_ones(
    kept: Checkpoints, monkeypatch: pytest.MonkeyPatch, failing: str, number: int
) -> None:
    put(kept, 1, 2)

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        if failing == "write":
            patched.setattr(Path, "open", refuse)
        else:
            patched.setattr(os, failing, refuse)
        with pytest.raises(FoveateError) as caught:
            put(kept, 3)
    text = str(caught.value)
    assert text.startswith("checkpoint step-000000003.safetensors: cannot be written (")
    assert ("free some disk space" if number == errno.ENOSPC else "step 2 is intact") in text
    assert "\n" not in text
    assert names(kept) == ["step-000000001.safetensors", "step-000000002.safetensors"]
    assert kept.latest().step == 2  # type: ignore[union-attr]


@pytest.mark.skipif(not os.path.exists("/dev/shm"), reason="needs a small file system")
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to mount")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    import subprocess

    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine mounts nothing")
    try:
        kept = Checkpoints(place / "checkpoints")
        kept.save(1, {"x": torch.ones(4000)}, {}, None)
        with pytest.raises(FoveateError, match="No space left on device"):
            kept.save(2, {"x": torch.ones(40_000)}, {}, None)
        assert kept.latest().step == 1  # type: ignore[union-attr]
        assert names(kept) == ["step-000000001.safetensors"]
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(kept: Checkpoints) -> None:
    put(kept, 1)
    kept.folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        with pytest.raises(FoveateError, match="cannot be written"):
            put(kept, 2)
        assert kept.steps() == [1]
    finally:
        kept.folder.chmod(stat.S_IRWXU)


def test_what_a_killed_save_left_is_cleaned_up(kept: Checkpoints) -> None:
    put(kept, 1)
    stale = kept.folder / ".step-000000002.safetensors.ab12.partial"
    stale.write_bytes(b"half")
    (kept.folder.parent / ".log.partial").write_bytes(b"half")
    other = kept.folder / "notes.txt"
    other.write_text("mine")
    assert kept.steps() == [1]
    kept.clean()
    assert not stale.exists()
    assert not (kept.folder.parent / ".log.partial").exists()
    assert other.exists()


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(FoveateError, match="cannot be written"):
        Checkpoints(tmp_path / "run" / "checkpoints").save(1, {}, {}, None)


# --- optimisers ---------------------------------------------------------------------------


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 4, 2))
    return model.to(memory_format=torch.channels_last)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(x).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_an_optimiser_goes_on_as_if_nothing_had_happened(kind: Any, kept: Checkpoints) -> None:
    settings = {"lr": 0.01, "weight_decay": 0.1}
    if kind is torch.optim.SGD:
        settings["momentum"] = 0.9
    whole, broken = network(), network()
    optimizers = [kind(m.parameters(), **settings) for m in (whole, broken)]
    for model, optimizer in zip((whole, broken), optimizers, strict=True):
        for seed in range(3):
            step(model, optimizer, seed)
    packed, values = pack_optimizer(optimizers[1])
    kept.save(3, packed, {"optimizer": values}, None)
    saved = kept.load(3)
    resumed = kind(broken.parameters(), lr=9.0)
    unpack_optimizer(resumed, saved.tensors, json.loads(json.dumps(saved.values["optimizer"])))
    for seed in range(3, 6):
        step(whole, optimizers[0], seed)
        step(broken, resumed, seed)
    for a, b in zip(whole.parameters(), broken.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_state_of_other_parameters_is_refused(kept: Checkpoints) -> None:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters())
    step(model, optimizer, 0)
    packed, values = pack_optimizer(optimizer)
    fewer = torch.optim.AdamW(list(network().parameters())[:2])
    with pytest.raises(WeightsError, match="other parameters"):
        unpack_optimizer(fewer, packed, values)
