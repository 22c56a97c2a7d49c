"""`foveate detect`: boxes of objects in files and folders; `predict` with outputs of its own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from foveate.app import predict
from foveate.app.output import check_writable
from foveate.app.requests import DetectRequest
from foveate.core import ConfigError, Result
from foveate.core.files import replace_file
from foveate.core.result_text import COLUMNS, rows
from foveate.pipeline.presets import resolve


def run(request: DetectRequest) -> int:
    """Run the request; returns the exit code.

    Raises:
        FoveateError: The request itself is wrong: a setting, the model, a path to write to.
    """
    _, preset = resolve(request.model)
    if preset.look.name != "key-frames":
        raise ConfigError(
            f"{request.model}: recognises whole clips and finds no boxes", "type: foveate predict"
        )
    for option, path in (("--csv", request.csv_path), ("--coco", request.coco)):
        if str(path) == "-":
            raise ConfigError(f"{option} -: not written to standard output", "name a file")
        check_writable(path)
    if request.coco is not None and not request.trace:
        raise ConfigError("--coco needs the trace, which has all frames", "leave out --no-trace")

    def write(results: list[Result], recogniser: Any) -> None:
        if request.csv_path is not None:
            replace_file(request.csv_path, table(results).encode())
        if request.coco is not None:
            replace_file(request.coco, json.dumps(coco(results, recogniser.labels)).encode())

    return predict.run(request, write)


def table(results: Sequence[Result]) -> str:
    """The boxes of all inputs as CSV, one row each."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS["detections"], lineterminator="\n")
    writer.writeheader()
    for result in results:
        writer.writerows(rows(result, "detections"))
    return text.getvalue()


def coco(results: Sequence[Result], labels: Sequence[str]) -> dict[str, Any]:
    """The boxes of all inputs as COCO annotations with videos (as CocoVID has them).

    Args:
        results: With their traces, which have the size and the frames of the sources.
        labels: Names of the classes, in order; category 1 is the first one.
    """
    videos: list[dict[str, Any]] = []
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for result in results:
        if not result.ok or result.trace is None:
            continue
        width, height = result.trace.size
        video = len(videos) + 1
        videos.append({"id": video, "name": result.source, "width": width, "height": height})
        place = {time: len(images) + 1 + n for n, time in enumerate(result.times)}
        images += [
            {"id": number, "video_id": video, "frame_id": n, "time": time, "width": width,
             "height": height, "file_name": f"{result.source}#{n}"}
            for n, (time, number) in enumerate(place.items())
        ]  # fmt: skip
        for one in result.detections:
            x1, y1, x2, y2 = one.box
            found.append(
                {"id": len(found) + 1, "image_id": place[one.time], "video_id": video,
                 "category_id": one.index + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                 "area": (x2 - x1) * (y2 - y1), "iscrowd": 0, "score": one.score}
            )  # fmt: skip
            if one.track is not None:
                found[-1]["instance_id"] = one.track
    categories = [{"id": n, "name": label} for n, label in enumerate(labels, 1)]
    return {"videos": videos, "images": images, "annotations": found, "categories": categories}
