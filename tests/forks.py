"""Scripts in processes of their own that have the large packages imported when they start.

A new interpreter takes seconds to import PyTorch, torchvision and timm; a fork of one that has them
does not. What is about the start of an interpreter, or about imports, needs a new one.
"""

from __future__ import annotations

import faulthandler
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context, set_start_method
from pathlib import Path
from threading import Thread
from typing import Any

SECONDS = 240  # less than what pytest gives a test
_PROCESSES = get_context("forkserver")
# No module with a registry: scripts add to them.
_PROCESSES.set_forkserver_preload(
    [
        "torch",
        "torch._dynamo",
        "torchvision",
        "timm",
        "typer.testing",
        "foveate.data",
        "foveate.pipeline.session",
    ]
)


@dataclass(frozen=True)
class Done:
    """Exit code, and what was written; where a script hangs is in `err`."""

    code: int
    out: bytes
    err: bytes


class Script:
    """`python SCRIPT WORDS...` as a process.

    Args:
        script: A file.
        *words: Its arguments.
        cwd: Its working folder; that of this process by default.
        environment: Variables that are set beside those of this process.
        input: What is written to its standard input, a pipe.
        session: Make it a session, and so a process group, of its own.

    Attributes:
        pid: Of the process.
    """

    def __init__(
        self,
        script: str | Path,
        *words: object,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        input: bytes = b"",
        session: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("in", "out", "err")]
        os.mkfifo(self._files[0])
        Thread(target=self._files[0].write_bytes, args=(input,), daemon=True).start()
        argv = [os.fsdecode(w) if isinstance(w, bytes) else str(w) for w in (script, *words)]
        variables = {**os.environ, **(environment or {})}
        arguments = argv, cwd or Path.cwd(), variables, self._files, session
        self._process = _PROCESSES.Process(target=_run, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def errors(self) -> str:
        """What it has written to its standard error so far."""
        return self._written(2).decode()

    def wait(self) -> Done:
        """What it left at its end."""
        self._process.join()
        assert self._process.exitcode is not None
        done = Done(self._process.exitcode, self._written(1), self._written(2))
        self._folder.cleanup()
        return done

    def _written(self, number: int) -> bytes:
        file = self._files[number]
        return file.read_bytes() if file.exists() else b""


def python(script: str | Path, *words: object, **how: Any) -> Done:
    """Run a `Script` to its end."""
    return Script(script, *words, **how).wait()


def _run(
    argv: list[str],
    cwd: Path,
    environment: dict[str, str],
    files: list[Path],
    session: bool = False,
) -> None:
    if session:
        os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files):
        mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        os.dup2(os.open(file, mode), number)
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    set_start_method(None, force=True)  # the default one, as in a new interpreter
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing has replaced it
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent))
    runpy.run_path(argv[0], run_name="__main__")
