"""Reads key frames, accumulated vectors and residuals, each only at asked positions.

One pass over the packets feeds the decoder nothing but the beginnings of the asked groups: what
follows the last asked position of a group is never decoded, nor is a group that nobody asked for.
Key frames need one picture a group. A pass for vectors alone leaves out the loop filter and the
inverse transform; a pass for residuals needs both, and converts two pictures a group to RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from av.video.frame import PictureType

from foveate.core import Group, GroupPicture, MediaError, Meter
from foveate.core.groups import no_vectors
from foveate.media.compressed.track import Form, KeyFrames, Picture, Track
from foveate.media.compressed.walk import GroupDecoder
from foveate.media.container import VECTOR_CODECS
from foveate.media.limits import DEFAULT_LIMITS, Limits
from foveate.media.source import Source, name_of
from foveate.media.vectors.kernels import Kernels, kernels
from foveate.media.vectors.reader import probe
from foveate.media.vectors.rows import Quality

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

_SAME = 1e-6  # seconds


class CompressedVideo:
    """The groups of one file and what lies in them; nothing is decoded until asked.

    B pictures are dropped: no chain of P pictures runs through them, and the decoder skips those
    that nothing refers to. Groups may differ in length. In open groups the B pictures shown before
    the key picture count as positions of the group before and are answered by its last P picture;
    an intra picture that is no key starts accumulation anew. Where an encoder used several
    references the accumulated motion is approximate, as FFmpeg does not tell which one is meant.

    Args:
        source: A path, bytes, or an open binary file that can seek.
        limits: Bounds on work.
        meter: Counts frames, packets and bytes; a new one if None.
        warn: Takes one line about damage.
        fast: False for NumPy; True to load the compiled loops (extra `fast`) at once; None to use
            them where they are loaded already or much is to be read. The numbers are the same.

    Raises:
        MediaError: It is no video that can be opened, or its packets carry no times.
        LimitError: More pictures than `limits.samples`.
    """

    def __init__(
        self,
        source: Source,
        *,
        limits: Limits = DEFAULT_LIMITS,
        meter: Meter | None = None,
        warn: Callable[[str], None] | None = None,
        fast: bool | None = None,
    ) -> None:
        self._fast = fast
        self._asked = 0  # pictures so far: for many short requests the compiled loops pay, too
        self.meter = meter or Meter()
        self._warn = warn or (lambda line: None)
        self.name = name_of(source)
        self._decoder = GroupDecoder(source, limits, self.meter, self._warn)
        self.codec = self._decoder.codec
        self.width, self.height = self._decoder.width, self._decoder.height
        self._geometry = self._decoder.geometry

    @property
    def groups(self) -> tuple[Group, ...]:
        """All groups, in the order of display; found without decoding."""
        return self._decoder.groups

    @property
    def reordered(self) -> bool:
        """Whether pictures are decoded in another order than shown, that is, has B pictures."""
        return self._decoder.reordered

    def key_frames(
        self, groups: Sequence[int], size: tuple[int, int] | None = None
    ) -> Iterator[tuple[int, Pixels]]:
        """Decode the key frames of some groups, one picture each; works for every codec.

        Args:
            groups: Their numbers.
            size: `(width, height)` to scale to; None for the upright size.

        Yields:
            Number of the group and (H, W, 3) uint8 RGB, upright; a damaged one is left out.
        """
        convert = KeyFrames(self._geometry, size)
        wanted = {number: self._places(number, [0])[0] for number in groups}
        # The decoder may serve residuals as well: no intra picture has vectors.
        exports = self.codec in VECTOR_CODECS
        for number, _, frame in self._decoder.walk(wanted, vectors=exports):
            yield number, convert(frame)

    def vectors(
        self,
        positions: Mapping[int, Sequence[int]],
        form: Form = "cells",
        *,
        keys: bool = False,
        size: tuple[int, int] | None = None,
    ) -> Iterator[Picture]:
        """Accumulated vectors at asked positions, without making the pictures look right.

        Args:
            positions: Group number to positions in it, counted from the key picture in the order
                of display; those past the end of a group mean its last picture.
            form: `cells` (8x8, fractions of a pixel) or `pixels` (CoViAR's integer rule).
            keys: Give the key frames of these groups with them. They come out of the same pass, in
                which intra pictures look right and no others.
            size: `(width, height)` of the key frames; None for the upright size.

        Raises:
            MediaError: The codec exports no vectors.
        """
        convert = KeyFrames(self._geometry, size) if keys else None
        yield from self._pictures(positions, Track(form, False, self._loops(positions)), convert)

    def pictures(self, kind: str, places: Mapping[int, Sequence[int]]) -> Iterator[GroupPicture]:
        """One modality of some groups; see `core.Sample.pictures`."""
        if kind == "iframe":
            for number, pixels in self.key_frames(sorted(places)):
                yield GroupPicture(number, self.groups[number].start, pixels)
        elif kind == "mv":
            for picture in self.vectors(places):
                yield GroupPicture(picture.group, picture.time, picture.motion)
        elif kind == "residual":
            for picture in self.residuals(places):
                if picture.residual is not None:
                    yield GroupPicture(picture.group, picture.time, picture.residual)
        else:
            raise ValueError(f"a compressed file has iframe, mv and residual, not {kind!r}")

    def residuals(
        self,
        positions: Mapping[int, Sequence[int]],
        *,
        keys: bool = False,
        size: tuple[int, int] | None = None,
    ) -> Iterator[Picture]:
        """Accumulated residuals and vectors by CoViAR's rule; decodes the groups in full quality.

        Args:
            positions: As for `vectors`.
            keys: Give the key frames of these groups with them.
            size: `(width, height)` of the key frames; None for the upright size.

        Raises:
            MediaError: The codec exports no vectors.
        """
        convert = KeyFrames(self._geometry, size) if keys else None
        track = Track("pixels", True, self._loops(positions))
        yield from self._pictures(positions, track, convert)

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._decoder.close()

    # --- inside ---------------------------------------------------------------------------

    def _loops(self, positions: Mapping[int, Sequence[int]]) -> Kernels | None:
        self._asked += sum(max(places, default=0) for places in positions.values())
        return kernels(self._fast, self._asked)

    def _pictures(
        self, positions: Mapping[int, Sequence[int]], track: Track, convert: KeyFrames | None
    ) -> Iterator[Picture]:
        if self.codec not in VECTOR_CODECS:
            raise no_vectors(self.name, self.codec)
        asked = {n: self._places(n, places) for n, places in positions.items() if places}
        quality: Quality = "none" if convert is None else "intra"
        waiting: list[int] = []
        number = -1
        for at, time, frame in self._decoder.walk(
            {n: places[-1] for n, places in asked.items()},
            vectors=True,
            quality="full" if track.residuals else quality,
        ):
            if at != number:
                yield from (track.picture(number, place) for place in waiting)
                number, waiting = at, list(asked[at])
                group = self.groups[at]
                track.forget()
            kind = frame.pict_type
            if kind != PictureType.I and kind != PictureType.P:
                continue
            # A position is answered only when a picture after it shows up: with B pictures around
            # the nearest I or P picture before a position is not known earlier.
            while waiting and group.times[waiting[0]] < time - _SAME and track.stands:
                yield track.picture(at, waiting.pop(0))
            if convert is not None and abs(time - group.start) < _SAME:
                track.key = self._key(at, frame, convert, track.residuals)
            track.feed(frame, time, kind == PictureType.I, self.meter)
        if track.stands:
            yield from (track.picture(number, place) for place in waiting)

    def _key(self, number: int, frame: Any, convert: KeyFrames, full: bool) -> Pixels | None:
        if frame.interlaced_frame and not full:
            # The second field of a key picture may be predicted, and then it does not look right.
            return dict(self.key_frames([number], convert.size)).get(number)
        return convert(frame)

    def _places(self, number: int, places: Sequence[int]) -> list[int]:
        if not 0 <= number < len(self.groups):
            raise ValueError(f"there is no group {number}; there are {len(self.groups)}")
        if min(places) < 0:
            raise ValueError("positions in a group cannot be negative")
        return sorted({min(place, len(self.groups[number]) - 1) for place in places})


def require_vectors(source: Source, limits: Limits = DEFAULT_LIMITS) -> None:
    """Refuse a file without motion vectors; decodes one group at most.

    Raises:
        MediaError: It is no video, its codec exports none, or all its pictures are intra coded;
            the hint is the line that transcodes it.
    """
    video = CompressedVideo(source, limits=limits)
    name = video.name
    if video.codec not in VECTOR_CODECS:
        raise no_vectors(name, video.codec)
    reason = probe(source, limits)
    if reason is not None:
        hint = f"foveate data transcode {name} OUT --gop 12 --codec h264"
        raise MediaError(f"{name}: {reason}", hint)
