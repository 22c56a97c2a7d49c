"""`check`: everything that is wrong with a data set, before the first training step."""

from __future__ import annotations

import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from foveate.data.errors import CAP, DataError
from foveate.data.probe_cache import ProbeCache, probes
from foveate.data.probing import Probe
from foveate.data.readers.detect import read
from foveate.data.readers.objects import checked_box
from foveate.data.readers.request import composed, split_of
from foveate.data.readers.unlabelled import LABEL
from foveate.data.record import Dataset, FrameBoxes, Record
from foveate.media import display_name

_BEYOND = 1.0  # seconds by which an interval may extend beyond its video


@dataclass(frozen=True)
class CheckReport:
    """What `check` found.

    Attributes:
        name: What was checked.
        dataset: The records, None if the annotation could not be read.
        probes: Probe results, by clip.
        faults: Lines about the annotation.
        fault_count: How many there are in all (the lines are capped).
        bad: (where, clip, reason) of clips that cannot be used.
        leaks: Lines about what two splits share.
        notes: Lines about what is odd but allowed: copies within a split, damage, tiny classes.
    """

    name: str
    dataset: Dataset | None = None
    probes: dict[Path, Probe] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    fault_count: int = 0
    bad: tuple[tuple[str, str, str], ...] = ()
    leaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the data set can be trained on."""
        return not (self.fault_count or self.bad or self.leaks)

    @property
    def durations(self) -> tuple[float, ...]:
        """Seconds of each record, sorted; of those whose length is known."""
        if self.dataset is None:
            return ()
        found = (_seconds(r, self.probes.get(r.path)) for r in self.dataset.records)
        return tuple(sorted(s for s in found if s is not None))

    def lines(self) -> list[str]:
        """The report as lines of text: the verdict, counts, then all problems."""
        out = [self._verdict(), *_counts(self.dataset)]
        if self.durations:
            low, high = self.durations[0], self.durations[-1]
            middle = statistics.median(self.durations)
            out.append(f"seconds per clip: {low:.2f} to {high:.2f}, median {middle:.2f}")
        sizes = sorted({(p.width, p.height) for p in self.probes.values() if p.error is None})
        if sizes:
            shown = ", ".join(f"{w}x{h}" for w, h in sizes[:6])
            out.append(f"sizes: {shown}{f' and {len(sizes) - 6} more' if len(sizes) > 6 else ''}")
        out += [f"fault: {line}" for line in self.faults]
        if self.fault_count > len(self.faults):
            out.append(f"fault: and {self.fault_count - len(self.faults)} more")
        out += [f"bad clip: {_at(where, clip)}: {why}" for where, clip, why in self.bad]
        out += [f"leak: {line}" for line in self.leaks]
        return [*out, *(f"note: {line}" for line in self.notes)]

    def _verdict(self) -> str:
        if self.ok:
            return f"{self.name}: {len(self.dataset or ())} clips, all good"
        counted = [
            (self.fault_count, "fault in the annotation", "faults in the annotation"),
            (len(self.bad), "bad clip", "bad clips"),
            (len(self.leaks), "leak between splits", "leaks between splits"),
        ]
        said = [f"{n} {one if n == 1 else many}" for n, one, many in counted if n]
        return f"{self.name}: {', '.join(said)}"


def check(
    path: str | os.PathLike[str],
    format: str | None = None,
    video_root: str | os.PathLike[str] | None = None,
    *,
    part: int = 1,
    allow_missing: bool = False,
    workers: int = 2,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Read a data set, open every clip and decode one frame of each.

    Args:
        path: As for `read`.
        format: As for `read`.
        video_root: As for `read`.
        part: As for `read`.
        allow_missing: As for `read`.
        workers: Child processes that open clips; 0 opens them in this process.
        cache: File in which probe results are cached; in the user's cache folder if None.
        progress: Called with (clips done, clips in all).

    Returns:
        The report. Faults are collected in it, not raised.
    """
    name = display_name(path)
    try:
        dataset = read(path, format, video_root, part=part, allow_missing=allow_missing)
    except DataError as error:
        return CheckReport(name, faults=error.faults, fault_count=error.count)
    return examine(dataset, name, workers=workers, cache=cache, progress=progress)


def examine(
    dataset: Dataset,
    name: str = "",
    *,
    workers: int = 2,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Open every clip of a data set that has been read (and split) before.

    Args:
        dataset: The records.
        name: What the report calls it.
        workers: As for `check`.
        cache: As for `check`.
        progress: As for `check`.
    """
    with ProbeCache(cache) as kept:
        known = probes([r.path for r in dataset.records], kept, workers, progress)
    return CheckReport(
        name,
        dataset,
        known,
        bad=tuple(_bad(dataset, known)),
        leaks=tuple(_leaks(dataset, known)),
        notes=tuple(_notes(dataset, known)),
    )


def _counts(dataset: Dataset | None) -> list[str]:
    if dataset is None:
        return []
    names = dataset.splits or (None,)
    counts = [dataset.class_counts(split) for split in names]
    classes = "1 class" if len(dataset.classes) == 1 else f"{len(dataset.classes)} classes"
    out = [f"{classes}; clips per class ({', '.join(n or 'all' for n in names)}):"]
    for label in islice(dataset.classes, CAP):
        out.append(f"  {display_name(label)}: {', '.join(str(count[label]) for count in counts)}")
    if dataset.has_boxes:
        out += _box_counts(dataset)
    if len(dataset.classes) > CAP:
        out.append(f"  and {len(dataset.classes) - CAP} more classes")
    return out


def _box_counts(dataset: Dataset) -> list[str]:
    """Boxes of each class, and the frames that have them."""
    boxes: Counter[str] = Counter()
    frames: Counter[str] = Counter()
    for record in dataset.records:
        for one in record.boxes or ():
            boxes.update(found.label for found in one.objects)
            frames.update({found.label for found in one.objects})
    total = sum(len(record.boxes or ()) for record in dataset.records)
    out = [f"{total} annotated frames"]
    return out + [
        f"  {display_name(label)}: {boxes[label]} boxes in {frames[label]} frames"
        for label in islice(dataset.classes, CAP)
    ]


def _seconds(record: Record, known: Probe | None) -> float | None:
    end = record.end if record.end is not None else known.duration if known else None
    return None if end is None else end - (record.start or 0.0)


def _bad(dataset: Dataset, known: dict[Path, Probe]) -> Iterator[tuple[str, str, str]]:
    """Clips that cannot be opened, and intervals outside their video."""
    for record in dataset.records:
        found = known[record.path]
        why = found.error
        if why is None and record.boxes:
            why = _bad_boxes(record.boxes, found)
        if why is None and found.duration is not None:
            if (record.start or 0.0) >= found.duration:
                why = f"starts at {record.start:g} s, the video lasts {found.duration:g} s"
            elif record.end is not None and record.end > found.duration + _BEYOND:
                why = f"ends at {record.end:g} s, the video lasts {found.duration:g} s"
        if why is not None:
            yield record.where, display_name(dataset.name(record)), why


def _bad_boxes(boxes: Sequence[FrameBoxes], found: Probe) -> str | None:
    """What of the boxes does not fit the video; readers do not know the size of all videos."""
    last = boxes[-1].frame
    if found.frames is not None and last >= found.frames:
        return f"frame {last} is annotated, the video has {found.frames} frames"
    for one in boxes:
        for thing in one.objects:
            try:
                checked_box(thing.box, (found.width, found.height))
            except ValueError as error:
                return f"frame {one.frame}: {error}"
    return None


def _leaks(dataset: Dataset, known: dict[Path, Probe]) -> Iterator[str]:
    """The same content, or the same group, in two splits."""
    for copies in _copies(dataset, known):
        sides = {record.split for record in copies}
        if len(sides) > 1:
            yield f"the same content in {_sides(sides)}: {_list(dataset, copies)}"
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in dataset.records:
        if record.group is not None:
            groups[record.group].append(record)
    for name, records in groups.items():
        sides = {record.split for record in records}
        if len(sides) > 1:
            first = [next(r for r in records if r.split == side) for side in sorted(sides, key=str)]
            yield f"group {name!r} in {_sides(sides)}: {_list(dataset, first)}"


def _copies(dataset: Dataset, known: dict[Path, Probe]) -> Iterator[list[Record]]:
    """Records of different files with the same content."""
    same: dict[str, dict[Path, Record]] = defaultdict(dict)
    for record in dataset.records:
        if known[record.path].content:
            same[known[record.path].content].setdefault(record.path, record)
    yield from (list(found.values()) for found in same.values() if len(found) > 1)


def _notes(dataset: Dataset, known: dict[Path, Probe]) -> Iterator[str]:
    for copies in _copies(dataset, known):
        if len({record.labels for record in copies}) > 1:
            yield f"the same content with different labels: {_list(dataset, copies)}"
        elif len({record.split for record in copies}) == 1:
            yield f"the same content more than once: {_list(dataset, copies)}"
    for record in dataset.records:
        for line in known[record.path].warnings:
            yield f"{_at(record.where, display_name(dataset.name(record)))}: {line}"
    counts = dataset.class_counts()
    yield from (f"class {name!r} has no clips" for name, count in counts.items() if not count)
    if len(dataset.classes) == 1 and dataset.classes != (LABEL,):
        yield "there is one class only"
    if not dataset.splits:
        like = [name for name in dataset.classes if split_of(name)]
        yield from (f"class {name!r} has the name of a split" for name in like)
        yield from _twins(dataset)
    yield from (f"skipped {line}" for line in dataset.passed_over)
    if dataset.left_out:
        yield f"{len(dataset.left_out)} clips of the annotation are missing and were left out"


def _twins(dataset: Dataset) -> Iterator[str]:
    """Class folders that hold folders of the same names alone may be splits of unusual names."""
    inside: dict[str, set[str | None]] = defaultdict(set)
    for record in dataset.records:
        parts = Path(dataset.name(record)).parts
        if composed(parts[0]) != record.labels[0]:
            return
        inside[parts[0]].add(parts[1] if len(parts) > 2 else None)
    first = next(iter(inside.values()), set())
    alike = None not in first and all(names == first for names in inside.values())
    if alike and len(inside) + len(first) > 2:
        names = ", ".join(sorted(map(str, first))[:4])
        yield f"all class folders hold the same folders ({names}): are those the classes?"


def _at(where: str, clip: str) -> str:
    """Line and clip, as a prefix of a message; given once where they are the same."""
    return clip if where in (clip, "") else f"{where}: {clip}"


def _sides(sides: set[str | None]) -> str:
    return " and ".join(sorted(side or "no split" for side in sides))


def _list(dataset: Dataset, records: list[Record]) -> str:
    named = [(display_name(dataset.name(r)), r.where) for r in records[:4]]
    shown = ", ".join(name if name == where else f"{name} ({where})" for name, where in named)
    return shown + (f" and {len(records) - 4} more" if len(records) > 4 else "")
