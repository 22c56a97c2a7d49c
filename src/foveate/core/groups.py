"""Groups of pictures: a key frame of a compressed video and what follows up to the next one."""

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
        number: Its place in the stream.
        start: Seconds of the key frame.
        times: (N,) seconds of its pictures in the order of display; of very long groups the first.
    """

    number: int
    start: float
    times: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times)


class GroupPicture(NamedTuple):
    """One picture of a group: its group, the seconds at which it is shown, (H, W, channels)."""

    group: int
    time: float
    array: npt.NDArray[Any]


def spread(count: int, wanted: int) -> list[int]:
    """Numbers of at most `wanted` of `count` things: the middles of equal spans, each once."""
    return sorted({int((i + 0.5) * count / wanted) for i in range(wanted)})


def worth_reading(groups: Sequence[Group]) -> list[Group]:
    """The groups in which something can have moved; all of them if there is no such group."""
    return [group for group in groups if len(group) > 1] or list(groups)


def no_vectors(name: str, codec: str) -> MediaError:
    """What is said of a file whose codec exports no motion vectors."""
    return MediaError(
        f"{name}: {codec} video gives no motion vectors",
        f"foveate data transcode {name} OUT --gop 12 --codec h264",
    )
