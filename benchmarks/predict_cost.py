"""CPU time and peak memory of prediction, of one source tree or of two in turns.

    python -m benchmarks.predict_cost [--baseline OTHER_CHECKOUT/src] [--repeats 7] [--clips 50]

Every measurement is a fresh process with one thread that loads a model and predicts the demo clip,
or the demo clip and generated ones. With `--baseline` both trees are measured in every round, and
which comes first alternates; the ratios are this tree by the baseline. The cascade is a small one
with random weights, in a run folder of format 1, so it measures decoding and the loop more than the
networks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "examples" / "demo" / "cartwheel.mp4"
BUILT_IN = "movinet-a0-stream-lite.actions15"
CASES = ("uniform", "motion-patch", "cascade")
MEASURED = ("total_cpu", "predict_cpu", "peak")  # seconds of process, seconds of predict, bytes


def child(case: str, model: str, clips: list[str]) -> dict[str, Any]:
    """Load and predict in this process; what it took."""
    import torch

    import foveate

    torch.set_num_threads(1)
    look = {} if case == "cascade" else {"look": case}
    recogniser = foveate.load(model, device="cpu", offline=True, **look)
    started = time.process_time()
    if len(clips) == 1:
        macs = recogniser.predict(clips[0]).cost.macs
    else:
        results = list(recogniser.predict_many(clips))
        failed = [result.source for result in results if not result.ok]
        if failed:
            raise SystemExit(f"{case}: no result for {', '.join(failed)}")
        macs = sum(result.cost.macs for result in results)
    ended = time.process_time()
    return {
        "source": str(Path(foveate.__file__).parents[1]),
        "total_cpu": ended,
        "predict_cpu": ended - started,
        "peak": peak(),
        "macs": macs,
    }


def peak() -> int:
    """Bytes of the largest resident set of this process.

    `ru_maxrss` of a new process starts at that of the process that forked it, so Linux is asked
    for the high-water mark of the address space instead.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    scale = 1 if sys.platform == "darwin" else 1024
    return scale * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(tree: Path, case: str, model: str, clips: list[str], cache: Path) -> dict[str, Any]:
    """Run `child` in a new process on the sources of a tree.

    Raises:
        SystemExit: The process failed, or imported other sources.
    """
    environment = os.environ | {
        "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1", "FOVEATE_CACHE": str(cache),
    }  # fmt: skip
    command = [sys.executable, __file__, "--child", case, model, *clips]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{case} on {tree} failed")
    found: dict[str, Any] = json.loads(done.stdout)
    if Path(found.pop("source")).resolve() != tree.resolve():
        raise SystemExit(f"{tree}: another foveate was imported; give the folder that holds it")
    return found


def prepare(folder: Path, count: int) -> tuple[list[str], dict[str, str]]:
    """Encode all clips but the demo, and write the cascade; paths, and case → model."""
    sys.path.insert(0, str(ROOT / "tests"))
    from clips import encode
    from record import inputs

    clips = [str(DEMO)]
    # Vectors of P pictures only, of one reference: what the cascade reads.
    options = {"x264-params": "scenecut=0:threads=1", "refs": "1", "weightp": "0"}
    for number in range(1, count):
        path = folder / f"{number:03}.mp4"

        def draw(at: int, size: tuple[int, int], seed: int = number) -> Any:
            return inputs.scene(at, size, seed)

        path.write_bytes(encode(frames=75, size=(320, 240), draw=draw, options=options))
        clips.append(str(path))
    runs = folder / "runs"
    runs.mkdir()
    return clips, {**dict.fromkeys(CASES, BUILT_IN), "cascade": inputs.write_runs(runs)["cascade"]}


def rounds(
    trees: dict[str, Path], repeats: int, clips: list[str], models: dict[str, str], folder: Path
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Measure everything `repeats` times: "case, clips: n" → tree → measurements."""
    counts = sorted({1, len(clips)})
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number in range(repeats):
        for case in CASES:
            for count in counts:
                rows = found.setdefault(f"{case}, clips: {count}", {tree: [] for tree in trees})
                for name in list(trees)[:: -1 if number % 2 else 1]:
                    some = clips[:count]
                    rows[name].append(measured(trees[name], case, models[case], some, folder))
        print(f"round {number + 1} of {repeats}", file=sys.stderr, flush=True)
    return found


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Median and minimum of every figure, and their ratios where there are two trees."""
    figures: dict[str, Any] = {
        tree: {
            "macs": found[0]["macs"],
            **{
                key: {"median": median(values), "min": min(values), "all": values}
                for key in MEASURED
                for values in [[round(one[key], 4) for one in found]]
            },
        }
        for tree, found in rows.items()
    }
    if "baseline" in rows:
        figures["ratio"] = {
            key: {
                at: round(figures["this"][key][at] / figures["baseline"][key][at], 4)
                for at in ("median", "min")
            }
            for key in MEASURED
        }
    return figures


def show(figures: dict[str, dict[str, Any]]) -> None:
    """Print one line per case and figure."""
    for case, found in figures.items():
        for key in MEASURED:
            scale, unit = (1e6, "MB") if key == "peak" else (1, "s")
            values = [
                f"{tree} {found[tree][key]['median'] / scale:.3f} {unit} "
                f"(min {found[tree][key]['min'] / scale:.3f})"
                for tree in ("baseline", "this")
                if tree in found
            ]
            if "ratio" in found:
                ratio = found["ratio"][key]
                values.append(f"ratio {ratio['median']:.3f} (min {ratio['min']:.3f})")
            print(f"{case:24} {key:12} " + "  ".join(values))
        if "ratio" in found and found["this"]["macs"] != found["baseline"]["macs"]:
            print(f"{case:24} multiply-adds differ: the trees did not do the same work")


def commit_of(tree: Path) -> str:
    """Commit of a checkout, `unknown` where there is none."""
    command = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the result."""
    parser = argparse.ArgumentParser(description="CPU time and peak memory of prediction")
    parser.add_argument("--baseline", type=Path, help="the src folder of another checkout")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--child", nargs="+", help="in this process: case, model, clips")
    options = parser.parse_args(arguments)
    if options.child:
        case, model, *clips = options.child
        print(json.dumps(child(case, model, clips)))
        return 0
    if min(options.repeats, options.clips) < 1:
        parser.error("--repeats and --clips are at least 1")
    trees = {"this": ROOT / "src"}
    if options.baseline is not None:
        if not (options.baseline / "foveate").is_dir():
            parser.error(f"{options.baseline}: no folder foveate in it; give a checkout's src")
        trees = {"baseline": options.baseline, **trees}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        clips, models = prepare(folder, options.clips)
        found = rounds(trees, options.repeats, clips, models, folder / "cache")
    figures = {case: summary(rows) for case, rows in found.items()}
    show(figures)

    from benchmarks import record

    path = record.write(
        "predict_cost",
        "the demo clip and generated ones (H.264, 320x240, 3 s); a process of its own each time, "
        "one thread; total_cpu: seconds of the process with imports and loading, predict_cpu: of "
        "predict (one clip) or predict_many (more), peak: bytes of the largest resident set; "
        "trees in turns; ratio: this by the baseline",
        options.repeats,
        {
            "clips": options.clips,
            "baseline": commit_of(trees["baseline"]) if "baseline" in trees else None,
            "cases": figures,
        },
    )
    print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
