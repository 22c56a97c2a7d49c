"""Inputs of CoViAR's three networks, extracted once per video and cached for all epochs.

Two small files a video: the grids of accumulated vectors of every picture (int8 and a mask, see
`media.compressed.cache`), and the key frames and residuals of some of its groups as scaled uint8.
A residual is kept as CoViAR feeds it, moved by 128 and clipped (arXiv 1712.00636 and its code).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch.nn import functional

from foveate.core import MediaError
from foveate.core.groups import spread, worth_reading
from foveate.media import DEFAULT_LIMITS, Limits, display_name
from foveate.media.compressed import (
    CompressedVideo,
    collect,
    read_grids,
    require_vectors,
    write_grids,
)
from foveate.media.compressed.cache import RANGE, write_arrays

VERSION = 1  # increase it when the format changes: cached files are then made again
OFFSET = 128  # of residuals as they are kept
Kind = Literal["iframe", "mv", "residual"]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Reading:
    """What is cached of a video.

    Attributes:
        side: Pixels of the shorter side of key frames and residuals.
        groups: At most so many groups, evenly spread.
        places: Residuals of a group: the middle one, then evenly spread ones.
    """

    side: int = 128
    groups: int = 12
    places: int = 2


@dataclass(frozen=True)
class KeptClip:
    """Where the pictures of a video are kept, and which of them there are.

    Attributes:
        pictures: File of key frames (G, 3, h, w) and residuals (G, P, 3, h, w), uint8.
        grids: File of vector grids.
        numbers: (G,) of the groups in the stream.
        starts: (G,) seconds of their key frames.
        lengths: (G,) pictures of each.
    """

    pictures: Path
    grids: Path
    numbers: npt.NDArray[np.int64]
    starts: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]

    def within(self, start: float | None, end: float | None) -> list[int]:
        """Rows of the groups that begin in an interval, else of the one that extends into it."""
        first = -np.inf if start is None else start
        last = np.inf if end is None else end
        rows = np.flatnonzero((self.starts >= first) & (self.starts < last))
        if not len(rows):
            rows = np.flatnonzero(self.starts < last)[-1:]
        return [int(row) for row in rows] or [0]


def keep(
    path: Path, folder: Path, how: Reading = Reading(), limits: Limits = DEFAULT_LIMITS
) -> KeptClip:
    """The cached files of a video, created if they do not exist.

    Args:
        path: The video.
        folder: Where the files are; created if needed.
        how: What is kept.
        limits: Bounds on work.

    Raises:
        MediaError: No video, no motion vectors (with the line that transcodes it), or nothing of
            it could be decoded.
        LimitError: Its grids are larger than the limits allow.
    """
    key = _key(path, how)
    pictures, grids = folder / f"{key}.safetensors", folder / f"{key}.grids.safetensors"
    if pictures.is_file() and grids.is_file():
        with suppress(MediaError):  # a damaged file is made again
            return _opened(pictures, grids)
    require_vectors(path, limits)
    folder.mkdir(parents=True, exist_ok=True)
    if not grids.is_file():
        write_grids(grids, collect(path, limits))
    arrays = _read(CompressedVideo(path, limits=limits), how)
    write_arrays(pictures, arrays, {"version": str(VERSION)})
    return _opened(pictures, grids)


def view(clip: KeptClip, kind: Kind, places: Sequence[tuple[int, float]]) -> torch.Tensor:
    """One modality at some places of a kept video.

    Args:
        clip: From `keep`.
        kind: `iframe`: RGB 0..255; `residual`: -128..127; `mv`: accumulated motion in pixels.
        places: Row of a group and the place in it, 0 (key frame) to 1 (its last picture); key
            frames have no place, of residuals the nearest kept one is meant.

    Returns:
        (len(places), channels, h, w) float32.

    Raises:
        MediaError: A kept file is missing or damaged.
    """
    if kind == "mv":
        return _motion(clip, places)
    name = "keys" if kind == "iframe" else "residuals"
    try:
        with safe_open(clip.pictures, "numpy") as file:
            part = file.get_slice(name)
            if kind == "iframe":
                found = [part[row : row + 1][0] for row, _ in places]
            else:
                shown = file.get_tensor("shown")
                nearest = [int(np.abs(shown[row] - place).argmin()) for row, place in places]
                found = [part[row : row + 1, at : at + 1][0, 0]
                         for (row, _), at in zip(places, nearest, strict=True)]  # fmt: skip
    except (SafetensorError, OSError) as error:
        raise MediaError(f"{clip.pictures.name}: cannot be read ({error})") from None
    x = torch.from_numpy(np.stack(found)).float()
    return x if kind == "iframe" else x - OFFSET


def _motion(clip: KeptClip, places: Sequence[tuple[int, float]]) -> torch.Tensor:
    grids = read_grids(clip.grids)
    found = []
    for row, place in places:
        of_group = np.flatnonzero(grids.group == clip.numbers[row])
        # The grids of a group begin behind its key frame, where nothing has moved yet.
        at = round(place * (int(clip.lengths[row]) - 1)) - 1
        if at < 0 or not len(of_group):
            found.append(np.zeros(grids.steps.shape[1:], np.int8))
        else:
            found.append(grids.steps[of_group[min(at, len(of_group) - 1)]])
    steps = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
    return steps.float() * (RANGE / 127)


def middle(length: int) -> float:
    """The place within a group of that many pictures that prediction uses."""
    return (length // 2) / max(length - 1, 1)


def _key(path: Path, how: Reading) -> str:
    """A name that depends on the file and on what is cached of it."""
    try:
        stat = path.stat()
    except OSError as error:
        name = display_name(path)
        raise MediaError(f"{name}: cannot be read ({(error.strerror or '').lower()})") from None
    words = [VERSION, path.resolve(), stat.st_size, stat.st_mtime_ns, how]
    return hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()[:24]


def _read(video: CompressedVideo, how: Reading) -> dict[str, npt.NDArray[Any]]:
    """Key frames and residuals of some groups; a group that is damaged is left out."""
    candidates = worth_reading(video.groups)
    chosen = [candidates[at] for at in spread(len(candidates), how.groups)]
    asked = {group.number: _places(len(group), how.places) for group in chosen}
    keys: dict[int, Bytes] = {}
    residuals: dict[int, dict[int, Bytes]] = {}
    for picture in video.residuals(asked, keys=True):
        if picture.key is not None and picture.group not in keys:
            keys[picture.group] = _small(picture.key, how.side)
        if picture.residual is not None:
            moved = _small(picture.residual, how.side, OFFSET)
            residuals.setdefault(picture.group, {})[picture.position] = moved
    whole = [g for g in chosen if g.number in keys and residuals.get(g.number)]
    if not whole:
        raise MediaError(f"{video.name}: no key frame with a picture after it could be decoded")
    rows = []
    for group in whole:
        had = residuals[group.number]
        rows.append([_nearest(had, at) for at in asked[group.number]])
    return {
        "keys": np.stack([keys[g.number] for g in whole]),
        "residuals": np.stack(
            [[residuals[g.number][p] for p in row] for g, row in zip(whole, rows, strict=True)]
        ),
        "shown": np.array(
            [[p / max(len(g) - 1, 1) for p in row] for g, row in zip(whole, rows, strict=True)]
        ),
        "numbers": np.array([g.number for g in whole], np.int64),
        "starts": np.array([g.start for g in whole]),
        "lengths": np.array([len(g) for g in whole], np.int64),
    }


def _nearest(had: Iterable[int], at: int) -> int:
    return min(had, key=lambda place: abs(place - at))


def _places(length: int, wanted: int) -> list[int]:
    """The middle picture first, then evenly spread ones; as many as wanted, some twice."""
    others = np.linspace(1, length - 1, wanted + 1).round().astype(int)[1:]
    return [length // 2, *(int(at) for at in others)][:wanted]


def _small(pixels: npt.NDArray[Any], side: int, moved: int = 0) -> Bytes:
    """(H, W, 3) to (3, h, w) uint8 whose shorter side has `side` pixels."""
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() + moved
    scale = side / min(x.shape[-2:])
    size = [max(side, round(n * scale)) for n in x.shape[-2:]]
    x = functional.interpolate(
        x, size, mode="bilinear", align_corners=False, antialias=scale < 1
    ).clamp(0, 255)
    return np.asarray(x[0].round().to(torch.uint8).numpy())


def _opened(pictures: Path, grids: Path) -> KeptClip:
    try:
        with safe_open(pictures, "numpy") as file:
            numbers, starts, lengths = (
                file.get_tensor(name) for name in ("numbers", "starts", "lengths")
            )
    except (SafetensorError, OSError) as error:
        raise MediaError(f"{pictures.name}: cannot be read ({error})") from None
    return KeptClip(pictures, grids, numbers, starts, lengths)
