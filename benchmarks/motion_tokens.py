"""The look `motion-tokens`: what leaving out patch tokens saves, and what it does to accuracy.

``time``: ViT-S/16 with random weights at 224 pixels on video files, through `foveate.load`, at
shares of its tokens against all of them: CPU milliseconds, in interleaved rounds.

``accuracy``: a small vision transformer (frames of 96 pixels, patches of 8: 144 tokens) trained
from random weights on some classes of mocap15, with 16 tokens of each frame chosen by motion, at
random, evenly spaced or by frame difference, against the frame resized to 32 pixels, which has as
many tokens, and against all tokens. Each look has a network of its own; the one of all tokens is
tested on every look as well (zero-shot). The file is written after every look.

Run: ``python -m benchmarks.motion_tokens time VIDEO...``
and ``python -m benchmarks.motion_tokens accuracy MOCAP15``.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import record
from torch.nn import functional

import foveate
from foveate.core import Budget, Window
from foveate.data import read
from foveate.evaluate.bootstrap import compare_correct, interval
from foveate.evaluate.metrics import mean
from foveate.models.patch_tokens import count_kept_macs, with_kept
from foveate.models.registry import create
from foveate.pipeline.fetch import shown
from foveate.policy import Context, MotionTokens

VIT, VIT_SIDE = "vit_small_patch16_224", 224
LOOKS: dict[str, Any] = {
    "full": None,
    **{f"motion-tokens {k}": {"name": "motion-tokens", "keep": k} for k in (0.5, 0.25)},
}
CLASSES = ("cartwheel", "crawl", "getup_faceup", "kick", "roll", "walk")
SIDE, PATCH, SHRINK = 96, 8, 3
KEEP = 1 / SHRINK**2  # as many tokens as a frame has that is resized to SIDE / SHRINK
SMALL = {
    "img_size": SIDE, "patch_size": PATCH, "embed_dim": 64, "depth": 3, "num_heads": 2,
    "global_pool": "avg",
}  # fmt: skip
FRAMES, VIEWS, SECONDS = 4, 3, 2.0  # of a clip; interleaved views of it to train on
EPOCHS, BATCH, LR, DECAY = 40, 32, 2e-3, 0.05
ORDERS = ("motion", "difference", "random", "stride")
DRAWS = 3  # of random tokens that a network is tested on


# --- time -------------------------------------------------------------------------------------


def times_of(videos: Sequence[Path], rounds: int) -> dict[str, Any]:
    """CPU milliseconds and multiply-adds per video for every look, medians over rounds."""
    torch.manual_seed(0)
    network = create(f"tsn:{VIT}", num_classes=10)
    spec = foveate.InputSpec(VIT_SIDE, 4.0, 8, mean=(0.5,) * 3, std=(0.5,) * 3)
    recognisers: dict[str, Any] = {
        name: foveate.load(
            network, labels=list("abcdefghij"), input=spec, look=look, cut_threshold=1.0,
            device="cpu", threads=1,
        )
        for name, look in LOOKS.items()
    }  # fmt: skip
    inside: list[float] = []
    for one in recognisers.values():
        run = one.executor.run

        def timed(part: str, views: Any, states: Any, run: Any = run) -> Any:
            since = time.process_time()
            found = run(part, views, states)
            inside.append(time.process_time() - since)
            return found

        one.executor.run = timed
    whole: dict[str, list[float]] = {name: [] for name in LOOKS}
    parts: dict[str, list[float]] = {name: [] for name in LOOKS}
    macs: dict[str, int] = dict.fromkeys(LOOKS, 0)
    for turn in range(rounds + 1):
        for name, one in recognisers.items():
            inside.clear()
            since = time.process_time()
            results = [one.predict(video) for video in videos]
            spent = time.process_time() - since
            if turn:  # the first round fills caches
                whole[name].append(1000 * spent / len(videos))
                parts[name].append(1000 * sum(inside) / len(videos))
            macs[name] = sum(result.cost.macs for result in results) // len(videos)
    return {
        name: {
            "gmacs": round(macs[name] / 1e9, 3),
            "network_ms": round(float(np.median(parts[name])), 1),
            "predict_ms": round(float(np.median(whole[name])), 1),
            "network_share_of_full": round(
                float(np.median(np.divide(parts[name], parts["full"]))), 3
            ),
            "predict_share_of_full": round(
                float(np.median(np.divide(whole[name], whole["full"]))), 3
            ),
            "macs_share_of_full": round(macs[name] / macs["full"], 3),
        }
        for name in LOOKS
    }


# --- accuracy ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """What the networks are shown of clips.

    Attributes:
        frames: (N, VIEWS * FRAMES, SIDE, SIDE, 3) uint8.
        kept: Order → (N, VIEWS * FRAMES, rows, columns) bool, of orders that measure motion.
        y: (N,) classes.
    """

    frames: torch.Tensor
    kept: dict[str, torch.Tensor]
    y: torch.Tensor


def shown_of(records: Sequence[Any], classes: Sequence[str]) -> Shown:
    """Decode clips once: their middle two seconds, and the tokens that looks choose in them."""
    spec = foveate.InputSpec(SIDE, VIEWS * FRAMES / SECONDS, VIEWS * FRAMES)
    context = Context(spec, mixes_frames=False, patch=(1, PATCH, PATCH))
    looks = {
        order: MotionTokens(keep=KEEP, order=order).fitted(context)
        for order in ("motion", "difference")
    }
    frames: list[Any] = []
    kept: dict[str, list[Any]] = {order: [] for order in looks}
    for one in records:
        with foveate.Video(one.path) as video:
            start = max(0.0, ((video.info.duration or SECONDS) - SECONDS) / 2)
            window = Window(start, start + SECONDS)
            for order, look in looks.items():
                kept[order].append(look.plan(video, window, Budget()).tokens)
            times = looks["motion"].times(window, Budget())
            requests = [foveate.core.ViewRequest(times)]
            frames.append(shown(video, spec, requests)[1])
    return Shown(
        torch.from_numpy(np.stack(frames)),
        {order: torch.from_numpy(np.stack(rows)) for order, rows in kept.items()},
        torch.tensor([classes.index(one.labels[0]) for one in records]),
    )


def random_tokens(shape: Sequence[int], random: torch.Generator) -> torch.Tensor:
    """(N, T, rows, columns) with a share of `KEEP` of each frame."""
    count, rows = shape[0] * shape[1], (SIDE // PATCH) ** 2
    drawn = torch.rand(count, rows, generator=random).argsort(1)[:, : round(KEEP * rows)]
    kept = torch.zeros(count, rows, dtype=torch.bool).scatter_(1, drawn, True)
    return kept.view(*shape[:2], SIDE // PATCH, SIDE // PATCH)


def clip_of(
    data: Shown, rows: torch.Tensor, view: int, look: str, random: torch.Generator
) -> torch.Tensor:
    """Clips (B, 3 or 4, FRAMES, S, S) as a look shows them."""
    x = data.frames[rows, view::VIEWS].permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    if look == "full":
        return x
    if look == "resize":
        return functional.avg_pool3d(x, (1, SHRINK, SHRINK))
    if look in data.kept:
        kept = data.kept[look][rows, view::VIEWS]
    elif look == "random":
        kept = random_tokens(x[:, 0].shape, random)
    else:
        grid = SIDE // PATCH
        places = ((torch.arange(round(KEEP * grid**2)) + 0.5) / KEEP).long()
        kept = torch.zeros(grid**2, dtype=torch.bool).index_fill_(0, places, True)
        kept = kept.view(1, 1, grid, grid).expand(len(rows), FRAMES, -1, -1)
    return with_kept(x, kept, (1, PATCH, PATCH))


def trained(data: Shown, look: str, classes: int, seed: int) -> Any:
    """A network trained on what a look shows, for a fixed number of epochs."""
    torch.manual_seed(seed)
    network = create(
        "tsn:vit_tiny_patch16_224", num_classes=classes, dropout=0.0, backbone_settings=SMALL
    )
    random = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), LR, weight_decay=DECAY)
    steps = EPOCHS * (len(data.y) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda t: min(1.0, (t + 1) / (0.1 * steps)) * (1 + math.cos(math.pi * t / steps)) / 2,
    )
    network.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(data.y), generator=random).split(BATCH):
            if len(rows) < BATCH:
                continue
            view = int(torch.randint(VIEWS, (1,), generator=random))
            x = clip_of(data, rows, view, look, random)
            if torch.rand(1, generator=random) < 0.5:
                x = x.flip(-1)
            loss = functional.cross_entropy(network(x), data.y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def right_of(network: Any, data: Shown, look: str) -> Any:
    """(N,) whether a network is right, of random tokens the share of draws: the middle view."""
    random = torch.Generator().manual_seed(1000)
    found = []
    for _ in range(DRAWS if look == "random" else 1):
        parts = [
            network(clip_of(data, rows, VIEWS // 2, look, random)).argmax(1)
            for rows in torch.arange(len(data.y)).split(32)
        ]
        found.append((torch.cat(parts) == data.y).double().numpy())
    return np.mean(found, 0)


def accuracy_of(root: Path, seeds: Sequence[int]) -> Iterator[tuple[dict[str, Any], int]]:
    """After every look: the table so far, and the number of clips tested."""
    dataset = read(root)
    records = [one for one in dataset.records if one.labels[0] in CLASSES]
    data = {
        split: shown_of([one for one in records if one.split in split.split("+")], CLASSES)
        for split in ("train", "test+val")
    }
    tested = data["test+val"]
    right: dict[str, list[Any]] = {}
    looks = (*ORDERS, "resize")
    for seed in seeds:
        for look in (*looks, "full"):
            since = time.process_time()
            network = trained(data["train"], look, len(CLASSES), seed)
            spent = time.process_time() - since
            for other in ("full", *looks) if look == "full" else (look,):
                line = other if other == look else f"{other}, trained on full"
                right.setdefault(line, []).append(right_of(network, tested, other))
                print(
                    f"seed {seed} {line}: {right[line][-1].mean():.3f} (training clips "
                    f"{right_of(network, data['train'], other).mean():.3f}), training took "
                    f"{spent:.0f} s of CPU", flush=True,
                )  # fmt: skip
            yield table_of(right), len(tested.y)


def table_of(right: dict[str, list[Any]]) -> dict[str, Any]:
    """Accuracy with its interval, tokens and multiply-adds of every line, and motion against it.

    Args:
        right: Line → per seed (N,) whether it was right.
    """
    whole = (SIDE // PATCH) ** 2
    network = create("tsn:vit_tiny_patch16_224", num_classes=6, backbone_settings=SMALL)
    table: dict[str, Any] = {}
    for line, rows in right.items():
        values = np.mean(rows, 0)
        top1 = interval(mean(values), len(values), proportion=len(rows) == 1)
        tokens = whole if line == "full" else round(KEEP * whole)
        macs = count_kept_macs(network, (1, 3, FRAMES, SIDE, SIDE), (tokens,) * FRAMES)
        table[line] = {
            "top1": round(top1.value, 4), "low": round(top1.low, 4), "high": round(top1.high, 4),
            "by_seed": [round(float(row.mean()), 4) for row in rows],
            "tokens_per_frame": tokens, "mmacs": round(macs / 1e6, 2),
        }  # fmt: skip
        if line != "motion" and len(rows) == len(right["motion"]):
            other = compare_correct(np.mean(right["motion"], 0), values)
            table[line]["motion less this"] = {
                "difference": round(other.difference, 4), "low": round(other.low, 4),
                "high": round(other.high, 4), "found": other.found,
            }  # fmt: skip
    return table


def main() -> int:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    timed = kinds.add_parser("time")
    timed.add_argument("videos", type=Path, nargs="+")
    timed.add_argument("--rounds", type=int, default=5)
    measured = kinds.add_parser("accuracy")
    measured.add_argument("data", type=Path, help="folder with clips.csv")
    measured.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.kind == "time":
        figures = times_of(options.videos, options.rounds)
        for name, row in figures.items():
            print(name, row)
        record.write(
            "motion_tokens_time",
            f"tsn:{VIT}, random weights, {VIT_SIDE} pixels, 8 frames of 2 s per window; "
            f"{len(options.videos)} H.264 files of 320x240, through foveate.load, eager torch, one "
            f"thread; process CPU time per file, {options.rounds} interleaved rounds, medians, "
            "ratios within rounds; network: all calls of the executor; predict: decoding, motion "
            "and policy, too",
            len(options.videos), {"looks": figures},
        )  # fmt: skip
        return 0
    for table, count in accuracy_of(options.data, options.seeds):
        record.write(
            "motion_tokens_mocap15",
            f"mocap15 (rendered), classes {', '.join(CLASSES)}, trained on train, tested on test "
            "and val, on which the settings (share of tokens, epochs, learning rate, no further "
            "augmentation) were chosen in five trials of the look motion alone; frames of "
            f"{SIDE} pixels, patches of {PATCH}, width 64, depth 3, random weights; {FRAMES} "
            f"frames of the middle {SECONDS:g} s; {EPOCHS} epochs, batch {BATCH}, AdamW {LR:g}; "
            f"1/{SHRINK**2} of the tokens, equal multiply-adds but for full; random: mean of "
            f"{DRAWS} draws; mean over seeds; 95 % percentile bootstrap over clips, paired",
            count, {"looks": table, "chance": round(1 / len(CLASSES), 3)}, tuple(options.seeds),
        )  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
