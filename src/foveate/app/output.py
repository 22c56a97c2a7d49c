"""Output: JSON Lines to a file or standard output, everything else to standard error."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self, TextIO

from foveate.core import FoveateError, Result
from foveate.media.source import display_name


class JsonLines:
    """Writes one Result per line.

    A file is written under a temporary name and renamed at the end, so it is
    complete or absent. If the run is interrupted, the complete lines so far are kept. A pipe or a
    device receives each line at once.

    Args:
        target: A path, `-` for standard output, or None for no output.

    Raises:
        FoveateError: The file cannot be written.
    """

    def __init__(self, target: str | None) -> None:
        self.to_stdout = target == "-"
        self._path = Path(target) if target not in (None, "-") else None
        self._partial: Path | None = None
        self._file: TextIO | None = sys.stdout if self.to_stdout else None
        if self._path is not None:
            # A symbolic link is kept: its target is replaced.
            self._path = Path(os.path.realpath(self._path))
            try:
                if self._path.exists() and not self._path.is_file():
                    self._file = self._path.open("w", encoding="utf-8")
                else:
                    self._partial = self._path.with_name(f".{os.getpid()}.{id(self):x}.partial")
                    self._file = self._partial.open("w", encoding="utf-8")
            except OSError as error:
                raise self._failed(error) from None

    def write(self, result: Result) -> None:
        """Add one line.

        Raises:
            FoveateError: The disk is full, or the file is gone.
        """
        if self._file is None:
            return
        try:
            self._file.write(result.to_json() + "\n")
            self._file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> FoveateError:
        name = "standard output" if self._path is None else display_name(self._path)
        return FoveateError(f"{name}: cannot be written ({(error.strerror or str(error)).lower()})")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._path is None or self._file is None:
            return
        with suppress(OSError):  # `write` has flushed and raised
            self._file.close()
        if self._partial is None:
            return
        if kind is None or issubclass(kind, KeyboardInterrupt):
            os.replace(self._partial, self._path)
        else:
            self._partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, if they do not exist.

    Raises:
        FoveateError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file of that name exists" if path.exists() else str(error.strerror).lower()
        raise FoveateError(f"{display_name(path)}: cannot be made a folder ({reason})") from None


def check_writable(path: Path | None, streams: bool = False) -> None:
    """Check before the work that a path can be written.

    Args:
        path: The output file; None is accepted.
        streams: Whether a pipe or a device is accepted. Other outputs are renamed into place, which
            would replace it.

    Raises:
        FoveateError: Its folder is missing or not writable, or it is not a file.
    """
    if path is None:
        return
    name, folder = display_name(path), path.parent
    if os.path.isdir(path):
        raise FoveateError(f"{name}: is a folder, not a file")
    if os.path.exists(path) and not os.path.isfile(path):
        if streams:
            return
        raise FoveateError(f"{name}: is not a regular file")
    if not os.path.isdir(folder):
        hint = f"type: mkdir -p {display_name(folder)}"
        raise FoveateError(f"{name}: cannot be written, its folder does not exist", hint)
    if not os.access(folder, os.W_OK):
        raise FoveateError(f"{name}: cannot be written, permission denied")
