"""A real RTSP server on this machine: passwords, two cameras, and a server that restarts."""

from __future__ import annotations

import itertools
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cameras import adds_up, only_steps, recogniser

from foveate.live import reader

SERVER = Path(__file__).with_name("rtsp_server.py")
PYTHON = Path("/usr/bin/python3")
NEEDS = "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0')"


def start(port: int = 0) -> tuple[Any, int]:
    process = subprocess.Popen(
        [PYTHON, SERVER, str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


@pytest.fixture(scope="module")
def available() -> None:
    if not PYTHON.exists() or subprocess.run([PYTHON, "-c", NEEDS], capture_output=True).returncode:
        pytest.skip("needs gir1.2-gst-rtsp-server-1.0 and python3-gi of the system")
    plugins = ["gst-inspect-1.0", "--exists", "x264enc"]
    try:
        found = subprocess.run(plugins, capture_output=True).returncode == 0
    except FileNotFoundError:
        found = True  # the tool is optional; a server without the plugin sends nothing
    if not found:
        pytest.skip("needs gstreamer1.0-plugins-ugly (x264enc)")


@pytest.fixture
def quick(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(reader, "delays", lambda: itertools.repeat(0.2))
    return


def test_cameras_over_rtsp_reconnect_when_the_server_returns(available, quick, caplog) -> None:
    process, port = start()
    processes = [process]
    place = f"127.0.0.1:{port}/open"
    urls = {
        "a": f"rtsp://bob:secret@{place}",
        "b": f"rtsp://bob:secret@{place}",
        "wrong": f"rtsp://bob:guess@{place}",
        "absent": f"rtsp://bob:secret@{place}/not/there",
    }
    watch = recogniser().watch(urls)
    timer = threading.Timer(20.0, watch.stop)
    timer.start()
    steps = []
    try:
        for step in only_steps(watch):
            steps.append(step)
            before = [one for one in steps if one.epoch == 1]
            if len(processes) == 1 and {one.camera for one in before if one.number > 2} == {
                "a",
                "b",
            }:
                process.kill()
                process.wait()
                processes.append(start(port)[0])
            if {one.camera for one in steps if one.epoch > 1 and one.number > 1} == {"a", "b"}:
                watch.stop()
    finally:
        timer.cancel()
        for one in processes:
            one.kill()
            one.wait()
    found = {one.name: one for one in watch.status()}
    for name in ("a", "b"):
        own = [step for step in steps if step.camera == name]
        assert {step.epoch for step in own} == {1, 2}
        assert next(step for step in own if step.epoch == 2).time == 0.0
        times = [step.time for step in own if step.epoch == 1]
        assert times == pytest.approx([i / 5 for i in range(len(times))], abs=0.02)
        assert adds_up(found[name])
        assert found[name].size == (64, 48)
    assert (found["wrong"].connects, found["wrong"].received) == (1, 0)
    assert found["absent"].connects > 1
    assert "secret" not in caplog.text
    assert "guess" not in caplog.text
