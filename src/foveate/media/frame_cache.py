"""Decoded pictures that stay at hand between two questions about the same times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

MOST_BYTES = 96_000_000

Shown = tuple[int, Any]  # a frame's tick and the `av.VideoFrame`


class FrameCache:
    """Frames by the tick that was asked for, within a bound on their memory."""

    def __init__(self) -> None:
        self._frames: dict[int, Shown | None] = {}
        self._bytes = 0

    def keep(self, asked: int, shown: Shown | None) -> None:
        """Hold a frame; beyond the bound it is let go, and decoded again if it is wanted.

        Args:
            asked: Tick that was asked for.
            shown: The frame shown then; None where nothing is, past the end.
        """
        size = 0 if shown is None else shown[1].width * shown[1].height * 2
        if asked not in self._frames and self._bytes + size <= MOST_BYTES:
            self._frames[asked] = shown
            self._bytes += size

    def first(
        self, ticks: Sequence[int], decode: Callable[[Sequence[int]], Iterator[Shown | None]]
    ) -> Iterator[Shown | None]:
        """The frames shown at each tick: cached ones, and the rest by one call of `decode`."""
        missing = [tick for tick in ticks if tick not in self._frames]
        decoded = decode(missing) if missing else iter(())
        for tick in ticks:
            yield self._frames[tick] if tick in self._frames else next(decoded)

    def retain(self, ticks: Iterable[int]) -> None:
        """Drop all frames but those at some ticks."""
        wanted = set(ticks)
        kept = {tick: shown for tick, shown in self._frames.items() if tick in wanted}
        self.clear()
        for tick, shown in kept.items():
            self.keep(tick, shown)

    def clear(self) -> None:
        """Let all go."""
        self._frames.clear()
        self._bytes = 0
