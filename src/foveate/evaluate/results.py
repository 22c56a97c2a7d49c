"""Result files: figures with commit, date, hardware and protocol."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from foveate.core import ConfigError
from foveate.core.config import fault_of
from foveate.core.files import replace_file

SCHEMA = 1
_MAX_BYTES = 50_000_000


class Hardware(BaseModel):
    """The machine of a measurement, without its name or paths."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    processor: str
    cores: int = Field(ge=1)
    threads: int = Field(ge=1, description="threads that the network was given")
    memory_gb: float | None = Field(None, gt=0)
    accelerator: str | None = None
    system: str
    python: str
    torch: str


class ResultFile(BaseModel):
    """One file of `benchmarks/results`.

    Attributes:
        name: What was measured.
        protocol: How, in one line.
        n: Samples behind the figures.
        seeds: Of everything random; empty if nothing was.
        figures: Nested plain values; no NaN.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_: int = Field(default=SCHEMA, alias="schema", ge=SCHEMA, le=SCHEMA)
    name: str = Field(min_length=1)
    commit: str = Field(min_length=1)
    date: datetime
    hardware: Hardware
    protocol: str = Field(min_length=1)
    n: int = Field(ge=0)
    seeds: list[int]
    figures: dict[str, Any]

    @field_validator("figures")
    @classmethod
    def _plain(cls, figures: dict[str, Any]) -> dict[str, Any]:
        if not figures:
            raise ValueError("must not be empty")
        json.dumps(figures, allow_nan=False)
        return figures


def write_result(
    path: str | os.PathLike[str],
    name: str,
    protocol: str,
    n: int,
    seeds: Sequence[int],
    figures: Mapping[str, Any],
) -> ResultFile:
    """Write figures with their commit, date and hardware; the file is written atomically.

    Args:
        path: The file; one that exists is replaced.
        name: What was measured.
        protocol: How, in one line.
        n: Samples behind the figures.
        seeds: Of everything random.
        figures: Nested plain values.

    Raises:
        ConfigError: A value that is not allowed, such as NaN; the message names the first.
        FoveateError: The file cannot be written.
    """
    values = {
        "schema": SCHEMA,
        "name": name,
        "commit": commit(),
        "date": now(),
        "hardware": hardware().model_dump(),
        "protocol": protocol,
        "n": n,
        "seeds": list(seeds),
        "figures": dict(figures),
    }
    result = _validated(values, str(path))
    text = result.model_dump_json(by_alias=True, indent=1)
    replace_file(Path(path), f"{text}\n".encode())
    return result


def read_result(path: str | os.PathLike[str]) -> ResultFile:
    """Read and check a result file.

    Raises:
        ConfigError: It cannot be read, or a field is missing or invalid.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{file.name}: larger than {_MAX_BYTES} bytes")
        values = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file.name}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{file.name}: not JSON") from None
    return _validated(values, file.name)


def _validated(values: Any, source: str) -> ResultFile:
    try:
        return ResultFile.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source}: {fault_of(error)}") from None
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{source}: figures: {error}") from None


def now() -> str:
    """The current time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def commit() -> str:
    """The current commit, with `-dirty` if tracked files have changed.

    For an installed package without a working tree, the version is given instead.
    """
    from foveate import __version__

    here = Path(__file__).resolve().parent
    try:
        # A tree that does not track this file is another project's.
        _git(here, "ls-files", "--error-unmatch", Path(__file__).name)
        head = _git(here, "rev-parse", "HEAD")
        changed = _git(here, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return f"version {__version__}"
    return f"{head}-dirty" if changed else head


def _git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return done.stdout.strip()


def hardware() -> Hardware:
    """The properties of this machine that can be read."""
    import torch

    cuda = torch.cuda.is_available()
    return Hardware(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_gb=_memory(),
        accelerator=torch.cuda.get_device_name() if cuda else None,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=str(torch.__version__),
    )


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _memory() -> float | None:
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return round(pages / 1e9, 1)
