"""The ring of packets: bounded, begins at a key frame, and files cut from it have all frames."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

import clips
from foveate.core import MediaError
from foveate.media import Video
from foveate.media.ring import PacketRing, StoredPacket, group_frames
from foveate.media.write import PacketWriter

FRAMES, GOP, RATE = 100, 10, 25


def packets(data: bytes) -> Iterator[tuple[Any, Any, float]]:
    """Stream, packet and display time of every packet of a file."""
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        first = None
        for packet in container.demux(stream):
            if packet.size:
                first = packet.pts if first is None else first
                yield stream, packet, float((packet.pts - first) * packet.time_base)


def fill(ring: PacketRing, data: bytes, epoch: int = 1) -> list[StoredPacket]:
    """Put a whole file into a ring; what is left of it."""
    for number, (stream, packet, seconds) in enumerate(packets(data)):
        if not number:
            ring.begin(stream, epoch)
        ring.add(packet, seconds)
    first = ring.first_for(epoch, -1.0)
    assert first is not None
    found = ring.since(first, epoch)
    assert found is not None
    return found


def numbers(source: Path | bytes) -> list[int]:
    with Video(source) as video:
        return [clips.number_of(p) for p in video.frames(video.times()).pixels]


@pytest.fixture(scope="module")
def data() -> bytes:
    return clips.encode(frames=FRAMES, gop=GOP, options={"sc_threshold": "0"})


def test_it_keeps_the_last_seconds_from_a_key_frame_on(data: bytes) -> None:
    ring = PacketRing(seconds=1.0)
    found = fill(ring, data)
    assert found[0].key
    assert found[-1].seconds == pytest.approx((FRAMES - 1) / RATE)
    assert 1.0 <= found[-1].seconds - found[0].seconds < 1.0 + GOP / RATE
    assert ring.bytes == sum(len(packet.data) for packet in found)


def test_bytes_are_bounded(data: bytes) -> None:
    ring = PacketRing(seconds=1e9, most_bytes=len(data) // 3)
    found = fill(ring, data)
    assert ring.bytes <= len(data) // 3
    assert found[0].key
    ring = PacketRing(seconds=1e9, most_bytes=10)
    for number, (stream, packet, seconds) in enumerate(packets(data)):
        if not number:
            ring.begin(stream, 1)
        ring.add(packet, seconds)
        assert ring.bytes <= 20


@pytest.mark.parametrize(
    ("container", "options"),
    [("mp4", {"bframes": 2}), ("mpegts", {}), ("mpegts", {"bframes": 2}), ("matroska", {})],
)
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_copy_has_the_pictures_from_the_key_frame_on(
    container: str, options: dict[str, int], codec: str, tmp_path: Path
) -> None:
    data = clips.encode(container, codec, FRAMES, gop=GOP, **options)
    ring = PacketRing(seconds=1e9)
    fill(ring, data)
    first = ring.first_for(1, 2.05)
    assert first is not None
    found = ring.since(first, 1)
    assert found is not None
    assert found[0].seconds <= 2.05
    file = tmp_path / "cut.mp4"
    template = ring.template(1)
    assert template is not None
    with PacketWriter(file, template) as writer:
        for packet in found:
            writer.write(packet)
    expected = list(range(round(found[0].seconds * RATE), FRAMES))
    assert numbers(file) == expected
    decoded = list(group_frames(template, found))
    assert [clips.number_of(pixels) for _, pixels in decoded] == expected
    times = [seconds for seconds, _ in decoded]
    assert times == pytest.approx([n / RATE for n in expected])


def test_a_connection_that_follows_does_not_mix_with_the_one_before(data: bytes) -> None:
    ring = PacketRing(seconds=1.0)
    old = fill(ring, data, epoch=1)
    ring.end()
    assert not ring.is_open(1)
    new = fill(ring, clips.encode("matroska", "mpeg4", 20, gop=GOP, size=(96, 64)), epoch=2)
    assert ring.is_open(2)
    assert ring.since(old[-1].number, 1) == old[-1:]
    assert len(new) == 20
    assert ring.first_for(1, 9.0) is not None
    assert ring.template(1) is not None
    assert ring.since(0, 3) is None
    fill(ring, data, epoch=3)
    assert ring.since(old[-1].number, 1) is None
    assert ring.first_for(1, 0.0) is None
    assert ring.template(1) is None


def test_nothing_is_kept_before_the_first_key_frame(data: bytes) -> None:
    ring = PacketRing()
    for number, (stream, packet, seconds) in enumerate(packets(data)):
        if not number:
            ring.begin(stream, 1)
        elif number < 15:
            ring.add(packet, seconds)
    first = ring.first_for(1, 0.0)
    assert first is not None
    found = ring.since(first, 1)
    assert found is not None
    assert found[0].key
    assert found[0].seconds == pytest.approx(GOP / RATE)


def test_a_folder_that_is_missing_is_one_line(data: bytes, tmp_path: Path) -> None:
    ring = PacketRing()
    fill(ring, data)
    template = ring.template(1)
    assert template is not None
    with pytest.raises(MediaError, match="cannot be written"):
        PacketWriter(tmp_path / "missing" / "clip.mp4", template)
