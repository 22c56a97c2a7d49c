"""Fuzz the media package: seeded mutants of small clips, each decoded in a reused child process.

    python benchmarks/fuzz_media.py --minutes 10 --jobs 2 [--record]

The clips come from the generator of the tests. A mutant that kills its child, raises anything but a
`FoveateError`, takes longer than `--slow` seconds or more than `--bytes` of memory is kept in
`--keep` under the name of its clip and seed. Exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import record

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "media")]


def seeds() -> dict[str, bytes]:
    """The clips that are mutated."""
    from clips import encode

    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    small: dict[str, Any] = {"frames": 20}
    return {
        "mp4": encode(bframes=2, **small),
        "mp4-sound": encode(tone=(440, 0.0, 0.8), **small),
        "mp4-fragments": encode(mux=fragments, **small),
        "mov": encode("mov", "mpeg4", **small),
        "mkv": encode("matroska", bframes=2, **small),
        "webm-vp8": encode("webm", "libvpx", **small),
        "webm-vp9": encode("webm", "libvpx-vp9", **small),
        "webm-av1": encode("webm", "libsvtav1", **small),
        "hevc": encode("mp4", "libx265", **small),
        "avi": encode("avi", "mpeg4", **small),
        "avi-mjpeg": encode("avi", "mjpeg", pix_fmt="yuvj420p", **small),
        "ts": encode("mpegts", bframes=2, **small),
        "ts-mpeg2": encode("mpegts", "mpeg2video", bframes=2, **small),
        "ps": encode("mpeg", "mpeg2video", **small),
        "flv": encode("flv", bframes=2, **small),
        "gif": encode("gif", "gif", pix_fmt="rgb8", **small),
        "h264": encode("h264", bframes=2, **small),
        "ivf": encode("ivf", "libvpx-vp9", **small),
        "asf": encode("asf", "wmv2", **small),
        "nut": encode("nut", "mpeg4", bframes=2, **small),
    }


class Child:
    """One decoding process, started again when it dies."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        script = str(TESTS / "media" / "child.py")
        self.process = Popen([sys.executable, script], stdin=PIPE, stdout=PIPE, text=True)

    def probe(self, path: Path) -> dict[str, Any]:
        """What the child says of a file; `escape` if it died of it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"path": str(path)}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if line:
            return dict(json.loads(line))
        code = self.process.wait()
        self._start()
        return {"ok": False, "escape": f"the process died ({code})", "seconds": 0.0, "peak": 0}

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def verdict(answer: dict[str, Any], slow: float, most: int) -> str:
    """`crashed`, `slow`, `large`, `refused`, `warned` or `opened`."""
    if "escape" in answer:
        return "crashed"
    if answer["seconds"] > slow:
        return "slow"
    if answer["peak"] > most:
        return "large"
    if not answer["ok"]:
        return "refused"
    return "warned" if answer["warnings"] else "opened"


def work(job: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run mutants until the time is over; the counts and what was kept."""
    from mutate import mutate

    clips = list(seeds().items())
    counts: Counter[str] = Counter()
    kept: list[dict[str, Any]] = []
    peak, slowest = 0, 0.0
    child = Child()
    end = time.monotonic() + options.minutes * 60
    seed = options.seed + job
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutant.bin"
        while time.monotonic() < end and sum(counts.values()) < options.count:
            name, data = clips[seed % len(clips)]
            mutant = mutate(data, clips[seed // 7 % len(clips)][1], seed)
            path.write_bytes(mutant)
            answer = child.probe(path)
            kind = verdict(answer, options.slow, options.bytes)
            counts[kind] += 1
            peak, slowest = max(peak, answer["peak"]), max(slowest, answer["seconds"])
            if kind in ("crashed", "slow", "large"):
                kept.append({"clip": name, "seed": seed, "kind": kind, **answer})
                if options.keep:
                    options.keep.mkdir(parents=True, exist_ok=True)
                    (options.keep / f"{kind}-{name}-{seed}.bin").write_bytes(mutant)
            seed += options.jobs
    child.close()
    return {"counts": counts, "kept": kept, "peak": peak, "slowest": slowest}


def main() -> int:
    """Read the options, share the work, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long")
    parser.add_argument("--count", type=int, default=10**9, help="mutants per job at most")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--slow", type=float, default=10.0, help="seconds that are too many")
    parser.add_argument("--bytes", type=int, default=10**9, help="memory that is too much")
    parser.add_argument("--keep", type=Path, help="folder for mutants that escape")
    parser.add_argument("--record", action="store_true", help="write results/fuzz_media.json")
    options = parser.parse_args()
    with multiprocessing.Pool(options.jobs) as pool:
        parts = pool.starmap(work, [(job, options) for job in range(options.jobs)])
    total: Counter[str] = sum((part["counts"] for part in parts), Counter())
    kept = [item for part in parts for item in part["kept"]]
    report = {
        "mutants": sum(total.values()),
        "counts": {kind: total[kind] for kind in sorted(total)},
        "peak_bytes": max(part["peak"] for part in parts),
        "slowest_seconds": round(max(part["slowest"] for part in parts), 3),
        "kept": kept,
        "seed": options.seed,
        "minutes": options.minutes,
        "jobs": options.jobs,
    }
    print(json.dumps(report, indent=1))
    if options.record:
        protocol = (
            "seeded mutants (bit flips, lost and repeated chunks, lies in lengths, splices) "
            f"of {len(seeds())} small clips, each opened, probed and decoded in a reused child "
            f"process; slow: over {options.slow:g} s, large: over {options.bytes:,} bytes"
        )
        record.write("fuzz_media", protocol, report["mutants"], report, (options.seed,))
    return 1 if kept else 0


if __name__ == "__main__":
    sys.exit(main())
