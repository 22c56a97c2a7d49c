"""`foveate probe`: what a file is, without recognising anything."""

from __future__ import annotations

import json
from dataclasses import asdict

from foveate.app.guard import print_error
from foveate.app.inputs import check_rate, expand
from foveate.core import FoveateError, MediaError
from foveate.core.units import clock, size
from foveate.media.facts import Facts, facts


def run(inputs: list[str], fps: float | None, json_lines: bool) -> int:
    """Probe every input; returns the exit code."""
    failures = 0
    items = list(expand(inputs))
    check_rate(fps, items)
    for item in items:
        try:
            if item.problem is not None:
                raise MediaError(f"{item.name}: {item.problem}")
            found = facts(item.source, fps=fps)
        except FoveateError as error:
            failures += 1
            print_error(error)
            if json_lines:
                print(json.dumps({"source": item.name, "error": str(error)}))
            continue
        print(json.dumps(asdict(found)) if json_lines else table(found))
    return 1 if failures else 0


def table(found: Facts) -> str:
    """The facts as lines of text."""
    rate = f"{found.rate:.3f} frames/s" if found.rate else "unknown"
    duration, sound = found.duration, found.sound
    often = (
        f", one every {duration / found.keyframes:.2f} s" if duration and found.keyframes else ""
    )
    turned = f"{found.rotation} degrees clockwise" if found.rotation else "none"
    rows = [
        ("container", f"{found.container}, {size(found.bytes)}"),
        ("codec", f"{found.codec} ({found.pixel_format})"),
        ("stream", f"{found.stream} of {found.streams}, {found.choice}"),
        ("colour", found.colour),
        ("size", f"{found.width}x{found.height} upright, square pixels"),
        ("rotation", turned + (", mirrored before" if found.mirrored else "")),
        ("rate", rate + (", variable" if found.variable_rate else "")),
        ("duration", f"{clock(duration, 2)} ({duration:.2f} s)" if duration else "unknown"),
        ("frames", str(found.frames)),
        ("key frames", f"{found.keyframes}{often}"),
        ("audio", f"{sound.codec}, {sound.rate} Hz, {sound.channels} ch" if sound else "none"),
        ("motion vectors", "yes" if found.motion_vectors else f"no, not from {found.codec}"),
    ]
    rows += [("warning", line) for line in found.warnings]
    width = max(len(name) for name, _ in rows)
    return "\n".join([found.source, *(f"  {name:<{width}}  {text}" for name, text in rows)])
