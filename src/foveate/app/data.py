"""`foveate data`: check a data set, render mocap15, transcode videos."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from foveate.app.evaluate import names_in
from foveate.app.guard import print_error, print_faults
from foveate.app.output import check_writable
from foveate.app.progress import bar
from foveate.app.requests import CheckRequest, MakeRequest, TimelinesRequest, TranscodeRequest
from foveate.core import ConfigError, FoveateError, MediaError
from foveate.core.config import nearest
from foveate.core.text import plural

SETS = ("mocap15",)
_VIDEO = (".mp4", ".m4v", ".mov")
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def check(request: CheckRequest) -> int:
    """Print every fault of a data set; the exit code is 1 if there are any."""
    from foveate.data import check as check_data

    with bar(1.0) as shown:
        report = check_data(
            request.path,
            request.format,
            request.videos,
            part=request.part,
            allow_missing=request.allow_missing,
            workers=request.workers,
            progress=lambda done, total: shown.update(done / max(total, 1), "opening clips"),
        )
    for line in report.lines():
        print(line)
    return 0 if report.ok else 1


def make(request: MakeRequest) -> int:
    """Render a data set; the folder is renamed into place when it is complete.

    Raises:
        ConfigError: An unknown set, mode, encoding or size.
        FoveateError: The folder is in use or cannot be written.
    """
    name, out, clips = request.name, request.out, request.clips
    if name not in SETS:
        guess = nearest(name, SETS)
        hint = f"did you mean {guess}?" if guess else f"available: {', '.join(SETS)}"
        raise ConfigError(f"no data set {name!r} to render", hint)
    width, height = _size(request.size)
    from foveate.data.mocap15 import make as render

    with bar(float(clips)) as shown:
        render(
            out,
            clips,
            request.seed,
            mode=request.mode,
            encoding=request.encoding,
            size=(width, height),
            degrade=None if request.degrade is None else names_in(request.degrade),
            degraded=names_in(request.degraded),
            workers=min(request.workers, os.cpu_count() or 1),
            progress=lambda done, total: shown.update(float(done), f"{done} of {total} clips"),
        )
    answers = "annotations/" if request.mode == "detection" else "clips.csv"
    print(f"{out}: {clips} rendered clips; answers in {answers} and truth/", file=sys.stderr)
    return 0


def transcode(request: TranscodeRequest) -> int:
    """Transcode a video or a folder of them, folder by folder; exit code 1 if any failed.

    Existing files are kept, so that an interrupted run can be continued.

    Raises:
        ConfigError: An unknown codec, length or size.
    """
    from foveate.media.encode import with_vectors
    from foveate.media.transcode import transcode as write

    encoding = with_vectors(request.codec, request.gop)
    shape = _size(request.size) if request.size else None
    out = request.out
    pairs = _targets(request.source, out)
    failures = written = 0
    with bar(float(len(pairs))) as shown:
        for done, (path, target) in enumerate(pairs, start=1):
            try:
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write(path, target, encoding, size=shape)
                    written += 1
            except (FoveateError, OSError) as error:
                failures += 1
                print_error(error)
            shown.update(float(done), f"{done} of {len(pairs)} videos")
    kept = len(pairs) - failures - written
    print(f"{out}: {written} written, {kept} already existed, {failures} failed", file=sys.stderr)
    return 1 if failures else 0


def _targets(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Pairs of input and output; a folder keeps its structure, and no two outputs share a name."""
    from foveate.media import find_media

    if not source.is_dir():
        as_file = out.suffix.lower() in _VIDEO and not out.is_dir()
        return [(source, out if as_file else out / f"{source.stem}.mp4")]
    found = find_media(source)
    if not found:
        raise MediaError(f"{source}: no video files in this folder")
    taken: set[Path] = set()
    pairs = []
    for path in found:
        target = out / path.relative_to(source).with_suffix(".mp4")
        if target in taken:
            target = target.with_name(f"{path.name}.mp4")
        taken.add(target)
        pairs.append((path, target))
    return pairs


def _size(text: str) -> tuple[int, int]:
    found = _SIZE.fullmatch(text)
    if found is None or "0" in (found[1], found[2]):
        raise ConfigError(f"--size {text}: must be WIDTHxHEIGHT", "such as 320x240")
    return int(found[1]), int(found[2])


def timelines(request: TimelinesRequest) -> int:
    """Convert timelines.

    Raises:
        DataError: The file has faults; each is printed.
        FoveateError: It cannot be read, or the other not written.
    """
    from foveate.data import DataError, read_timelines, write_timelines

    check_writable(request.out)
    try:
        found = read_timelines(request.source, fps=request.fps)
    except DataError as error:
        print_faults(error)
        raise
    write_timelines(request.out, found, request.to, fps=request.fps)
    segments = sum(len(line.segments) for line in found.values())
    print(f"{request.out}: {plural(len(found), 'video')}, {plural(segments, 'segment')}")
    return 0
