"""Groups, accumulated vectors and residuals: right numbers, and nothing decoded in vain."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from clips import encode
from foveate.core import MediaError
from foveate.media.compressed import (
    CellMotion,
    CompressedVideo,
    PixelMotion,
    collect,
    read_grids,
    require_vectors,
    trace_back,
    write_grids,
)
from foveate.media.container import open_video
from foveate.media.vectors.grid import PAST
from foveate.media.vectors.reader import VectorReader

SIZE = (168, 136)  # no multiple of sixteen: the grid reaches beyond the picture
P_ONLY = {"refs": "1", "weightp": "0", "sc_threshold": "0"}
STEP = (3.0, -2.0)


@cache
def wallpaper() -> np.ndarray:
    random = np.random.default_rng(5)
    rough = random.integers(0, 256, (60, 80, 3)).astype(np.uint8)
    return cv2.GaussianBlur(cv2.resize(rough, (640, 480), interpolation=cv2.INTER_CUBIC), (5, 5), 0)


def pan(number: int, size: tuple[int, int]) -> np.ndarray:
    x, y = 200 - STEP[0] * number, 150 - STEP[1] * number
    return wallpaper()[int(y) : int(y) + size[1], int(x) : int(x) + size[0]]


def squares(number: int, size: tuple[int, int]) -> np.ndarray:
    """Textured squares that go their own ways over a background that pans by 2 pixels."""
    left = 60 + 2 * number
    shift = np.float32([[1, 0, -left], [0, 1, -20]])
    out = cv2.warpAffine(wallpaper(), shift, size)
    for at, (vx, vy) in enumerate([(2, 1), (-2, 1), (1, -2), (-1, -1)]):
        x, y = 24 + 72 * (at % 2) + vx * (number % 12), 24 + 52 * (at // 2) + vy * (number % 12)
        out[y : y + 40, x : x + 40] = wallpaper()[300 + 40 * at : 340 + 40 * at, 300:340]
    return out


@cache
def clip(codec: str = "libx264", *, draw=squares, gop: int = 12, frames: int = 40, bframes: int = 0,
         **options: str) -> bytes:  # fmt: skip
    extra = options or (P_ONLY if codec == "libx264" and not bframes else None)
    return encode(
        "matroska", codec, frames, size=SIZE, gop=gop, bframes=bframes, options=extra, draw=draw
    )


def decoded(data) -> list[tuple[str, np.ndarray]]:
    import io

    source = io.BytesIO(data) if isinstance(data, bytes) else str(data)
    with av.open(source) as container:
        return [
            ({1: "I", 2: "P", 3: "B"}[int(frame.pict_type)], frame.to_ndarray(format="rgb24"))
            for frame in container.decode(video=0)
        ]


def literal(before: np.ndarray, rows, width: int, height: int) -> np.ndarray:
    """CoViAR's rule as it is written, exported block by block. `before` is (H, W, 2) of y, x."""
    after = before.copy()
    for row in rows if rows is not None else ():
        source, w, h, src_x, src_y, dst_x, dst_y = (int(value) for value in list(row)[:7])
        dx, dy = src_x - dst_x, src_y - dst_y
        if source >= 0 or (dx == 0 and dy == 0):
            continue
        # Pixels of the block that lie inside, as do the places they come from.
        x1, y1 = max(dst_x - w // 2, 0, -dx), max(dst_y - h // 2, 0, -dy)
        x2 = min(dst_x - w // 2 + w, width, width - dx)
        y2 = min(dst_y - h // 2 + h, height, height - dy)
        if x2 > x1 and y2 > y1:
            after[y1:y2, x1:x2] = before[y1 + dy : y2 + dy, x1 + dx : x2 + dx]
    return after


def compare_accumulation(source, count: int) -> tuple[list[np.ndarray], list[float]]:
    """Check the pixel form against the literal rule; return cell errors and motion in pixels."""
    errors: list[np.ndarray] = []
    motions: list[float] = []
    exact = cells = None
    with VectorReader(source) as reader:
        for field in reader.fields(rows=True, frames=True):
            width, height = field.frame.width, field.frame.height
            if exact is None:
                exact, cells = PixelMotion(width, height), CellMotion(width, height)
                still = np.stack(np.mgrid[:height, :width], -1).astype(np.int32)
            if field.kind == "I":
                exact.reset()
                cells.reset()
                slow = still.copy()
                continue
            if field.kind == "B":
                continue
            exact.add(field)
            cells.add(field)
            slow = literal(slow, field.rows, width, height)
            y, x = exact.source
            assert np.array_equal(np.stack([y, x], -1), slow)
            dense = cells.motion.repeat(8, 0).repeat(8, 1)[:height, :width]
            errors.append(np.linalg.norm(dense - exact.motion, axis=-1)[::4, ::4].ravel())
            motions.append(float(np.abs(exact.motion).max(-1).mean()))
            if len(errors) == count:
                break
    return errors, motions


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_pixel_accumulation_is_the_written_rule_and_cells_come_near(codec) -> None:
    errors, motions = compare_accumulation(clip(codec, frames=60), 55)
    assert len(errors) == 55
    assert np.mean(motions) > 3
    assert np.median(errors) <= 1.95
    assert np.mean(errors) < 4.7


@pytest.mark.shared
def test_accumulation_on_a_real_clip(shared) -> None:
    errors, motions = compare_accumulation(shared / "data" / "samples" / "carving_ice.mp4", 40)
    assert np.median(errors) <= 1.95
    assert np.mean(errors) < 4.7
    assert np.mean(motions) > 0


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((a - b)[where] ** 2).mean()))


def predicted(before: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """`before` taken at p + motion, bilinear; motion is (H, W, 2)."""
    y, x = np.mgrid[: before.shape[0], : before.shape[1]].astype(np.float32)
    return cv2.remap(
        before, x + motion[..., 0], y + motion[..., 1], cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )  # fmt: skip


def conventions(source, pictures: int) -> dict[str, float]:
    """Mean PSNR of the prediction of P pictures under four readings of the vectors."""
    found: dict[str, list[float]] = {"correct": [], "corner": [], "copy": [], "flip": []}
    before = None
    with VectorReader(source) as reader:
        for field in reader.fields(frames=True):
            luma = field.frame.to_ndarray(format="gray").astype(np.float32)
            height, width = luma.shape
            dense = field.motion[PAST].repeat(8, 0).repeat(8, 1)
            # The corner reading paints every block half its size (8 pixels) too far down and right.
            corner = np.roll(dense, (8, 8), (0, 1))[:height, :width]
            dense = dense[:height, :width]
            where = field.valid[PAST].repeat(8, 0).repeat(8, 1)[:height, :width]
            if field.kind == "P" and where.any() and before is not None:
                zero = np.zeros_like(dense)
                for name, motion in (
                    ("correct", dense), ("corner", corner), ("copy", zero), ("flip", -dense)
                ):  # fmt: skip
                    found[name].append(psnr(predicted(before, motion), luma, where))
            before = before if field.kind == "B" else luma
            if len(found["copy"]) == pictures:
                break
    return {name: float(np.mean(values)) for name, values in found.items()}


def check_conventions(value: dict[str, float]) -> None:
    assert value["correct"] > value["corner"] + 1
    assert value["corner"] > value["copy"] + 1
    assert value["copy"] > value["flip"] + 1


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_vectors_predict_the_next_picture(codec) -> None:
    check_conventions(conventions(clip(codec), 22))


@pytest.mark.shared
@pytest.mark.parametrize(
    "name",
    ["motion-vectors/h264/street.mp4", "motion-vectors/mpeg4_part2/street.mp4",
     "samples/carving_ice.mp4"],
)  # fmt: skip
def test_vectors_predict_the_next_picture_of_a_real_clip(shared, name) -> None:
    check_conventions(conventions(shared / "data" / name, 4))


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("form", ["cells", "pixels"])
def test_accumulated_motion_of_a_pan_grows_with_position(codec, form) -> None:
    video = CompressedVideo(clip(codec, draw=pan))
    for picture in video.vectors({1: [1, 4, 8]}, form):
        middle = np.median(picture.motion.reshape(-1, 2), axis=0)
        slack = 0.5 if form == "cells" else 0.5 + picture.position  # it truncates every vector
        assert np.allclose(middle, np.array(STEP) * picture.position, atol=slack)
        assert picture.time == pytest.approx((12 + picture.position) / 25, abs=2e-3)
        assert picture.reference == pytest.approx(12 / 25, abs=2e-3)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_warped_intra_plus_residual_is_the_picture(codec) -> None:
    data = clip(codec)
    pictures = decoded(data)
    video = CompressedVideo(data)
    seen = 0
    for found in video.residuals({0: [3, 7], 2: [5]}):
        own, intra = 12 * found.group + found.position, 12 * found.group
        x, y = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
        warped = pictures[intra][1][y - found.motion[..., 1], x - found.motion[..., 0]]
        assert np.array_equal(warped + found.residual, pictures[own][1].astype(np.int16))
        better = np.abs(found.residual).mean()
        assert better < np.abs(pictures[own][1].astype(float) - pictures[intra][1]).mean()
        seen += 1
    assert seen == 3


def test_only_what_was_asked_for_is_decoded() -> None:
    video = CompressedVideo(clip(frames=60))
    assert [len(group) for group in video.groups] == [12] * 5
    assert video.meter.packets == 0
    assert len(list(video.key_frames([0, 3]))) == 2
    assert (video.meter.packets, video.meter.frames) == (2, 2)
    list(video.vectors({1: [2], 3: [4, 1]}))
    assert (video.meter.packets, video.meter.frames) == (2 + 3 + 5, 2 + 3 + 5)
    list(video.vectors({}))
    assert video.meter.packets == 10


def test_key_frames_are_those_of_a_whole_decode() -> None:
    data = clip()
    pictures = decoded(data)
    for number, pixels in CompressedVideo(data).key_frames([0, 2]):
        assert np.array_equal(pixels, pictures[12 * number][1])


@pytest.mark.parametrize(
    ("codec", "bframes"),
    [("libx264", 0), ("libx264", 2), ("mpeg4", 0), ("mpeg4", 2), ("mpeg2video", 2), ("flv", 0)],
)
def test_key_frames_come_with_the_vectors_in_one_pass(codec, bframes) -> None:
    container = "flv" if codec == "flv" else "matroska"
    data = encode(container, codec, 40, size=SIZE, gop=12, bframes=bframes, draw=squares)
    video = CompressedVideo(data)
    everything = {group.number: range(len(group)) for group in video.groups}
    keys = dict(CompressedVideo(data).key_frames(list(everything)))
    alone = list(video.vectors(everything))
    packets = video.meter.packets
    for read in (video.vectors, video.residuals):
        found = list(read(everything, keys=True))
        assert len(found) == len(alone) == 40
        for picture in found:
            assert np.array_equal(picture.key, keys[picture.group])
    assert video.meter.packets == 3 * packets
    for a, b in zip(alone, video.vectors(everything, keys=True, size=(84, 68)), strict=True):
        assert a.key is None
        assert np.array_equal(a.motion, b.motion)
        assert b.key.shape == (68, 84, 3)


def test_interlaced_key_frames_look_right_too() -> None:
    data = encode(
        "matroska", "mpeg2video", 30, size=SIZE, gop=12, draw=squares,
        options={"flags": "+ilme+ildct"},
    )  # fmt: skip
    keys = dict(CompressedVideo(data).key_frames([0, 1]))
    for picture in CompressedVideo(data).vectors({0: [3], 1: [11]}, keys=True):
        assert np.array_equal(picture.key, keys[picture.group])


@pytest.mark.parametrize("most", [0, 10**9])
def test_packets_are_kept_for_the_first_pass_within_bounds(most, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("foveate.media.compressed.walk._KEPT_BYTES", most)
    path = tmp_path / "clip.mkv"
    path.write_bytes(clip())
    video = CompressedVideo(path)
    size = path.stat().st_size
    assert video.meter.bytes >= size
    first = list(video.vectors({0: [5], 2: [3]}))
    assert (video.meter.bytes > 1.5 * size) == (not most)  # nothing is read again
    again = list(video.vectors({0: [5], 2: [3]}))
    for a, b in zip(first, again, strict=True):
        assert (a.group, a.position, a.time) == (b.group, b.position, b.time)
        assert np.array_equal(a.motion, b.motion)


@pytest.mark.parametrize("seeks", [True, False])
@pytest.mark.parametrize(
    ("container", "codec", "bframes"),
    [("mp4", "libx264", 0), ("matroska", "libx264", 2), ("avi", "mpeg4", 0),
     ("mpegts", "libx264", 0), ("mpegts", "mpeg2video", 2)],
)  # fmt: skip
def test_long_files_are_sought_in(container, codec, bframes, seeks, monkeypatch) -> None:
    data = encode(container, codec, 60, size=SIZE, gop=10, bframes=bframes, draw=squares)
    wanted = {0: [2], 1: [9], 4: [0, 3], 5: [7]}
    whole = list(CompressedVideo(data).vectors(wanted, keys=True))
    monkeypatch.setattr("foveate.media.compressed.walk._KEPT_BYTES", 0)
    if not seeks:
        monkeypatch.setattr("foveate.media.compressed.walk.start_at", lambda *where: None)
    video = CompressedVideo(data)
    found = [next(video.vectors({n: p}, keys=True)) for n, p in ((5, [7]), (0, [2]), (1, [9]))]
    together = list(video.vectors(wanted, keys=True))
    pairs = [*zip(together, whole, strict=True)]
    pairs += [*zip(found, (whole[-1], whole[0], whole[1]), strict=True)]
    for a, b in pairs:
        assert (a.group, a.position, a.time) == (b.group, b.position, b.time)
        assert np.array_equal(a.motion, b.motion)
        assert np.array_equal(a.key, b.key)


def test_seeking_reads_little(monkeypatch) -> None:
    monkeypatch.setattr("foveate.media.compressed.walk._KEPT_BYTES", 0)
    noise = np.random.default_rng(0).integers(0, 256, (8, SIZE[1], SIZE[0], 3)).astype(np.uint8)
    data = encode("mp4", "mpeg4", 200, size=SIZE, gop=10, draw=lambda n, size: noise[n % 8])
    video = CompressedVideo(data)
    before = video.meter.bytes
    assert before >= len(data) * 0.9
    assert len(list(video.key_frames([18]))) == 1
    assert video.meter.bytes - before < len(data) / 2  # reading through: nine tenths


def test_many_questions_open_a_file_once_for_each_kind_of_decoder(monkeypatch) -> None:
    opened: list[str] = []

    def counted(*args):
        opened.append("file")
        return open_video(*args)

    monkeypatch.setattr("foveate.media.compressed.walk.open_video", counted)
    data = clip()
    whole = {(p.group, p.position): p for p in CompressedVideo(data).vectors({0: [5], 2: [3, 8]})}
    residuals = {p.group: p for p in CompressedVideo(data).residuals({0: [5], 2: [8]})}
    keys = dict(CompressedVideo(data).key_frames([0, 2]))
    opened.clear()
    video = CompressedVideo(data)
    for number, position in ((2, 8), (0, 5), (2, 3), (0, 5)):
        (found,) = video.vectors({number: [position]})
        assert np.array_equal(found.motion, whole[number, position].motion)
    assert len(opened) == 1
    for number, position in ((2, 8), (0, 5)):
        ((_, key),) = video.key_frames([number])
        assert np.array_equal(key, keys[number])
        (found,) = video.residuals({number: [position]})
        assert np.array_equal(found.residual, residuals[number].residual)
    assert len(opened) == 2
    # One that is given up in the middle leaves a decoder that can be used, two at once take two.
    first, second = video.vectors({0: [1, 2, 11]}), video.vectors({2: [1, 3]})
    next(first)
    next(second)
    assert np.array_equal(next(second).motion, whole[2, 3].motion)
    first.close()
    (found,) = video.vectors({2: [8]})
    assert np.array_equal(found.motion, whole[2, 8].motion)
    assert len(opened) == 3


def test_vectors_without_pixels_are_the_same_ones() -> None:
    video = CompressedVideo(clip())
    fast = list(video.vectors({0: [2, 9]}, "pixels"))
    whole = list(video.residuals({0: [2, 9]}))
    for a, b in zip(fast, whole, strict=True):
        assert np.array_equal(a.motion, b.motion)
        assert a.residual is None


def test_b_pictures_are_dropped_and_answered_by_the_picture_before() -> None:
    data = clip(
        bframes=2, frames=36, **{"x264-params": "scenecut=0:threads=1:b-adapt=0:b-pyramid=0"}
    )
    kinds = [kind for kind, _ in decoded(data)]
    assert "B" in kinds
    video = CompressedVideo(data)
    found = list(video.vectors({0: range(len(video.groups[0]))}))
    assert [picture.position for picture in found] == list(range(len(video.groups[0])))
    for picture in found:
        answer = max(n for n in range(picture.position + 1) if kinds[n] != "B")
        assert picture.time == pytest.approx(answer / 25, abs=2e-3)
    assert video.meter.frames < len(video.groups[0])  # B pictures were not decoded


def test_groups_of_different_length_and_one_that_never_ends() -> None:
    forced = encode(
        "matroska", "libx264", 30, size=SIZE, gop=250, draw=squares,
        options={**P_ONLY, "x264-params": "scenecut=0:threads=1:keyint=250"},
    )  # fmt: skip
    video = CompressedVideo(forced)
    assert len(video.groups) == 1
    assert [p.position for p in video.vectors({0: [400]})] == [29]
    uneven = CompressedVideo(clip(gop=12, frames=31))
    assert [len(group) for group in uneven.groups] == [12, 12, 7]
    assert [p.position for p in uneven.vectors({2: [11]})] == [6]


def test_open_groups_start_anew_at_their_intra_picture() -> None:
    data = clip("mpeg2video", bframes=2, frames=36)
    kinds = [kind for kind, _ in decoded(data)]
    video = CompressedVideo(data)
    assert len(video.groups) > 1
    for picture in video.vectors({1: [0, 3]}):
        own = round(picture.time * 25)
        assert kinds[own] in "IP"
        assert picture.reference == pytest.approx(video.groups[1].start)
        if picture.position == 0:
            assert not picture.motion.any()


@pytest.mark.parametrize("codec", ["libx265", "libvpx", "libvpx-vp9", "libsvtav1"])
def test_codecs_without_vectors_are_refused_with_the_way_out(codec, tmp_path: Path) -> None:
    path = tmp_path / "clip.mkv"
    path.write_bytes(encode("matroska", codec, 6, size=(64, 64)))
    with pytest.raises(MediaError, match="no motion vectors") as caught:
        require_vectors(path)
    assert "clip.mkv OUT --gop 12 --codec h264" in str(caught.value)
    video = CompressedVideo(path)
    with pytest.raises(MediaError, match="foveate data transcode"):
        list(video.vectors({0: [1]}))
    assert len(list(video.key_frames([0]))) == 1  # key frames every codec has


def test_all_intra_is_refused() -> None:
    with pytest.raises(MediaError, match="intra coded"):
        require_vectors(clip("mpeg4", gop=1, frames=8))


def test_grids_survive_the_disk(tmp_path: Path) -> None:
    grids = collect(clip())
    assert len(grids.steps) == 40 - 4
    path = tmp_path / "clip.safetensors"
    write_grids(path, grids)
    again = read_grids(path)
    for name in ("steps", "valid", "times", "group"):
        assert np.array_equal(getattr(grids, name), getattr(again, name))
    fresh = next(iter(CompressedVideo(clip()).vectors({0: [5]})))
    assert np.abs(again.motion[4] - np.clip(fresh.motion, -20, 20)).max() <= 20 / 127 / 2 + 1e-5
    assert path.stat().st_size < len(grids.steps) * 17 * 21 * 2.5 + 1000
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MediaError, match="no grid file"):
        read_grids(path)


def test_trace_back_of_no_motion_is_the_picture() -> None:
    pixels = pan(0, SIZE)
    assert np.array_equal(trace_back(pixels, PixelMotion(*SIZE)), pixels)
