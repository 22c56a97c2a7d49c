"""How long the clip behind a record is."""

from __future__ import annotations

from foveate.core import MediaError, Sample
from foveate.media import Video


def duration_of(sample: Sample) -> float:
    """Seconds of a clip; packet headers are read through where the container does not say.

    Raises:
        MediaError: Its length cannot be known.
    """
    duration = sample.info.duration
    if duration is None and isinstance(sample, Video):
        sample.packet_index()
        duration = sample.info.duration
    if duration is None or not duration > 0:
        raise MediaError(f"{sample.info.name}: its length is unknown")
    return duration
