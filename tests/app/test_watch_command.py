"""`foveate watch`: files as cameras, lines of JSON, signals, metrics, mistakes."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request

import pytest

from clips import encode
from tiny_weights import NAME


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("watched") / "gate.mp4"
    path.write_bytes(encode(frames=50, rate=25))
    return path


def test_a_file_gives_steps_and_events_as_lines(run, clip, tmp_path) -> None:
    out, store = tmp_path / "steps.jsonl", tmp_path / "events.db"
    said = run(
        "watch", clip, "--model", NAME, "--json", out, "--store", store,
        "--set", "events.start_threshold=0.01", "--set", "events.end_threshold=0",
    )  # fmt: skip
    assert said.code == 0, said.err
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [step["time"] for step in steps] == pytest.approx([i / 5 for i in range(10)])
    assert sum(steps[0]["scores"].values()) == pytest.approx(1, abs=1e-3)
    assert {"wait", "decode", "network", "head"} <= set(steps[-1]["latency"])
    closed = [line for line in lines if line["kind"] == "event" and line["state"] == "closed"]
    assert closed
    assert {event["camera"] for event in closed} == {"gate"}
    assert "gate: finished" in said.err
    listed = run("events", store, "--json", "-")
    assert len(listed.out.splitlines()) == len({event["id"] for event in closed})


def test_sigterm_ends_it_cleanly_within_five_seconds(run, clip, tmp_path) -> None:
    out = tmp_path / "steps.jsonl"
    sent: list[float] = []

    def end() -> None:
        until = time.monotonic() + 30
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(1.0)
        sent.append(time.monotonic())
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:  # it would end the tests
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()
    said = run("watch", f"http://127.0.0.1:1/{clip.name}", clip, "--model", NAME, "--json", out)
    assert time.monotonic() - sent[0] < 5
    assert said.code == 0
    assert len(out.read_text().splitlines()) >= 10
    assert "127.0.0.1: waiting (connection refused)" in said.err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_metrics_are_served_while_it_runs(run, clip, capfd) -> None:
    found: list[str] = []

    def ask() -> None:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and not found:
            time.sleep(0.1)
            for port in ports():
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1) as page:
                    found.append(page.read().decode())

    def ports() -> list[int]:
        return [one.port for one in servers]

    from foveate.app import watch

    servers: list = []

    class Noted(watch.MetricsServer):
        def __enter__(self):
            servers.append(self)
            return super().__enter__()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch, "MetricsServer", Noted)
        thread = threading.Thread(target=ask)
        thread.start()
        said = run("watch", clip, "--model", NAME, "--pace", "real", "--metrics", "127.0.0.1:0")
        thread.join()
    assert said.code == 0
    assert 'foveate_camera_up{camera="gate"}' in found[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing to watch"),
        (["missing.mp4"], "missing.mp4: no such file"),
        (["gopher://x/"], "unknown scheme"),
        (["rtsp://${NO_SUCH_VARIABLE}@x/"], "NO_SUCH_VARIABLE is not set"),
        (["rtsp://x/", "--pace", "slow"], "--pace slow: unknown"),
        (["rtsp://x/", "--budget", "200%cpu"], "at most 100%cpu"),
        (["rtsp://x/", "--budget", "5GMAC"], "budget"),
        (["rtsp://x/", "--set", "events.strat_threshold=1"], "start_threshold"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(run, words, message) -> None:
    said = run("watch", *words, "--model", NAME)
    assert said.code == 2
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
