"""Training clips as a look shows them: the network is trained on what it will be shown.

Selection and cropping are those of prediction. Selection is expensive if motion is measured, so
selections are stored in the run folder and read in later epochs. For the same reason, windows of
a clip that is longer than the window start at one of a few positions.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core import Budget, ConfigError, InputSpec, Sample, ViewRequest, Window
from foveate.core.files import replace_file
from foveate.data import samplers
from foveate.data.prepare import Centre, Transform
from foveate.data.record import Record
from foveate.models.registry import ModelEntry
from foveate.pipeline.fetch import shown
from foveate.policy import Context, MotionPatch, RandomPatch, RwfCrop
from foveate.policy.build import TrainedLook
from foveate.train.videos import VideoClips, transform_of

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

POSITIONS = 4  # of the window in a longer clip
DRAWS = 4  # random windows of each clip when features are computed once
VERSION = 2  # raise it when looks select differently: stored selections are then not used


@dataclass(frozen=True)
class PolicySampler:
    """What a look shows of a clip; replaces a sampler in `data.dataset`.

    Args:
        look: Its specification.
        spec: Input of the network for the full frame.
        entry: Of the network in the registry, for example whether it mixes frames.
        kept: Folder of earlier selections; None stores none.
        draw: Number of a draw of random windows outside training; each gives different ones.
    """

    look: TrainedLook
    spec: InputSpec
    entry: ModelEntry | None = None
    kept: Path | None = None
    draw: int = 0

    @property
    def size(self) -> int:
        """Side in pixels of what is shown."""
        return int(getattr(self._look(), "size", self.spec.size))

    def __call__(
        self,
        sample: Sample,
        record: Record,
        start: float,
        end: float,
        random: np.random.Generator | None,
    ) -> tuple[tuple[float, ...], Pixels]:
        """The times that the look selects, and their frames (T, S, S, 3)."""
        requests = self.requests(sample, record, start, end, random)
        times = tuple(t for request in requests for t in request.times)
        _, pixels = shown(sample, self.spec, requests)
        count = self.spec.clip_frames
        if len(pixels) != len(times) or len(times) == count:
            return times, pixels
        # Sampling by motion skips black frames; others are then repeated.
        rows = np.arange(count) * len(times) // count
        return tuple(times[row] for row in rows), pixels[rows]

    def requests(
        self,
        sample: Sample,
        record: Record,
        start: float,
        end: float,
        random: np.random.Generator | None,
    ) -> tuple[ViewRequest, ...]:
        """Everything that the look selects of one window of the clip.

        Args:
            sample: The clip's source.
            record: Its file and times identify stored selections.
            start: Seconds at which the clip begins.
            end: Seconds at which it ends.
            random: Draws the window's position and random patches; None for the middle, and the
                patches of prediction.
        """
        look: Any = self._look()
        own_rate: float | None = getattr(self.look, "rate", None)
        count, rate = self.spec.clip_frames, own_rate or self.spec.frames_per_second
        if random is None:
            times = samplers.window(start, end, count=count, rate=rate)
        else:
            windows = samplers.windows(start, end, count=count, rate=rate, views=POSITIONS)
            times = windows[int(random.integers(POSITIONS))]
        if isinstance(look, RandomPatch) and random is not None:
            look = replace(look, seed=int(random.integers(2**31)))
        elif isinstance(look, RandomPatch):
            look = replace(look, seed=look.seed + self.draw)
        # A clip shorter than the window is shown entirely, at a higher rate, as without a look.
        step = min(1 / rate, (end - start) / count)
        window = Window(times[0], times[0] + count * step)
        choose = partial(_selected, replace(look, rate=1 / step), sample, window)
        measured = isinstance(look, (MotionPatch, RwfCrop))
        if self.kept is None or not measured:
            return choose()
        file = self._file(self.kept, record, window)
        found = _read(file)
        if found is None:
            found = choose()
            replace_file(file, json.dumps([asdict(one) for one in found]).encode())
        return found

    def _look(self) -> Any:
        entry = self.entry
        return self.look.build(
            Context(self.spec)
            if entry is None
            else Context(self.spec, entry.mixes_frames, entry.streaming, model=entry.name)
        )

    def _file(self, folder: Path, record: Record, window: Window) -> Path:
        """The file of a selection; its name is a digest of all that the selection depends on."""
        status = record.path.stat()
        key = [
            VERSION, self.look.model_dump(mode="json"), asdict(self.spec),
            self.entry is None or self.entry.mixes_frames,
            str(record.path), status.st_size, status.st_mtime_ns, window.start, window.end,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return folder / digest[:2] / f"{digest[2:34]}.json"


@dataclass(frozen=True)
class PolicyClips(VideoClips):
    """Clips as a look shows them; a `videos.Source`.

    Augmentation cuts nothing out of them, because the look decides what is shown.

    Args:
        look: Its specification.
        entry: Of the network in the registry.
        kept: Folder of earlier selections.
        draw: See `PolicySampler`.

    Raises:
        ConfigError: A look that needs a trained network.
    """

    look: TrainedLook = field(kw_only=True)
    entry: ModelEntry | None = field(kw_only=True, default=None)
    kept: Path | None = field(kw_only=True, default=None)
    draw: int = field(kw_only=True, default=0)

    def __post_init__(self) -> None:
        """Refuse a look that cannot be trained on."""
        if not self.look.trains:
            raise ConfigError(
                f"look {self.look.name}: a network cannot be trained on what it shows",
                "train with uniform or motion-patch, and predict with it",
            )

    def draws(self) -> list[PolicyClips]:
        """Sources of which features are worth storing: several if the patches are random."""
        count = DRAWS if self.look.name == "random" else 1
        return [replace(self, draw=draw) for draw in range(count)]

    def selector(self, spec: InputSpec) -> PolicySampler:
        """What the look selects."""
        return PolicySampler(self.look, spec, self.entry, self.kept, self.draw)

    def transform(self, spec: InputSpec, training: bool) -> Transform:
        """Mirror images and colours, no crops."""
        size = self.selector(spec).size
        if not training or self.augment == "none":
            return Centre(size)
        return transform_of(self.augment, size, self.dataset.classes, self.flip, crop=False)


def _selected(look: Any, sample: Sample, window: Window) -> tuple[ViewRequest, ...]:
    memory: Any = None
    found: list[ViewRequest] = []
    while True:
        selection, memory = look.next(sample, window, memory, None, Budget())
        if selection is None:
            return tuple(found)
        found.append(selection.views["rgb"])


def _read(file: Path) -> tuple[ViewRequest, ...] | None:
    """A stored selection, None if there is none or the file is damaged."""
    try:
        rows = json.loads(file.read_bytes())
        return tuple(
            ViewRequest(
                tuple(row["times"]),
                boxes=row["boxes"] and tuple(tuple(box) for box in row["boxes"]),
                size=row["size"],
            )
            for row in rows
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
