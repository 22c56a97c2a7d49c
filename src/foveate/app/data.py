"""`foveate data`: check a data set, make the rendered one."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from foveate.app.labelled import DataRequest
from foveate.app.progress import bar
from foveate.core import ConfigError
from foveate.core.config import nearest

SETS = ("mocap15",)
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def check(request: DataRequest, workers: int) -> int:
    """Print everything that is wrong with a data set; exit code 1 if anything is."""
    from foveate.data import check as check_data

    with bar(1.0) as shown:
        report = check_data(
            request.path,
            request.format,
            request.videos,
            part=request.part,
            allow_missing=request.allow_missing,
            workers=workers,
            progress=lambda done, total: shown.update(done / max(total, 1), "opening clips"),
        )
    for line in report.lines():
        print(line)
    return 0 if report.ok else 1


def make(
    name: str,
    out: Path,
    clips: int,
    seed: int,
    mode: str,
    encoding: str,
    size: str,
    workers: int,
) -> int:
    """Render a data set into a folder that appears when it is whole.

    Raises:
        ConfigError: An unknown set, mode, encoding or size.
        FoveateError: The folder is in use or cannot be written.
    """
    if name not in SETS:
        guess = nearest(name, SETS)
        cure = f"did you mean {guess}?" if guess else f"there is: {', '.join(SETS)}"
        raise ConfigError(f"there is no data set {name!r} to make", cure)
    found = _SIZE.fullmatch(size)
    if found is None:
        raise ConfigError(f"--size {size}: not understood", "say 320x240")
    from foveate.data.mocap import make as render

    with bar(float(clips)) as shown:
        render(
            out,
            clips,
            seed,
            mode=mode,
            encoding=encoding,
            size=(int(found[1]), int(found[2])),
            workers=min(workers, os.cpu_count() or 1),
            progress=lambda done, total: shown.update(float(done), f"{done} of {total} clips"),
        )
    print(f"{out}: {clips} rendered clips; answers in clips.csv and truth/", file=sys.stderr)
    return 0
