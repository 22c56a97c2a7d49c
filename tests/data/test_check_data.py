"""`check` opens every clip once, and names what stands in the way of training."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import labelled
import pytest

import clips
from foveate import data
from foveate.data import probe_cache
from foveate.data.children import in_children
from foveate.data.probe_cache import ProbeCache
from foveate.data.probing import Probe, probe


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "probes.sqlite"


def test_a_good_set(tmp_path: Path, cache: Path) -> None:
    report = data.check(labelled.tree(tmp_path / "set"), workers=0, cache=cache)
    assert report.ok
    lines = report.lines()
    assert lines[0].endswith("set: 6 clips, all good")
    assert "  run: 3" in lines
    assert "seconds per clip: 1.00 to 1.00, median 1.00" in lines
    assert "sizes: 64x48" in lines
    assert not [line for line in lines if line.startswith("note")]


def test_all_that_is_wrong(tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "set"
    labelled.tree(root)
    labelled.put(root / "run" / "cut.mp4", labelled.video()[:700])
    labelled.put(root / "run" / "text.mp4", b"just words")
    shutil.copy(root / "run" / "run0.mp4", root / "jump" / "copy.mp4")
    shutil.copy(root / "run" / "run1.mp4", root / "run" / "again.mp4")
    (root / "clips.csv").write_text(
        "path,label,split,source,start,end\n"
        "run/run0.mp4,run,train,a,,\n"
        "run/run1.mp4,run,train,a,,\n"
        "run/again.mp4,run,train,b,,\n"
        "run/cut.mp4,run,train,b,,\n"
        "run/text.mp4,run,test,,,\n"
        "jump/jump0.mp4,jump,train,c,0.2,9\n"
        "jump/jump1.mp4,jump,test,c,,\n"
        "jump/copy.mp4,jump,test,d,,\n"
    )
    report = data.check(root, workers=0, cache=cache)
    assert not report.ok
    text = "\n".join(report.lines())
    assert "set: 3 bad clips, 2 leaks between splits" in text
    assert "bad clip: clips.csv:5: run/cut.mp4: " in text
    assert "bad clip: clips.csv:6: run/text.mp4: " in text
    assert "bad clip: clips.csv:7: jump/jump0.mp4: ends at 9 s, the video lasts 1 s" in text
    assert (
        "leak: the same content in test and train: run/run0.mp4 (clips.csv:2), "
        "jump/copy.mp4 (clips.csv:9)" in text
    )
    assert "leak: group 'c' in test and train: jump/jump1.mp4 (clips.csv:8)" in text
    assert "note: the same content more than once: run/run1.mp4" in text
    assert "note: the same content with different labels: run/run0.mp4" in text


def test_faults_of_the_annotation_are_in_the_report(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label\na.mp4,x\n")
    report = data.check(tmp_path, workers=0, cache=cache)
    assert not report.ok
    assert report.lines()[0].endswith("1 fault in the annotation")
    assert report.lines()[1].startswith("fault: clips.csv:2: no such file: a.mp4")


def test_clips_are_opened_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = labelled.tree(tmp_path / "set", per_class=1)
    opened: list[str] = []
    true = probe_cache.probe
    monkeypatch.setattr(probe_cache, "probe", lambda path: opened.append(path.name) or true(path))
    data.check(root, workers=0, cache=cache)
    data.check(root, workers=0, cache=cache)
    assert opened == ["jump0.mp4", "run0.mp4"]
    labelled.put(root / "run" / "run0.mp4", labelled.video(first=7))
    os.utime(root / "run" / "run0.mp4", (1, 1))
    data.check(root, workers=0, cache=cache)
    assert opened == ["jump0.mp4", "run0.mp4", "run0.mp4"]


def test_a_damaged_cache_is_begun_anew_and_an_impossible_one_done_without(tmp_path: Path) -> None:
    path = labelled.put(tmp_path / "a.mp4")
    file = tmp_path / "probes.sqlite"
    file.write_bytes(b"no database at all" * 100)
    with ProbeCache(file) as cache:
        cache.put({path: probe(path)})
        assert cache.get([path])[path].width == 64
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM probes").fetchone() == (1,)
    with ProbeCache(path / "below a file") as cache:
        cache.put({path: Probe()})
        assert cache.get([path]) == {}


def test_an_answer_that_comes_with_the_greeting_is_heard(tmp_path: Path) -> None:
    program = (
        "import json, os, pathlib, sys\n"
        "from foveate.data.probing import probe, to_json\n"
        "path = pathlib.Path(json.loads(sys.stdin.buffer.readline()))\n"
        "os.write(1, b'ready\\n' + to_json(probe(path)).encode() + b'\\n')\n"
        "sys.stdin.buffer.read()\n"
    )
    found = dict(in_children([labelled.put(tmp_path / "a.mp4")], 1, 2.0, program))
    assert [known.error for known in found.values()] == [None]


def test_children_are_bounded_and_survived(tmp_path: Path) -> None:
    paths = [
        labelled.put(tmp_path / "a.mp4"),
        labelled.put(tmp_path / "exit.mp4"),
        labelled.put(tmp_path / "hang.mp4"),
        labelled.put(tmp_path / "b.mp4", b"no video"),
    ]
    program = (
        "import os, time\n"
        "from foveate.data import children\n"
        "true = children.probe\n"
        "def wild(path):\n"
        "    if path.stem == 'exit': os._exit(3)\n"
        "    if path.stem == 'hang': time.sleep(60)\n"
        "    print('decoders talk')\n"
        "    return true(path)\n"
        "children.probe = wild\n"
        "children.serve()\n"
    )
    found = {path.stem: known for path, known in in_children(paths, 2, 10.0, program)}
    assert found["a"].error is None
    assert found["a"].frames == 25
    assert found["exit"].error == "its decoder died (exit code 3)"
    assert found["hang"].error == "opening it took more than 10 seconds"
    assert "not a video" in str(found["b"].error)


def test_damage_is_told_and_frame_folders_are_opened(tmp_path: Path, cache: Path) -> None:
    folder = labelled.pictures(tmp_path / "set" / "x" / "clip", 3)
    (folder / "img_00002.png").write_bytes(b"damaged")
    labelled.put(tmp_path / "set" / "y" / "sound.mp4", clips.encode(tone=(440, 0, 1)))
    report = data.check(tmp_path / "set", workers=0, cache=cache)
    assert report.ok
    known = {path.name: found for path, found in report.probes.items()}
    assert known["sound.mp4"].has_audio
    assert (known["clip"].frames, known["clip"].codec) == (3, "png")


@pytest.mark.parametrize("container", ["matroska", "mpegts"])
def test_sound_after_the_picture_makes_no_clip_longer(
    tmp_path: Path, cache: Path, container: str
) -> None:
    root = tmp_path / "set"
    root.mkdir()
    sound = clips.encode(container, frames=50, tone=(440.0, 0.0, 12.0))
    (root / "long.mkv").write_bytes(sound)
    (root / "clips.csv").write_text("path,label,start,end\nlong.mkv,a,6,8\n", "utf-8")
    text = "\n".join(data.check(root, workers=0, cache=cache).lines())
    assert "starts at 6 s, the video lasts 2 s" in text
    assert probe(root / "long.mkv").duration == pytest.approx(2.0, abs=0.02)
