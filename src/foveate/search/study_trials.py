"""Runs trials in child processes, with limits on their time and memory.

A child is a program of its own, as in `foveate.data.children`: a crash, an endless loop or a lack
of memory ends one trial and not the study. The objective function is named by module and function,
and everything that passes between the processes is JSON.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from foveate.core import ConfigError, FoveateError
from foveate.core.files import replace_file

RESULT, LOG = "result.json", "log.txt"
_POLL = 0.2  # seconds between looks at the clock and at the memory
_PROGRAM = "from foveate.search.study_trials import serve; serve()"
_LACKS = ("out of memory", "can't allocate memory", "cannot allocate memory")

Report = Callable[[float], None]
"""Reports the accuracy after an epoch, by which a trial may be pruned."""


@dataclass(frozen=True)
class Job:
    """One evaluation of the objective function.

    Attributes:
        number: Of the trial.
        folder: Of the trial; it exists.
        study: Folder of the study, for what trials share.
        values: What was drawn: nested, without values left at their defaults.
        context: What all trials have in common, as plain JSON.
    """

    number: int
    folder: Path
    study: Path
    values: dict[str, Any]
    context: dict[str, Any] = field(default_factory=dict)


Objective = Callable[[Job, Report], Mapping[str, Any]]
"""Measures a trial: the objectives by name, and whatever else is worth keeping, as JSON."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        state: `complete`, `failed`, or `pruned`.
        values: What the objective function returned.
        reason: Why it failed, in one line.
        seconds: How long it took.
    """

    state: Literal["complete", "failed", "pruned"]
    values: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0


def run_in_child(
    objective: Objective,
    job: Job,
    *,
    seconds: float | None = None,
    memory: float | None = None,
    prune: Callable[[int, float], bool] = lambda step, value: False,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Evaluate an objective function in a child process.

    Args:
        objective: A function of a module, which the child imports by name.
        job: What to evaluate.
        seconds: Time limit, None for none.
        memory: Limit in bytes on the memory of the child and its loading processes, None for none.
            It is checked five times a second.
        prune: Called with the number of a report, from 1, and its value; True ends the trial.
        stopped: Asked five times a second whether the study was interrupted.

    Raises:
        KeyboardInterrupt: The study was interrupted; the child is ended.
    """
    began = time.monotonic()
    with _Child(objective, job) as child:
        deadline = None if seconds is None else began + seconds
        answer = child.wait(deadline, memory, prune, stopped)
    spent = time.monotonic() - began
    if answer == "time":
        return Outcome("failed", reason=f"took more than {seconds:g} s", seconds=spent)
    if answer == "memory":
        reason = f"used more than {(memory or 0) / 1e9:.3g} GB of memory"
        return Outcome("failed", reason=reason, seconds=spent)
    if answer == "pruned":
        return Outcome("pruned", seconds=spent)
    # What the child wrote counts, however it ended afterwards.
    found = read_outcome(job.folder) or Outcome("failed", reason=child.death())
    return replace(found, seconds=spent)


def read_outcome(folder: Path) -> Outcome | None:
    """What a child wrote at its end, None if it did not come to that."""
    try:
        return Outcome(**json.loads((folder / RESULT).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def name_of(objective: Objective) -> str:
    """Module and name of a function, by which a child process finds it.

    Raises:
        ConfigError: It cannot be imported: a function inside another one, or of a plain script.
    """
    module, name = objective.__module__, objective.__qualname__
    if module == "__main__":  # of `python -m package.module`
        spec = getattr(sys.modules[module], "__spec__", None)
        module = module if spec is None else spec.name
    if module == "__main__" or "<" in name:
        raise ConfigError(
            f"objective function {name}: cannot be imported by child processes",
            "define it at the top of a module",
        )
    return f"{module}:{name}"


class _Child:
    """A process that evaluates one job; it is ended with everything that it started."""

    def __init__(self, objective: Objective, job: Job) -> None:
        name = name_of(objective)
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / RESULT).unlink(missing_ok=True)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with (job.folder / LOG).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # its group is ended as a whole, and Ctrl-C is for us
                bufsize=0,
            )
        order = {
            **asdict(job), "folder": str(job.folder), "study": str(job.study),
            "objective": name,
        }  # fmt: skip
        assert self._process.stdin is not None
        with suppress(OSError):  # of a child that is dead already
            self._process.stdin.write(json.dumps(order).encode() + b"\n")

    def __enter__(self) -> _Child:
        return self

    def wait(
        self, deadline: float | None, memory: float | None, prune: Callable[[int, float], bool],
        stopped: Callable[[], bool],
    ) -> str:  # fmt: skip
        """Until the end (""), or until a limit was passed: `time`, `memory` or `pruned`."""
        answers, step, rest = self._process.stdout, 0, b""
        assert answers is not None
        with selectors.DefaultSelector() as ready:
            ready.register(answers, selectors.EVENT_READ)
            while True:
                if ready.select(_POLL):
                    data = os.read(answers.fileno(), 65536)
                    if not data:
                        return ""
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        step += 1
                        if prune(step, float(line)):
                            return "pruned"
                if stopped():
                    raise KeyboardInterrupt
                if deadline is not None and time.monotonic() > deadline:
                    return "time"
                if memory is not None and _memory_of(self._process.pid) > memory:
                    return "memory"

    def death(self) -> str:
        """How it ended, if it gave no answer."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "was killed (signal 9): the machine may be out of memory"
        return f"crashed (signal {-code})" if code < 0 else f"ended with exit code {code}"

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _memory_of(group: int) -> int:
    """Bytes of private resident memory of a process group; 0 where there is no /proc."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), 0
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            # The name of the program, in parentheses, may contain spaces.
            state = (folder / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
            if int(state[2]) == group:
                resident, shared = (folder / "statm").read_text("ascii").split()[1:3]
                pages += int(resident) - int(shared)
    return pages * page


def serve() -> None:
    """What a child runs: one job from standard input; reports go to standard output."""
    # Whatever the objective function prints must not look like a report.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    module, _, name = order.pop("objective").partition(":")
    job = Job(**{**order, "folder": Path(order["folder"]), "study": Path(order["study"])})
    began = time.monotonic()
    try:
        objective: Any = import_module(module)
        for part in name.split("."):
            objective = getattr(objective, part)
        values = objective(job, lambda value: _tell(answers, value))
        outcome = Outcome("complete", json.loads(json.dumps(dict(values), allow_nan=False)))
    except MemoryError:
        outcome = Outcome("failed", reason="out of memory")
    except FoveateError as error:
        outcome = Outcome("failed", reason=str(error))
    except Exception as error:
        traceback.print_exc()
        text = " ".join(str(error).split())[:300]
        lacks = any(words in text.lower() for words in _LACKS)
        outcome = Outcome("failed", reason="out of memory" if lacks else
                          f"internal error: {type(error).__name__}: {text}")  # fmt: skip
    written = {**asdict(outcome), "seconds": time.monotonic() - began}
    replace_file(job.folder / RESULT, json.dumps(written).encode())


def _tell(answers: Any, value: float) -> None:
    answers.write(f"{value!r}\n".encode())


def _end_with_parent() -> None:
    """End with all processes of the trial when the study is gone, however it ended."""
    while os.read(0, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)
