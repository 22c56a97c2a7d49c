"""Settings of decoders that trade pixels for time; the defaults change no pixel."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from foveate.core.config import Config

SkipLoopFilter = Literal["none", "noref", "all"]


class Decoding(Config):
    """What a decoder may leave out; accuracy and savings are in `docs/research/engines.md`."""

    skip_loop_filter: SkipLoopFilter = Field(
        "none",
        description="pictures decoded without the deblocking filter, as in FFmpeg: none, noref "
        "(those that no other picture refers to) or all (errors add up until the next key frame)",
    )
    lowres: int = Field(
        0,
        ge=0,
        le=3,
        description="decode at 1/2, 1/4 or 1/8 of width and height: 1, 2 or 3; of Motion JPEG, "
        "MPEG-1, MPEG-2 and MPEG-4 Part 2",
    )

    def options(self) -> dict[str, str]:
        """Options of FFmpeg's decoders, to be given before a decoder is opened."""
        return {name: str(value) for name, value in self.changes().items()}

    def changes(self) -> dict[str, Any]:
        """The settings that are not the defaults: those that change pixels."""
        return self.model_dump(exclude_defaults=True)


EXACT = Decoding()
