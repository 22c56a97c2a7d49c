"""Scripts in processes of their own that have the large packages imported when they start.

A new interpreter takes seconds to import PyTorch, torchvision and timm; a fork of one that has them
does not. What is about the start of an interpreter, or about imports, needs a new one.
"""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing import get_context, set_start_method
from pathlib import Path
from threading import Thread

SECONDS = 280
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
    """Exit code (None: it took too long and was killed) and what was written."""

    code: int | None
    out: bytes
    err: bytes


def python(
    script: str | Path,
    *words: str | bytes | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    input: bytes = b"",
) -> Done:
    """Run `python SCRIPT WORDS...` to its end.

    Args:
        script: A file.
        *words: Its arguments.
        cwd: Its working folder; that of this process by default.
        environment: Variables that are set beside those of this process.
        input: What is written to its standard input, a pipe.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("in", "out", "err")]
        os.mkfifo(files[0])
        Thread(target=files[0].write_bytes, args=(input,), daemon=True).start()
        argv = [os.fsdecode(word) for word in (script, *words)]
        variables = {**os.environ, **(environment or {})}
        process = _PROCESSES.Process(target=_run, args=(argv, cwd or Path.cwd(), variables, files))
        process.start()
        process.join(SECONDS)
        code = process.exitcode
        process.kill()
        process.join()
        return Done(code, *(file.read_bytes() if file.exists() else b"" for file in files[1:]))


def _run(argv: list[str], cwd: Path, environment: dict[str, str], files: list[Path]) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files):
        mode = os.O_WRONLY | os.O_CREAT | os.O_APPEND if number else os.O_RDONLY
        os.dup2(os.open(file, mode), number)
    set_start_method(None, force=True)  # the default one, as in a new interpreter
    sys.stdin = os.fdopen(0, closefd=False)  # multiprocessing has replaced it
    sys.argv = argv
    sys.path.insert(0, str(Path(argv[0]).parent))
    runpy.run_path(argv[0], run_name="__main__")
