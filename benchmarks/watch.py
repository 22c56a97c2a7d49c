"""Cameras per core, ages and exact ledgers of `foveate watch`, one budget of all, and a soak.

    python -m benchmarks.watch [--seconds 15] [--frames 1000000] [--priority]

Cameras are `ffmpeg` processes that send H.264 in MPEG-TS over HTTP at 25 frames/s; MoViNet
A0-stream looks at 5 frames/s of each. Cameras per core are from the processor time of this
process, because other programs may use the machine. The soak has a toy executor and frames in
memory, and is read as fast as it is looked at.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.record import write

import foveate
from foveate.core import Evidence, InputSpec
from foveate.core.config import build
from foveate.live.step import StepResult
from foveate.pipeline.presets import Preset
from foveate.policy import Uniform

MODEL = "movinet-a0-stream-lite.actions15"
RATE = 5.0
CASES = ((320, 240, 6), (1280, 720, 3))  # width, height, cameras
BUDGET = "12%cpu"
PRIORITY = -15  # nice value; ages mean nothing where other programs take the processor


def prioritise(nice: int) -> bool:
    """Set the nice value of this process and its session; False where that is not allowed."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
        Path("/proc/self/autogroup").write_text(str(nice), "ascii")
    except OSError:
        return False
    return True


def encode(folder: Path, width: int, height: int, quiet: bool) -> Path:
    """Ten seconds of a moving test picture, or of a grey one with the noise of a sensor."""
    path = folder / f"{width}x{height}-{quiet}.ts"
    picture = "color=c=gray:" if quiet else "testsrc2="
    subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "lavfi", "-i",
         f"{picture}size={width}x{height}:rate=25:duration=10", "-vf", "noise=alls=4:allf=t",
         "-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-g", "25",
         "-b:v", "500k" if height < 300 else "2M", "-pix_fmt", "yuv420p", str(path)],
        check=True,
    )  # fmt: skip
    return path


@contextmanager
def served(clips: Sequence[Path]) -> Iterator[list[str]]:
    """Addresses of cameras that send these clips over and over."""
    processes, addresses = [], []
    for clip in clips:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{free.getsockname()[1]}/stream.ts"
        processes.append(
            subprocess.Popen(
                ["ffmpeg", "-v", "quiet", "-re", "-stream_loop", "-1", "-i", str(clip), "-c",
                 "copy", "-f", "mpegts", "-listen", "1", address],
                stdin=subprocess.DEVNULL,
            )
        )  # fmt: skip
        addresses.append(address)
    time.sleep(2.0)
    try:
        yield addresses
    finally:
        for process in processes:
            process.kill()
            process.wait()


def watched(
    recogniser: Any, clips: Sequence[Path], seconds: float, budget: str | None = None
) -> dict[str, Any]:
    """Watch cameras for some seconds, after the first steps of all."""
    with served(clips) as addresses:
        names = {f"cam{number}": address for number, address in enumerate(addresses)}
        watch = recogniser.watch(names, budget=budget)
        guard = threading.Timer(seconds + 30, watch.stop)
        guard.start()
        steps: list[StepResult] = []
        begun = used = 0.0
        seen: set[str] = set()
        for step in watch:
            if not isinstance(step, StepResult):
                continue
            seen.add(step.camera)
            if not begun and len(seen) == len(names):
                begun, used = time.monotonic(), time.process_time()
            elif begun:
                steps.append(step)
                if time.monotonic() - begun > seconds:
                    break
        passed, used = time.monotonic() - begun, time.process_time() - used
        guard.cancel()
        watch.close()
        found = watch.status()
    ages = np.array([step.age for step in steps])
    adds_up = all(o.received == o.looked + sum(o.dropped.values()) + o.queued for o in found)
    lost = sum(o.dropped.get(c, 0) for o in found for c in ("overload", "queue", "damaged"))
    looks = {name: sum(s.camera == name for s in steps) / passed for name in names}
    return {
        "cameras": len(clips),
        "seconds": round(passed, 2),
        "processor_share": round(used / passed, 4),
        "cameras_per_core": round(len(clips) * passed / used, 2),
        "looks_per_second": {name: round(rate, 2) for name, rate in looks.items()},
        "age_p50": round(float(np.quantile(ages, 0.5)), 4),
        "age_p99": round(float(np.quantile(ages, 0.99)), 4),
        "frames_received": sum(one.received for one in found),
        "frames_lost": lost,
        "ledger_adds_up": adds_up,
    }


class Brightness:
    """A toy executor: the mean of a frame."""

    parts, head, persistent = ("network",), None, False

    def input(self, part: str) -> InputSpec:
        """Tiny frames at five per second."""
        return InputSpec(size=16, frames_per_second=RATE, clip_frames=10)

    def stage(self, part: str) -> str:
        """The part itself."""
        return part

    def cost(self, part: str, views: Any, state: Any) -> int:
        """One per pixel."""
        return int(views["rgb"].array.size)

    def batch_key(self, part: str, views: Any, state: Any) -> str:
        """All calls are alike."""
        return part

    def run(self, part: str, views: Sequence[Any], states: Sequence[Any]) -> Any:
        """Compare the mean with a constant."""
        means = [view["rgb"].array.mean() / 255 for view in views]
        return list(states), [Evidence(logits={"final": np.array([0.1, m])}) for m in means]


class Endless(Sequence[Any]):
    """Frames at 25 per second that wait for being asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.frames = [np.full((16, 16, 3), 40 * n, np.uint8) for n in range(5)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: Any) -> Any:
        if number >= self.count:
            raise IndexError
        return self.frames[number % 5], number / 25


def soak(frames: int) -> dict[str, Any]:
    """Memory, files and threads over very many frames."""
    preset = build(Preset, {"model": "toy", "cut_threshold": 1.0, "none_below": 0.0})
    toy = foveate.Recogniser(
        Brightness(), ("dark", "bright"), look=Uniform(RATE), window=2.0, preset=preset
    )
    watch = toy.watch({"cam": Endless(frames)})
    resident, files, threads = [], [], []
    every, begun, number = max(1, frames // 5000), time.monotonic(), 0
    for item in watch:
        if not isinstance(item, StepResult):
            continue
        number += 1
        if number % every == 0:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
            resident.append(pages * os.sysconf("SC_PAGE_SIZE"))
            files.append(len(os.listdir("/proc/self/fd")))
            threads.append(threading.active_count())
    passed = time.monotonic() - begun
    (status,) = watch.status()
    late = resident[len(resident) // 5 :]
    return {
        "frames": status.received,
        "steps": number,
        "seconds": round(passed, 1),
        "resident_first": late[0],
        "resident_least": min(late),
        "resident_most": max(late),
        "open_files": sorted(set(files[1:])),
        "threads": sorted(set(threads[1:-1])),
        "ledger_adds_up": status.received == status.looked + sum(status.dropped.values()),
        "dropped": dict(status.dropped),
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure every case and write the result."""
    parser = argparse.ArgumentParser(description="Cameras per core, and a soak")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--priority", action="store_true", help="before other programs; for root")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    figures: dict[str, Any] = {
        "rate": RATE,
        "load_average": round(os.getloadavg()[0], 1),
        "nice": PRIORITY if options.priority and prioritise(PRIORITY) else 0,
    }
    recogniser = foveate.load(MODEL)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        moving = {case: encode(folder, *case[:2], quiet=False) for case in CASES}
        still = encode(folder, *CASES[0][:2], quiet=True)
        cases = []
        for case, clip in moving.items():
            cases.append({
                "width": case[0], "height": case[1],
                **watched(recogniser, [clip] * case[2], options.seconds),
            })  # fmt: skip
            print(cases[-1], flush=True)
        figures["cases"] = cases
        busy = moving[CASES[0]]
        figures["budget"] = {
            "budget": BUDGET, "quiet": ["cam2", "cam3", "cam4", "cam5"],
            **watched(recogniser, [busy] * 2 + [still] * 4, options.seconds, BUDGET),
        }  # fmt: skip
        print(figures["budget"], flush=True)
    prioritise(0)  # only memory is measured from here on
    figures["soak"] = soak(options.frames)
    print(figures["soak"], flush=True)
    write(
        "watch",
        f"{MODEL} at {RATE:g} frames/s of cameras that send H.264 at 25 frames/s in MPEG-TS over "
        "HTTP on the same machine (ffmpeg, copied packets; a test picture with noise), one thread "
        "of the network; processor time of this process alone, reading and decoding included; "
        "ages from the receipt of a frame; the machine has other users, before whom the cameras' "
        "part runs (nice value and load average given). "
        "Soak: a toy executor, frames of 16 x 16 pixels in memory, resident set over the last "
        "80 % of the steps",
        sum(case["cameras"] for case in figures["cases"]),
        figures,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
