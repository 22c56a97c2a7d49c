"""`foveate events`: lists, filters and exports a store; and options for where events go."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from foveate.app.events import when
from foveate.app.options import changes, event_config
from foveate.app.requests import EventOptions
from foveate.core import ConfigError
from foveate.live.events import Event
from live.test_event_store import BEGAN, event, fill

NOW = datetime(2026, 5, 2, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "events.db"
    fill(
        path, event(0), event(1, camera="yard", peak=0.95), event(2, label="[red]fall", index=1),
        event(3, 0, zone="door"),
    )  # fmt: skip
    return path


def numbers(said: str) -> list[int]:
    return [int(Event.from_json(line).id, 16) for line in said.splitlines()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [0, 1, 2, 3]),
        (["--camera", "yard", "--camera", "gate", "--limit", "2"], [2, 3]),
        (["--label", "[red]fall"], [2]),
        (["--zone", "door"], [3]),
        (["--state", "closed", "--min-score", "0.9"], [1]),
        (["--since", "2026-05-01T12:01:00+00:00", "--until", "2026-05-01T12:02:00Z"], [1]),
        (["--since", "1s"], []),
    ],
)
def test_events_are_filtered(run, store: Path, options: list[str], expected: list[int]) -> None:
    said = run("events", store, *options, "--json", "-")
    assert (said.code, numbers(said.out)) == (0, expected)


def test_the_table_has_a_line_per_event(run, store: Path) -> None:
    said = run("events", store)
    assert said.code == 0
    assert len(said.out.splitlines()) == 5
    assert "[red]fall" in said.out
    assert "walk (door)" in said.out
    assert "4 events" in said.err


def test_exports_can_be_read_again(run, store: Path, tmp_path: Path) -> None:
    said = run("events", store, "--json", tmp_path / "e.jsonl", "--csv", tmp_path / "e.csv")
    assert (said.code, said.out) == (0, "")
    assert numbers((tmp_path / "e.jsonl").read_text()) == [0, 1, 2, 3]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "e.csv").read_text())))
    assert [row["camera"] for row in rows] == ["gate", "yard", "gate", "gate"]
    assert rows[0]["seconds"] == "2.00"
    assert datetime.fromisoformat(rows[0]["started_at"]) == BEGAN
    assert rows[3]["ended_at"] == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--state", "open"], "--state open: unknown (one of: provisional, closed)"),
        (["--since", "yesterday"], "--since yesterday: not a time"),
        (["--json", "-", "--csv", "-"], "both to standard output"),
        (["--csv", "missing/e.csv"], "its folder does not exist"),
    ],
)
def test_wrong_options_are_one_line(run, store: Path, options: list[str], message: str) -> None:
    said = run("events", store, *options)
    assert said.code == 2
    assert message in said.err
    assert len(said.err.splitlines()) == 1


def test_a_file_that_is_no_store_is_one_line(run, tmp_path: Path) -> None:
    said = run("events", tmp_path / "missing.db")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "no such file" in said.err
    (tmp_path / "text").write_text("some text that is no database " * 10)
    said = run("events", tmp_path / "text")
    assert (said.code, len(said.err.splitlines())) == (2, 1)
    assert "not a store of events" in said.err


def test_times() -> None:
    assert when("2h", "--since", NOW) == NOW - timedelta(hours=2)
    assert when("1.5d", "--since", NOW) == NOW - timedelta(days=1.5)
    assert when("2026-05-01T12:00:00Z", "--since", NOW) == BEGAN
    assert when("2026-05-01", "--since", NOW) == datetime(2026, 5, 1).astimezone()


def test_settings_of_events_are_not_those_of_the_preset() -> None:
    sets = [
        "events.start_threshold=0.7",
        "events.classes.fall.start_threshold=0.9",
        "clips.before=3",
        "top_k=3",
    ]
    values, _ = changes(None, sets, None, None, None)
    config = event_config(values)
    assert values == {"top_k": 3}
    assert config.events.of("fall") == (0.9, 0.4)
    assert config.clips.before == 3
    with pytest.raises(
        ConfigError, match=r"unknown key events.start_treshold \(did you mean start_threshold"
    ):
        event_config({"events": {"start_treshold": 0.7}})


def test_options_become_targets(tmp_path: Path) -> None:
    assert not EventOptions().targets
    targets = EventOptions(store=tmp_path / "a.db", webhook="https://host/x").targets
    assert targets
    assert (targets.store, targets.webhook, targets.mqtt) == (
        tmp_path / "a.db", "https://host/x", None
    )  # fmt: skip
