"""Draw the strips of `docs/research/motion-patches.md`: a rendered clip per camera regime."""

from __future__ import annotations

import tempfile
from pathlib import Path

from foveate.core import Budget, InputSpec, Window
from foveate.data.mocap15 import clip_specs, render_clip
from foveate.media import Video
from foveate.media.encode import encode
from foveate.policy import Context, MotionPatch
from foveate.viz.images import to_jpeg
from foveate.viz.why import Reason, draw_reason, strip, with_footer

OUT = Path(__file__).parents[1] / "docs" / "pictures"
SEED = 5
PICTURES = 3


def draw(spec, path: Path) -> None:
    """One strip: a few frames of a clip, each beside its map."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        encode(clip, render_clip(spec).frames(), 25)
        context = Context(InputSpec(224, 5.0, 8), mixes_frames=False)
        look = MotionPatch(track="viterbi").fitted(context)
        with Video(clip) as video:
            plan = look.plan(video, Window(0.0, spec.frames / 25), Budget())
            shown = video.frames(plan.times)
    reasons = [
        Reason(t, plan.boxes[k], plan.gates[k], plan.fallback[k], plan.maps[k], plan.source)
        for k, t in enumerate(plan.times[: len(shown)])
    ]
    numbers = [(2 * i + 1) * len(reasons) // (2 * PICTURES) for i in range(PICTURES)]
    pictures = [
        with_footer(
            draw_reason(shown.pixels[n], reasons[n], spec.size, reasons[max(0, n - 12) : n]),
            reasons[n],
        )
        for n in numbers
    ]
    path.write_bytes(to_jpeg(strip(pictures), height=200, quality=80))


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    wanted = {"static", "pan", "pan+zoom", "hand-held"}
    for spec in clip_specs(60, SEED, size=(320, 240)):
        if spec.camera in wanted:
            wanted.discard(spec.camera)
            draw(spec, OUT / f"motion-{spec.camera.replace('+', '-')}.jpg")


if __name__ == "__main__":
    main()
