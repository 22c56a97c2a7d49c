"""Live cameras: faults, reconnects, exact ledgers, budgets, and cameras that come and go."""

from __future__ import annotations

import itertools
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from cameras import CameraServer, garbage, joined, stalled, steady, stream

from clips import encode, number_of, picture
from foveate import ConfigError, Recogniser
from foveate.core import Detections, Evidence, InputSpec, NotYet
from foveate.core.config import build
from foveate.live import reader, share
from foveate.live.camera import CameraSettings, CameraSource, camera, cameras, public
from foveate.live.feed import QUEUE, Feed, FrameLedger, LiveSample
from foveate.live.metrics import Metrics, MetricsServer
from foveate.live.reader import Camera, CameraStatus, delays
from foveate.live.step import StepResult
from foveate.media import live
from foveate.media.live import LiveFrame, LiveInput, describe, open_iterable, open_paced
from foveate.pipeline.presets import Preset
from foveate.policy import Uniform

SPEC = InputSpec(size=48, frames_per_second=5.0, clip_frames=10, crop="none")
PASSWORD = "bob:se@cret/"


class Numbers:
    """Finds the number that each frame of the test cameras carries, as a track."""

    parts, head, persistent = ("network",), None, False

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.calls = seconds, 0

    def input(self, part: str) -> InputSpec:
        return SPEC

    def stage(self, part: str) -> str:
        return part

    def cost(self, part: str, views: Any, state: Any) -> int:
        return 1

    def batch_key(self, part: str, views: Any, state: Any) -> str:
        return part

    def run(self, part: str, views: Sequence[Any], states: Sequence[Any]) -> Any:
        self.calls += 1
        time.sleep(self.seconds)
        found = []
        for view in views:
            pixels = view["rgb"].array[0, -1]
            one = np.array([[0, 0, 1, 1]]), np.array([0.5]), np.array([0])
            track = np.array([number_of(pixels)])
            found.append(Evidence(detections=(Detections(view["rgb"].times[-1], *one, track),)))
        return list(states), found


def recogniser(seconds: float = 0.0, rate: float = 5.0) -> Recogniser:
    preset = build(Preset, {"model": "toy", "cut_threshold": 1.0, "none_below": 0.0})
    model = Numbers(seconds)
    return Recogniser(
        model, ("frame",), look=Uniform(rate), preset=preset, window=2.0, task="detect"
    )


def only_steps(items: Any) -> Iterator[StepResult]:
    return (item for item in items if isinstance(item, StepResult))


def adds_up(one: CameraStatus) -> bool:
    return one.received == one.looked + sum(one.dropped.values()) + one.queued


def filmed(seconds: float, fps: float = 25, moves: bool = True) -> Iterator[Any]:
    """Frames that come at their times."""
    begun = time.monotonic()
    still = np.full((48, 64, 3), 90, np.uint8)
    for number in range(round(seconds * fps)):
        time.sleep(max(0.0, begun + number / fps - time.monotonic()))
        frame = still.copy()
        if moves:
            frame[:, number % 8 * 8 :][:, :16] = 200
        yield frame, number / fps


class Endless(Sequence[Any]):
    """Frames that wait for being asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.frames = [np.full((16, 16, 3), 40 * n, np.uint8) for n in range(5)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: Any) -> Any:
        if number >= self.count:
            raise IndexError
        return self.frames[number % 5], number / 25


# --- cameras with faults ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched() -> Iterator[tuple[list[StepResult], dict[str, CameraStatus], list[str]]]:
    """Seventeen cameras for three seconds: nine are well."""
    stream(60), stream(20), stream(25), stream(60, (96, 64)), stream(60, first=200)
    paths = {
        **{f"/good{n}": [steady(100)] for n in range(9)},
        "/cut": [steady(20), steady(100)],
        "/stall": [stalled(20, 30.0), steady(100)],
        "/garbage": [garbage(100_000), steady(100)],
        "/size": [joined(steady(25), steady(60, (96, 64)))],
        "/clock": [joined(steady(25), steady(60, first=200))],
        "/locked/wrong": [steady(60)],
        "/locked/right": [steady(60)],
    }
    log, lines = logging.getLogger("foveate.live"), list[str]()
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    before, level = reader.delays, log.level
    log.setLevel(logging.INFO)
    reader.delays = lambda: itertools.repeat(0.1)  # type: ignore[assignment]
    os.environ["CAMERA_PASSWORD"] = PASSWORD.partition(":")[2]
    try:
        with CameraServer(paths, PASSWORD) as server:
            place = server.address.partition("://")[2]
            urls = {path.strip("/").replace("/", "-"): server.address + path for path in paths}
            urls["locked-wrong"] = f"http://bob:guess@{place}/locked/wrong?token=guess"
            urls["locked-right"] = f"http://bob:${{CAMERA_PASSWORD}}@{place}/locked/right"
            urls["absent"] = server.address + "/nothing"
            found = [
                camera(name, CameraSettings(url=url, read_seconds=0.4))
                for name, url in urls.items()
            ]
            watch = recogniser().watch(found)
            threading.Timer(3.0, watch.stop).start()
            steps = list(only_steps(watch))
            yield steps, {one.name: one for one in watch.status()}, lines
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        reader.delays = before


def test_nine_good_cameras_lose_nothing(watched) -> None:
    steps, statuses, _ = watched
    for name in (f"good{n}" for n in range(9)):
        own = [step for step in steps if step.camera == name]
        times = [step.time for step in own]
        assert len(times) >= 4  # of 15, on a busy machine
        assert times == pytest.approx([i / 5 for i in range(len(times))], abs=1e-3)
        numbers = [step.detections[0].track for step in own]
        assert numbers[0] % 5 == 0  # a key frame: what came while connecting is not shown
        assert numbers == [numbers[0] + 5 * i for i in range(len(own))]
        assert [step.number for step in own] == list(range(len(own)))
        assert {step.epoch for step in own} == {1}
        assert set(statuses[name].dropped) <= {"rate", "end"}
        assert statuses[name].connects == 1
        assert sorted(step.age for step in own)[len(own) // 2] < 0.5


def test_every_ledger_adds_up(watched) -> None:
    steps, statuses, _ = watched
    assert len(statuses) == 17
    for one in statuses.values():
        assert adds_up(one), one
        reported = sum(sum(step.dropped.values()) for step in steps if step.camera == one.name)
        assert reported <= sum(one.dropped.values())
    assert sum(one.looked for one in statuses.values()) == len(steps)


@pytest.mark.parametrize("name", ["cut", "stall", "garbage"])
def test_a_sick_camera_comes_back(watched, name) -> None:
    steps, statuses, lines = watched
    own = [step for step in steps if step.camera == name]
    last = own[-1]
    assert statuses[name].connects >= 2
    assert last.time >= 0.4
    first = next(step for step in own if step.epoch == last.epoch)
    assert (first.number, first.time, first.since) == (0, 0.0, None)
    assert first.detections[0].track % 5 == 0  # a key frame of the new connection
    reasons = {"cut": "closed", "stall": "no data for 0.4 s", "garbage": f"{name}: "}
    assert any(line.startswith(name) and reasons[name] in line for line in lines)
    if name != "garbage":
        ended = max(step.wall for step in own if step.epoch == last.epoch - 1)
        assert first.wall - ended < {"cut": 1.5, "stall": 2.0}[name]


@pytest.mark.parametrize(
    ("name", "size", "number"), [("size", (96, 64), 0), ("clock", (64, 48), 200)]
)
def test_a_change_of_size_or_clock_begins_anew(watched, name, size, number) -> None:
    steps, _, lines = watched
    own = [step for step in steps if step.camera == name]
    second = [step for step in own if step.epoch == 2]
    assert own[0].size == (64, 48)
    assert (second[0].size, second[0].time) == (size, 0.0)
    assert second[0].detections[0].track == number
    assert second[0].number == 0
    assert any("changed from 64x48" in line or "clock of the source" in line for line in lines)


def test_a_wrong_password_is_told_apart_and_not_tried_again(watched) -> None:
    _, statuses, lines = watched
    wrong, absent = statuses["locked-wrong"], statuses["absent"]
    assert (wrong.connects, wrong.received) == (1, 0)
    assert absent.connects > 5
    assert any("the user name or password is wrong" in line for line in lines)
    assert any("no such stream (404)" in line for line in lines)
    assert statuses["locked-right"].looked > 0


def test_credentials_appear_nowhere(watched) -> None:
    steps, statuses, lines = watched
    everything = " ".join([*lines, *map(repr, statuses.values()), *(s.to_json() for s in steps)])
    assert "locked" in everything
    for secret in ("bob", "se@cret", "se%40cret", "guess"):
        assert secret not in everything


# --- the queue between reader and loop --------------------------------------------------------


def test_a_slow_model_sees_the_newest_frames_and_every_drop_is_counted() -> None:
    watch = recogniser(seconds=0.3).watch({"cam": filmed(1.5)})
    steps, deepest = [], 0
    for step in only_steps(watch):
        steps.append(step)
        deepest = max(deepest, watch.status()[0].queued)
    (status,) = watch.status()
    assert adds_up(status)
    assert status.dropped["overload"] > 5
    assert deepest <= QUEUE
    assert max(step.age for step in steps) < 0.3 + 0.25 + 0.3  # the model, the lag, the machine
    gaps = [b.time - a.time for a, b in itertools.pairwise(steps)]
    assert max(gaps) < 1.0
    assert min(gaps) > 0.19


def test_a_file_gives_the_frames_that_a_stream_of_it_gives(tmp_path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode(frames=60, rate=24, bframes=2, gop=12))
    model = recogniser()
    expected = [r.detections[0].track for r in model.stream(path)]
    steps = list(only_steps(model.watch(str(path))))
    assert [step.detections[0].track for step in steps] == expected
    assert {step.epoch for step in steps} == {1}
    assert steps[0].camera == "clip"


def test_a_file_at_real_pace_takes_its_time(tmp_path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode(frames=20, rate=25))
    begun = time.monotonic()
    steps = list(only_steps(recogniser().watch(path, pace="real")))
    assert 0.7 < time.monotonic() - begun < 3
    assert [step.time for step in steps] == pytest.approx([0, 0.2, 0.4, 0.6])
    assert max(step.age for step in steps) < 0.5


def test_motion_of_a_feed_waits_for_the_next_frame(tmp_path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode(frames=12, rate=25))
    lock, frames = threading.Condition(), []
    connection = open_paced(path, "cam", real=False)
    for piece in connection.received:
        frames += [(frame, piece.stream) for frame in piece.frames or ()]
    info, convert = describe(frames[0][0], "cam", frames[0][1])
    feed = Feed("cam", 1, info, convert, FrameLedger(), lock)
    sample = LiveSample(feed)
    feed.put(frames[0][0], lambda: False)
    with pytest.raises(NotYet):
        sample.motion([0.0], "flow")
    for frame, _ in frames[1:4]:
        feed.put(frame, lambda: False)
    assert sample.motion([0.0], "flow").valid.any()
    connection.close()


def test_frames_of_twenty_thousand_cost_no_memory() -> None:
    watch = recogniser().watch({"cam": Endless(20_000)})
    rss, files = [], []
    for number, _ in enumerate(watch):
        if number % 200 == 0:
            with open("/proc/self/statm", "rb") as file:
                rss.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
            files.append((len(os.listdir("/proc/self/fd")), threading.active_count()))
    (status,) = watch.status()
    assert status.received == 20_000
    assert adds_up(status)
    assert status.looked == 4000
    assert set(status.dropped) <= {"rate", "end"}
    assert len(set(files[1:])) == 1
    assert max(rss[4:]) - min(rss[4:]) < 16e6


def test_a_gap_in_the_frames_begins_anew(monkeypatch) -> None:
    monkeypatch.setattr(reader, "_GAP", 0.2)

    def interrupted() -> Iterator[Any]:
        yield from filmed(0.3)
        time.sleep(0.4)
        yield from ((frame, seconds + 0.7) for frame, seconds in filmed(0.5))

    steps = list(only_steps(recogniser().watch(interrupted())))
    assert [step.time for step in steps if step.epoch == 1] == pytest.approx([0.0, 0.2])
    assert [step.time for step in steps if step.epoch == 2] == pytest.approx([0.0, 0.2, 0.4])


def test_a_new_connection_is_not_called_a_gap(monkeypatch, caplog) -> None:
    monkeypatch.setattr(reader, "_GAP", 0.0)  # between two frames of one connection it would be one
    caplog.set_level(logging.INFO, "foveate.live")
    black = np.zeros((48, 64, 3), np.uint8)

    def connect() -> LiveInput:
        return open_iterable(iter([(black, 0.0)]), "gate", live=True)

    waits: list[float] = []
    source = CameraSource("gate", "gate", CameraSettings(url="rtsp://gate"), connect)
    one = Camera(source, wait=lambda seconds: waits.append(seconds) or len(waits) == 2)
    one.start()
    one.join(5.0)
    assert one.status().epoch == 2
    states = [f"{r.fields['state']} {r.fields['reason']}".strip() for r in caplog.records]
    assert states == ["live", "waiting the connection was closed"] * 2 + ["stopped"]


def test_failed_connections_leave_nothing_open(monkeypatch) -> None:
    monkeypatch.setattr(reader, "delays", lambda: itertools.repeat(0.01))
    with CameraServer({"/garbage": [garbage(20_000)], "/short": [steady(6)]}) as server:
        urls = [f"{server.address}/{name}" for name in ("garbage", "short", "absent")]
        watch = recogniser().watch(urls)
        before = len(os.listdir("/proc/self/fd"))
        threading.Timer(1.5, watch.stop).start()
        list(watch)
    assert all(one.connects >= 3 for one in watch.status())
    assert sum(one.connects for one in watch.status()) > 20
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert not [t for t in threading.enumerate() if t.name.startswith("camera 127")]


# --- control ----------------------------------------------------------------------------------


def test_cameras_are_added_paused_and_removed() -> None:
    watch = recogniser().watch({"a": filmed(30.0)})
    steps = only_steps(watch)

    def following(count: int) -> list[tuple[str, int]]:
        found = [(step.camera, step.epoch) for step in itertools.islice(steps, count)]
        assert len(found) == count
        return found

    assert following(2) == [("a", 1)] * 2
    watch.add(filmed(30.0), "b")
    with pytest.raises(ConfigError, match="there is a camera of this name"):
        watch.add(filmed(1.0), "b")
    assert ("b", 1) in following(4)
    watch.pause("a")
    assert following(4)[1:] == [("b", 1)] * 3
    watch.resume("a")
    assert ("a", 2) in following(4)
    watch.remove("a")
    assert following(4)[1:] == [("b", 1)] * 3
    with pytest.raises(ConfigError, match="a: no such camera"):
        watch.pause("a")
    watch.stop()
    assert not list(steps)


def test_a_file_of_cameras_is_followed(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("foveate.pipeline.watch._FILE_EVERY", 0.05)
    clip, file = tmp_path / "clip.mp4", tmp_path / "cams.yaml"
    clip.write_bytes(encode(frames=25, rate=25))
    file.write_text(f"cameras: {{one: {clip}}}\n")
    watch, names = recogniser().watch(str(file)), []
    timer = threading.Timer(5.0, watch.stop)
    timer.start()

    def write(text: str) -> None:
        file.write_text(text)
        os.utime(file, (1, len(names)))

    for step in only_steps(watch):
        names.append(step.camera)
        if len(names) == 1:
            write("cameras: {one: nowhere://x}\n")  # a mistake changes nothing
        elif len(names) == 5:
            write(f"cameras: {{two: {{url: {clip}, budget: 2fps}}}}\n")
        elif step.camera == "two" and step.time >= 0.4:
            watch.stop()
    timer.cancel()
    assert names.count("one") == 5
    assert names.count("two") == 2
    assert [one.name for one in watch.status()] == ["two"]


def test_stop_takes_no_lock_that_the_loop_may_hold() -> None:
    """A signal handler runs in the thread of the loop, in the middle of anything."""
    watch = recogniser().watch({"cam": iter(())})
    held = [watch._lock, watch._changed._cond]
    for lock in held:
        lock.acquire()
    stopper = threading.Thread(target=watch.stop, daemon=True)
    stopper.start()
    stopper.join(2)
    for lock in held:
        lock.release()
    assert not stopper.is_alive()
    assert list(watch) == []


def test_stop_ends_a_watch_of_cameras_that_give_nothing() -> None:
    silent = threading.Event()
    watch = recogniser().watch({"cam": (silent.wait() for _ in range(1))})
    threading.Timer(0.2, watch.stop).start()
    begun = time.monotonic()
    assert list(watch) == []
    silent.set()
    assert time.monotonic() - begun < 3


# --- one budget -------------------------------------------------------------------------------


def test_looks_are_shared_by_need() -> None:
    assert share.distribute(100, [5, 5], [1, 0]) == pytest.approx([5, 5])
    busy, quiet = share.distribute(4.0, [5, 5], [1.0, 0.0])
    assert (busy, quiet) == pytest.approx((3.5, 0.5), abs=0.01)
    assert share.distribute(0.0, [5, 10], [1, 1]) == [0.5, 1.0]  # the least rates
    assert sum(share.distribute(12, [5, 5, 5], [1, 0.5, 0.1])) == pytest.approx(12)


def test_looks_are_what_the_processor_affords() -> None:
    now = {"wall": 0.0, "used": 0.0}
    budget = share.CpuBudget(0.5, wall=lambda: now["wall"], used=lambda: now["used"], cores=2)
    assert budget.looks() is None
    for _ in range(20):
        budget.spent(0.05)
    now.update(wall=2.0, used=1.4)  # one second of looks, and 0.4 of reading
    assert budget.looks() == pytest.approx((1.0 - 0.2) / 0.05)
    assert share.cpu_share("50%cpu") == 0.5
    assert share.cpu_share("3fps") is None
    with pytest.raises(ConfigError, match="at most 100%cpu"):
        share.cpu_share("150%cpu")


def test_a_quiet_camera_gives_its_looks_to_a_busy_one(monkeypatch) -> None:
    watch = recogniser(rate=10.0).watch(
        {"busy": filmed(1.6), "quiet": filmed(1.6, moves=False)}, budget="50%cpu"
    )
    monkeypatch.setattr(watch._cpu, "looks", lambda: 9.0)
    steps = [step for step in only_steps(watch) if step.time > 0.5]
    counts = {name: sum(s.camera == name for s in steps) for name in ("busy", "quiet")}
    assert counts["busy"] >= 6
    assert counts["quiet"] <= 4
    quiet = watch.status()[1]
    assert quiet.dropped["budget"] > 10
    assert adds_up(quiet)


# --- addresses, messages, delays, metrics -----------------------------------------------------


def test_delays_between_attempts() -> None:
    found = list(itertools.islice(delays(), 22))
    assert found == [1.0] * 5 + [5.0] * 5 + [10.0] * 10 + [60.0] * 2


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://bob:pw@cam/1", "rtsp://cam/1"),
        ("rtsp://bob:p@w@cam:554/1?user=bob&pwd=x", "rtsp://cam:554/1?…"),
        ("http://cam?token=x", "http://cam?…"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_an_address_is_shown_without_credentials(address, shown) -> None:
    assert public(address) == shown


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gopher://cam/1", "unknown scheme"),
        ("rtsp://", "no host"),
        ("rtsp://${NOT_SET_AT_ALL}@cam/1", "the variable NOT_SET_AT_ALL is not set"),
        ("missing.mp4", "no such file"),
        (".", "is a folder"),
        (7.5, "cannot be watched"),
    ],
)
def test_what_cannot_be_watched_is_refused_in_one_line(source, message) -> None:
    with pytest.raises(ConfigError, match=message):
        cameras(source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cameras: {}", "no cameras"),
        ("cams: [a]", "unknown key cams"),
        ("cameras: {gate: {url: rtsp://a/, bugdet: 1fps}}", "did you mean budget"),
        ("cameras: {gate: {url: rtsp://a/, budget: 1x}}", "gate: budget: budget 1x"),
        ("cameras: {gate: [1]}", "gate: no address"),
    ],
)
def test_mistakes_in_a_file_of_cameras_are_named(tmp_path, text, message) -> None:
    path = tmp_path / "cams.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        cameras(path)


def test_metrics_and_health(watched) -> None:
    import urllib.error
    import urllib.request

    steps, statuses, _ = watched
    beat = [time.monotonic()]
    metrics = Metrics(lambda: statuses.values(), lambda: beat[0])
    for step in steps:
        metrics.step(step)
    metrics.event('g"1', "run")
    with MetricsServer(metrics, "127.0.0.1:0") as server:
        place = f"http://127.0.0.1:{server.port}"
        text = urllib.request.urlopen(place + "/metrics").read().decode()
        looked = statuses["good1"].looked
        assert f'foveate_frames_looked_total{{camera="good1"}} {looked}\n' in text
        assert f'foveate_age_seconds_count{{camera="good1"}} {looked}\n' in text
        assert 'foveate_events_total{camera="g\\"1",label="run"} 1\n' in text
        assert 'foveate_frames_dropped_total{camera="good1",cause="rate"}' in text
        health = json.load(urllib.request.urlopen(place + "/healthz"))
        assert health["ok"]
        assert health["cameras"]["absent"] == {"state": "stopped", "paused": False, "reason": ""}
        beat[0] -= 60
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(place + "/healthz")
    with pytest.raises(ConfigError, match="no address"):
        MetricsServer(metrics, "9464")


class Clock:
    """Stands for the module `time`: sleeping moves it on, nothing else does."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_segments_of_hls_are_given_at_their_pace(monkeypatch) -> None:
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1.6,\nseg.ts\n#EXT-X-ENDLIST\n"
    paths = {"/live.m3u8": [lambda: iter([head.encode()])], "/seg.ts": [lambda: iter([stream(40)])]}
    monkeypatch.setattr(live, "time", Clock())
    with CameraServer(paths) as server:
        opened = live.open_address(f"{server.address}/live.m3u8", "gate")
        given = (frame for piece in opened.received for frame in piece.frames or ())
        frames = list(itertools.islice(given, 30))  # the end of the server is no part of this
        opened.close()
    since = [frame.time - frames[0].time for frame in frames]
    assert since == pytest.approx([number / 25 for number in range(30)], abs=1e-3)
    # Given and stamped when they are due, although the whole segment arrived at once.
    assert [frame.tick - 100 for frame in frames] == pytest.approx(since)
    assert [frame.wall for frame in frames] == [frame.tick for frame in frames]


def test_a_burst_is_no_overload() -> None:
    burst = [(np.zeros((16, 16, 3), np.uint8), number / 25) for number in range(12)]
    lock, ledger = threading.Condition(), FrameLedger()
    frames = [LiveFrame(*pair, 0.0, time.monotonic()) for pair in burst]
    feed = Feed("cam", 1, *describe(frames[0], "cam", None), ledger, lock)
    for frame in frames:
        feed.put(frame, lambda: False)
    assert [feed.select(seconds).number for seconds in (0.0, 0.2, 0.4)] == [0, 5, 10]
    late = Feed("cam", 2, *describe(frames[0], "cam", None), FrameLedger(), lock)
    for pair in burst:
        late.put(LiveFrame(*pair, 0.0, time.monotonic() - 1), lambda: False)
    assert late.select(0.0).number == 11


def test_motion_jpeg_has_the_times_of_its_arrival() -> None:
    import cv2

    def send() -> Iterator[bytes]:
        for number in range(20):
            time.sleep(0.04)
            data = cv2.imencode(".jpg", picture(number))[1].tobytes()
            yield b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + data + b"\r\n"

    with CameraServer({"/mjpeg": [send]}) as server:
        watch = recogniser().watch(f"{server.address}/mjpeg")
        threading.Timer(1.2, watch.stop).start()
        steps = [step for step in only_steps(watch) if step.epoch == 1]
    assert len(steps) >= 3
    walls = [step.wall - steps[0].wall for step in steps]
    assert [step.time for step in steps] == pytest.approx(walls, abs=0.05)
