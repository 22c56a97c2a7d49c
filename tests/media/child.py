"""Opens and decodes files that are named on standard input, and says what each one cost.

Run as a process of its own: a file that kills or stalls it must not take the tests along. One JSON
object with a `path` comes in per line, one goes out.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

warnings.simplefilter("error", ResourceWarning)


def _status(field: str) -> int:
    """A size of this process in bytes."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024


def _reset_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def probe(path: str | bytes, seconds: float = 60.0, sound: bool = True) -> dict[str, Any]:
    """Do with a file what a user does: facts, key frames, some frames, a walk, the sound."""
    from foveate.core import FoveateError
    from foveate.media import Video

    out: dict[str, Any] = {"ok": False, "frames": 0, "warnings": []}
    try:
        with Video(path) as video:
            out["info"] = video.info.width, video.info.height
            length = min(video.info.duration or 1.0, 600.0)
            out["keys"] = len(video.keyframes())
            video.frames([length * i / 8 for i in range(8)], (64, 48))
            now, began = 0.0, time.monotonic()
            while out["frames"] < 100 and time.monotonic() - began < seconds:
                out["frames"] += len(video.frames([now], (64, 48)))
                following = video.next_time(now)
                if following is None:
                    break
                now = following
            if sound and video.info.has_audio:
                try:
                    video.audio(0.0, 5.0)
                except FoveateError as error:
                    out["sound"] = str(error)
            out.update(ok=True, warnings=video.warnings)
    except FoveateError as error:
        out["error"] = str(error)
    except BaseException as error:
        out["escape"] = f"{type(error).__name__}: {error}"
    return out


def main() -> None:
    """Serve one line after the other."""
    import av

    import foveate.media  # noqa: F401  (the idle memory includes what is always loaded)

    av.logging.set_level(None)
    idle = _status("VmRSS")
    for line in sys.stdin:
        _reset_peak()
        # Processor time: a busy machine must not make a file look slow; whoever waits has a clock.
        began = time.process_time()
        answer = probe(json.loads(line)["path"])
        answer["seconds"] = time.process_time() - began
        answer["peak"] = _status("VmHWM") - idle
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
