"""Cameras for the tests: MPEG-TS over HTTP, sent at its own pace, with faults on request."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from clips import encode

Behaviour = Callable[[], Iterator[bytes]]
FPS = 25


@cache
def stream(frames: int = 100, size: tuple[int, int] = (64, 48), first: int = 0) -> bytes:
    """Numbered pictures as MPEG-TS, key frames every 0.2 s."""
    options = {"tune": "zerolatency", "x264-params": "scenecut=0:threads=1:repeat-headers=1"}
    return encode("mpegts", frames=frames, size=size, gop=5, first=first, options=options)


def paced(data: bytes, seconds: float) -> Iterator[bytes]:
    """Bytes spread evenly over some seconds, in pieces of one frame's time."""
    pieces = max(1, round(seconds * FPS))
    begun, size = time.monotonic(), -(-len(data) // pieces)
    for number in range(pieces):
        time.sleep(max(0.0, begun + number / FPS - time.monotonic()))
        yield data[number * size : (number + 1) * size]


def steady(frames: int = 100, size: tuple[int, int] = (64, 48), first: int = 0) -> Behaviour:
    """A camera that works for so many frames, and is cut off then."""
    return lambda: paced(stream(frames, size, first), frames / FPS)


def stalled(frames: int, silent: float) -> Behaviour:
    """Frames, then nothing while the connection stays open."""

    def send() -> Iterator[bytes]:
        yield from paced(stream(frames), frames / FPS)
        until = time.monotonic() + silent
        while time.monotonic() < until:
            time.sleep(0.05)
            yield b""

    return send


def joined(*behaviours: Behaviour) -> Behaviour:
    """One behaviour after another on the same connection."""
    return lambda: (piece for one in behaviours for piece in one())


def garbage(count: int) -> Behaviour:
    """Bytes that are no video."""
    return lambda: iter([bytes((17 * i * i) % 251 for i in range(count))])


class CameraServer:
    """An HTTP server of cameras; a path has one behaviour per connection, the last one repeats.

    Attributes:
        connections: How often each path was asked for.
        password: What `/locked/...` asks for, as `user:password`.
    """

    def __init__(self, paths: dict[str, Sequence[Behaviour]], password: str = "") -> None:
        self.connections: Counter[str] = Counter()
        self.stopped = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                behaviours = paths.get(path)
                outer.connections[path] += 1
                if behaviours is None:
                    return self.send_error(404)
                given = self.headers.get("Authorization", "").partition(" ")[2]
                if "locked" in path and base64.b64decode(given).decode() != password:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    return self.end_headers()
                self.send_response(200)
                self.send_header("Content-Type", "video/mp2t")
                self.end_headers()
                number = min(outer.connections[path], len(behaviours)) - 1
                try:
                    for piece in behaviours[number]():
                        if outer.stopped.is_set():
                            break
                        self.wfile.write(piece)
                        self.wfile.flush()
                except OSError:
                    pass  # the reader has gone

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
