"""Where results go: JSON Lines to a file or to standard output, all else to standard error."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Self, TextIO

from foveate.core import FoveateError, Result


class JsonLines:
    """Writes one Result per line.

    A file is written under a temporary name and renamed at the end, so it is whole or absent.
    When the run is interrupted the lines so far are whole lines, and they are kept.

    Args:
        target: A path, `-` for standard output, or None for nowhere.

    Raises:
        FoveateError: The file cannot be written.
    """

    def __init__(self, target: str | None) -> None:
        self.to_stdout = target == "-"
        self._path = Path(target) if target not in (None, "-") else None
        self._partial: Path | None = None
        self._file: TextIO | None = sys.stdout if self.to_stdout else None
        if self._path is not None:
            self._partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
            try:
                self._file = self._partial.open("w", encoding="utf-8")
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                raise FoveateError(f"{target}: cannot be written ({reason})") from None

    def write(self, result: Result) -> None:
        """Add one line."""
        if self._file is not None:
            self._file.write(result.to_json() + "\n")
            self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._path is None or self._partial is None or self._file is None:
            return
        self._file.close()
        if kind is None or issubclass(kind, KeyboardInterrupt):
            os.replace(self._partial, self._path)
        else:
            self._partial.unlink(missing_ok=True)


def check_writable(path: Path | None) -> None:
    """Refuse before the work, not after it, a path that cannot be written.

    Raises:
        FoveateError: Its folder is missing or forbids writing, or it is a folder itself.
    """
    if path is None:
        return
    if path.is_dir():
        raise FoveateError(f"{path}: is a folder, not a file")
    if not path.parent.is_dir():
        raise FoveateError(f"{path}: its folder does not exist", f"type: mkdir -p {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise FoveateError(f"{path}: its folder cannot be written to")
