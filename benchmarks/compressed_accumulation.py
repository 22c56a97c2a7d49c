"""Is pixel-exact accumulation equal to CoViAR's rule written out, picture for picture?

Real clips are transcoded to H.264 and MPEG-4 at 340x256 (a key frame every twelve frames, one
reference, no B-frames) and compared until there are a thousand P pictures. The seconds-long form of
this comparison is in `tests/media/test_compressed.py`.

Run: `OMP_NUM_THREADS=1 FOVEATE_SHARED=... python benchmarks/compressed_accumulation.py`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import record
from compressed import GOP, SMALL, equal_pictures
from foveate.media.encode import with_vectors
from foveate.media.transcode import transcode

WANTED = 1000
CLIPS = ("motion-vectors/h264/street.mp4", "samples/sign_eat.mkv", "samples/sign_milk.mkv",
         "samples/sign_thanks.mkv", "samples/carving_ice.mp4")  # fmt: skip


def run(data: Path, wanted: int) -> dict[str, Any]:
    """Pictures compared, equal, and equal in compiled loops; by clip and codec."""
    figures: dict[str, Any] = {
        "by_file": {}, "p_pictures_compared": 0, "equal": 0, "equal_compiled": 0,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        for clip in CLIPS:
            for codec in ("h264", "mpeg4"):
                left = wanted - figures["p_pictures_compared"]
                if left <= 0:
                    return figures
                path = Path(name) / f"{Path(clip).stem}-{codec}.mp4"
                transcode(data / clip, path, with_vectors(codec, GOP), size=SMALL)
                counts = equal_pictures(path, left)
                figures["by_file"][f"{Path(clip).name} as {codec}"] = list(counts.values())
                for key, value in counts.items():
                    figures[key] += value
    return figures


def main() -> int:
    """Run the comparison from the command line."""
    shared = os.environ.get("FOVEATE_SHARED")
    if not shared:
        print("the clips are not on this machine: set FOVEATE_SHARED", file=sys.stderr)
        return 1
    figures = run(Path(shared) / "data", WANTED)
    print(figures)
    protocol = (
        "P pictures of real clips transcoded to 340x256, a key frame every 12 frames, one "
        "reference, no B-frames; source places of all pixels against the rule block by block"
    )
    record.write("compressed_accumulation", protocol, figures["p_pictures_compared"], figures)
    right = {figures["equal"], figures["equal_compiled"]} == {figures["p_pictures_compared"]}
    return 0 if right and figures["p_pictures_compared"] >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
