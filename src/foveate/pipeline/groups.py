"""The loop over groups of pictures: the next modality is read only while nothing is decided.

A window is a run of groups. Of each some are looked at, evenly spread, first in one modality, exit
after exit, then in the next one; what comes behind the exit that decides is neither computed nor
decoded. A cascade that begins with vectors and stops there has converted no picture to RGB.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foveate.core import MediaError, TraceStep
from foveate.data.compressed import spread, worth_reading
from foveate.media.compressed import CompressedVideo, Group
from foveate.media.compressed.reader import no_vectors
from foveate.media.container import VECTOR_CODECS
from foveate.models.coviar import Modality, normalise, square
from foveate.pipeline.session import DEFAULT_RATE, Ask, Reply, Session, WindowScores, Work

if TYPE_CHECKING:
    from foveate.pipeline.cascade import CascadeNetwork


@dataclass(frozen=True)
class Span:
    """A window: groups that are decided on together.

    Attributes:
        start: Seconds of the first group.
        end: Seconds where the next window begins, or the video ends.
        groups: Those that are looked at.
    """

    start: float
    end: float
    groups: tuple[Group, ...]


def spans(groups: Sequence[Group], seconds: float, segments: int, end: float) -> Iterator[Span]:
    """Cut a video into windows of whole groups.

    A window ends at the first group that begins `seconds` after it, so it has one group at least;
    a rest of less than half a window belongs to the last one.

    Args:
        groups: Of the whole video.
        seconds: Length of a window; 0: every group by itself.
        segments: Groups of a window that are looked at, evenly spread.
        end: Seconds where the video ends.
    """
    first = 0
    while first < len(groups):
        after = first + 1
        while after < len(groups) and groups[after].start < groups[first].start + seconds - 1e-6:
            after += 1
        if after < len(groups) and end - groups[after].start < seconds / 2:
            after = len(groups)
        members = worth_reading(groups[first:after])
        chosen = tuple(members[at] for at in spread(len(members), segments))
        until = groups[after].start if after < len(groups) else max(end, groups[first].start)
        yield Span(groups[first].start, until, chosen)
        first = after


@dataclass
class GroupSession(Session):
    """One compressed source on its way through a cascade.

    Attributes:
        video: The same source, by its groups.
        cascade: Which exits there are, in which order.
        exit_seconds: Seconds of each exit's network work, by name.
    """

    video: CompressedVideo = field(kw_only=True)
    cascade: CascadeNetwork = field(kw_only=True)
    exit_seconds: dict[str, float] = field(default_factory=dict, kw_only=True)
    logits: torch.Tensor | None = field(default=None, kw_only=True)  # of the exits that ran last

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.video.codec not in VECTOR_CODECS and set(self.cascade.order) != {"iframe"}:
            raise no_vectors(self.video.name, self.video.codec)
        self._ahead: _InOrder | None = None

    def run(self) -> Work:
        """Ask for network work until the source is over, then close it.

        Raises:
            MediaError: Nothing could be decoded.
        """
        groups = self.video.groups
        try:
            if not groups:
                raise MediaError(f"{self.info.name}: no key frame to begin at")
            end = self.info.duration
            if end is None:
                end = float(groups[-1].times[-1]) + 1 / (self.info.rate or DEFAULT_RATE)
            windows = list(spans(groups, self.plan.window_seconds, self.plan.spec.clip_frames, end))
            # What every window needs is read in one pass over the file.
            everything = [group for window in windows for group in window.groups]
            self._ahead = _InOrder(self._read(self.cascade.order[0], everything))
            for window in windows:
                yield from self._decide(window)
            if not self.looked:
                raise MediaError(f"{self.info.name}: nothing of it could be decoded")
        finally:
            if self._ahead is not None:
                self._ahead.close()
            self.sample.close()

    def _decide(self, window: Span) -> Generator[Ask | None, Reply, None]:
        """Run exit after exit until one is sure enough."""
        self.window_start = window.start
        reply: Reply | None = None
        views: torch.Tensor | None = None
        for number, name in enumerate(self.cascade.exits):
            modality, stage = self.cascade.modality_of(number), self.cascade.stage_of(number)
            if number == self.cascade.exits_of(modality)[0]:
                views = self._fetch_modality(modality, window)
            if views is None:
                self.sample.warnings.append(
                    f"{modality}: nothing could be decoded from {window.start:.2f} s on"
                )
                break
            before = self.ledger.seconds(stage)
            state = None if reply is None else {"logits": reply.state["logits"]}
            reply = yield Ask(views, state, answer=True, exit=number)
            self.exit_seconds[name] = self.ledger.seconds(stage) - before
            views = reply.state["maps"]
            self._note(reply)
            if self._stops(reply, self.plan.budget):
                break
        if reply is not None:
            assert self.current is not None
            assert reply.evidence is not None
            self.logits = reply.state["logits"]
            self.windows.append(
                WindowScores(window.start, window.end, self.current, reply.evidence.exit)
            )
            if self.plan.on_look is not None:
                self.plan.on_look(self.info.name, window.end, self.info.duration)
            if self.plan.every_step:
                yield None

    def _fetch_modality(self, modality: Modality, window: Span) -> torch.Tensor | None:
        """Decode what a network takes: (1, channels, T, S, S); T is less where data is damaged."""
        first = modality == self.cascade.order[0]
        with self.ledger.stage(f"decode-{modality}", self.sample.meter):
            if first:
                assert self._ahead is not None
                found = self._ahead.take(window.groups[-1].number)
            else:
                found = list(self._read(modality, window.groups))
        if not found:
            return None
        with self.ledger.stage(f"transform-{modality}"):
            spec = self.plan.spec
            x_tchw = torch.from_numpy(np.stack([x for _, _, x in found])).permute(0, 3, 1, 2)
            x = square(x_tchw.to(self.plan.device), spec.size)
            x = normalise(modality, x, spec.mean, spec.std)
        times = [time for _, time, _ in found]
        self.looked += len(found)
        self.steps.append(TraceStep(time=times[-1], frames=times, modalities=[modality]))
        return x.transpose(0, 1).unsqueeze(0)

    def _read(
        self, modality: Modality, groups: Sequence[Group]
    ) -> Iterator[tuple[int, float, Any]]:
        """Number of the group, seconds of the picture and its (H, W, channels), in order."""
        middle = {group.number: [len(group) // 2] for group in groups}
        if modality == "iframe":
            starts = {group.number: group.start for group in groups}
            for number, pixels in self.video.key_frames(list(middle)):
                yield number, starts[number], pixels
        elif modality == "mv":
            for picture in self.video.vectors(middle):
                yield picture.group, picture.time, picture.motion
        else:
            for picture in self.video.residuals(middle):
                if picture.residual is not None:
                    yield picture.group, picture.time, picture.residual


class _InOrder:
    """Takes what belongs to one window after another out of one pass over a file."""

    def __init__(self, source: Iterator[tuple[int, float, Any]]) -> None:
        self._source = source
        self._held: tuple[int, float, Any] | None = None

    def take(self, last: int) -> list[tuple[int, float, Any]]:
        """All up to the group of that number; what comes behind it is not read, but for a
        group that was asked for and is missing."""
        found: list[tuple[int, float, Any]] = []
        while True:
            item = self._held or next(self._source, None)
            self._held = None
            if item is None or item[0] > last:
                self._held = item
                return found
            found.append(item)
            if item[0] == last:
                return found

    def close(self) -> None:
        """Release the file."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()
