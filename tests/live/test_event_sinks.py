"""Sinks: files, commands, webhooks and MQTT; outages lose no event and delay nobody."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from foveate.core import ConfigError, FoveateError
from foveate.core.config import build
from foveate.live.events import Event
from foveate.live.metrics import Metrics
from foveate.live.outputs import EventConfig, EventOutputs, EventTargets
from foveate.live.remote import Mqtt, Webhook
from foveate.live.sinks import (
    Command,
    JsonLinesFile,
    MemoryQueue,
    RejectedError,
    SinkSettings,
    SinkStats,
    fields_of,
)
from foveate.live.store import SpoolQueue, read_events
from live.steps import LABELS, step
from live.test_event_store import event

QUICK = {"retry_first": 0.05, "retry_most": 0.1, "timeout": 2.0}


def outputs(sinks: dict[str, Any] | None = None, **targets: Any) -> EventOutputs:
    values = {"events": {"silent": ["idle"]}, "sinks": {**QUICK, **(sinks or {})}}
    settings = build(EventConfig, values, "settings")
    return EventOutputs(LABELS, settings, EventTargets(**targets))


def happen(out: EventOutputs, count: int, first: int = 0) -> list[Event]:
    """Let events happen, one every four seconds of the stream."""
    found = []
    for number in range(first, first + count):
        for i in range(20):
            found += out.add(step(4 * number + i / 5, 0.9 if i < 8 else 0.0))
    return found


def keys(events: list[Event]) -> list[tuple[str, int]]:
    return [(one.id, one.revision) for one in events]


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.01)


# --- JSON Lines ---------------------------------------------------------------------------------


def test_lines_are_there_at_once_and_rotated(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = len(event(0).to_json()) + 1
    sink = JsonLinesFile(str(path), SinkSettings(rotate_mb=2.5 * line / 1e6, rotate_keep=2))
    for number in range(11):
        sink.deliver(event(number))
    sink.close()
    found = {p.name: [Event.from_json(x) for x in p.read_bytes().splitlines()]
             for p in tmp_path.iterdir()}  # fmt: skip
    assert {name: [int(e.id, 16) for e in events] for name, events in found.items()} == {
        "events.jsonl": [9, 10], "events.jsonl.1": [6, 7, 8], "events.jsonl.2": [3, 4, 5],
    }  # fmt: skip


def test_a_line_that_was_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"kind":"ev')
    sink = JsonLinesFile(str(path), SinkSettings())
    sink.deliver(event(0))
    sink.close()
    assert Event.from_json(path.read_bytes().splitlines()[1]) == event(0)


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FoveateError, match="cannot be written"):
        JsonLinesFile(str(tmp_path / "missing" / "events.jsonl"), SinkSettings())


def test_a_pipe_is_written_and_not_rotated(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    sink = JsonLinesFile(str(path), SinkSettings(rotate_mb=1e-6))
    sink.deliver(event(0))
    sink.deliver(event(1))
    sink.close()
    lines = os.read(reader, 10_000).splitlines()
    os.close(reader)
    assert [Event.from_json(line) for line in lines] == [event(0), event(1)]


def test_standard_output_has_a_line_per_event(capfdbinary) -> None:
    sink = JsonLinesFile("-", SinkSettings())
    sink.deliver(event(0))
    sink.close()
    assert Event.from_json(capfdbinary.readouterr().out) == event(0)
    sys.stdout.write("still open\n")


# --- commands -----------------------------------------------------------------------------------


def test_a_command_gets_words_and_the_event_on_standard_input(tmp_path: Path) -> None:
    target = tmp_path / "said.json"
    code = (
        "import json,sys;json.dump([sys.argv[2:],json.load(sys.stdin)['id']],open(sys.argv[1],'w'))"
    )
    word = "{label} of {camera}; $(touch x)"
    sink = Command(f"{sys.executable} -c \"{code}\" {target} '{word}' '{{zone}}'", SinkSettings())
    sink.deliver(event(0, 1))
    assert not target.exists()  # it runs at the beginning of an event only
    sink.deliver(event(0, 0, label="a 'b' \"c\""))
    assert json.loads(target.read_text()) == [
        ["a 'b' \"c\" of gate; $(touch x)", ""], event(0).id
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("notify {lable}", "no field {lable}"),
        ("notify 'a", "cannot be read"),
        ("notify {label.__class__}", "no field {label.__class__}"),
        ("notify {0}", "no field {0}"),
        ("notify {label", "cannot be read"),
        ("", "no command"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Command(line, SinkSettings())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('disk\\nis full')", r"exit code 1 \(is full\)"),
        ("import time; time.sleep(30)", "killed after 0.2 s"),
    ],
)
def test_a_command_that_fails_is_reported(code: str, message: str) -> None:
    sink = Command(f'{sys.executable} -c "{code}"', SinkSettings(command_timeout=0.2))
    if "killed" not in message:
        sink = Command(f'{sys.executable} -c "{code}"', SinkSettings())
    with pytest.raises(RejectedError, match=message):
        sink.deliver(event(0, 0))


def test_a_program_that_is_missing_is_reported() -> None:
    with pytest.raises(RejectedError, match="no-such-program: no such file"):
        Command("no-such-program {label}", SinkSettings()).deliver(event(0, 0))


def test_every_field_has_a_text() -> None:
    found = fields_of(event(0))
    assert set(found) == set(Command.FIELDS)
    assert (found["seconds"], found["clip"], found["zone"]) == ("2.000", "", "")


# --- waiting ------------------------------------------------------------------------------------


def test_a_full_queue_drops_the_oldest_and_counts() -> None:
    stats = SinkStats()
    waiting = MemoryQueue(3, stats)
    for number in range(5):
        waiting.put(event(number))
    found = []
    while (item := waiting.head(0.0)) is not None:
        found.append(int(item[1].id, 16))
        waiting.done(item[0])
    assert (found, stats.lost) == ([2, 3, 4], 2)


def test_a_slow_command_delays_nobody(tmp_path: Path) -> None:
    slow = f'{sys.executable} -c "import time; time.sleep(60)"'
    out = outputs({"command_timeout": 0.02}, on_event=slow, events=str(tmp_path / "events.jsonl"))
    began = time.perf_counter()
    given = happen(out, 20)
    assert time.perf_counter() - began < 0.3
    wait_for(lambda: out.stats["events"].delivered == len(given))
    out.close()
    assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == len(given) == 40


def test_deliveries_are_counted_for_prometheus(tmp_path: Path) -> None:
    out = outputs(events=str(tmp_path / "events.jsonl"), on_event="no-such-program")
    given = happen(out, 3)
    out.close()
    text = Metrics(list, time.monotonic, out.stats).text()
    assert f'foveate_events_delivered_total{{sink="events"}} {len(given)}' in text
    assert 'foveate_events_lost_total{sink="command"} 3' in text
    assert 'foveate_delivery_failures_total{sink="events"} 0' in text


# --- webhook ------------------------------------------------------------------------------------


class Receiver:
    """An HTTP server that keeps what was posted; `answers` are used up first."""

    def __init__(self) -> None:
        self.posts: list[tuple[dict[str, str], bytes, str]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, headers = outer.answers.pop(0) if outer.answers else (204, {})
                if status < 300:
                    headers_ = {k.lower(): v for k, v in self.headers.items()}
                    outer.posts.append((headers_, body, self.path))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                """Print nothing."""

        self.handler = Handler

    @contextmanager
    def running(self, port: int = 0) -> Iterator[int]:
        server = ThreadingHTTPServer(("127.0.0.1", port), self.handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def received(self) -> list[tuple[str, int]]:
        return keys([Event.from_json(body) for _, body, _ in self.posts])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_a_webhook_is_signed_as_in_the_specification(monkeypatch) -> None:
    secret = base64.b64encode(b"0123456789abcdef01234567").decode()
    monkeypatch.setenv("FOVEATE_WEBHOOK_SECRET", f"whsec_{secret}")
    receiver = Receiver()
    with receiver.running() as port:
        Webhook(f"http://me:p%40ss@127.0.0.1:{port}/in?x=1", SinkSettings()).deliver(event(0))
    [(headers, body, path)] = receiver.posts
    assert path == "/in?x=1"
    assert Event.from_json(body) == event(0)
    assert headers["authorization"] == "Basic " + base64.b64encode(b"me:p@ss").decode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = hmac.new(base64.b64decode(secret), signed, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    assert abs(time.time() - int(headers["webhook-timestamp"])) < 5


def test_the_example_of_the_specification() -> None:
    """The published example of Standard Webhooks: secret, id, timestamp, payload, signature."""
    sink = Webhook(
        "http://127.0.0.1/", SinkSettings(), secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    )
    body, stamp, name = b'{"test": 2432232314}', "1614265330", "msg_p5jXN8AQM9LWM0D4loKWxJek"
    signed = hmac.new(sink._key, f"{name}.{stamp}.".encode() + body, hashlib.sha256).digest()
    assert base64.b64encode(signed).decode() == "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [400, 410, 422])
def test_what_is_rejected_is_not_sent_again(status: int) -> None:
    receiver = Receiver()
    receiver.answers = [(status, {})]
    with receiver.running() as port, pytest.raises(RejectedError, match=f"status {status}"):
        Webhook(f"http://127.0.0.1:{port}/secret", SinkSettings()).deliver(event(0))


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
def test_what_failed_is_sent_again_and_no_redirect_is_followed(status: int) -> None:
    receiver, other = Receiver(), Receiver()
    with receiver.running() as port, other.running() as second:
        receiver.answers = [(status, {"location": f"http://127.0.0.1:{second}/"})]
        sink = Webhook(f"http://127.0.0.1:{port}/secret", SinkSettings())
        with pytest.raises(FoveateError, match=f"status {status}") as error:
            sink.deliver(event(0))
        assert "secret" not in str(error.value)
        assert not isinstance(error.value, RejectedError)
        sink.deliver(event(0))
    assert len(receiver.posts) == 1
    assert other.posts == []


def test_a_server_that_asks_to_wait_is_left_alone() -> None:
    receiver = Receiver()
    with receiver.running() as port:
        receiver.answers = [(429, {"retry-after": "1"})]
        sink = Webhook(f"http://127.0.0.1:{port}/", SinkSettings())
        for _ in range(3):
            with pytest.raises(FoveateError):
                sink.deliver(event(0))
    assert receiver.posts == []
    assert receiver.answers == []


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "http://", "host:80/x", "http://h:x/", "http://a/b c"]
)
def test_an_address_that_cannot_be_meant_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="--webhook") as error:
        Webhook(url, SinkSettings())
    assert url not in str(error.value)


def test_an_outage_loses_no_event_keeps_the_order_and_delays_nobody(tmp_path: Path) -> None:
    receiver, port, store = Receiver(), free_port(), tmp_path / "events.db"
    out = outputs(webhook=f"http://127.0.0.1:{port}/", store=store)
    began = time.perf_counter()
    given = happen(out, 10)
    assert time.perf_counter() - began < 0.5
    wait_for(lambda: out.stats["webhook"].failures >= 2)
    assert "refused" in (out.stats["webhook"].error or "").lower()
    with receiver.running(port):
        wait_for(lambda: len(receiver.posts) == len(given))
        given += happen(out, 5, 10)
        wait_for(lambda: len(receiver.posts) == len(given))
    given += happen(out, 5, 15)  # down again, and still at the end of the run
    began = time.perf_counter()
    given += out.close()
    assert time.perf_counter() - began < 5.0
    assert receiver.received() == keys(given[:-10])
    with receiver.running(port):  # the next run delivers the rest
        again = outputs(webhook=f"http://127.0.0.1:{port}/", store=store)
        wait_for(lambda: len(receiver.posts) == len(given))
        again.close()
    assert receiver.received() == keys(given)
    assert len(read_events(store)) == 20
    waiting = SpoolQueue(store, "webhook")
    assert waiting.head(0.0) is None
    waiting.close()


# --- MQTT ---------------------------------------------------------------------------------------


@contextmanager
def broker(port: int, topics: str = "home/#") -> Iterator[list[tuple[str, bytes, int]]]:
    """An MQTT broker in this process, and what a subscriber has received from it."""
    from amqtt.broker import Broker
    from amqtt.client import MQTTClient

    received: list[tuple[str, bytes, int]] = []
    ready, stopping = threading.Event(), threading.Event()

    async def serve() -> None:
        config = {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}},
        }
        server = Broker(config)
        await server.start()
        client = MQTTClient(config={"auto_reconnect": False})
        await client.connect(f"mqtt://127.0.0.1:{port}/")
        await client.subscribe([(topics, 1)])
        ready.set()
        while not stopping.is_set():
            try:
                message = await client.deliver_message(timeout_duration=0.05)
            except TimeoutError:
                continue
            if message is not None:
                received.append((message.topic, bytes(message.data), message.qos))
        await client.disconnect()
        await server.shutdown()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(5)
    try:
        yield received
    finally:
        stopping.set()
        thread.join(5)


def events_of(received: list[tuple[str, bytes, int]]) -> list[tuple[str, int]]:
    found = [Event.from_json(data) for topic, data, _ in received if not topic.endswith("status")]
    return list(dict.fromkeys(keys(found)))  # delivered at least once


@pytest.mark.filterwarnings("ignore")
def test_mqtt_outage_loses_no_event_and_the_status_is_published(tmp_path: Path) -> None:
    port, store = free_port(), tmp_path / "events.db"
    out = outputs(mqtt=f"mqtt://127.0.0.1:{port}/home/cams", store=store)
    wait_for(lambda: "refused" in (out.stats["mqtt"].error or "").lower())
    given = happen(out, 5)
    wait_for(lambda: out.stats["mqtt"].failures >= 1)
    with broker(port) as first:
        wait_for(lambda: len(events_of(first)) == len(given))
    given += happen(out, 5, 5)
    with broker(port) as second:
        wait_for(lambda: len(events_of(first + second)) == len(given))
        out.close()
        wait_for(lambda: ("home/cams/status", b"offline", 1) in second)
    assert events_of(first + second) == keys(given)
    assert ("home/cams/status", b"online", 1) in first
    assert {(topic, qos) for topic, _, qos in first if "status" not in topic} == {
        ("home/cams/gate/walk", 1)
    }


@pytest.mark.filterwarnings("ignore")
def test_mqtt_says_that_it_is_there_before_anything_happens(tmp_path: Path) -> None:
    port = free_port()
    with broker(port) as received:
        out = outputs(mqtt=f"mqtt://127.0.0.1:{port}/home", store=tmp_path / "events.db")
        wait_for(lambda: [one[:2] for one in received] == [("home/status", b"online")])
        out.close()
        wait_for(lambda: received[-1][:2] == ("home/status", b"offline"))


def test_mqtt_topics_are_safe() -> None:
    sink = Mqtt("mqtt://user:secret@broker/", SinkSettings())
    assert sink.prefix == "foveate"
    assert sink.shown == "mqtt://broker:1883"
    assert sink.topic(event(0, camera="a/b+#", label="käse brot")) == "foveate/a_b_/käse_brot"
    with pytest.raises(ConfigError, match="must not contain"):
        Mqtt("mqtt://broker/a/%23", SinkSettings())
    with pytest.raises(ConfigError, match="--mqtt: the address must begin with"):
        Mqtt("http://broker/", SinkSettings())
    assert Mqtt("mqtts://broker", SinkSettings()).shown == "mqtts://broker:8883"
