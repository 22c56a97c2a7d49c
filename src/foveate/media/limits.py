"""What a source may cost before it is refused."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """Bounds on work done, not on what a header claims; None switches a bound off.

    The defaults admit 8K pictures and four days of video, and keep a hostile file below a
    gigabyte of memory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pixels: int = Field(36_000_000, gt=0, description="pixels of one coded picture")
    samples: int = Field(10_000_000, gt=0, description="frames named by one file's index")
    open_seconds: float = Field(10.0, gt=0, description="seconds to open a file")
    stall_seconds: float | None = Field(
        10.0, gt=0, description="processor seconds of decoding without a wanted frame"
    )
    pixels_per_byte: float | None = Field(
        250_000.0, gt=0, description="decoded pixels per byte read, once a billion were decoded"
    )
    buffer_bytes: int = Field(
        1_000_000_000, gt=0, description="bytes held of a source that cannot seek"
    )
    clip_bytes: int = Field(
        2_000_000_000, gt=0, description="bytes of decoded frames handed out in one piece"
    )


DEFAULT_LIMITS = Limits()
