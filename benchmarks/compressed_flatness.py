"""Is the I-frame network in a flatter minimum than the residual and the motion-vector network?

So say Soufleri et al. (arXiv 2407.02713). Measured on networks trained here, over training clips
with one segment each: the trace of the loss's Hessian by Hutchinson's estimate, per parameter, and
the rise of the loss under filter-normalised noise. Networks of different size sit in different
spaces, so a second run whose three backbones are one architecture can be named too.

Run: `OMP_NUM_THREADS=1 python -m benchmarks.compressed_flatness RUN [SAME_ARCHITECTURE_RUN]
[--dry]`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks import record
from benchmarks.compressed_accuracy import Opened, opened
from benchmarks.flatness import Measured, hessian_trace, noise_rise

from foveate.evaluate.bootstrap import interval
from foveate.train.recipes.compressed.clips import CompressedBatches
from foveate.train.recipes.compressed.config import TEACHING

BATCH, BATCHES, PROBES, DRAWS = 16, 8, 3, 3
ORDER = ("iframe", "residual", "mv")  # flattest first, as the paper says


def batches_of(run: Opened, modality: Any, count: int) -> list[tuple[Any, Any]]:
    """Training clips as prediction sees them, one segment each, evenly spread."""
    _, spec, _ = run.networks[modality]
    kept = run.parts.kept[run.config.train_split]
    rows = np.linspace(0, len(kept) - 1, min(len(kept), BATCH * count)).astype(int).tolist()
    part = kept.subset(rows[: len(rows) // BATCH * BATCH])
    one = replace(spec, clip_frames=1)
    source = CompressedBatches(part, modality, run.parts.dataset.classes, one, BATCH)
    return [(batch["x"], batch["y"]) for batch in source.batches(0)]


def measure(run: Opened, count: int, probes: int, draws: int) -> dict[str, Any]:
    """Both measures of each network, and how the pairs compare."""
    traces: dict[str, Measured] = {}
    figures: dict[str, Any] = {}
    for modality in TEACHING:
        network, _, backbone = run.networks[modality]
        clips = batches_of(run, modality, count)
        with torch.no_grad():
            logits = torch.cat([network(x) for x, _ in clips])
            labels = torch.cat([y for _, y in clips])
            loss = float(torch.nn.functional.cross_entropy(logits, labels))
        traces[modality] = hessian_trace(network, clips, probes)
        rises = noise_rise(network, clips, draws=draws)
        figures[modality] = {
            "backbone": backbone,
            "parameters": sum(p.numel() for p in network.parameters()),
            "clips": len(labels),
            "train_loss": loss,
            "train_top1": float((logits.argmax(-1) == labels).double().mean()),
            "trace_per_parameter": _plain(traces[modality]),
            "trace": traces[modality].value * sum(p.numel() for p in network.parameters()),
            "noise_rise": {f"{r:g}": _plain(found) for r, found in rises.items()},
        }
        print(run.folder.name, modality, figures[modality], flush=True)
    pairs = {}
    for flat, sharp in (("iframe", "residual"), ("residual", "mv"), ("iframe", "mv")):
        # A positive difference: the network that the paper calls sharper is.
        by_batch = np.array(traces[sharp].batches) - np.array(traces[flat].batches)
        found = interval(lambda w, v=by_batch: w @ v / w.sum(-1), len(by_batch))
        pairs[f"{sharp} minus {flat}"] = {
            "trace_per_parameter": found.value, "low": found.low, "high": found.high
        }  # fmt: skip
    found_order = sorted(ORDER, key=lambda m: traces[m].value)
    by_noise = sorted(ORDER, key=lambda m: figures[m]["noise_rise"]["0.05"]["value"])
    return {
        "networks": figures,
        "pairs": pairs,
        "flattest_first_by_trace": found_order,
        "flattest_first_by_noise": by_noise,
        "paper_order_holds": {
            "trace": found_order == list(ORDER), "noise": by_noise == list(ORDER)
        },
    }  # fmt: skip


def _plain(found: Measured) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of the recipe compressed")
    parser.add_argument("--dry", action="store_true", help="two batches, no result file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    few = (2, 1, 1) if options.dry else (BATCHES, PROBES, DRAWS)
    runs = [opened(folder, None) for folder in options.runs]
    figures = {
        "as trained" if number == 0 else "one architecture": measure(run, *few)
        for number, run in enumerate(runs)
    }
    if not options.dry:
        protocol = (
            f"networks of the recipe compressed on {runs[0].parts.dataset.root.name}; up to "
            f"{BATCH * BATCHES} training clips with one segment each in batches of {BATCH}, norms "
            f"in evaluation mode; Hutchinson's trace with {PROBES} sign vectors, per parameter; "
            f"filter-normalised noise, {DRAWS} draws; 95 % percentile bootstrap over batches"
        )
        clips = max(n["clips"] for f in figures.values() for n in f["networks"].values())
        print(
            f"written: {record.write('compressed_flatness', protocol, clips, figures, (0,)).name}"
        )


if __name__ == "__main__":
    main()
