"""What a source may cost before it is refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

# Of honest video, silent still scenes give the most pixels per byte. Measured over 250 frames with
# one key frame: 13,000 to 19,000 (H.264, VP9, AV1 at 1080p; H.264 at 4K), 57,000 (AV1 at 4K).
_PIXELS_PER_BYTE = 60_000.0


class Limits(BaseModel):
    """Bounds on work done, not on what a header claims; None switches a bound off.

    The defaults admit 8K pictures and four days of video, and keep a hostile file below a
    gigabyte of memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pixels: int = Field(default=36_000_000, gt=0, description="pixels of one coded picture")
    samples: int = Field(default=10_000_000, gt=0, description="frames named by one file's index")
    open_seconds: float = Field(default=10.0, gt=0, description="seconds to open a file")
    stall_seconds: float | None = Field(
        default=10.0,
        gt=0,
        description="seconds of decoding without a wanted frame, one more per 10,000 bytes read",
    )
    pixels_per_byte: float | None = Field(
        default=_PIXELS_PER_BYTE,
        gt=0,
        description="decoded pixels per byte read, beyond the first three billion",
    )
    decoder_bytes: int | None = Field(
        default=600_000_000, gt=0, description="memory taken by the decoder for its pictures"
    )
    buffer_bytes: int = Field(
        default=1_000_000_000, gt=0, description="bytes kept of a source that cannot seek"
    )
    clip_bytes: int = Field(
        default=2_000_000_000, gt=0, description="bytes of decoded frames handed out in one piece"
    )


DEFAULT_LIMITS = Limits()
