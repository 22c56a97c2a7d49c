"""`foveate watch` with events: they reach every sink, with clips; wrong options are one line."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_weights
from clips import encode
from foveate.live.events import Event
from foveate.live.store import read_events
from foveate.media import Video

# The network is random: what it is sure of begins an event that lasts to the end of the file.
LOW = (
    "--set",
    "events.start_threshold=0.1",
    "--set",
    "events.end_threshold=0",
    "--set",
    "none_below=0",
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cameras") / "gate.mp4"
    path.write_bytes(encode(frames=100, gop=10, size=(64, 48)))
    return path


def watch(run, *arguments: str | Path):
    return run("watch", *arguments, "--model", tiny_weights.NAME)


def test_events_reach_the_store_the_lines_the_clips_and_the_command(
    run, clip: Path, tmp_path: Path
) -> None:
    store, lines, folder = tmp_path / "e.db", tmp_path / "e.jsonl", tmp_path / "clips"
    said = watch(
        run, clip, "--store", store, "--events", lines, "--clips", folder, *LOW,
        "--on-event", f"mkdir {tmp_path}/ran-{{label}}",
    )  # fmt: skip
    assert said.code == 0, said.err
    stored = read_events(store)
    assert stored
    for one in stored:
        assert (one.camera, one.state, one.reason, one.revision) == ("gate", "closed", "stream", 2)
        assert one.clip is not None
        assert one.clip.complete
        with Video(one.clip.path) as video:
            assert len(video.times()) == 100
        assert f"gate: {one.label}" in said.err
        assert (tmp_path / f"ran-{one.label}").is_dir()
    found = [Event.from_json(line) for line in lines.read_bytes().splitlines()]
    assert {(e.id, e.revision) for e in found} == {(e.id, n) for e in stored for n in range(3)}
    listed = run("events", store, "--camera", "gate")
    assert (listed.code, len(listed.out.splitlines())) == (0, 1 + len(stored))


def test_a_masked_camera_has_masked_clips(run, clip: Path, tmp_path: Path) -> None:
    cameras = tmp_path / "cams.yaml"
    cameras.write_text(
        f"cameras: {{gate: {{url: '{clip}', masks: [[[0, 0], [1, 0], [1, 0.4], [0, 0.4]]]}}}}"
    )
    said = watch(
        run, cameras, "--duration", "1.5", "--store", tmp_path / "e.db", "--clips",
        tmp_path / "clips", *LOW,
    )  # fmt: skip
    assert said.code == 0, said.err
    clips = list((tmp_path / "clips" / "gate").iterdir())
    assert len(clips) == len(read_events(tmp_path / "e.db")) > 0
    with Video(clips[0]) as video:
        pixels = video.frames(video.times()).pixels
    assert pixels[:, :14].mean() < 8
    assert pixels[:, 30:].mean() > 40


def test_settings_are_printed_and_can_be_read_again(run, tmp_path: Path) -> None:
    said = watch(
        run, "--print-config", "--set", "events.start_threshold=0.7", "--set", "clips.before=3"
    )
    assert said.code == 0
    file = tmp_path / "settings.yaml"
    file.write_text(said.out)
    again = watch(run, "--print-config", "--config", file)
    assert again.out == said.out
    assert "start_threshold: 0.7" in said.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--set", "events.start_treshold=0.7"],
            "unknown key events.start_treshold (did you mean start_threshold",
        ),
        (["--set", "events.silent=[nothing]"], "the model has no class 'nothing'"),
        (["--webhook", "ftp://host/secret"], "--webhook: the address must begin with http"),
        (["--mqtt", "broker/secret"], "--mqtt: the address must begin with mqtts or mqtt"),
        (["--on-event", "say {lable}"], "--on-event: no field {lable}"),
        (["--store", "missing/e.db"], "missing/e.db: cannot be opened"),
        (["--events", "missing/e.jsonl"], "missing/e.jsonl: cannot be written"),
        (["--events", "-", "--json", "-"], "both to standard output"),
    ],
)
def test_wrong_options_are_one_line(
    run, clip: Path, tmp_path: Path, monkeypatch, options: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    said = watch(run, clip, *options)
    assert said.code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert "secret" not in said.err
