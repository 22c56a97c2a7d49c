"""Finding weight files: folders the user named, then the cache, then the network.

Whatever is returned has the sha256 of the table. Settings are environment variables:

* ``FOVEATE_WEIGHTS``: folders to look in first, separated like ``PATH``; never written to.
* ``FOVEATE_CACHE``: the cache folder, instead of the user's cache directory.
* ``FOVEATE_WEIGHTS_URL``: base address of a mirror; the file name is joined to it.
* ``FOVEATE_OFFLINE``: ``1`` forbids the network.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foveate.core.errors import WeightsError
from foveate.core.files import cache_folder
from foveate.models.weights.builtin import built_in
from foveate.models.weights.download import Progress, download
from foveate.models.weights.table import WeightFile, entries

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Found:
    """A file of the table on this machine, and whether its content is right."""

    file: WeightFile
    path: Path
    sha256: str

    @property
    def ok(self) -> bool:
        """True when the content is the published one."""
        return self.file.matches(self.sha256)


def weight_folders() -> list[Path]:
    """Return the folders of ``FOVEATE_WEIGHTS`` in order."""
    listed = os.environ.get("FOVEATE_WEIGHTS", "").split(os.pathsep)
    return [Path(folder).expanduser() for folder in listed if folder]


def is_offline(offline: bool = False) -> bool:
    """Whether the network is forbidden, by argument or by ``FOVEATE_OFFLINE``."""
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
    """Return the path of a published file, fetching it into the cache when it is missing.

    Args:
        file: What to look for.
        offline: Never touch the network (``FOVEATE_OFFLINE=1`` does the same).
        progress: Called with (bytes so far, bytes in total) during a download.

    Raises:
        WeightsError: A named folder holds another file under this name; or the file is
            nowhere and could not be fetched. The error says what to do.
    """
    for folder in weight_folders():
        path = folder / file.name
        if path.is_file():
            _require(Found(file, path, sha256_of(path)))
            return path
    cached = cache_folder() / file.name
    if cached.is_file() and Found(file, cached, sha256_of(cached)).ok:
        return cached
    # A damaged file in the cache is ours to replace: it falls through to the download.
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
    """Yield every copy of a file in the named folders and the cache, right or wrong."""
    for folder in (*weight_folders(), cache_folder()):
        path = folder / file.name
        if path.is_file():
            yield Found(file, path, sha256_of(path))


def verify() -> list[Found]:
    """Hash every file of the table that is on this machine."""
    files = dict.fromkeys(file for entry in entries() for file in entry.files)
    return [found for file in files for found in find_local(file)]


def _addresses(file: WeightFile) -> tuple[str, ...]:
    """The mirror's address, if one is set, and otherwise the owner's."""
    mirror = os.environ.get("FOVEATE_WEIGHTS_URL")
    return (f"{mirror.rstrip('/')}/{file.name}",) if mirror else file.addresses


def _require(found: Found) -> None:
    """Refuse a file whose content is not the published one."""
    if not found.ok:
        raise WeightsError(
            f"{found.path}: sha256 is {found.sha256}, expected {found.file.sha256}",
            "replace the file or take its folder out of FOVEATE_WEIGHTS",
        )


def _missing(file: WeightFile, why: str) -> str:
    return f"{file.name} (sha256 {file.sha256[:12]}…) is not on this machine {why}"


def _advice(file: WeightFile) -> str:
    """What to do about a miss, in one line."""
    name = next((e.name for e in entries() if file in e.files), None)
    fetch = f", or with a network type: foveate weights fetch {name}" if name else ""
    names = list(built_in()) if name else []
    here = f"; models that come with the package: {', '.join(names)}" if names else ""
    return f"put it in {cache_folder()} or in a folder named by FOVEATE_WEIGHTS{fetch}{here}"
