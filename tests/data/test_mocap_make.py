"""Making a rendered data set: files, encodings, atomicity, refusal, workers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import av
import numpy as np
import pytest

from foveate.core import ConfigError, FoveateError, MediaError
from foveate.data.mocap15 import clip_specs, dataset, make, render_clip
from foveate.media import Video
from foveate.media.encode import ENCODINGS, encode

TINY = (64, 48)


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def kinds(path: Path) -> str:
    with av.open(io.BytesIO(path.read_bytes())) as container:
        return "".join(" IPB"[frame.pict_type] for frame in container.decode(video=0))


def test_a_set_is_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    one = make(tmp_path / "one", 4, 3, size=TINY, progress=lambda done, of: seen.append((done, of)))
    two = make(tmp_path / "two", 4, 3, size=TINY, workers=2)
    assert files(one) == files(two)
    assert seen == [(number, 4) for number in range(1, 5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_the_table_and_the_truth_name_the_clips(tmp_path: Path) -> None:
    out = make(tmp_path / "set", 4, 7, size=TINY)
    with (out / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    specs = clip_specs(4, 7, size=TINY)
    assert [row["label"] for row in rows] == [spec.label for spec in specs]
    for row, spec in zip(rows, specs, strict=True):
        assert row["path"] == f"{spec.split}/{spec.label}/{spec.index:05d}.mp4"
        assert (row["split"], row["camera"], row["encoding"]) == (spec.split, spec.camera, "x264")
        truth = json.loads((out / "truth" / f"{spec.index:05d}.json").read_text())
        assert truth["path"] == row["path"]
        assert truth["camera"]["regime"] == spec.camera
        assert len(truth["camera"]["matrices"]) == spec.frames
        tracks = render_clip(spec).tracks
        for said, track in zip(truth["tracks"], tracks, strict=True):
            assert (said["instance"], said["class"]) == (track.instance, track.kind)
            assert [tuple(b) if b else None for b in said["boxes"]] == list(track.boxes)
        with Video(out / row["path"]) as video:
            assert (video.info.width, video.info.height) == TINY
            assert video.info.frames == spec.frames == int(row["frames"])
            assert not video.info.has_audio


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_every_encoding_is_read_back(tmp_path: Path, encoding: str) -> None:
    spec = clip_specs(2, 1, size=(160, 120))[1]
    clip = render_clip(spec)
    path = tmp_path / "clip.mp4"
    assert encode(path, clip.frames(), 25, encoding) == spec.frames
    with Video(path) as video:
        assert video.info.rate == 25
        shown = video.frames([number / 25 for number in range(spec.frames)])
        keys = video.keyframes()
    assert len(shown) == spec.frames
    drawn = np.array(list(clip.frames()))
    assert np.abs(shown.pixels.astype(int) - drawn).mean() < 8
    order = kinds(path)
    if encoding == "x264":
        assert "B" in order
    else:
        assert set(order) == {"I", "P"}
    if encoding == "mpeg4-gop12":
        assert [round(key * 25) for key in keys] == list(range(0, spec.frames, 12))
    else:
        assert order.count("I") == 1


def test_one_reference_means_one(tmp_path: Path) -> None:
    frames = list(render_clip(clip_specs(1, 1, size=TINY)[0]).frames())[:20]
    encode(tmp_path / "clip.mp4", frames, 25, "x264-p1")
    # x264 writes its settings into the stream.
    assert b" ref=1 " in (tmp_path / "clip.mp4").read_bytes()
    assert b" bframes=0 " in (tmp_path / "clip.mp4").read_bytes()


def test_sound_lies_where_it_was_put(tmp_path: Path) -> None:
    spec = clip_specs(8, 2, "audiovisual", size=TINY)[5]
    clip = render_clip(spec)
    wave = clip.sound()
    assert wave is not None
    encode(tmp_path / "clip.mp4", clip.frames(), 25, "x264", sound=wave)
    with Video(tmp_path / "clip.mp4") as video:
        assert video.info.has_audio
        got = video.audio(0.0, len(wave) / 16000)
    assert len(got) == len(wave)
    spectrum = np.fft.rfft(got) * np.conj(np.fft.rfft(wave))
    late = int(np.argmax(np.fft.irfft(spectrum, len(wave))))
    late = late - len(wave) if late > len(wave) // 2 else late
    assert abs(late) < 0.01 * 16000


def test_modes_are_written(tmp_path: Path) -> None:
    out = make(tmp_path / "set", 1, 1, mode="timeline", size=TINY, encoding="mpeg4-gop12")
    assert (out / "train" / "timeline" / "00000.mp4").is_file()
    out = make(tmp_path / "heard", 1, 1, mode="audiovisual", size=TINY, encoding="mpeg4-gop12")
    with Video(out / "train" / "backflip" / "00000.mp4") as video:
        assert video.info.has_audio


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("mine")
    with pytest.raises(FoveateError, match="already there") as caught:
        make(tmp_path / "set", 1, 1, size=TINY)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == {"set/mine.txt": b"mine"}
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FoveateError, match="already there"):
        make(tmp_path / "file", 1, 1, size=TINY)


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    make(tmp_path / "set", 1, 1, size=TINY, encoding="mpeg4-gop12")
    assert (tmp_path / "set" / "clips.csv").is_file()


def test_nothing_is_left_of_a_set_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def fails(path: Path, *args: object, **options: object) -> int:
        written.append(path)
        if len(written) == 2:
            raise MediaError("no space")
        return encode(path, *args, **options)

    monkeypatch.setattr(dataset, "encode", fails)
    with pytest.raises(MediaError, match="no space"):
        make(tmp_path / "set", 3, 1, size=TINY, encoding="mpeg4-gop12")
    assert len(written) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"encoding": "h266"}, {"workers": 0}, {"mode": "x"}])
def test_wrong_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, wrong: dict
) -> None:
    with pytest.raises(ConfigError):
        make(tmp_path / "set", 1, 1, size=TINY, **wrong)
    assert list(tmp_path.iterdir()) == []


def test_encoding_leaves_nothing_behind_when_it_fails(tmp_path: Path) -> None:
    def broken() -> object:
        yield np.zeros((48, 64, 3), np.uint8)
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        encode(tmp_path / "clip.mp4", broken(), 25)
    with pytest.raises(MediaError, match="no frames"):
        encode(tmp_path / "clip.mp4", [], 25)
    with pytest.raises(ConfigError, match="x264-p1"):
        encode(tmp_path / "clip.mp4", [], 25, "h266")
    with pytest.raises(MediaError, match="cannot be written"):
        encode(tmp_path / "none" / "clip.mp4", [], 25)
    assert list(tmp_path.iterdir()) == []


def test_any_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    encode("pipe:%03d,é.mp4", [np.zeros((48, 64, 3), np.uint8)], 25)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe:%03d,é.mp4"]
