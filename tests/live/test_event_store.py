"""The store of events: queries, revisions, the spool, damage, and a run that is killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from foveate.core import FoveateError
from foveate.live.events import Event, EventClip
from foveate.live.sinks import SinkStats
from foveate.live.store import EventQuery, SpoolQueue, Store, read_events
from live.steps import LABELS

BEGAN = datetime(2026, 5, 1, 12, tzinfo=UTC)


def event(number: int, revision: int = 1, **more: object) -> Event:
    """An event that began `number` minutes after noon."""
    values = {
        "id": f"{number:032x}", "revision": revision, "camera": "gate", "source": "rtsp://gate",
        "label": LABELS[0], "index": 0, "start": 1.0, "peak": 0.8, "peak_time": 2.0,
        "started_at": BEGAN + timedelta(minutes=number),
        **({"state": "closed", "reason": "score", "end": 3.0,
            "ended_at": BEGAN + timedelta(minutes=number, seconds=2)} if revision else {}),
        **more,
    }  # fmt: skip
    return Event.model_validate(values)


def fill(path: Path, *events: Event, **settings: object) -> None:
    store = Store(path, **settings)
    for one in events:
        store.deliver(one)
    store.close()


def test_events_come_back_in_order_and_the_latest_revision_counts(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    clip = EventClip(path="clip.mp4", start=0.0, end=5.0)
    first, second = event(0), event(1)
    with_clip = event(0, 2, clip=clip)
    fill(path, event(1, 0), event(0, 0), second, first, with_clip, first)
    assert read_events(path) == [with_clip, second]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (EventQuery(), [0, 1, 2, 3]),
        (EventQuery(cameras=["yard"]), [1]),
        (EventQuery(cameras=["yard", "gate"]), [0, 1, 2, 3]),
        (EventQuery(labels=["fall"]), [2]),
        (EventQuery(zones=["door"]), [3]),
        (EventQuery(min_peak=0.85), [2]),
        (EventQuery(state="provisional"), [3]),
        (EventQuery(since=BEGAN + timedelta(minutes=1)), [1, 2, 3]),
        (EventQuery(until=BEGAN + timedelta(minutes=1)), [0]),
        (EventQuery(since=BEGAN + timedelta(minutes=1, seconds=1), limit=1), [3]),
        (EventQuery(labels=["fall"], cameras=["yard"]), []),
    ],
)
def test_queries(query: EventQuery, expected: list[int], tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    fill(
        path, event(0), event(1, camera="yard"), event(2, label="fall", index=1, peak=0.9),
        event(3, 0, zone="door"),
    )  # fmt: skip
    assert [int(one.id, 16) for one in read_events(path, query)] == expected


def test_a_store_is_read_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    store = Store(path)
    for number in range(5):
        store.deliver(event(number))
        assert len(read_events(path)) == number + 1
    store.close()


def test_the_spool_is_in_order_and_outlives_the_run(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    stats = {"webhook": SinkStats(), "mqtt": SinkStats()}
    fill(path, event(0), event(1), spooled=stats)
    fill(path, event(2), spooled=stats)
    waiting = SpoolQueue(path, "webhook")
    found = []
    while (item := waiting.head(0.0)) is not None:
        assert waiting.head(0.0) == item  # until it is delivered
        found.append(item[1])
        waiting.done(item[0])
    waiting.close()
    assert found == [event(0), event(1), event(2)]
    other = SpoolQueue(path, "mqtt")
    assert other.head(0.0)[1] == event(0)
    other.close()


def test_the_spool_is_bounded_and_counts_what_it_drops(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    stats = SinkStats()
    fill(path, *(event(number) for number in range(10)), spooled={"mqtt": stats}, most=4)
    waiting = SpoolQueue(path, "mqtt")
    assert waiting.head(0.0)[1] == event(6)
    waiting.close()
    assert stats.lost == 6
    assert len(read_events(path)) == 10


def test_an_event_of_a_killed_run_is_closed_at_its_highest_score(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    fill(path, event(0, 0))
    fill(path)
    [found] = read_events(path)
    assert (found.state, found.reason, found.end) == ("closed", "interrupted", 2.0)
    assert found.ended_at == found.started_at + timedelta(seconds=1)
    fill(path, event(0))  # the run was still there after all
    assert read_events(path) == [event(0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"not a database at all, but long enough to look at " * 20, "not a store of events"),
        (b"", "not a store of events"),
    ],
)
def test_other_files_are_refused_with_one_line(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "events.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FoveateError, match=message):
        read_events(path)


def test_another_database_is_neither_read_nor_changed(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE events (id)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(FoveateError, match="not a store of events"):
        read_events(path)
    with pytest.raises(FoveateError, match="not a store of events"):
        Store(path)
    assert path.read_bytes() == before


def test_a_folder_that_is_missing_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match=r"events.db: cannot be opened"):
        Store(tmp_path / "missing" / "events.db")


WRITER = """
import json, sys, time
from pathlib import Path
from live.steps import step
from foveate.live.outputs import EventConfig, EventOutputs, EventTargets
folder = Path(sys.argv[1])
targets = EventTargets(
    events=str(folder / "events.jsonl"), store=folder / "events.db",
    webhook="http://127.0.0.1:9/never",
)
config = EventConfig.model_validate({"sinks": {"retry_first": 0.05}})
outputs = EventOutputs(("walk", "fall", "idle"), config, targets)
time_ = 0.0
while True:
    score = 0.9 if time_ % 4 < 2 else 0.05
    for event in outputs.add(step(round(time_, 3), score)):
        print(json.dumps([event.id, event.revision, time.time()]), flush=True)
    time_ += 0.2
    time.sleep(0.001)
"""


def test_a_killed_run_loses_no_closed_event(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    )
    given = []
    try:
        assert child.stdout is not None
        while len(given) < 60:
            given.append(json.loads(child.stdout.readline()))
        time.sleep(0.3)  # what was given in the last moments may still be in memory
        child.send_signal(signal.SIGKILL)
        killed = time.time()
        given += [json.loads(line) for line in child.stdout if line.endswith(b"\n")]
    finally:
        child.kill()
        child.wait()
    expected = {(name, revision) for name, revision, when in given if when < killed - 0.3}
    assert len(expected) >= 60
    path = tmp_path / "events.db"
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    stored = {one.id: one for one in read_events(path)}
    assert {name for name, revision in expected if revision == 1} <= {
        name for name, one in stored.items() if one.state == "closed"
    }
    assert {name for name, _ in expected} <= set(stored)
    waiting = SpoolQueue(path, "webhook")
    count = waiting._connection.execute("SELECT count(*) FROM spool").fetchone()[0]
    waiting.close()
    assert count >= len(expected)  # nothing was delivered, nothing is lost
    lines = (tmp_path / "events.jsonl").read_bytes().split(b"\n")[:-1]
    assert {(e.id, e.revision) for e in map(Event.from_json, lines)} >= expected
