"""Writes a mocap15 data set: encoded clips, their ground truth and a table."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2

from foveate.core import ConfigError, FoveateError
from foveate.data.mocap15.objects import KINDS
from foveate.data.mocap15.render import render_clip
from foveate.data.mocap15.spec import FPS, SPLITS, ClipSpec, clip_specs
from foveate.media.encode import ENCODINGS, encode

Progress = Callable[[int, int], None]
Row = dict[str, object]


def make(
    out: str | os.PathLike[str],
    clips: int,
    seed: int,
    *,
    mode: str = "actions",
    encoding: str = "x264",
    size: tuple[int, int] = (320, 240),
    workers: int = 1,
    progress: Progress | None = None,
    degrade: Collection[str] | None = None,
    degraded: Collection[str] = ("test",),
) -> Path:
    """Render a set of clips into a folder, which appears only when it is whole.

    Written are `SPLIT/LABEL/NNNNN.mp4`, `truth/NNNNN.json` with the answers, and `clips.csv` with a
    row per clip; in the mode `detection`, `annotations/SPLIT.json` with the boxes of all frames as
    COCO-style video annotations instead. The same arguments give the same files, however many
    workers there are.

    Args:
        out: The folder; it must not exist or be empty.
        clips: How many.
        seed: Not negative.
        mode: `actions`, `timeline`, `audiovisual` or `detection`, see `clip_specs`.
        encoding: A key of `media.encode.ENCODINGS`.
        size: `(width, height)` in pixels, even.
        workers: Processes that render.
        progress: Called with (clips done, clips in all) after each.
        degrade: See `clip_specs`.
        degraded: See `clip_specs`.

    Raises:
        ConfigError: An argument is out of range.
        FoveateError: The folder is in use or cannot be written, or a clip cannot be encoded.
    """
    specs = clip_specs(clips, seed, mode, size=size, degrade=degrade, degraded=degraded)
    _check(encoding, workers)
    target = Path(out)
    building = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FoveateError(f"{target.name}: already there", "name a new or an empty folder")
        _build(building, specs, encoding, workers, progress)
        if target.exists():
            target.rmdir()
        building.rename(target)
    except OSError as error:
        raise FoveateError(f"{target.name}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def _check(encoding: str, workers: int) -> None:
    if encoding not in ENCODINGS:
        raise ConfigError(f"encoding {encoding!r} is unknown", f"one of: {', '.join(ENCODINGS)}")
    if workers < 1:
        raise ConfigError("the number of workers must be positive")


def _build(
    folder: Path,
    specs: list[ClipSpec],
    encoding: str,
    workers: int,
    progress: Progress | None,
) -> None:
    """Write all clips and the table into a new folder."""
    folder.mkdir(parents=True)
    rows: list[Row] = []
    for row in _rendered(specs, folder, encoding, workers):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(specs))
    if specs[0].mode == "detection":
        _write_boxes(folder, rows)
    else:
        _write_table(folder / "clips.csv", rows)


def _rendered(specs: list[ClipSpec], folder: Path, encoding: str, workers: int) -> Iterator[Row]:
    """Write the clips, here or in worker processes, and give their rows in order."""
    write = partial(_write_clip, folder=folder, encoding=encoding)
    if workers == 1:
        yield from map(write, specs)
        return
    # Started afresh, not forked: the caller may have threads, and torch dislikes forks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, cv2.setNumThreads, (1,)) as pool:
        yield from pool.map(write, specs)


def _write_clip(spec: ClipSpec, folder: Path, encoding: str) -> Row:
    """Render and encode one clip, and write its truth."""
    clip = render_clip(spec)
    name = f"{spec.index:05d}"
    place = Path(spec.split) / spec.label / f"{name}.mp4"
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / "truth").mkdir(exist_ok=True)
    encode(folder / place, clip.frames(), FPS, encoding, sound=clip.sound())
    truth = {"path": place.as_posix(), "encoding": encoding, **clip.truth()}
    text = json.dumps(truth, separators=(",", ":"))
    (folder / "truth" / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    return {
        "path": place.as_posix(),
        "label": spec.label,
        "split": spec.split,
        # Clips of one body in one kind of surroundings belong together in any further division.
        "group": f"body{spec.body:02d}-{spec.background}",
        "camera": spec.camera,
        "encoding": encoding,
        "seed": spec.seed,
        "index": spec.index,
        "mode": spec.mode,
        "body": spec.body,
        "background": spec.background,
        "sector": spec.sector,
        "distractors": spec.distractors,
        "frames": spec.frames,
        "fps": FPS,
        "width": spec.size[0],
        "height": spec.size[1],
    }


def _write_table(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _write_boxes(folder: Path, rows: list[Row]) -> None:
    """Write the boxes of each split as COCO-style video annotations, an entry per line."""
    (folder / "annotations").mkdir()
    kinds = ("person", *KINDS)
    for split in SPLITS:
        videos: list[Row] = []
        images: list[Row] = []
        boxes: list[Row] = []
        for row in rows:
            if row["split"] != split:
                continue
            size = {"width": row["width"], "height": row["height"]}
            video = {"id": len(videos) + 1, "file_name": row["path"], "fps": FPS, **size}
            videos.append(video)
            truth = json.loads((folder / "truth" / f"{row['index']:05d}.json").read_text("utf-8"))
            for frame in range(truth["frames"]):
                image = {"id": len(images) + 1, "video_id": video["id"], "frame_id": frame}
                images.append({**image, "file_name": f"{row['path']}/{frame:06d}", **size})
                for track in truth["tracks"]:
                    if (box := track["boxes"][frame]) is None:
                        continue
                    x, y, width, height = box[0], box[1], box[2] - box[0], box[3] - box[1]
                    boxes.append(
                        {
                            "id": len(boxes) + 1, "image_id": image["id"],
                            "category_id": kinds.index(track["class"]) + 1,
                            "instance_id": track["instance"],
                            "bbox": [x, y, width, height], "area": width * height, "iscrowd": 0,
                        }
                    )  # fmt: skip
        categories = [{"id": at, "name": kind} for at, kind in enumerate(kinds, 1)]
        lists = {"videos": videos, "images": images, "annotations": boxes, "categories": categories}
        text = ",\n".join(
            f'"{key}": [\n' + ",\n".join(json.dumps(one) for one in entries) + "\n]"
            for key, entries in lists.items()
        )
        if videos:
            (folder / "annotations" / f"{split}.json").write_text(f"{{\n{text}\n}}\n", "utf-8")
