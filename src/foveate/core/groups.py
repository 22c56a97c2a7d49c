"""Groups of pictures: a key frame of a compressed video and the pictures up to the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from foveate.core.errors import MediaError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Group:
    """A group of pictures.

    Attributes:
        number: Its index in the stream.
        start: Time of the key frame in seconds.
        times: (N,) seconds of its pictures in display order; only the first ones of very long
            groups.
    """

    number: int
    start: float
    times: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)


class GroupPicture(NamedTuple):
    """One picture: number of its group, display time in seconds, array (H, W, channels)."""

    group: int
    time: float
    array: npt.NDArray[Any]


def spread(count: int, wanted: int) -> list[int]:
    """Indices of at most `wanted` of `count` items: centres of equal spans, without repeats."""
    return sorted({int((i + 0.5) * count / wanted) for i in range(wanted)})


def worth_reading(groups: Sequence[Group]) -> list[Group]:
    """The groups of more than one picture, which can show motion; all groups if there is none."""
    return [group for group in groups if len(group) > 1] or list(groups)


def no_vectors(name: str, codec: str) -> MediaError:
    """The error for a file whose codec exports no motion vectors."""
    return MediaError(
        f"{name}: {codec} video gives no motion vectors",
        f"foveate data transcode {name} OUT --gop 12 --codec h264",
    )
