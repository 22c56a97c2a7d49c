"""Fetching one published file: bounded, checked, and visible only when it is whole."""

from __future__ import annotations

import hashlib
import ipaddress
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO, Any

from foveate.core.errors import WeightsError
from foveate.core.files import replacing
from foveate.models.weights.table import WeightFile

Progress = Callable[[int, int], None]

_CHUNK = 1 << 18
_TIMEOUT_SECONDS = 30.0


def download(
    address: str, file: WeightFile, target: Path, progress: Progress | None = None
) -> Path:
    """Fetch a file to ``target``.

    The bytes are checked before the file is replaced (`core.files.replacing`).

    Args:
        address: ``https``; ``http`` on this machine and ``file`` for mirrors.
        file: Size and sha256 that the content must have.
        target: Where it goes.
        progress: Called with (bytes so far, bytes in total).

    Raises:
        WeightsError: Refused address, unreachable, wrong size or digest, unwritable folder.
    """
    check_address(address)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as sink:
            _copy_checked(address, file, sink, progress)
    except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise WeightsError(f"{address}: {getattr(error, 'reason', None) or error}") from error
    except OSError as error:
        raise WeightsError(f"{target.parent}: cannot be written ({error.strerror})") from error
    return target


def check_address(address: str) -> None:
    """Refuse addresses whose content could be changed on the way.

    Raises:
        WeightsError: Not https, and neither a file nor http on this machine.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme in ("https", "file"):
        return
    if parts.scheme == "http" and _is_loopback(parts.hostname or ""):
        return
    raise WeightsError(f"{address}: only https (or file, or http on this machine) is allowed")


def _is_loopback(host: str) -> bool:
    """Whether a host name means this machine, without asking a name server."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to addresses that would have been allowed at first."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme == "file":
            raise WeightsError(f"{newurl}: a redirect to a local file is refused")
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _copy_checked(
    address: str, file: WeightFile, sink: IO[bytes], progress: Progress | None
) -> None:
    """Copy the content of an address, stopping at the first byte too many."""
    opener = urllib.request.build_opener(_CheckedRedirects)
    request = urllib.request.Request(address, headers={"User-Agent": "foveate"})
    digest = hashlib.sha256()
    done = 0
    with opener.open(request, timeout=_TIMEOUT_SECONDS) as source:
        for chunk in _chunks(source):
            done += len(chunk)
            if done > file.size:
                raise WeightsError(f"{address}: longer than the {file.size} bytes expected")
            digest.update(chunk)
            sink.write(chunk)
            if progress is not None:
                progress(done, file.size)
    if file.whole and done != file.size:
        raise WeightsError(f"{address}: ended after {done} of {file.size} bytes")
    if not file.matches(digest.hexdigest()):
        raise WeightsError(f"{address}: sha256 is {digest.hexdigest()}, expected {file.sha256}")


def _chunks(source: Any) -> Any:
    """Yield the body piece by piece."""
    while chunk := source.read(_CHUNK):
        yield chunk
