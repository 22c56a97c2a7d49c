"""Opens clips in child processes, so that none of them can crash or block this process.

The children are separate programs rather than `multiprocessing` workers: that module
needs a guarded main module, and forking a process that runs threads can hang.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from foveate.data.probing import Probe, from_json, probe, to_json

SECONDS = 60.0  # for one clip
_START_SECONDS = 120.0  # for a child to begin, on a busy machine
_READY = b"ready\n"
MEMORY = 4 << 30  # bytes of address space beyond those of an idle child
_PROGRAM = "from foveate.data.children import serve; serve()"


def in_children(
    paths: Sequence[Path], workers: int, seconds: float = SECONDS, program: str = _PROGRAM
) -> Iterator[tuple[Path, Probe]]:
    """Probe clips in child processes.

    Args:
        paths: The clips.
        workers: How many children at most.
        seconds: How long one clip may take before its child is killed.
        program: What the children run.

    Yields:
        Each clip with its probe, in the order in which they are done.
    """
    waiting = deque(paths)
    children = [_Child(program) for _ in range(min(workers, len(waiting)))]
    try:
        with selectors.DefaultSelector() as ready:
            for child in children:
                ready.register(child.answers, selectors.EVENT_READ, child)
                child.give(waiting, seconds)
            while any(child.path is not None for child in children):
                yield from _wait(ready, waiting, seconds, children)
    finally:
        for child in children:
            child.end()


def _wait(
    ready: selectors.BaseSelector, waiting: deque[Path], seconds: float, children: list[_Child]
) -> Iterator[tuple[Path, Probe]]:
    """Collect the answers of one second, and replace children that died or timed out."""
    for key, _ in ready.select(1.0):
        child: _Child = key.data
        path, line = child.path, child.answers.readline()
        if line == _READY:
            child.deadline = time.monotonic() + seconds
        elif path is None:
            ready.unregister(child.answers)
        elif line.endswith(b"\n"):
            child.give(waiting, seconds)
            yield path, from_json(line.decode())
        else:
            code = child.restart(ready)
            child.give(waiting, seconds)
            yield path, Probe(error=f"its decoder died ({_death(code)})")
    for child in children:
        if child.path is not None and time.monotonic() > child.deadline:
            path = child.path
            child.restart(ready)
            child.give(waiting, seconds)
            yield path, Probe(error=f"opening it took more than {seconds:g} seconds")


def _death(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


@dataclass
class _Child:
    """One child process and the clip it is working on."""

    program: str
    path: Path | None = None
    deadline: float = 0.0
    fresh: bool = True

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # a signal to this process's group would look like a bad clip
            bufsize=0,  # a line that lay in a buffer would not wake the selector
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._asks, self.answers = self._process.stdin, self._process.stdout
        self.fresh = True

    def give(self, waiting: deque[Path], seconds: float) -> None:
        """Send the next clip, or nothing if none is left."""
        self.path = waiting.popleft() if waiting else None
        if self.path is None:
            return
        self.deadline = time.monotonic() + seconds + (_START_SECONDS if self.fresh else 0.0)
        self.fresh = False
        with suppress(OSError):  # if the child is dead, the other pipe ends
            self._asks.write(json.dumps(os.fsdecode(self.path)).encode() + b"\n")
            self._asks.flush()

    def restart(self, ready: selectors.BaseSelector) -> int:
        """Replace this process with a new one; returns the exit code of the old one."""
        ready.unregister(self.answers)
        code = self.end()
        self._start()
        ready.register(self.answers, selectors.EVENT_READ, self)
        return code

    def end(self) -> int:
        """Kill the process and close its pipes; returns its exit code."""
        try:
            code = self._process.wait(0.2 if self.path is not None else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        for pipe in (self._asks, self.answers):
            with suppress(OSError):
                pipe.close()
        return code


def serve() -> None:
    """Main loop of a child: read a path per line, write a probe result per line."""
    # Decoders sometimes print to standard output, so the answers use a pipe of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _limit_memory()
    answers.write(_READY)
    answers.flush()
    for line in sys.stdin.buffer:
        found = probe(Path(json.loads(line)))
        answers.write(to_json(found).encode() + b"\n")
        answers.flush()


def _limit_memory() -> None:
    """Bound the address space where the system can."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    except (ImportError, OSError, ValueError):
        return
