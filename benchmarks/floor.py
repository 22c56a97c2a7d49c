"""The floor: what one recognised second of video costs, stage by stage, and against what.

One run on one thread measures: the network's step against the arithmetic floor and against the
published int8 file under LiteRT (`step_time.py`); the shares of decoding, preparing and network in
an end-to-end second at three sizes; scaling in the decoder's scaler against scaling afterwards;
one thread against two; key frames first against every frame; peak memory of ten minutes against
ten seconds; and how long `foveate --help` and `import foveate` take.

Run: `OMP_NUM_THREADS=1 python benchmarks/floor.py [--quick]`. Times are process CPU time unless
they say wall; ratios hold on a busy machine, milliseconds for the machine named in the result.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import foveate
import record
from foveate.media import Video
from foveate.pipeline.fetch import decode_size
from scenes import write_scene
from step_time import interleave, measure, published_file

SIZES = ((320, 240), (640, 360), (1280, 720))
WEIGHTS = "movinet-a0-stream-lite.k600"
ROUNDS = 7


def shares(recogniser: Any, path: Path, rounds: int) -> dict[str, Any]:
    """CPU milliseconds per second of video for each stage of `predict`, median of the rounds."""
    seen: dict[str, list[float]] = {}
    totals: list[float] = []
    for _ in range(rounds):
        began = time.process_time()
        result = recogniser.predict(path)
        totals.append((time.process_time() - began) * 1e3 / result.duration)
        for stage in result.cost.stages:
            seen.setdefault(stage.name, []).append(stage.seconds * 1e3 / result.duration)
    stages = {name: statistics.median(values) for name, values in seen.items()}
    whole = sum(stages.values())
    return {
        "ms_per_video_second": stages,
        "share": {name: value / whole for name, value in stages.items()},
        "cpu_ms_per_video_second": statistics.median(totals),
        "times_real_time": 1e3 / statistics.median(totals),
        "macs_per_video_second": result.cost.macs / result.duration,
        "frames_decoded_per_video_second": result.cost.frames_decoded / result.duration,
    }


def scaling(path: Path, side: int, rounds: int) -> dict[str, Any]:
    """Frames at 5 per second, scaled while converting against converting first."""
    with Video(path) as video:
        info = video.info
    assert info.duration is not None
    spec = foveate.models.InputSpec(side, 5.0, 50)
    target = decode_size((info.width, info.height), spec)
    times = [i / 5 for i in range(int(info.duration * 5))]

    def scaler() -> None:
        with Video(path) as video:
            video.frames(times, target)

    def afterwards(resize: Any) -> Any:
        def job() -> None:
            with Video(path) as video:
                for start in range(0, len(times), 10):
                    resize(video.frames(times[start : start + 10]).pixels)

        return job

    def by_cv2(pixels: Any) -> None:
        for frame in pixels:
            cv2.resize(frame, target, interpolation=cv2.INTER_AREA)

    def by_torch(pixels: Any) -> None:
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        torch.nn.functional.interpolate(x, target[::-1], mode="area")

    jobs = {
        "decoder's scaler": scaler,
        "then cv2": afterwards(by_cv2),
        "then torch": afterwards(by_torch),
    }
    found = interleave({name: (job, len(times)) for name, job in jobs.items()}, rounds)
    base = found["decoder's scaler"]["median"]
    return {
        "ms_per_frame": found,
        "ratio": {name: value["median"] / base for name, value in found.items()},
    }


def threads(path: Path, rounds: int) -> dict[str, Any]:
    """Wall and CPU seconds of `predict` with one and with two threads, interleaved."""
    recogniser = foveate.load(WEIGHTS, offline=True)
    out: dict[str, dict[str, list[float]]] = {}
    for _ in range(rounds):
        for count in (1, 2):
            torch.set_num_threads(count)
            wall, cpu = time.perf_counter(), time.process_time()
            recogniser.predict(path)
            item = out.setdefault(str(count), {"wall": [], "cpu": []})
            item["wall"].append(time.perf_counter() - wall)
            item["cpu"].append(time.process_time() - cpu)
    torch.set_num_threads(1)
    return {n: {k: statistics.median(v) for k, v in item.items()} for n, item in out.items()}


def keyframes(path: Path, rounds: int) -> dict[str, Any]:
    """Key frames alone against every frame at the model's rate: what the first look costs."""
    full = foveate.load(WEIGHTS, offline=True)
    # A threshold that any score reaches: the cost of a clip that key frames decide.
    keys = foveate.load(
        WEIGHTS, offline=True, look="keyframes-first",
        decide=foveate.looks.Confident(threshold=1e-6),
    )  # fmt: skip
    found: dict[str, list[tuple[float, int, int]]] = {"every frame": [], "key frames": []}
    for _ in range(rounds):
        for name, recogniser in (("every frame", full), ("key frames", keys)):
            began = time.process_time()
            cost = recogniser.predict(path).cost
            spent = time.process_time() - began
            found[name].append((spent, cost.frames_decoded, cost.macs))
    rows = {
        name: dict(
            zip(("cpu_seconds", "frames_decoded", "macs"), map(float, np.median(v, 0)), strict=True)
        )
        for name, v in found.items()
    }
    base, first = rows["every frame"], rows["key frames"]
    return {**rows, "ratio": {key: first[key] / base[key] for key in base}}


_CHILD = """
import json, sys
import foveate, torch
torch.set_num_threads(1)
recogniser = foveate.load(sys.argv[1], offline=True)
def rss(name):
    for line in open('/proc/self/status'):
        if line.startswith(name):
            return int(line.split()[1]) * 1024
recogniser.predict(sys.argv[2])
idle = rss('VmRSS')
if sys.argv[4] == 'predict':
    recogniser.predict(sys.argv[3], trace=False)
else:
    for _ in recogniser.stream(sys.argv[3]): pass
print(json.dumps({'peak': rss('VmHWM'), 'warm': idle}))
"""


def memory(short: Path, long: Path) -> dict[str, Any]:
    """Peak resident bytes of a fresh process for ten seconds and for ten minutes."""
    out: dict[str, Any] = {}
    for way in ("predict", "stream"):
        peaks = {}
        for name, path in (("10 s", short), ("600 s", long)):
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, WEIGHTS, str(short), str(path), way],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            peaks[name] = json.loads(done.stdout)["peak"]
        out[way] = {**peaks, "ratio": peaks["600 s"] / peaks["10 s"]}
    return out


_STARTS = {
    "python": "",
    "import foveate": "import foveate",
    "foveate --help": (
        "import sys; sys.argv = ['foveate', '--help']\n"
        "from foveate.app.main import main\n"
        "try: main()\n"
        "except SystemExit: pass"
    ),
    "foveate.load": f"import foveate; foveate.load({WEIGHTS!r}, offline=True)",
}


def starts(rounds: int) -> dict[str, dict[str, float]]:
    """Wall and CPU seconds of fresh processes that start and end, median; interleaved."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in _STARTS}
    for _ in range(rounds):
        for name, code in _STARTS.items():
            code += "\nimport sys, time; print(time.process_time(), file=sys.stderr)"
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            found[name].append((time.perf_counter() - began, float(done.stderr.split()[-1])))
    return {
        name: dict(zip(("wall", "cpu"), map(float, np.median(values, 0)), strict=True))
        for name, values in found.items()
    }


def run(quick: bool) -> dict[str, Any]:
    """All measurements."""
    torch.set_num_threads(1)
    rounds = 2 if quick else ROUNDS
    figures: dict[str, Any] = {"step": measure(rounds=3 if quick else 25, engine=published_file())}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = {
            f"{w}x{h}": write_scene(folder / f"{w}x{h}.mp4", (w, h), 4 if quick else 10)
            for w, h in SIZES
        }
        recogniser = foveate.load(WEIGHTS, offline=True)
        figures["second"] = {k: shares(recogniser, p, rounds) for k, p in clips.items()}
        figures["scaling"] = {k: scaling(p, 172, rounds) for k, p in clips.items()}
        figures["threads"] = threads(clips["320x240"], rounds)
        figures["keyframes"] = {k: keyframes(p, rounds) for k, p in clips.items()}
        long = write_scene(folder / "long.mp4", (320, 240), 60 if quick else 600)
        short = write_scene(folder / "short.mp4", (320, 240), 10)
        figures["memory"] = memory(short, long)
    figures["start"] = starts(3 if quick else 15)
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures that people ask for first, as lines of text."""
    from step_time import table as step_table

    lines = [step_table(figures["step"]), ""]
    lines.append("one second of video, CPU ms: total, then shares")
    for size, item in figures["second"].items():
        parts = ", ".join(f"{k} {v:.0%}" for k, v in item["share"].items() if v >= 0.005)
        lines.append(
            f"  {size:9} {item['cpu_ms_per_video_second']:6.1f} ms "
            f"({item['times_real_time']:.0f}x real time): {parts}"
        )
    for size, item in figures["scaling"].items():
        parts = ", ".join(f"{k} {v:.2f}" for k, v in item["ratio"].items())
        lines.append(f"scaling at {size}: {parts}")
    for size, item in figures["keyframes"].items():
        parts = ", ".join(f"{k} {v:.2f}" for k, v in item["ratio"].items())
        lines.append(f"key frames alone against every frame at {size}: {parts}")
    for count, item in figures["threads"].items():
        lines.append(f"{count} thread(s): wall {item['wall']:.2f} s, CPU {item['cpu']:.2f} s")
    for way, item in figures["memory"].items():
        lines.append(
            f"peak memory, {way}: {item['10 s'] / 1e6:.0f} MB for the short clip, "
            f"{item['600 s'] / 1e6:.0f} MB for the long one, ratio {item['ratio']:.3f}"
        )
    lines += [f"{name}: {item['wall']:.2f} s wall" for name, item in figures["start"].items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="What one recognised second of video costs")
    parser.add_argument("--quick", action="store_true", help="a short run, no result file")
    options = parser.parse_args()
    if published_file() is None:
        parser.exit(1, "the Kinetics-600 file is not on this machine: set FOVEATE_WEIGHTS\n")
    figures = run(options.quick)
    print(table(figures))
    if not options.quick:
        protocol = (
            "one thread, process CPU time, interleaved rounds, medians; generated H.264 scenes "
            "(25 frames/s, a key frame every 2 s, encoder's usual B-frames); network at "
            "5 frames/s, 172 px"
        )
        path = record.write("floor", protocol, ROUNDS, figures, seeds=(0,))
        print(f"written: {path.relative_to(Path.cwd())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
