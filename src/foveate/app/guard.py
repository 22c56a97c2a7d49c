"""Exit codes, and one line of text for every error."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from foveate.data import DataError

# Exit codes, see docs/architecture/design.md.
DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
DEBUG = "FOVEATE_DEBUG"  # environment variable that `--debug` sets


def print_faults(error: DataError) -> None:
    """Print every fault of a data set; `guard` prints the error's own line."""
    if error.count > 1:
        for line in error.faults:
            print(f"  {line}", file=sys.stderr)
        if error.count > len(error.faults):
            print(f"  and {error.count - len(error.faults)} more", file=sys.stderr)


def print_error(error: BaseException, note: str = "") -> None:
    """Print an error as one line on standard error, after its traceback with `--debug`.

    Args:
        error: What was raised.
        note: Printed before its message, such as `not measured: `.
    """
    if os.environ.get(DEBUG):
        traceback.print_exception(error)
    print(f"foveate: {note}{error}", file=sys.stderr)


def print_notice(line: str) -> None:
    """Print a line about the work on standard error."""
    print(f"foveate: {line}", file=sys.stderr)


def guard(work: Callable[[], int]) -> None:
    """Run a command; an error of the user prints one line, and a traceback with `--debug` only."""
    from foveate.core.errors import DataWarning, FoveateError

    plain = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if issubclass(category, DataWarning):
            print(f"foveate: {message}", file=sys.stderr)
        else:
            plain(message, category, *place, **more)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", DataWarning)
            warnings.showwarning = show
            code = work()
    except FoveateError as error:
        print_error(error)
        code = USAGE
    except KeyboardInterrupt:
        print("foveate: interrupted", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of standard output has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILED
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        text = " ".join(str(error).split()) or "no message"
        print(
            f"foveate: internal error: {type(error).__name__}: {text[:300]} "
            "(run again with --debug for the traceback)",
            file=sys.stderr,
        )
        code = FAILED
    raise typer.Exit(code)
