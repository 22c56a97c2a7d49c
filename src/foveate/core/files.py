"""Atomic writes, and the cache folder."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from foveate.core.errors import FoveateError
from foveate.core.text import visible


def cache_folder() -> Path:
    """The folder for downloads, converted weights and probes; it may not exist yet.

    ``FOVEATE_CACHE`` overrides the user's cache folder of the operating system
    (``~/.cache/foveate`` on Linux).
    """
    chosen = os.environ.get("FOVEATE_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    import platformdirs

    # Without `opinion`, Windows gets no further folder "Cache".
    return Path(platformdirs.user_cache_dir("foveate", appauthor=False, opinion=False))


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `target` when the block ends without an exception.

    The temporary file is created in the folder of the target. The file is flushed to disk before it
    is renamed, and the folder afterwards, so that readers, also after a crash, find either the
    complete old file or the complete new one. After an exception it is deleted.

    Args:
        target: The file; its folder must exist.

    Yields:
        The temporary file, open for writing bytes.

    Raises:
        OSError: It cannot be written.
    """
    partial = target.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, target)
        sync_folder(target.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def replace_file(target: Path, data: bytes) -> None:
    """Write a whole file atomically; see `replacing`.

    Args:
        target: The file; its folder is created if it is missing.
        data: Its content.

    Raises:
        FoveateError: It cannot be written; an old file is unchanged.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            file.write(data)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some disk space and run the command again" if full else None
        name = visible(target.name)
        raise FoveateError(f"{name}: cannot be written ({error.strerror})", hint) from None


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk, if the operating system supports it."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return  # Windows cannot open folders.
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
