"""Find weight files: in folders of the user, then in the cache, then on the network.

Every returned file has the sha256 of the table. Settings are environment variables:

* ``FOVEATE_WEIGHTS``: folders that are searched first, separated like ``PATH``; nothing is written
  to them.
* ``FOVEATE_CACHE``: overrides the user's cache folder.
* ``FOVEATE_WEIGHTS_URL``: base URL of a mirror; the file name is appended.
* ``FOVEATE_OFFLINE``: ``1`` disables the network.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO

from foveate.core.errors import WeightsError
from foveate.core.files import cache_folder, replacing
from foveate.models.weights.builtin import built_in
from foveate.models.weights.table import WeightFile, entries

Progress = Callable[[int, int], None]
"""Called with (bytes so far, bytes in total)."""

_CHUNK = 1 << 18
_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Found:
    """A local copy of a file of the table, with its digest."""

    file: WeightFile
    path: Path
    sha256: str

    @property
    def ok(self) -> bool:
        """Whether the content is the published one."""
        return self.file.matches(self.sha256)


def weight_folders() -> list[Path]:
    """Return the folders of ``FOVEATE_WEIGHTS`` in order."""
    listed = os.environ.get("FOVEATE_WEIGHTS", "").split(os.pathsep)
    return [Path(folder).expanduser() for folder in listed if folder]


def is_offline(offline: bool = False) -> bool:
    """Whether the network is disabled, by argument or by ``FOVEATE_OFFLINE``."""
    asked = os.environ.get("FOVEATE_OFFLINE", "").strip().lower()
    return offline or asked not in ("", "0", "false", "no")


def sha256_of(path: Path) -> str:
    """Return the hexadecimal digest of a file.

    Raises:
        WeightsError: The file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()


def locate(file: WeightFile, *, offline: bool = False, progress: Progress | None = None) -> Path:
    """Return the path of a published file, downloading it to the cache if it is missing.

    Args:
        file: The file.
        offline: Do not use the network (like ``FOVEATE_OFFLINE=1``).
        progress: Called with (bytes so far, bytes in total) during a download.

    Raises:
        WeightsError: A folder of the user has another file of this name; or the file was not found
            and could not be downloaded. The error says what to do.
    """
    for folder in weight_folders():
        path = folder / file.name
        if path.is_file():
            _require(Found(file, path, sha256_of(path)))
            return path
    cached = cache_folder() / file.name
    if cached.is_file() and Found(file, cached, sha256_of(cached)).ok:
        return cached
    # A damaged file in the cache is replaced by a download.
    if is_offline(offline):
        raise WeightsError(_missing(file, "and the network is off"), _advice(file))
    failures = []
    for address in _addresses(file):
        try:
            return download(address, file, cached, progress)
        except WeightsError as error:
            failures.append(error.cause)
    raise WeightsError(_missing(file, f"and fetching failed: {'; '.join(failures)}"), _advice(file))


def find_local(file: WeightFile) -> Iterator[Found]:
    """Yield every copy of a file in the user's folders and the cache, valid or not."""
    for folder in (*weight_folders(), cache_folder()):
        path = folder / file.name
        if path.is_file():
            yield Found(file, path, sha256_of(path))


def verify() -> list[Found]:
    """Hash every local copy of the files of the table."""
    files = dict.fromkeys(file for entry in entries() for file in entry.files)
    return [found for file in files for found in find_local(file)]


def _addresses(file: WeightFile) -> tuple[str, ...]:
    """The URL at the mirror if one is set, otherwise the published ones."""
    mirror = os.environ.get("FOVEATE_WEIGHTS_URL")
    return (f"{mirror.rstrip('/')}/{file.name}",) if mirror else file.addresses


def _require(found: Found) -> None:
    """Raise WeightsError if the content is not the published one."""
    if not found.ok:
        raise WeightsError(
            f"{found.path}: sha256 is {found.sha256}, expected {found.file.sha256}",
            "replace the file or remove its folder from FOVEATE_WEIGHTS",
        )


def _missing(file: WeightFile, why: str) -> str:
    return f"{file.name} (sha256 {file.sha256[:12]}…) is not on this machine {why}"


def _advice(file: WeightFile) -> str:
    """How to provide a missing file, in one line."""
    name = next((e.name for e in entries() if file in e.files), None)
    fetch = f", or with a network type: foveate weights fetch {name}" if name else ""
    names = list(built_in()) if name else []
    here = f"; models that come with the package: {', '.join(names)}" if names else ""
    return f"put it in {cache_folder()} or in a folder named by FOVEATE_WEIGHTS{fetch}{here}"


def download(
    address: str, file: WeightFile, target: Path, progress: Progress | None = None
) -> Path:
    """Download a file to ``target``.

    The bytes are checked before they replace the target (`core.files.replacing`).

    Args:
        address: URL: ``https``; for mirrors also ``file``, and ``http`` on this machine.
        file: Size and sha256 that the content must have.
        target: Path of the downloaded file.
        progress: Called with (bytes so far, bytes in total).

    Raises:
        WeightsError: URL not allowed or not reachable, wrong size or digest, or the folder is not
            writable.
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
    """Reject URLs whose content could be modified in transit.

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
    """Whether a host name is this machine, without a DNS query."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to URLs that are allowed."""

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
            raise WeightsError(f"{newurl}: a redirect to a local file is not allowed")
        check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _copy_checked(
    address: str, file: WeightFile, sink: IO[bytes], progress: Progress | None
) -> None:
    """Copy the content of a URL, and stop when it exceeds the expected size."""
    opener = urllib.request.build_opener(_CheckedRedirects)
    request = urllib.request.Request(address, headers={"User-Agent": "foveate"})
    digest = hashlib.sha256()
    done = 0
    with opener.open(request, timeout=_TIMEOUT_SECONDS) as source:
        while chunk := source.read(_CHUNK):
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
