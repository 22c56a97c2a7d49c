"""Upright, square, eight bits: what the container says about a picture is obeyed."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from kinds import clip
from PIL import Image
from test_vectors import pan

from clips import encode, number_of, picture
from foveate.media import Video
from foveate.media.facts import facts
from foveate.media.folder import FrameFolder


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_is_undone(container: str, rotation: int) -> None:
    with Video(encode(container, rotation=rotation, frames=4, size=(64, 48))) as video:
        size = (64, 48) if rotation == 180 else (48, 64)
        assert (video.info.width, video.info.height) == size
        got = video.frames([0.0, 0.04, 0.12])
        assert got.pixels.shape == (3, size[1], size[0], 3)
        assert [number_of(p) for p in got.pixels] == [0, 1, 3]
        small = video.frames([0.08], (24, 40))
        assert small.pixels.shape == (1, 40, 24, 3)
        assert number_of(small.pixels[0]) == 2


# The four right angles of a display matrix (a, b, c, d), plain and mirrored, with what undoes them.
MATRICES = {
    (1, 0, 0, 1): (0, False),
    (0, 1, -1, 0): (90, False),
    (-1, 0, 0, -1): (180, False),
    (0, -1, 1, 0): (270, False),
    (-1, 0, 0, 1): (0, True),
    (1, 0, 0, -1): (180, True),
    (0, 1, 1, 0): (270, True),
    (0, -1, -1, 0): (90, True),
}


def displayed(data: bytes, matrix: tuple[int, int, int, int]) -> bytes:
    """An MP4 with another display matrix in its track header."""
    a, b, c, d = (value << 16 for value in matrix)
    at = data.index(b"tkhd") + 44
    return data[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[at + 36 :]


def by_matrix(coded: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A picture as ISO/IEC 14496-12 has it shown: (x, y) goes to (a x + c y, b x + d y)."""
    a, b, c, d = matrix
    height, width = coded.shape[:2]
    y, x = np.mgrid[:height, :width]
    to_x, to_y = a * x + c * y, b * x + d * y
    to_x, to_y = to_x - to_x.min(), to_y - to_y.min()
    out = np.zeros((to_y.max() + 1, to_x.max() + 1, *coded.shape[2:]), coded.dtype)
    out[to_y, to_x] = coded
    return out


@pytest.mark.parametrize("matrix", MATRICES)
def test_the_whole_display_matrix(matrix: tuple[int, int, int, int]) -> None:
    plain = encode(frames=4)
    with Video(plain) as video:
        coded = video.frames([0.08]).pixels[0]
    with Video(displayed(plain, matrix)) as video:
        want = by_matrix(coded, matrix)
        assert (video.info.width, video.info.height) == (want.shape[1], want.shape[0])
        assert (video.info.rotation, video.geometry.mirrored) == MATRICES[matrix]
        assert (video.frames([0.08]).pixels[0] == want).all()
        small = video.frames([0.08], (30, 40)).pixels[0]
        assert small.shape == (40, 30, 3)
    found = facts(displayed(plain, matrix))
    assert (found.rotation, found.mirrored) == MATRICES[matrix]


@pytest.mark.parametrize("source", ["vectors", "flow"])
@pytest.mark.parametrize("matrix", MATRICES)
def test_motion_follows_the_display_matrix(matrix: tuple[int, int, int, int], source: str) -> None:
    """Content that moves by (3, -2) moves as the picture is shown."""
    plain = encode(frames=24, size=(176, 144), draw=pan)
    a, b, c, d = matrix
    want = np.array([a * 3 + c * -2, b * 3 + d * -2])
    with Video(displayed(plain, matrix)) as video:
        motion = video.motion([0.4, 0.6], source, 0)
        assert motion.field is not None
        assert motion.valid is not None
        moved = np.median(motion.field[motion.valid], 0)
        assert np.abs(moved - want).max() < 0.4
        shown = video.frames([0.6], (32, 24)).pixels[0].mean(-1)
        assert np.corrcoef(motion.thumbs[1].ravel(), shown.ravel())[0, 1] > 0.6


@pytest.mark.parametrize(
    ("shape", "size"), [(Fraction(2), (128, 48)), (Fraction(1, 2), (64, 96)), (None, (64, 48))]
)
def test_pixels_become_square(shape: Fraction | None, size: tuple[int, int]) -> None:
    with Video(encode(shape=shape, frames=3)) as video:
        assert (video.info.width, video.info.height) == size
        got = video.frames([0.04])
        assert got.pixels.shape == (1, size[1], size[0], 3)
        assert number_of(got.pixels[0]) == 1


@pytest.mark.parametrize(
    "name", ["ten-bits", "444", "grey", "odd-size", "prores-mov", "huffyuv-avi"]
)
def test_any_pixel_format_gives_the_picture(name: str) -> None:
    with Video(clip(name)) as video:
        got = video.frames([0.2]).pixels[0]
        assert number_of(got) == 5
        want = picture(5, (video.info.width, video.info.height)).astype(int)
        if name == "grey":
            want = np.repeat((want @ [0.299, 0.587, 0.114])[..., None], 3, -1).astype(int)
        assert np.abs(got.astype(int) - want).mean() < 12


def disc(number: int, size: tuple[int, int], shape: float = 1.0) -> np.ndarray:
    """A white disc on grey that looks round on pixels of that shape."""
    width, height = size
    y, x = np.mgrid[:height, :width]
    radius = min(width * shape, height) * 0.4
    inside = ((x - width / 2) * shape) ** 2 + (y - height / 2) ** 2 < radius**2
    return np.where(inside[..., None], 250, 90).astype(np.uint8).repeat(3, -1)


def roundness(pixels: np.ndarray) -> float:
    """Width of what is white by its height."""
    white = pixels.mean(-1) > 200
    return float(white.any(0).sum() / white.any(1).sum())


CHANGES = {
    "larger": ((64, 48), (128, 96), (1, 1)),
    "wider": ((64, 48), (128, 48), (1, 1)),
    "taller": ((128, 48), (64, 96), (1, 1)),
    "pixels": ((64, 48), (64, 48), (1, 2)),
    "both": ((96, 48), (48, 64), (1, 2)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_proportions_stay_where_the_geometry_changes(name: str, codec: str) -> None:
    first, second, shapes = CHANGES[name]
    if codec == "mpeg2video":
        shapes = (Fraction(4 * first[1], 3 * first[0]), Fraction(16 * second[1], 9 * second[0]))
    parts = [
        encode(
            "mpegts", codec, 20, size=size, shape=Fraction(shape), gop=10,
            draw=lambda n, s, shape=shape: disc(n, s, float(shape)),
        )
        for size, shape in zip((first, second), shapes, strict=True)
    ]  # fmt: skip
    with Video(parts[0] + parts[1]) as video:
        clip = video.frames([n / 25 + 0.001 for n in (2, 15, 22, 37)])
        size = (video.info.width, video.info.height)
        assert clip.pixels.shape == (4, size[1], size[0], 3)
        for pixels in clip.pixels:
            assert roundness(pixels) == pytest.approx(1, abs=0.16)
        assert any("midway" in line for line in video.warnings)
        square = video.frames([37 / 25 + 0.001], (size[0], 2 * size[1])).pixels[0]
        assert roundness(square) == pytest.approx(0.5, abs=0.1)


def test_pictures_of_a_folder_keep_their_proportions(tmp_path: Path) -> None:
    for number, size in enumerate([(64, 48), (64, 48), (96, 48), (48, 96)]):
        pixels = np.ascontiguousarray(disc(number, size))
        cv2.imwrite(str(tmp_path / f"{number:03d}.png"), pixels)
    with FrameFolder(tmp_path) as folder:
        clip = folder.frames([n / 25 for n in range(4)])
        assert clip.pixels.shape == (4, 48, 64, 3)
        for pixels in clip.pixels:
            assert roundness(pixels) == pytest.approx(1, abs=0.12)
        assert any("differ in size" in line for line in folder.warnings)


@pytest.mark.parametrize("ending", ["jpg", "png"])
@pytest.mark.parametrize("turned", range(1, 9))
def test_pictures_of_a_folder_are_upright(tmp_path: Path, turned: int, ending: str) -> None:
    """Photographs of phones carry their orientation as EXIF data."""
    corners = ((230, 30, 30), (30, 180, 30), (30, 30, 230), (230, 230, 230))
    upright = Image.new("RGB", (64, 48))
    for number, colour in enumerate(corners):
        upright.paste(colour, (number % 2 * 32, number // 2 * 24, 64, 48))
    order = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90",
             "TRANSVERSE", "ROTATE_270")  # fmt: skip
    stored = upright if turned == 1 else upright.transpose(Image.Transpose[order[turned - 2]])
    data = Image.Exif()
    data[0x0112] = turned
    for number in range(2):
        stored.save(tmp_path / f"{number}.{ending}", exif=data, quality=95)
    with FrameFolder(tmp_path, 25) as folder:
        assert (folder.info.width, folder.info.height) == (64, 48)
        pixels = folder.frames([0.0]).pixels[0]
        for number, colour in enumerate(corners):
            found = pixels[12 + number // 2 * 24, 16 + number % 2 * 32]
            assert np.abs(found.astype(int) - colour).max() < 12
        assert folder.warnings == []


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("1.png", "01.png"), "several pictures have the same number"),
        (("left_1.png", "right_1.png", "left_2.png"), "pictures of several series"),
        (("1.png", "2.png", "4.png"), "not evenly spaced"),
        (("1.png", "2.png", "3.bmp", "cover.png"), "not read: 2 pictures"),
    ],
)
def test_odd_folders_of_pictures_are_warned_about(
    tmp_path: Path, names: tuple[str, ...], says: str
) -> None:
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    with FrameFolder(tmp_path, 25) as folder:
        assert [line for line in folder.warnings if says in line] == folder.warnings


def test_motion_stays_true_where_the_size_changes() -> None:
    parts = [encode("mpegts", frames=24, size=size, draw=pan) for size in ((176, 144), (352, 144))]
    with Video(parts[0] + parts[1]) as video:
        for source in ("vectors", "flow"):
            motion = video.motion([0.4, 1.5], source, 0)
            assert motion.field is not None
            assert motion.valid is not None
            middle = slice(motion.field.shape[2] * 3 // 8, motion.field.shape[2] * 5 // 8)
            for row, scale in ((0, 1.0), (1, 0.5)):
                known = motion.valid[row, :, middle]
                moved = np.median(motion.field[row, :, middle][known], 0)
                assert np.abs(moved - np.array([3, -2]) * scale).max() < 0.4, (source, row)
            # Above and below the wider picture there is nothing that moves.
            if source == "vectors":
                assert not motion.valid[1, :, :3].any()
                assert not motion.valid[1, :, -3:].any()


def test_size_change_in_the_middle() -> None:
    data = encode("mpegts", frames=20) + encode("mpegts", frames=20, size=(96, 80), first=20)
    with Video(data) as video:
        got = video.frames([n / 25 for n in range(40)])
        assert got.pixels.shape == (40, 48, 64, 3)
        assert [number_of(p) for p in got.pixels] == list(range(40))


def test_times_that_start_again_go_on() -> None:
    part = {"gop": 10, "bframes": 2}
    data = encode("mpegts", frames=50, **part) + encode("mpegts", frames=50, first=50, **part)
    with Video(data) as video:
        wanted = [5, 30, 49, 51, 77, 99]
        got = video.frames([n / 25 + 0.01 for n in wanted])
        assert [number_of(p) for p in got.pixels] == wanted
        assert number_of(video.frames([0.4]).pixels[0]) == 10
        assert number_of(video.frames([2.4]).pixels[0]) == 60
        assert video.info.duration == pytest.approx(4.0, abs=0.1)
        assert max(video.keyframes()) > 3.0


def test_joined_after_the_first_key_frame() -> None:
    """A recording cut anywhere: zero is the first frame that can be shown."""
    whole = encode("mpegts", frames=80, gop=20, bframes=2)
    with Video(whole[188 * 12 :]) as video:
        first = video.frames([0.0])
        assert first.times == (0.0,)
        start = number_of(first.pixels[0])
        assert start > 0
        got = video.frames([0.4, 0.8])
        assert [number_of(p) for p in got.pixels] == [start + 10, start + 20]


def test_lossless_pictures_arrive_unchanged() -> None:
    with Video(encode("apng", "apng", frames=3, pix_fmt="rgb24")) as video:
        got = video.frames([0.0, 0.04, 0.08])
        for number, pixels in enumerate(got.pixels):
            assert (pixels == picture(number)).all()


def test_rate_that_makes_no_sense_is_not_said() -> None:
    with Video(encode("dv", "dvvideo", size=(720, 576), frames=3)) as video:
        assert video.info.rate is None or video.info.rate < 1000
