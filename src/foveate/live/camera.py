"""Cameras as a user names them: addresses, settings, and the file `cams.yaml`."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator

from foveate.core import ConfigError
from foveate.core.budget import parse_budget
from foveate.core.config import build, read_yaml
from foveate.live.areas import Areas
from foveate.media import display_name, name_of
from foveate.media.decoding import SkipLoopFilter
from foveate.media.live import SCHEMES, LiveInput, open_address, open_iterable, open_paced

Pace = Literal["real", "fast"]
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_NAME = re.compile(r"[\w][\w.-]*")


class CameraSettings(Areas):
    """Settings of one camera, with its zones and masks."""

    url: str = Field(min_length=1, description="address, device or file; ${NAME} is a variable")
    user: str | None = Field(None, description="user name, if it is not in the address")
    password: str | None = Field(None, description="may be a variable: ${GATE_PASSWORD}")
    budget: str | None = Field(None, description="such as 2fps; the model's rate otherwise")
    paused: bool = Field(False, description="connected to, but not looked at")
    transport: Literal["tcp", "udp"] = Field("tcp", description="of RTSP")
    skip_loop_filter: SkipLoopFilter = Field(
        "none", description="pictures decoded without the deblocking filter: none, noref or all"
    )
    open_seconds: float = Field(10.0, gt=0, description="to connect")
    read_seconds: float = Field(10.0, gt=0, description="without data: then it is reconnected")

    @field_validator("budget")
    @classmethod
    def _understood(cls, budget: str | None) -> str | None:
        if budget is not None:
            try:
                parse_budget(budget)
            except ConfigError as error:
                raise ValueError(error.cause) from None
        return budget


@dataclass(frozen=True)
class CameraSource:
    """A camera that can be connected to, again and again.

    Attributes:
        name: Unique name.
        shown: Its address without credentials, for results and messages.
        settings: Of the camera.
        connect: Opens a connection.
        repeats: Whether the end of a connection is an interruption; the end of a file is its end.
    """

    name: str
    shown: str
    settings: CameraSettings
    connect: Callable[[], LiveInput]
    repeats: bool = True


def public(address: str) -> str:
    """An address without user name, password and query, which may hold credentials."""
    if "://" not in address:
        return display_name(address)
    scheme, _, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    path, query, _ = path.partition("?")
    place, bare, _ = place.partition("?")
    host = place.rpartition("@")[2]
    return display_name(f"{scheme}://{host}{slash}{path}" + ("?…" if query or bare else ""))


def expanded(text: str, what: str) -> str:
    """Text with the values of environment variables in place of `${NAME}`.

    Between `://` and `@` they are percent-encoded: a password may have any characters.

    Raises:
        ConfigError: A variable is not set.
    """
    login = range(text.find("://") + 3, text.partition("?")[0].rfind("@"))

    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise ConfigError(f"{what}: the variable {match[1]} is not set", f"export {match[1]}=…")
        return quote(found, safe="") if match.start() in login else found

    return _VARIABLE.sub(value, text)


def is_address(text: str) -> bool:
    """Whether a text is the address of a camera: a URL, a device, or its number."""
    return "://" in text or text.startswith("/dev/video") or text.isdecimal()


def camera(name: str, settings: CameraSettings, pace: Pace = "fast") -> CameraSource:
    """A camera of its settings.

    Args:
        name: Unique name.
        settings: Of the camera.
        pace: Of a file: at its own times (`real`), or as fast as it is looked at.

    Raises:
        ConfigError: An address of a kind that cannot be opened, or a variable that is not set.
    """
    shown = public(settings.url)
    address = expanded(settings.url, name)
    if not is_address(address):
        path = Path(address)
        if not path.is_file():
            if path.is_dir():
                raise ConfigError(f"{shown}: is a folder", "name its files, or a cams.yaml")
            raise ConfigError(
                f"{shown}: no such file", f"addresses begin with {', '.join(SCHEMES[:3])}, ..."
            )

        def read() -> LiveInput:
            return open_paced(
                path, name, real=pace == "real", skip_loop_filter=settings.skip_loop_filter
            )

        return CameraSource(name, shown, settings, read, repeats=False)
    if address.isdecimal():
        address = shown = f"/dev/video{address}"
    if "://" in address:
        scheme = address.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise ConfigError(f"{name}: {shown}: unknown scheme", f"one of: {', '.join(SCHEMES)}")
        try:
            split = urlsplit(address)
            host, _ = split.hostname, split.port
        except ValueError:
            host = None
        if not host:
            raise ConfigError(f"{name}: {shown}: no host in the address")
        address = _with_credentials(address, name, settings)

    def connect() -> LiveInput:
        return open_address(
            address,
            name,
            timeouts=(settings.open_seconds, settings.read_seconds),
            transport=settings.transport,
            skip_loop_filter=settings.skip_loop_filter,
        )

    return CameraSource(name, shown, settings, connect)


def _with_credentials(address: str, name: str, settings: CameraSettings) -> str:
    if settings.user is None:
        return address
    user = quote(expanded(settings.user, name), safe="")
    password = quote(expanded(settings.password or "", name), safe="")
    scheme, _, rest = address.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}://{user}:{password}@{place.rpartition('@')[2]}{slash}{path}"


def cameras(sources: Any, *, pace: Pace = "fast", fps: float | None = None) -> list[CameraSource]:
    """Cameras of anything that can be watched.

    Args:
        sources: One or several of: an address, a device, a file, a `cams.yaml`, an iterable of
            frames, a `CameraSource`; or a mapping from names to these.
        pace: Of files.
        fps: Frames per second of iterables of frames without times.

    Raises:
        ConfigError: One of them cannot be watched.
    """
    if isinstance(sources, Mapping):
        named = list(sources.items())
    else:
        single = isinstance(sources, str | os.PathLike | CameraSource) or not isinstance(
            sources, Sequence
        )
        named = [(None, one) for one in ([sources] if single else sources)]
    found: list[CameraSource] = []
    for name, one in named:
        if isinstance(one, CameraSource):
            found.append(one)
        elif isinstance(one, str | os.PathLike):
            text = os.fspath(one)
            if text.endswith((".yaml", ".yml")):
                found += read_cameras(Path(text), pace)
            else:
                found.append(camera(name or _short(text), CameraSettings(url=text or "-"), pace))
        elif isinstance(one, Iterable):
            found.append(_program(name or "frames", one, fps))
        else:
            raise ConfigError(
                f"{name_of(one)} cannot be watched",
                "give an address, a device, a file or an iterable of frames",
            )
    return _unique(found)


def read_cameras(path: Path, pace: Pace = "fast") -> list[CameraSource]:
    """The cameras of a file: `cameras:` with an address, or settings, for each name.

    Raises:
        ConfigError: With the name of the camera and of the setting that cannot be meant.
    """
    values = read_yaml(path)
    listed = values.pop("cameras", None)
    if values:
        raise ConfigError(f"{path}: unknown key {next(iter(values))}", "it has one key: cameras")
    if isinstance(listed, list) and all(isinstance(one, str) for one in listed):
        return _unique([camera(_short(one), CameraSettings(url=one), pace) for one in listed])
    if not isinstance(listed, dict) or not listed:
        raise ConfigError(f"{path}: no cameras", "cameras: {gate: rtsp://…}")
    found = []
    for name, one in listed.items():
        if not _NAME.fullmatch(str(name)):
            raise ConfigError(f"{path}: {name!r} is no name", "use letters, digits, . - and _")
        values = {"url": str(one)} if isinstance(one, str | int) else one
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {name}: no address")
        if isinstance(values.get("url"), int):
            values = {**values, "url": str(values["url"])}
        settings = build(CameraSettings, values, f"{path}: {name}")
        try:
            found.append(camera(str(name), settings, pace))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.cause}", error.hint) from None
    return found


def _short(text: str) -> str:
    """A short name of an address: its host, device or file name."""
    if "://" in text:
        place = public(text).partition("://")[2].partition("/")[0]
        text = place.partition(":")[0]
    elif text.isdecimal():
        text = f"video{text}"
    else:
        text = Path(text).stem
    return re.sub(r"[^\w.-]+", "-", text).strip("-") or "camera"


def _unique(found: list[CameraSource]) -> list[CameraSource]:
    seen: Counter[str] = Counter()
    unique = []
    for one in found:
        seen[one.name] += 1
        count = seen[one.name]
        unique.append(one if count == 1 else replace(one, name=f"{one.name}-{count}"))
    return unique


def _program(name: str, frames: Iterable[Any], fps: float | None) -> CameraSource:
    """An iterable of frames; it is iterated once."""

    def timed() -> Iterator[tuple[Any, float]]:
        for number, item in enumerate(frames):
            pair = isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[1], Real)
            if pair:
                yield item[0], float(item[1])
            elif fps is not None:
                yield item, number / fps
            else:
                raise ConfigError(
                    f"{name}: frames without times and without fps",
                    "give pairs (frame, seconds), or fps=",
                )

    settings = CameraSettings(url=name)
    live = not isinstance(frames, Sequence)
    return CameraSource(
        name, f"<{name}>", settings, lambda: open_iterable(timed(), name, live), repeats=False
    )
