"""Turns a path, bytes or a file object into one counted, seekable stream of bytes.

FFmpeg never sees a name: it reads through `Reader`. So no name is parsed as a pattern, an option
or an address, and nothing but this one file can be opened.
"""

from __future__ import annotations

import io
import math
import os
import selectors
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from foveate.core import LimitError, MediaError
from foveate.media.limits import DEFAULT_LIMITS, Limits

_PASSES = 3  # over the whole file in which FFmpeg must find something
_LEAST_READ = 64  # bytes that a read counts at least, so that reading at the end counts too
_NAME_LENGTH = 300  # letters of a name that messages show
_FURTHEST = (1 << 63) - 1  # position that a file can have
_SMALL = 64  # bytes; shorter reads, of headers that lie far apart, take no whole block
_BLOCK = 8192  # bytes that are read and kept together
_BLOCKS = 256  # kept at a time: FFmpeg goes back and forth between the tracks of many files
Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
SPOOL_BYTES = 32 * 1024 * 1024
CHUNK_BYTES = 1024 * 1024


class Reader:
    """A binary file that counts what is read; all that FFmpeg reads goes through it.

    What was read last is kept in memory, so that going back a little reads nothing. Errors are
    kept until `check`, and the file ends for FFmpeg: an exception thrown through its callbacks
    could be reported twice, on standard error.

    Args:
        file: Open at any position; several readers may share it.
        name: What it is called in messages.
        owned: Whether to close it with the reader.
        blocks: What readers of the same file have read; the oldest comes first.

    Attributes:
        bytes: Read from the file.
        given: Bytes handed out, those from memory too.
    """

    def __init__(
        self, file: BinaryIO, name: str, *, owned: bool, blocks: dict[int, bytes] | None = None
    ) -> None:
        self.file = file
        self.label = name  # FFmpeg must not find an attribute called `name`
        self.bytes = self.given = 0
        self._owned = owned
        self._blocks = {} if blocks is None else blocks
        self._position = 0
        self._error: MediaError | None = None
        self._allowance = 0
        self._deadline = math.inf
        self._size: int | None = None

    def read(self, count: int) -> bytes:
        """Read at most `count` bytes; nothing after an error."""
        if self._error is not None:
            return b""
        try:
            data = self._read(self._position, count)
        except Exception as error:
            self._error = MediaError(f"{self.label}: cannot be read ({_reason(error)})")
            return b""
        self._position += len(data)
        self.given += len(data)
        self._spend(len(data))
        return data

    def _read(self, start: int, count: int) -> bytes:
        """At most `count` bytes from `start`: whole blocks are read, and kept."""
        first, end = start // _BLOCK, -(-(start + count) // _BLOCK)
        if count <= _SMALL and first not in self._blocks:
            return self._from_file(start, count)
        pieces: list[bytes] = []
        at = first
        while at < end:
            block = self._blocks.pop(at, None)
            if block is not None and self._is_whole(at, block):
                self._blocks[at] = block  # now the latest
                pieces.append(block)
                at += 1
                continue
            missing = at + 1
            while missing < end and missing not in self._blocks:
                missing += 1
            data = self._from_file(at * _BLOCK, (missing - at) * _BLOCK)
            pieces.append(data)
            for offset in range(0, len(data), _BLOCK):
                self._blocks[at + offset // _BLOCK] = data[offset : offset + _BLOCK]
            if len(data) < (missing - at) * _BLOCK:
                break
            at = missing
        while len(self._blocks) > _BLOCKS:
            self._blocks.pop(next(iter(self._blocks)), None)
        begin = start - first * _BLOCK
        return b"".join(pieces)[begin : begin + count]

    def _is_whole(self, at: int, block: bytes) -> bool:
        """Whether nothing follows a short block: the file may have grown since."""
        return len(block) == _BLOCK or at * _BLOCK + len(block) == self.size()

    def _from_file(self, start: int, count: int) -> bytes:
        """`count` bytes from `start`, fewer only at the end of the file."""
        self.file.seek(start)
        pieces: list[bytes] = []
        while count > 0:
            # A file of the caller's may give more than was asked, or something else than bytes.
            data = bytes(self.file.read(count) or b"")[:count]
            if not data:
                break
            self.bytes += len(data)
            count -= len(data)
            pieces.append(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to `offset`; the new position, -1 if there is no such place."""
        try:
            if whence == io.SEEK_CUR:
                offset += self._position
            elif whence == io.SEEK_END:
                offset += self.size()
        except (OSError, ValueError):
            return -1
        if not 0 <= offset <= _FURTHEST:
            return -1
        self._position = offset
        return offset

    def renew(self, seconds: float = math.inf) -> None:
        """Something was found: allow a few more passes over the file, and some time, until next."""
        if self._size is None:
            self._size = self.size()
        self._allowance = _PASSES * self._size + SPOOL_BYTES
        self._deadline = time.monotonic() + seconds

    def check(self) -> None:
        """Raise what went wrong while FFmpeg was reading.

        Raises:
            MediaError: The file could not be read.
            LimitError: It was read over and over, or for too long, and nothing was found.
        """
        if self._error is not None:
            raise self._error

    def _spend(self, count: int) -> None:
        self._allowance -= max(count, _LEAST_READ)
        if self._size is None:
            return
        if self._allowance < 0:
            self._error = LimitError(f"{self.label}: reading it goes round in circles")
        elif time.monotonic() > self._deadline:
            self._error = LimitError(
                f"{self.label}: opening it took too long",
                "raise limits.open_seconds if you trust the file",
            )

    def tell(self) -> int:
        """The position in bytes."""
        return self._position

    def seekable(self) -> bool:
        """Always true: a source that cannot seek was buffered."""
        return True

    def readable(self) -> bool:
        """Always true."""
        return True

    def size(self) -> int:
        """Length of the source in bytes; the position is kept."""
        self.file.seek(0, io.SEEK_END)
        return self.file.tell()

    def close(self) -> None:
        """Close the file if this reader opened it."""
        if self._owned:
            self.file.close()


def display_name(name: str | os.PathLike[str]) -> str:
    """A name fit for one line of text: control characters and undecodable bytes escaped."""
    try:
        raw = os.fsencode(name)
    except UnicodeEncodeError:  # surrogates that stand for no byte
        raw = str(name).encode("utf-8", "backslashreplace")
    text = raw.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = _NAME_LENGTH // 2
    return text if len(text) <= _NAME_LENGTH else f"{text[:half]}…{text[-half:]}"


def name_of(source: object) -> str:
    """What a source is called in messages and results."""
    if isinstance(source, str | os.PathLike):
        return display_name(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return "<bytes>"
    if hasattr(source, "shape") or isinstance(source, list | tuple):
        return "<array>"
    name = getattr(source, "name", None)
    return display_name(name) if isinstance(name, str) else f"<{type(source).__name__}>"


def opener(source: Source, limits: Limits) -> Callable[[], Reader]:
    """A function that opens `source` from its start, as often as it is called.

    Raises:
        MediaError: The source is missing, empty, not a file, or cannot be read.
        LimitError: A source that cannot seek is longer than `limits.buffer_bytes`.
    """
    source, name, blocks = rereadable(source, limits), name_of(source), dict[int, bytes]()
    if isinstance(source, str | os.PathLike):
        if not os.fspath(source):
            raise MediaError("an empty name is not a file")
        path = Path(source)
        _check_file(path, name)
        return lambda: Reader(_open_path(path, name), name, owned=True, blocks=blocks)
    if isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        if not data:
            raise MediaError(f"{name}: empty (0 bytes)")
        return lambda: Reader(io.BytesIO(data), name, owned=True, blocks=blocks)
    if not hasattr(source, "read"):
        raise MediaError(
            f"{type(source).__name__} is not a source of video",
            "give a path, bytes, an open binary file, or a (T, H, W, 3) uint8 array",
        )
    _check_open(source, name)
    return lambda: Reader(source, name, owned=False, blocks=blocks)


def rereadable(source: Source, limits: Limits) -> Source:
    """The source itself, or a buffered copy of one that can be read only once.

    Raises:
        MediaError: A pipe or file object that cannot be read, or gives text.
        LimitError: A source that cannot seek is longer than `limits.buffer_bytes`.
    """
    if isinstance(source, str | os.PathLike):
        return read_pipe(source, limits) if is_pipe(source) else source
    if isinstance(source, bytes | bytearray | memoryview) or not hasattr(source, "read"):
        return source
    name = name_of(source)
    if isinstance(source, io.TextIOBase):
        raise MediaError(f"{name}: gives text, not bytes", "open it in binary mode ('rb')")
    try:
        if source.seekable() and isinstance(source.read(0), bytes):
            return source
    except (AttributeError, OSError, ValueError):
        pass
    return buffered(source, name, limits)


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a named pipe, or standard input that another command writes to."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


class Buffered:
    """A stream that was read to its end: a binary file that can be read again, with a name.

    Args:
        file: What was read, in a file that can seek.
        name: What it is called in messages and results.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name = name
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def seekable(self) -> bool:
        """Always true."""
        return True


def buffered(file: BinaryIO, name: str, limits: Limits = DEFAULT_LIMITS) -> BinaryIO:
    """Read a stream to its end, so that it can be opened several times.

    Raises:
        MediaError: It gives text, cannot be read, or is closed.
        LimitError: It is longer than `limits.buffer_bytes`.
    """
    spool = cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES))  # noqa: SIM115
    size = 0
    try:
        while chunk := file.read(CHUNK_BYTES):
            if not isinstance(chunk, bytes):
                raise MediaError(f"{name}: gives text, not bytes", "open it in binary mode ('rb')")
            size += len(chunk)
            if size > limits.buffer_bytes:
                raise LimitError(
                    f"{name}: longer than the {limits.buffer_bytes} bytes that are buffered",
                    "save it to a file, or raise limits.buffer_bytes",
                )
            spool.write(chunk)
    except (OSError, ValueError) as error:
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from None
    return cast(BinaryIO, Buffered(spool, name))


def read_pipe(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> BinaryIO:
    """Read a named pipe, or `/dev/stdin` where it is one, to its end.

    Raises:
        MediaError: Nothing writes to it within `limits.open_seconds`, or it cannot be read.
        LimitError: It is longer than `limits.buffer_bytes`.
    """
    name = name_of(path)
    try:
        # Opening it in the usual way would wait for a writer forever.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    except OSError as error:
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from None
    with file, selectors.DefaultSelector() as ready:
        ready.register(file, selectors.EVENT_READ)
        if not ready.select(limits.open_seconds):
            raise MediaError(
                f"{name}: nothing was written to this pipe in {limits.open_seconds:g} s",
                "start the program that writes to it first, or raise limits.open_seconds",
            )
        os.set_blocking(file.fileno(), True)
        return buffered(file, name, limits)


def _check_file(path: Path, name: str) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise MediaError(f"{name}: dangling link, its target is missing") from None
        raise MediaError(f"{name}: no such file") from None
    except UnicodeEncodeError:
        raise MediaError(f"{name}: no file can have this name") from None
    except (OSError, ValueError) as error:
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from None
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{name}: is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{name}: is not a regular file", "save the stream to a file first")
    if status.st_size == 0:
        raise MediaError(f"{name}: empty (0 bytes)")


def _open_path(path: Path, name: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


def _check_open(file: BinaryIO, name: str) -> None:
    try:
        file.seek(0, io.SEEK_END)
        size = file.tell()
    except (OSError, ValueError) as error:
        raise MediaError(f"{name}: cannot be read ({_reason(error)})") from None
    if size == 0:
        raise MediaError(f"{name}: empty (0 bytes)")
