"""MOTChallenge: sequences with pictures in `img1/` and boxes with tracks in `gt/gt.txt`.

A line is `frame, id, x, y, w, h, counts, class, visibility`; frames, and the pixel in the corner,
have the number 1. Lines that do not count are left out, with their number. Sequences lie in the
folder, or in `train/` and `test/`; those without boxes are left out.
"""

from __future__ import annotations

from configparser import ConfigParser
from configparser import Error as ConfigParserError
from pathlib import Path

from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.objects import Pictures, VideoBoxes, checked_box, noting
from foveate.data.readers.request import Listing, Request, split_of
from foveate.data.readers.tree import Kind
from foveate.data.record import ObjectBox
from foveate.media import display_name

# The numbers of MOT16, MOT17 and MOT20; in MOT15, where the field is -1, all are pedestrians.
CLASSES = (
    "pedestrian", "person on vehicle", "car", "bicycle", "motorbike", "non motorized vehicle",
    "static person", "distractor", "occluder", "occluder on the ground", "occluder full",
    "reflection", "crowd",
)  # fmt: skip
IGNORED: Kind = ("box that does not count", "boxes that do not count")
WITHHELD: Kind = ("sequence without boxes", "sequences without boxes")


def claims(path: Path) -> bool:
    """Whether there is a sequence with `gt/gt.txt`."""
    return path.is_dir() and any((one / "gt" / "gt.txt").is_file() for one in _sequences(path))


def read(request: Request) -> Listing:
    """Read all sequences; every fault of a line is noted."""
    pictures, records = Pictures(), []
    for folder in _sequences(request.path):
        file = folder / "gt" / "gt.txt"
        if not file.is_file():
            request.passed.add(WITHHELD, folder)
            continue
        frames = folder / _setting(folder, "imDir", "img1")
        if not pictures.count(frames):
            request.faults.add(f"{folder.name}/gt/gt.txt", f"no pictures in {frames.name}/")
            continue
        split = split_of(folder.parent.name) if folder.parent != request.path else None
        # The parts of MOT17 are one sequence with the boxes of three detectors.
        where = f"{folder.name}/gt/gt.txt:1"
        video = VideoBoxes(frames, where, split, folder.name.rsplit("-", 1)[0], first=1)
        video.frames = {frame: [] for frame in range(pictures.count(frames))}
        width, height = (text.whole(_setting(folder, key, "")) for key in ("imWidth", "imHeight"))
        size = (float(width), float(height)) if width and height else None
        for line, row in text.lines(file, request.faults):
            where = f"{folder.name}/gt/{text.at(file, line)}"
            noting(request, where, _take, request, video, size, row, where)
        records.append(video.record())
    if not records and not request.faults:
        raise DataError(f"{display_name(request.path)}: no sequence with gt/gt.txt")
    return Listing(records, multilabel=True)


def _take(
    request: Request, video: VideoBoxes, size: tuple[float, float] | None, row: str, where: str
) -> None:
    """Add the object of one line.

    Raises:
        ValueError: With a line that says what is wrong with it.
    """
    values = _values(row)
    if not 1 <= values[0] <= len(video.frames):
        raise ValueError(f"frame {values[0]:g}, and there are {len(video.frames)}")
    kind = int(values[7]) if len(values) > 7 and values[7] > 0 else 1
    if kind > len(CLASSES):
        raise ValueError(f"unknown class {kind}")
    if values[6] == 0:
        request.passed.add(IGNORED, where)
        return
    x, y = values[2] - 1, values[3] - 1
    box = checked_box((x, y, x + values[4], y + values[5]), size)
    video.add(int(values[0]) - 1, ObjectBox(CLASSES[kind - 1], box, int(values[1])))


def _sequences(path: Path) -> list[Path]:
    """Folders with `seqinfo.ini` or `gt/`: the folder, those in it, and those in its splits."""
    try:
        inside = sorted(entry for entry in path.iterdir() if entry.is_dir())
        found = [path, *inside]
        for entry in inside:
            if split_of(entry.name):
                found += sorted(one for one in entry.iterdir() if one.is_dir())
    except OSError:
        return []
    return [one for one in found if (one / "seqinfo.ini").is_file() or (one / "gt").is_dir()]


def _setting(folder: Path, key: str, otherwise: str) -> str:
    """A value of `seqinfo.ini`; a name with folders in it is not taken."""
    parser = ConfigParser(interpolation=None)
    try:
        parser.read_string((folder / "seqinfo.ini").read_text("utf-8"))
    except (OSError, ValueError, ConfigParserError):
        return otherwise
    found = parser.get("Sequence", key, fallback=otherwise).strip()
    return found if found and "/" not in found and ".." not in found else otherwise


def _values(row: str) -> list[float]:
    found = [text.number(field, f"field {at}", least=-1e9) for at, field in
             enumerate(text.fields(row, ","), 1)]  # fmt: skip
    if len(found) < 7 or None in found:
        raise ValueError(f"not of the form: frame,id,x,y,w,h,counts,class,visibility ({row!r})")
    return [float(value or 0.0) for value in found]
