"""Grids of accumulated vectors on disk, so that epochs need not decode again.

One safetensors file per video: the cell grids as int8 with a step of 20/127 pixel, which is the
range and about the precision that CoViAR's networks take (vectors beyond 20 pixels are clipped
there too), and one bit per cell for where a picture had vectors. At 340x256 that is 3 kB a picture.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from foveate.core import LimitError, MediaError
from foveate.core.files import replacing
from foveate.media.compressed.reader import CompressedVideo
from foveate.media.compressed.track import Picture
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.source import Source, display_name
from foveate.media.vectors.grid import Floats, Mask

RANGE = 20.0  # pixels; CoViAR clips here
_STEP = RANGE / 127
_VERSION = "1"


@dataclass(frozen=True)
class GridFile:
    """Accumulated cell grids of a video.

    Attributes:
        steps: (N, Hc, Wc, 2) int8, `D` in steps of 20/127 pixel, x then y, clipped.
        valid: (N, Hc, Wc) bool.
        times: (N,) seconds.
        group: (N,) number of the group of each.
    """

    steps: npt.NDArray[np.int8]
    valid: Mask
    times: npt.NDArray[np.float64]
    group: npt.NDArray[np.int64]

    @property
    def motion(self) -> Floats:
        """(N, Hc, Wc, 2) float32, `D` in pixels."""
        return self.steps.astype(np.float32) * np.float32(_STEP)

    @classmethod
    def of(cls, pictures: Sequence[Picture]) -> GridFile:
        """Pictures of the `cells` form, quantised.

        Raises:
            MediaError: There is none, or they are of different sizes.
        """
        if not pictures or len({picture.motion.shape for picture in pictures}) > 1:
            raise MediaError("grids of one size can be kept, at least one")
        motion = np.stack([picture.motion for picture in pictures]).astype(np.float32)
        return cls(
            np.clip(np.rint(motion / _STEP), -127, 127).astype(np.int8),
            np.stack([picture.valid for picture in pictures]),
            np.array([picture.time for picture in pictures]),
            np.array([picture.group for picture in pictures], np.int64),
        )


def collect(source: Source, limits: Limits = DEFAULT_LIMITS) -> GridFile:
    """Read the grids of every picture of a video but the key pictures.

    Raises:
        MediaError: It gives no motion vectors.
        LimitError: The grids would exceed `limits.clip_bytes`.
    """
    video = CompressedVideo(source, limits=limits, fast=True)  # a whole set follows, mostly
    wanted = {g.number: range(1, len(g)) for g in video.groups if len(g) > 1}
    cells = -(-video.width // 8) * -(-video.height // 8)
    if sum(map(len, wanted.values())) * cells * 9 > limits.clip_bytes:
        raise LimitError(f"{video.name}: its grids exceed {limits.clip_bytes} bytes")
    found: dict[tuple[int, float], Picture] = {}
    for picture in video.vectors(wanted):
        found.setdefault((picture.group, picture.time), picture)  # B pictures give no new ones
    return GridFile.of(list(found.values()))


def write_grids(path: str | os.PathLike[str], grids: GridFile) -> None:
    """Write one small file; it gets its name only when it is whole.

    Raises:
        MediaError: It cannot be written.
    """
    arrays: dict[str, npt.NDArray[Any]] = {
        "steps": grids.steps,
        "valid": np.packbits(grids.valid, axis=-1),
        "times": grids.times,
        "group": grids.group,
    }
    columns = str(grids.valid.shape[-1])
    write_arrays(Path(path), arrays, {"version": _VERSION, "columns": columns})


def write_arrays(target: Path, arrays: dict[str, npt.NDArray[Any]], notes: dict[str, str]) -> None:
    """Write arrays and notes as one safetensors file; it gets its name only when it is whole.

    Raises:
        MediaError: It cannot be written.
    """
    try:
        with replacing(target) as file:
            file.write(save(arrays, notes))
    except OSError as error:
        raise MediaError(f"{display_name(target)}: cannot be written ({error.strerror})") from None


def read_grids(path: str | os.PathLike[str]) -> GridFile:
    """Read what `write_grids` wrote.

    Raises:
        MediaError: It is no such file.
    """
    try:
        with safe_open(path, "numpy") as file:
            if (file.metadata() or {}).get("version") != _VERSION:
                raise MediaError(f"{display_name(path)}: no grid file of version {_VERSION}")
            columns = int(file.metadata()["columns"])
            steps, bits = file.get_tensor("steps"), file.get_tensor("valid")
            times, group = file.get_tensor("times"), file.get_tensor("group")
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise MediaError(f"{display_name(path)}: no grid file ({error})") from None
    valid = np.unpackbits(bits, axis=-1, count=columns).astype(bool)
    if steps.shape != (*valid.shape, 2) or not len(steps) == len(times) == len(group):
        raise MediaError(f"{display_name(path)}: a grid file whose parts do not fit")
    return GridFile(steps, valid, times, group)
