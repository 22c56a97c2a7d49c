"""ImageNet VID: a folder of pictures per snippet in `Data/VID`, an XML file per picture.

Read are `Annotations/VID/train/*/SNIPPET/*.xml` and `Annotations/VID/val/SNIPPET/*.xml` (the
snippets of the test split have no boxes). Boxes have whole pixels, and tracks.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

from foveate.data.errors import DataError
from foveate.data.readers import text
from foveate.data.readers.objects import Pictures, VideoBoxes, checked_box, noting
from foveate.data.readers.request import Listing, Request
from foveate.data.record import ObjectBox
from foveate.media import display_name

SYNSETS = {
    "n02691156": "airplane", "n02419796": "antelope", "n02131653": "bear", "n02834778": "bicycle",
    "n01503061": "bird", "n02924116": "bus", "n02958343": "car", "n02402425": "cattle",
    "n02084071": "dog", "n02121808": "domestic cat", "n02503517": "elephant", "n02118333": "fox",
    "n02510455": "giant panda", "n02342885": "hamster", "n02374451": "horse", "n02129165": "lion",
    "n01674464": "lizard", "n02484322": "monkey", "n03790512": "motorcycle", "n02324045": "rabbit",
    "n02509815": "red panda", "n02411705": "sheep", "n01726692": "snake", "n02355227": "squirrel",
    "n02129604": "tiger", "n04468005": "train", "n01662784": "turtle", "n04530566": "watercraft",
    "n02062744": "whale", "n02391049": "zebra",
}  # fmt: skip
_ANNOTATIONS, _DATA = Path("Annotations", "VID"), Path("Data", "VID")
_OBJECT = re.compile(r"<object\b")
_MAX_BYTES = 10_000_000


def claims(path: Path) -> bool:
    """Whether it is the folder with `Annotations/VID`."""
    return path.is_dir() and (path / _ANNOTATIONS).is_dir()


def read(request: Request) -> Listing:
    """Read the snippets of training and validation; every fault of a file is noted."""
    root, pictures, records = request.path, Pictures(), []
    if not (root / _ANNOTATIONS).is_dir():
        raise DataError(f"{display_name(root)}: no folder {_ANNOTATIONS.as_posix()}")
    for split, pattern in (("train", "*/*"), ("val", "*")):
        for folder in sorted((root / _ANNOTATIONS / split).glob(pattern)):
            files = sorted(folder.glob("*.xml"))
            if not files:
                continue
            place = _DATA / folder.relative_to(root / _ANNOTATIONS)
            where = f"{folder.name}/{files[0].name}:1"
            path = request.locate(place.as_posix(), where=where)
            if path is None:
                continue
            video = VideoBoxes(path, where, split, folder.name)
            for file in files if path.is_dir() else ():
                _read_frame(request, pictures, video, file)
            records.append(video.record())
    return Listing(records, tuple(SYNSETS.values()), multilabel=True)


def _read_frame(request: Request, pictures: Pictures, video: VideoBoxes, file: Path) -> None:
    """Add the objects of one XML file."""
    name = f"{file.parent.name}/{display_name(file.name)}"
    found = [pictures.frame(video.path, f"{file.stem}{end}") for end in (".JPEG", ".jpg", ".png")]
    frame = next((number for number in found if number is not None), None)
    if frame is None:
        request.faults.add(f"{name}:1", f"no picture of that name in {display_name(video.path)}")
        return
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        content = file.read_text("utf-8")
        if "<!DOCTYPE" in content or "<!ENTITY" in content:
            raise ValueError("a document type is not allowed here")
        root = ElementTree.fromstring(content)
    except (OSError, ValueError, ElementTree.ParseError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        line = getattr(error, "position", (1, 0))[0]
        request.faults.add(f"{name}:{line}", f"cannot be read ({reason.lower()})")
        return
    video.frames[frame] = []
    size = tuple(text.whole((root.findtext(f"size/{key}") or "").strip()) for key in
                 ("width", "height"))  # fmt: skip
    starts = [match.start() for match in _OBJECT.finditer(content)]
    for node, start in zip(root.findall("object"), starts, strict=False):

        def take(node: ElementTree.Element = node) -> None:
            kind = (node.findtext("name") or "").strip()
            if kind not in SYNSETS:
                raise ValueError(f"unknown class {kind!r}")
            corners = [
                text.number((node.findtext(f"bndbox/{key}") or "").strip(), key)
                for key in ("xmin", "ymin", "xmax", "ymax")
            ]
            if None in corners:
                raise ValueError("a coordinate of the box is missing")
            x1, y1, x2, y2 = (float(value or 0.0) for value in corners)
            known = (float(size[0]), float(size[1])) if size[0] and size[1] else None
            box = checked_box((x1, y1, x2, y2), known)
            track = text.whole((node.findtext("trackid") or "").strip())
            video.add(frame, ObjectBox(SYNSETS[kind], box, track))

        noting(request, f"{name}:{content.count(chr(10), 0, start) + 1}", take)
