"""Events of live cameras: how many are found and how late, against thresholds on single windows.

`accuracy`: rendered streams of two minutes, each with one actor, camera, body and background,
actions of mocap15 one after the other with idle gaps, no cuts. `movinet-a0-stream-lite.actions15`
looks at 5 frames per second. Thresholds of every method are fitted on streams of the validation
split (other bodies, backgrounds and camera sectors) and applied to those of the test split.

`outage`: twelve cameras at 5 frames per second whose events go to a webhook that cannot be reached
for a minute, and the same without an outage: time that a step takes, and events that arrive.

    python -m benchmarks.events accuracy [--cache FOLDER]
    python -m benchmarks.events outage

They write ``results/events.json`` and ``results/events_outage.json``.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from benchmarks.movinet_streams import RATE, SIDE, long_spec, rendered
from benchmarks.record import write

from foveate.core.config import build
from foveate.evaluate.bootstrap import compare, interval
from foveate.evaluate.metrics import ratio
from foveate.live.events import Event, EventDetector, EventSettings
from foveate.live.outputs import EventConfig, EventOutputs, EventTargets
from foveate.live.step import StepResult
from foveate.pipeline.loading import load

MODEL, MEMORY = "movinet-a0-stream-lite.actions15", "segments:2:5"
SECONDS, WINDOW = 120.0, 2.0
STREAMS = {"val": 8, "test": 16}
STRIDE = {"val": 11, "test": 9}  # clips between the actors of two streams
PROTOCOL = (
    f"rendered mocap15 streams of {SECONDS:g} s (actions of 1.6-3.2 s with idle gaps of 0.8-3.6 s, "
    f"no cuts, one actor, camera and background each), {RATE} frames/s, {MODEL} (trained on the "
    f"train split); settings by the best F1 on {STREAMS['val']} streams of the val split, figures "
    f"on {STREAMS['test']} streams of the test split. An event is right if it has the class of a "
    "true segment that it overlaps; each segment is found once, in order of time; all others are "
    "false. delay: start of a right event after the true start, announced: time at which it was "
    "given after the true start (medians). 95 % percentile bootstrap over streams"
)
OUTAGE_PROTOCOL = (
    "12 cameras, 5 steps per second each for 120 s in real time, an event per camera every 8 s "
    "(announced and closed) to a webhook on this machine and a SQLite store; the webhook refuses "
    "connections from second 30 to 90 (outage), or never (none). add: time that a step takes in "
    "the thread of the model; late: how much later than planned a step is made (the age that an "
    "outage would add)"
)

Span = tuple[float, float, str]


@dataclass(frozen=True)
class Given:
    """An event that a method gave, with the time at which it could be known."""

    start: float
    end: float
    label: str
    known: float


@dataclass(frozen=True)
class Stream:
    """Scores (T, classes) of the steps of one stream by memory, and its true segments."""

    times: Any
    scores: dict[str, Any]
    truth: list[Span]


# --- accuracy -----------------------------------------------------------------------------------


def streams(split: str, cache: Path | None) -> tuple[list[Stream], tuple[str, ...]]:
    """The streams of a split, and the labels of the model."""
    recognisers = {
        "window": load(MODEL, top_k=15), MEMORY: load(MODEL, top_k=15, memory=MEMORY)
    }  # fmt: skip
    labels = recognisers["window"].labels
    found = []
    for index in range(STREAMS[split]):
        number = index * STRIDE[split]
        parts = long_spec(number, SECONDS, split=split).parts
        truth = [
            (p.start, p.end, p.label) for p in parts if p.label is not None and p.end <= SECONDS
        ]
        file = None if cache is None else cache / f"{split}-{number}.npz"
        if file is not None and file.is_file():
            kept = dict(np.load(file))
        else:
            frames = rendered(number, SECONDS, split)[0].permute(1, 2, 3, 0).numpy()
            kept = {}
            for name, recogniser in recognisers.items():
                rows = list(recogniser.stream((f, i / RATE) for i, f in enumerate(frames)))
                kept[name] = np.array([_row(one.labels, labels) for one in rows])
                kept["times"] = np.array([one.trace.steps[-1].time for one in rows if one.trace])
            if file is not None:
                np.savez(file, **kept)
        times = kept.pop("times")
        found.append(Stream(times, kept, truth))
        print(split, index, len(times), len(truth), flush=True)
    return found, labels


def _row(scores: Sequence[Any], labels: Sequence[str]) -> list[float]:
    by_label = {one.label: one.score for one in scores}
    return [by_label[label] for label in labels]


def by_window(stream: Stream, labels: Sequence[str], threshold: float) -> list[Given]:
    """The last answer of each window of the model, if it is sure enough; equal ones are joined."""
    found: list[Given] = []
    last = np.flatnonzero(np.diff(np.floor(stream.times / WINDOW + 1e-6), append=np.inf))
    for at in last:
        scores, until = stream.scores["window"][at], float(stream.times[at])
        best = int(scores.argmax())
        if scores[best] < threshold:
            continue
        start = WINDOW * np.floor(until / WINDOW + 1e-6)
        before = found[-1] if found else None
        if before and before.label == labels[best] and start - before.end <= 1 / RATE + 1e-6:
            found[-1] = Given(before.start, until, before.label, before.known)
        else:
            found.append(Given(float(start), until, labels[best], until))
    return found


def by_events(
    stream: Stream, labels: Sequence[str], settings: EventSettings, memory: str
) -> list[Given]:
    """What `foveate watch` gives with these settings."""
    detector = EventDetector(labels, settings)
    announced: dict[str, float] = {}
    closed: list[Event] = []
    for seconds, scores in zip(stream.times.tolist(), stream.scores[memory].tolist(), strict=True):
        step = StepResult.model_construct(
            camera="stream", source="rendered", epoch=1, time=seconds, wall=seconds,
            scores=dict(zip(labels, scores, strict=True)), size=(SIDE, SIDE),
        )  # fmt: skip
        for event in detector.add(step):
            if event.end is None:
                announced[event.id] = seconds
            else:
                closed.append(event)
    closed += detector.close()
    return [Given(e.start, float(e.end or 0), e.label, announced[e.id]) for e in closed]


def counts(stream: Stream, given: Sequence[Given]) -> tuple[list[float], list[float], list[float]]:
    """Right events, given events and true segments; delays; delays of the announcement."""
    taken: set[int] = set()
    delays, known = [], []
    for one in sorted(given, key=lambda one: one.start):
        for place, (start, end, label) in enumerate(stream.truth):
            overlaps = one.start <= end and one.end >= start
            if place not in taken and label == one.label and overlaps:
                taken.add(place)
                delays.append(one.start - start)
                known.append(one.known - start)
                break
    return [float(len(taken)), float(len(given)), float(len(stream.truth))], delays, known


Method = Callable[[Stream], list[Given]]


def f1_of(method: Method, found: Sequence[Stream]) -> float:
    """Of all streams together."""
    right, given, true = np.sum([counts(one, method(one))[0] for one in found], axis=0)
    return float(2 * right / max(given + true, 1))


def fitted(
    make: Callable[..., Method], grid: dict[str, Sequence[float]], found: Sequence[Stream]
) -> tuple[dict[str, float], Method]:
    """The settings of a grid with the best F1, and the method with them."""
    options = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    best = max(options, key=lambda one: f1_of(make(**one), found))
    return best, make(**best)


def measured(method: Method, found: Sequence[Stream]) -> tuple[dict[str, Any], Any]:
    """Figures of a method with intervals over streams, and the statistic of its F1."""
    rows = [counts(one, method(one)) for one in found]
    right, given, true = np.array([row[0] for row in rows]).T
    hours = np.full(len(rows), SECONDS / 3600)
    units = list(range(len(rows)))
    statistics = {
        "precision": lambda w: ratio(w @ right, w @ given),
        "recall": lambda w: ratio(w @ right, w @ true),
        "f1": lambda w: ratio(2 * (w @ right), w @ given + w @ true),
        "false_per_hour": lambda w: ratio(w @ (given - right), w @ hours),
    }
    figures: dict[str, Any] = {
        "right": int(right.sum()), "given": int(given.sum()), "true": int(true.sum()),
        "delay_s": _quartiles([d for row in rows for d in row[1]]),
        "announced_s": _quartiles([d for row in rows for d in row[2]]),
    }  # fmt: skip
    for name, statistic in statistics.items():
        within = interval(statistic, len(rows), units)
        figures[name] = {"value": within.value, "low": within.low, "high": within.high}
    return figures, statistics["f1"]


def _quartiles(values: Sequence[float]) -> list[float]:
    """Quartiles in seconds, rounded to the distance of frames."""
    return [round(float(v), 2) for v in np.quantile(values, (0.25, 0.5, 0.75))] if values else []


def accuracy(cache: Path | None) -> None:
    """Fit every method on validation streams, measure it on test streams, write the result."""
    val, labels = streams("val", cache)
    test, _ = streams("test", cache)
    grid = [round(0.1 * i, 2) for i in range(2, 10)]

    def window(threshold: float) -> Method:
        return lambda stream: by_window(stream, labels, threshold)

    def hysteresis(memory: str) -> Callable[..., Method]:
        def make(fall: float = 1.0, **values: float) -> Method:
            if "start_threshold" in values:
                values["end_threshold"] = values["start_threshold"] * fall
            settings = build(EventSettings, values, "events")
            return lambda stream: by_events(stream, labels, settings, memory)

        return make

    full = {
        "start_threshold": grid[1:-1], "fall": (0.4, 0.6, 0.8), "smooth": (0.0, 0.3),
        "min_seconds": (0.5, 1.0), "min_gap": (0.4, 1.0),
    }  # fmt: skip
    single = {
        "start_threshold": grid, "lookback": (0.0,), "min_seconds": (0.0,), "min_gap": (0.0,)
    }  # fmt: skip
    methods: dict[str, tuple[Any, dict[str, Sequence[float]]]] = {
        "threshold per window": (window, {"threshold": grid}),
        "threshold per step": (hysteresis("window"), single),
        f"threshold per step, memory {MEMORY}": (hysteresis(MEMORY), single),
        "events, default settings": (hysteresis("window"), {}),
        f"events, default settings, memory {MEMORY}": (hysteresis(MEMORY), {}),
        "events, fitted": (hysteresis("window"), full),
        f"events, fitted, memory {MEMORY}": (hysteresis(MEMORY), full),
    }
    figures: dict[str, Any] = {}
    reference: Any = None
    for name, (make, choices) in methods.items():
        settings, method = fitted(make, choices, val)
        found, f1 = measured(method, test)
        figures[name] = {"settings": settings, "val_f1": f1_of(method, val), **found}
        if reference is None:
            reference = f1
        else:
            against = compare(f1, reference, len(test), list(range(len(test))))
            figures[name]["against"] = against.sentence(name, "threshold per window", "f1")
        print(name, figures[name], flush=True)
    write("events", PROTOCOL, len(test), {"methods": figures}, (1,))


# --- an outage ----------------------------------------------------------------------------------


@contextmanager
def receiver(port: int, received: list[str]) -> Iterator[int]:
    """A webhook's server that notes the id of every delivery."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            received.append(self.headers["webhook-id"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def paced(outputs: EventOutputs, first: int, last: int) -> tuple[list[str], list[float], Any]:
    """Steps of twelve cameras in real time between two seconds.

    Returns:
        Ids of the events that were given, seconds that each step took, and how late each was.
    """
    given, took, late = [], [], []
    begun = time.perf_counter() - first
    for tick in range(first * RATE, last * RATE):
        planned = begun + tick / RATE
        time.sleep(max(0.0, planned - time.perf_counter()))
        for camera in range(12):
            score = 0.9 if (tick / RATE + camera) % 8 < 3 else 0.05
            step = StepResult(
                camera=f"camera{camera}", source="none", epoch=1, time=tick / RATE,
                wall=time.time(), age=0.0, size=(320, 240), scores={"walk": score},
            )  # fmt: skip
            at = time.perf_counter()
            late.append(at - planned)
            given += [f"{event.id}.{event.revision}" for event in outputs.add(step)]
            took.append(time.perf_counter() - at)
    return given, took, late


def outage_once(down: bool) -> dict[str, Any]:
    """One run of two minutes."""
    received: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        with receiver(0, received) as port:
            pass  # a free port
        targets = EventTargets(webhook=f"http://127.0.0.1:{port}/", store=Path(folder) / "e.db")
        outputs = EventOutputs(["walk"], EventConfig(), targets)
        with receiver(port, received):
            given, took, late = paced(outputs, 0, 30)
            if not down:
                parts = [paced(outputs, 30, 120)]
        if down:
            parts = [paced(outputs, 30, 90)]
        with receiver(port, received):
            if down:
                parts.append(paced(outputs, 90, 120))
            for part in parts:
                given, took, late = given + part[0], took + part[1], late + part[2]
            until = time.monotonic() + 60
            while set(given) - set(received) and time.monotonic() < until:
                time.sleep(0.05)
            failures = outputs.stats["webhook"].failures
            given += [f"{event.id}.{event.revision}" for event in outputs.close()]
    lost, twice = set(given) - set(received), len(received) - len(set(received))
    in_order = list(dict.fromkeys(received)) == given
    return {
        "steps": len(took), "given": len(given), "lost": len(lost), "delivered_twice": twice,
        "in_order": in_order, "failed_attempts": failures,
        "add_us": {q: round(1e6 * float(np.quantile(took, v)), 1)
                   for q, v in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
        "late_ms": {q: round(1e3 * float(np.quantile(late, v)), 2)
                    for q, v in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))},
    }  # fmt: skip


def outage() -> None:
    """Measure both runs and write the result."""
    figures = {name: outage_once(name == "outage") for name in ("none", "outage")}
    print(figures)
    write("events_outage", OUTAGE_PROTOCOL, figures["outage"]["given"], figures)


def main() -> None:
    """Run one of the benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("accuracy", "outage"))
    parser.add_argument("--cache", type=Path, help="folder that keeps the scores for another run")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if options.what == "outage":
        outage()
    else:
        accuracy(options.cache)


if __name__ == "__main__":
    main()
