"""Renders the clip of `make demo` from mocap15: a person's motion that no training saw.

The seed is another one than that of the data the built-in weights were trained on, and the clip is
of the test split: other camera sector, body and background.
"""

import argparse
from pathlib import Path

from foveate.data.mocap15 import FPS, clip_specs, render_clip
from foveate.media.encode import encode

SEED = 2026
CLIPS = 300


def main() -> None:
    """Render one action."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--action", default="cartwheel")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--number", type=int, default=0, help="among the test clips of the action")
    options = parser.parse_args()
    demo = Path(__file__).parents[1] / "examples" / "demo"
    out = options.out or demo / f"{options.action}.mp4"
    specs = [s for s in clip_specs(CLIPS, SEED) if (s.label, s.split) == (options.action, "test")]
    encode(out, render_clip(specs[options.number]).frames(), FPS, "x264")
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
