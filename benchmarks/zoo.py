"""The table of models (docs/reference/models.md): input, parameters, multiply-adds, time, state.

    python -m benchmarks.zoo                 # measures (some minutes) and writes both files
    python -m benchmarks.zoo --render        # writes the page again from the stored figures

Parameters and multiply-adds are counted on the meta device, so they are those of this code.
Milliseconds are process CPU time of one view at batch 1 on one thread: the least of some rounds,
each next to a round of r3d-18, so that the ratio survives a busy machine better than the time.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from benchmarks.record import RESULTS, write
from torch import nn

from foveate.models import registry
from foveate.models.backbones_weights import BACKBONES
from foveate.models.macs import macs_of
from foveate.models.resnet3drs import DEPTHS
from foveate.models.weights.table import entries, input_of

DOCS = Path(__file__).parents[1] / "docs" / "reference" / "models.md"
YARDSTICK = "r3d-18"
MOST_TIMED = 150e9  # multiply-adds; larger networks are counted, not run

# Over which backbones the families without one of their own are listed.
OVER = (
    "tsn:resnet50",
    "tsn:mobilenetv2_100",
    "tsn:efficientnet_lite0.imagenet_lite0",
    "tsn:mobilenet_v1_025.imagenet_uint8",
    "tsn:mobilenet_v2.imagenet_int8",
    "tsm:resnet50",
    "tsm:mobilenetv2_100",
    "tsm:efficientnet_lite0.imagenet_lite0",
    "tsm-online:mobilenetv2_100",
    "tsm-online:efficientnet_lite0.imagenet_lite0",
    "inflated:efficientnet_lite0.imagenet_lite0",
)
# Frames and side of one view, where no weights of the table say it.
VIEWS = {
    "c3d": (16, 112),
    "i3d": (64, 224),
    "eco-lite": (16, 224),
    "eco-full": (16, 224),
    "r3d": (16, 112),
    "r2plus1d": (16, 112),
    "s3d": (16, 224),
    "swin3d-t": (16, 224),
    "swin3d-s": (16, 224),
    "swin3d-b": (16, 224),
}
# Longer clips come with depth (the rule of scaling), the side is that of the published evaluation.
VIEWS |= {f"resnet3d-rs-{depth}": (32 if depth <= 200 else 48, 256) for depth in DEPTHS}
VIEWS["resnet3d-50"] = (32, 256)
SEGMENTS, OTHER = (8, 224), (32, 224)


@dataclass(frozen=True)
class Row:
    """One line of the table; times in milliseconds, None where it was not run."""

    name: str
    frames: int
    size: int
    parameters: int
    macs: int
    ms: float | None
    ratio: float | None
    state_bytes: int | None
    weights: str


def names() -> list[str]:
    """All models of the zoo: families by themselves, and some backbones for those over them."""
    over = {name.partition(":")[0] for name in OVER}
    alone = [n for n in registry.available() if n not in over]
    return sorted([*alone, *OVER])


def view_of(name: str) -> tuple[int, int]:
    """Frames and side of one view."""
    arch, _, backbone = name.partition(":")
    if backbone:
        size = BACKBONES[backbone].size if backbone in BACKBONES else SEGMENTS[1]
        return SEGMENTS[0], size
    if arch in VIEWS:
        return VIEWS[arch]
    known = input_of(arch)
    return OTHER if known is None else (known.clip_frames, known.size)


def weights_of(name: str) -> str:
    """Which pretrained weights the program knows for it, and their licence."""
    arch, _, backbone = name.partition(":")
    if backbone in BACKBONES:
        entry = BACKBONES[backbone]
        return f"image backbone, {entry.licence}"
    if backbone:
        return "timm's tags (own licences)"
    known = [entry for entry in entries() if entry.arch == arch]
    return ", ".join(f"{e.name.partition('.')[2]}: {e.licence}" for e in known) or "none"


def state_bytes(model: Any, size: int) -> int | None:
    """Bytes of the state of one stream, None for networks that keep none."""
    if not registry.is_streaming(model):
        return None
    state = model.initial_state(1, size, size)
    return sum(value.numel() * value.element_size() for value in state.values())


def seconds_of(model: nn.Module, x: torch.Tensor) -> float:
    """CPU seconds of one call."""
    begin = time.process_time()
    with torch.inference_mode():
        model(x)
    return time.process_time() - begin


def measure(
    name: str,
    yardstick: nn.Module,
    rounds: int = 3,
    settings: dict[str, Any] | None = None,
    view: tuple[int, int] | None = None,
    yard_view: tuple[int, int] = (16, 112),
) -> Row:
    """Count and time one network.

    Args:
        name: Of the model.
        yardstick: Run in turns with it.
        rounds: Interleaved; the least counts.
        settings: Arguments of its builder.
        view: Frames and side; its own when None.
        yard_view: Of the yardstick.
    """
    frames, size = view or view_of(name)
    settings = {"num_classes": 400, **(settings or {})}
    shape = (1, 3, frames, size, size)
    with torch.device("meta"):
        ghost = registry.create(name, **settings)
    parameters = sum(p.numel() for p in ghost.parameters())
    macs = macs_of(ghost, shape)
    ms = ratio = kept = None
    if macs <= MOST_TIMED:
        model = registry.create(name, **settings).eval()
        kept = state_bytes(model, size)
        yard = torch.rand(1, 3, yard_view[0], yard_view[1], yard_view[1])
        x = torch.rand(shape)
        times = [(seconds_of(model, x), seconds_of(yardstick, yard)) for _ in range(rounds)]
        best = min(own for own, _ in times)
        ms, ratio = 1e3 * best, best / min(other for _, other in times)
    return Row(name, frames, size, parameters, macs, ms, ratio, kept, weights_of(name))


def markdown(figures: dict[str, Any], about: dict[str, Any]) -> str:
    """The page, from stored figures."""
    lines = [
        "# Models and what they cost",
        "",
        "Written by `python -m benchmarks.zoo`; figures in `benchmarks/results/zoo.json`.",
        f"Machine: {about['hardware']['processor']}, one thread; "
        f"torch {about['hardware']['torch']}; commit {about['commit'][:7]}, "
        f"{about['date'][:10]}. {about['protocol']}",
        "",
        "Names are `ARCH[.TAG][:BACKBONE[.TIMMTAG]]`. `tsn`, `tsm`, `tsm-online` and `inflated` "
        "accept any 2D backbone of timm; a few are listed. MACs are multiply-adds of one view "
        "with 400 classes. All figures are costs, not accuracies: of the video weights only those "
        "of MoViNet were available when this was measured. Rows that were added or changed later "
        "were measured alone (`--only`), each interleaved with its own rounds of r3d-18, and may "
        "be of another machine than the latest, which is named above. `coviar` "
        "is one of the three networks of the [compressed-domain cascade](../how-to/compressed.md).",
        "",
        "| name | view | parameters | MACs | ms per view | × r3d-18 | state | known weights |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in figures["rows"]:
        kept = "–" if row["state_bytes"] is None else f"{row['state_bytes'] / 1024:,.0f} KiB"
        timed = "–" if row["ms"] is None else f"{row['ms']:,.0f}"
        ratio = "–" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append(
            f"| `{row['name']}` | {row['frames']} × {row['size']}² | {row['parameters']:,} | "
            f"{row['macs'] / 1e9:,.2f} G | {timed} | {ratio} | {kept} | {row['weights']} |"
        )
    lines += [
        "",
        "A dash under ms: counted on the meta device only, because the network is too large to be "
        "timed on this machine. A dash under state: the network takes whole clips. `mobilenet_*` "
        "backbones have their normalisation folded into the convolutions and stay frozen.",
        "",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure and write, or write the page again."""
    parser = argparse.ArgumentParser(description="The table of models")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names; the others keep their stored figures")
    parser.add_argument("--render", action="store_true", help="only write the page again")
    options = parser.parse_args(arguments)
    stored = RESULTS / "zoo.json"
    if not options.render:
        torch.set_num_threads(1)
        yardstick = registry.create(YARDSTICK).eval()
        rows = {}
        if options.only and stored.is_file():
            kept = json.loads(stored.read_text("utf-8"))["figures"]["rows"]
            rows = {row["name"]: row for row in kept}
        for name in options.only or names():
            row = measure(name, yardstick, options.rounds)
            rows[name] = vars(row)
            print(row, flush=True)
        write(
            "zoo",
            "CPU time of one view at batch 1, random weights, least of "
            f"{options.rounds} rounds interleaved with {YARDSTICK} at 16 × 112².",
            options.rounds,
            {"rows": [rows[name] for name in sorted(rows)]},
        )
    about = json.loads(stored.read_text("utf-8"))
    DOCS.write_text(markdown(about["figures"], about), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
