"""Training clips as a look shows them: the network is trained on what it will be shown.

Selection and cropping are those of prediction. Selection is expensive if motion is measured, so
selections are stored in the run folder and read in later epochs. For the same reason, windows of
a clip that is longer than the window start at one of a few positions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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
from foveate.policy.looks.tokens import TOKENS
from foveate.primitives.augment import Flip
from foveate.train.videos import VideoClips, transform_of

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

POSITIONS = 4  # of the window in a longer clip
DRAWS = 4  # random windows of each clip when features are computed once
VERSION = 3  # raise it when looks select differently: stored selections are then not used


@dataclass(frozen=True)
class Selected:
    """A step of a look.

    Attributes:
        request: The frames, and the windows in them.
        tokens: Of each frame the numbers of the patches that are computed; empty for all.
    """

    request: ViewRequest
    tokens: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class PolicySampler:
    """What a look shows of a clip; replaces a sampler in `data.dataset`.

    Args:
        look: Its specification.
        spec: Input of the network for the full frame.
        entry: Of the network in the registry, for example whether it mixes frames.
        kept: Folder of earlier selections; None stores none.
        draw: Number of a draw of random windows outside training; each gives different ones.
        patch: Of the network, for looks that choose its tokens; see `policy.Context`.
    """

    look: TrainedLook
    spec: InputSpec
    entry: ModelEntry | None = None
    kept: Path | None = None
    draw: int = 0
    patch: tuple[int, int, int] | None = None

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
        """The times that the look selects, and their frames (T, S, S, 3).

        Where it selects patch tokens, (T, S, S, 4): 255 in the patches that are computed.
        """
        chosen = self.selected(sample, record, start, end, random)
        requests = [one.request for one in chosen]
        times = tuple(t for request in requests for t in request.times)
        _, pixels = shown(sample, self.spec, requests)
        kept = [frame for one in chosen for frame in one.tokens]
        if kept and len(pixels) == len(times):
            assert self.patch is not None
            pixels = _with_tokens(pixels, kept, self.patch)
        count = self.spec.clip_frames
        if len(pixels) != len(times) or len(times) == count:
            return times, pixels
        # Sampling by motion skips black frames; others are then repeated.
        rows = np.arange(count) * len(times) // count
        return tuple(times[row] for row in rows), pixels[rows]

    def selected(
        self,
        sample: Sample,
        record: Record,
        start: float,
        end: float,
        random: np.random.Generator | None,
    ) -> tuple[Selected, ...]:
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
        draws = isinstance(look, RandomPatch) or getattr(look, "order", None) == "random"
        if draws and random is not None:
            look = replace(look, seed=int(random.integers(2**31)))
        elif isinstance(look, RandomPatch):
            look = replace(look, seed=look.seed + self.draw)
        # A clip shorter than the window is shown entirely, at a higher rate, as without a look.
        step = min(1 / rate, (end - start) / count)
        window = Window(times[0], times[0] + count * step)
        choose = partial(_selected, replace(look, rate=1 / step), sample, window)
        measured = isinstance(look, (MotionPatch, RwfCrop)) and not draws
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
            Context(self.spec, patch=self.patch)
            if entry is None
            else Context(
                self.spec, entry.mixes_frames, entry.streaming, model=entry.name, patch=self.patch
            )
        )

    def _file(self, folder: Path, record: Record, window: Window) -> Path:
        """The file of a selection; its name is a digest of all that the selection depends on."""
        status = record.path.stat()
        key = [
            VERSION, self.look.model_dump(mode="json"), asdict(self.spec),
            self.entry is None or self.entry.mixes_frames, self.patch,
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
        patch: Likewise.

    Raises:
        ConfigError: A look that needs a trained network.
    """

    look: TrainedLook = field(kw_only=True)
    entry: ModelEntry | None = field(kw_only=True, default=None)
    kept: Path | None = field(kw_only=True, default=None)
    draw: int = field(kw_only=True, default=0)
    patch: tuple[int, int, int] | None = field(kw_only=True, default=None)

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
        return PolicySampler(self.look, spec, self.entry, self.kept, self.draw, self.patch)

    def transform(self, spec: InputSpec, training: bool) -> Transform:
        """Mirror images and colours, no crops; frames with tokens are only mirrored.

        Raises:
            ConfigError: Other transforms of frames with tokens.
        """
        size = self.selector(spec).size
        if not training or self.augment == "none":
            return Centre(size)
        found = transform_of(self.augment, size, self.dataset.classes, self.flip, crop=False)
        if self.patch is not None and not all(isinstance(one, Flip) for one in found.transforms):
            raise ConfigError(
                f"augment: the tokens of {self.look.name} are chosen before it, and only mirrored",
                "set augment=light or augment=none",
            )
        return found


def _with_tokens(
    pixels: Pixels, kept: Sequence[Sequence[int]], patch: tuple[int, int, int]
) -> Pixels:
    """Frames (T, S, S, 3) with a fourth channel: 255 in the patches of those numbers."""
    rows, columns = pixels.shape[1] // patch[1], pixels.shape[2] // patch[2]
    mask = np.zeros((len(pixels), rows * columns), np.uint8)
    for frame, numbers in zip(mask, kept, strict=True):
        frame[list(numbers)] = 255
    grid = mask.reshape(-1, rows, columns, 1)
    return np.concatenate([pixels, grid.repeat(patch[1], 1).repeat(patch[2], 2)], -1)


def _selected(look: Any, sample: Sample, window: Window) -> tuple[Selected, ...]:
    memory: Any = None
    found: list[Selected] = []
    while True:
        selection, memory = look.next(sample, window, memory, None, Budget())
        if selection is None:
            return tuple(found)
        view = selection.given.get(TOKENS)
        tokens = () if view is None else tuple(
            tuple(np.flatnonzero(frame).tolist()) for frame in view.array[0]
        )  # fmt: skip
        found.append(Selected(selection.views["rgb"], tokens))


def _read(file: Path) -> tuple[Selected, ...] | None:
    """A stored selection, None if there is none or the file is damaged."""
    try:
        rows = json.loads(file.read_bytes())
        return tuple(
            Selected(
                ViewRequest(
                    tuple(row["request"]["times"]),
                    boxes=row["request"]["boxes"] and tuple(map(tuple, row["request"]["boxes"])),
                    size=row["request"]["size"],
                ),
                tuple(map(tuple, row["tokens"])),
            )
            for row in rows
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
