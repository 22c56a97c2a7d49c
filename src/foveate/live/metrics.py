"""Health over HTTP: `/healthz` for supervisors and `/metrics` in the text format of Prometheus."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from foveate.core import ConfigError
from foveate.live.reader import CameraStatus
from foveate.live.sinks import SinkStats
from foveate.live.step import StepResult

_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
_STUCK = 30.0  # seconds without a round of the loop

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counts steps and events; the state of the cameras is asked for when it is read.

    Args:
        status: Gives the state of all cameras.
        beat: Gives the monotonic time at which the loop last went round.
        sinks: What became of the events, by sink.
    """

    def __init__(
        self,
        status: Callable[[], Iterable[CameraStatus]],
        beat: Callable[[], float],
        sinks: Mapping[str, SinkStats] | None = None,
    ) -> None:
        self._status, self._beat, self._sinks = status, beat, sinks or {}
        self._lock = threading.Lock()
        self._ages: dict[str, Counter[float]] = {}
        self._age_sums: dict[str, float] = {}
        self._stages: dict[Labels, float] = {}
        self._events: Counter[Labels] = Counter()

    def step(self, step: StepResult) -> None:
        """Count a step."""
        with self._lock:
            ages = self._ages.setdefault(step.camera, Counter())
            for bucket in (*_BUCKETS, float("inf")):
                ages[bucket] += step.age <= bucket
            self._age_sums[step.camera] = self._age_sums.get(step.camera, 0.0) + step.age
            for stage, seconds in step.latency.items():
                key = ("camera", step.camera), ("stage", stage)
                self._stages[key] = self._stages.get(key, 0.0) + seconds

    def event(self, camera: str, label: str) -> None:
        """Count an event."""
        with self._lock:
            self._events[("camera", camera), ("label", label)] += 1

    def healthy(self) -> tuple[bool, dict[str, Any]]:
        """Whether the loop goes on, and the state of every camera."""
        idle = time.monotonic() - self._beat()
        cameras = {
            one.name: {"state": one.state, "paused": one.paused, "reason": one.reason}
            for one in self._status()
        }
        fine = idle < _STUCK
        return fine, {"ok": fine, "idle_seconds": round(idle, 3), "cameras": cameras}

    def text(self) -> str:
        """All figures in the text format of Prometheus (version 0.0.4)."""
        lines: list[str] = []

        def add(name: str, kind: str, about: str, values: Iterable[tuple[Labels, float]]) -> None:
            lines.append(f"# HELP foveate_{name} {about}")
            lines.append(f"# TYPE foveate_{name} {kind}")
            lines.extend(f"foveate_{name}{_braces(labels)} {value:g}" for labels, value in values)

        cameras = list(self._status())
        named = [((("camera", one.name),), one) for one in cameras]
        add("camera_up", "gauge", "1 if frames arrive.",
            [(key, float(one.state == "live")) for key, one in named])  # fmt: skip
        add("camera_connects_total", "counter", "Attempts to connect.",
            [(key, one.connects) for key, one in named])  # fmt: skip
        add("frames_received_total", "counter", "Frames received.",
            [(key, one.received) for key, one in named])  # fmt: skip
        add("frames_looked_total", "counter", "Frames that the model was shown.",
            [(key, one.looked) for key, one in named])  # fmt: skip
        add("frames_dropped_total", "counter", "Frames that were not looked at, by cause.",
            [((*key, ("cause", cause)), count) for key, one in named
             for cause, count in one.dropped.items()])  # fmt: skip
        add("frames_queued", "gauge", "Frames that wait.",
            [(key, one.queued) for key, one in named])  # fmt: skip
        add("camera_activity", "gauge", "How much moves, 0 to 1.",
            [(key, one.activity) for key, one in named])  # fmt: skip
        with self._lock:
            add("age_seconds", "histogram", "From the receipt of a frame to its answer.", [])
            for camera, ages in self._ages.items():
                for bucket in (*_BUCKETS, float("inf")):
                    le = "+Inf" if bucket == float("inf") else f"{bucket:g}"
                    labels = _braces((("camera", camera), ("le", le)))
                    lines.append(f"foveate_age_seconds_bucket{labels} {ages[bucket]}")
                own = _braces((("camera", camera),))
                lines.append(f"foveate_age_seconds_sum{own} {self._age_sums[camera]:g}")
                lines.append(f"foveate_age_seconds_count{own} {ages[float('inf')]}")
            add("stage_seconds_total", "counter", "Seconds by stage.", self._stages.items())
            add("events_total", "counter", "Events by label.", self._events.items())
        for name, metric, about in (
            ("delivered", "events_delivered_total", "Revisions of events that a sink accepted."),
            ("failures", "delivery_failures_total", "Attempts to deliver that failed."),
            ("lost", "events_lost_total", "Revisions that were rejected, or too many to wait."),
        ):
            counts = [((("sink", sink),), getattr(one, name)) for sink, one in self._sinks.items()]
            add(metric, "counter", about, counts)
        add("process_seconds_total", "counter", "Processor time.", [((), time.process_time())])
        add("open_files", "gauge", "Open file descriptors.", [((), _open_files())])
        return "\n".join(lines) + "\n"


class MetricsServer:
    """Serves `/metrics` and `/healthz` from a thread.

    Args:
        metrics: What is served.
        address: `HOST:PORT`, such as `127.0.0.1:9464`; port 0 takes a free one.

    Attributes:
        port: That it listens on.

    Raises:
        ConfigError: The address is none, or is taken.
    """

    def __init__(self, metrics: Metrics, address: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds for a request: a silent client holds no thread

            def do_GET(self) -> None:
                code, kind = 200, "text/plain; version=0.0.4; charset=utf-8"
                if self.path == "/metrics":
                    body = metrics.text()
                elif self.path == "/healthz":
                    fine, found = metrics.healthy()
                    code, kind = 200 if fine else 503, "application/json"
                    body = json.dumps(found) + "\n"
                else:
                    code, body = 404, "there are /metrics and /healthz\n"
                data = body.encode()
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None:
                """Requests are not logged."""

        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ConfigError(f"--metrics {address}: no address", "such as 127.0.0.1:9464")
        try:
            self._server = ThreadingHTTPServer((host.strip("[]"), int(port)), Handler)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise ConfigError(f"--metrics {address}: cannot listen ({reason})") from None
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="metrics", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
