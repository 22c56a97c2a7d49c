"""What the command takes as inputs: patterns, standard input, pipes, folders of pictures."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest

from foveate.app.inputs import expand
from tiny_weights import NAME


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three videos and a text, two folders deep, and what storage systems leave behind."""
    for name in ("a.mp4", "x[1].mp4", "sub/deep/b.MKV", "sub/@eaDir/p.mp4", "sub/.c.mp4", "t.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        (["*.mp4"], ["a.mp4", "x[1].mp4"]),
        (["**/*.mp4"], ["a.mp4", "x[1].mp4"]),
        (["**/*.[mM][kK][vV]"], ["sub/deep/b.MKV"]),
        (["*"], ["a.mp4", "sub/deep/b.MKV", "x[1].mp4"]),
        (["**"], ["a.mp4", "x[1].mp4", "sub/deep/b.MKV"]),
        (["*.txt", "a.mp4", "a*"], ["t.txt", "a.mp4"]),
        (["x[1].mp4"], ["x[1].mp4"]),
        (["**.mp4"], ["a.mp4", "x[1].mp4"]),
        (["./s?b"], ["sub/deep/b.MKV"]),
    ],
)
def test_patterns_stand_for_what_they_match(folder: Path, typed: list[str], found: list[str]):
    items = list(expand(typed))
    assert [str(item.path) for item in items] == found
    assert all(item.problem is None for item in items)
    (absolute,) = expand([str(folder / "a.*4")])
    assert absolute.path == folder / "a.mp4"


@pytest.mark.parametrize(
    ("typed", "name", "says"),
    [
        ("*.avi", "*.avi", "nothing matches it as a pattern"),
        ("[", "[", "nothing matches it as a pattern"),
        ("no/such/**/*.mp4", "no/such/**/*.mp4", "nothing matches it as a pattern"),
        ("", "''", "an empty name"),
        ("rtsp://camera/1", "rtsp://camera/1", "an address"),
        ("http://host/*.mp4", "http://host/*.mp4", "an address"),
    ],
)
def test_an_input_that_stands_for_nothing_is_one_line(folder, run, typed, name, says) -> None:
    for command, *more in (("predict",), ("probe",), ("explain", "--model", NAME)):
        said = run(command, typed, *more)
        assert said.code == 1
        assert len([line for line in said.err.splitlines() if line.strip()]) == 1
        assert said.err.strip().startswith(f"foveate: {name}: ")
        assert says in said.err


def test_standard_input_and_pipes_are_files(start, clips: Path, tmp_path: Path) -> None:
    data, page = (clips / "one.mp4").read_bytes(), tmp_path / "r.html"
    said = start(
        "predict", "-", "--json", "-", "-q", "--report", page, "--video", tmp_path, input=data
    )
    whole = json.loads(said.out)
    assert (said.code, whole["source"]) == (0, "<stdin>")
    assert page.read_text("utf-8").count("data:image/jpeg") > 1
    assert (tmp_path / "stdin.annotated.mp4").stat().st_size > 1000
    piped = json.loads(start("predict", "/dev/stdin", "--json", "-", "-q", input=data).out)
    assert (piped["source"], piped["labels"]) == ("/dev/stdin", whole["labels"])


class Terminal(io.TextIOWrapper):
    """Standard input that nothing is piped into."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stdin", [None, Terminal(io.BytesIO())])
def test_a_terminal_is_not_waited_for(stdin: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    (item,) = expand(["-", "-"])
    assert (item.name, item.problem) == (
        "<stdin>", "nothing is piped into it (foveate predict - < clip.mp4)"
    )  # fmt: skip


def test_a_named_pipe_is_read_by_every_command(run, clips: Path, tmp_path: Path) -> None:
    pipe, page = tmp_path / "pipe.mp4", tmp_path / "r.html"
    os.mkfifo(pipe)
    data = (clips / "one.mp4").read_bytes()
    explain = ("explain", pipe, "--model", NAME)
    for words in (("probe", pipe), explain, ("predict", pipe, "--report", page)):
        writer = Thread(target=pipe.write_bytes, args=(data,), daemon=True)
        writer.start()
        said = run(*words)
        writer.join(10)
        assert said.code == 0, said.err
        assert str(pipe) in said.out.replace("\n", "")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for n in range(20):
        cv2.imwrite(str(folder / f"{n:03d}.png"), np.full((48, 64, 3), n * 10, np.uint8))
    return folder


def test_the_rate_of_a_folder_of_pictures(run, pictures: Path) -> None:
    slow = json.loads(run("predict", pictures, "--fps", "5", "--json", "-", "-q").out)
    usual = json.loads(run("predict", pictures, "--json", "-", "-q").out)
    assert (slow["duration"], usual["duration"]) == (4.0, 0.8)
    assert slow["warnings"] == []
    assert usual["warnings"] == ["a folder has no frame rate: 25 frames per second assumed"]
    facts = json.loads(run("probe", pictures, "--fps", "10", "--json").out)
    assert (facts["duration"], facts["rate"], facts["frames"]) == (2.0, 10.0, 20)
    assert facts["bytes"] == sum(path.stat().st_size for path in pictures.iterdir())
    table = run("probe", pictures).out
    assert "numbered pictures" in table
    assert "25 frames per second assumed" in table
    assert run("explain", pictures, "--fps", "5", "--model", NAME).code == 0


@pytest.mark.parametrize("command", ["predict", "probe", "explain"])
def test_a_rate_that_cannot_be_meant_is_one_line(run, clips, pictures, command: str) -> None:
    more = ("--model", NAME) if command == "explain" else ()
    for rate in ("0", "-1", "nan", "inf", "1e9"):
        said = run(command, pictures, "--fps", rate, *more)
        assert (said.code, len(said.err.splitlines())) == (2, 1)
        assert "must be a number from 0.1 to 10000" in said.err
    said = run(command, clips / "one.mp4", "--fps", "10", *more)
    assert said.code == 2
    assert "only for folders of pictures" in said.err
