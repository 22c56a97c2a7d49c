"""Training clips cut by a look: what the network learns from is what it will be shown.

The look's own choice and the loop's own cutting are used, so there is one way from a clip to a
patch. Choosing is dear where motion is measured, so what was chosen is kept in the run folder and
read in the epochs after. A clip that is longer than the window is looked at from one of a few
places for the same reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from foveate.core import Budget, ConfigError, InputSpec, Sample, ViewRequest, Window
from foveate.core.files import replace_file
from foveate.data import Dataset, make_loader, samplers
from foveate.data.prepare import Centre, Transform
from foveate.data.record import Record
from foveate.data.transforms import Augment
from foveate.models.registry import ModelEntry
from foveate.pipeline.fetch import shown
from foveate.policy import Context, MotionPatch, RandomPatch, RwfCrop
from foveate.policy.build import TrainedLook
from foveate.train.batches import Batches
from foveate.train.distributed import Team
from foveate.train.videos import LoaderBatches, Strength, mirror_of

if TYPE_CHECKING:
    from foveate.core.loop import Pixels

PLACES = 4  # of the window in a longer clip
DRAWS = 4  # random windows of each clip where features are computed once
VERSION = 2  # raise it when looks choose otherwise: what was kept is then chosen anew


@dataclass(frozen=True)
class Looked:
    """What a look shows of a clip; takes the place of a sampler (`data.dataset.Shows`).

    Args:
        look: Its specification.
        spec: What the network expects of its whole view.
        entry: Of the network in the registry: whether it mixes frames, for one.
        kept: Folder of what was chosen before; None keeps nothing.
        draw: Of random windows outside training; each gives other ones.
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
        """The times that the look chose, and the frames (T, S, S, 3) that came of them."""
        requests = self.requests(sample, record, start, end, random)
        times = tuple(t for request in requests for t in request.times)
        _, pixels = shown(sample, self.spec, requests)
        count = self.spec.clip_frames
        if len(pixels) != len(times) or len(times) == count:
            return times, pixels
        # Sampling by motion passes over frames that are black: then some are given twice.
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
        """All that the look selects of one window of the clip.

        Args:
            sample: The clip's source.
            record: Whose file and times tell whether it was looked at before.
            start: Seconds at which the clip begins.
            end: Seconds at which it ends.
            random: Chooses the window's place and random patches; None for the middle, and the
                patches that prediction would draw.
        """
        look: Any = self._look()
        own: float | None = getattr(self.look, "rate", None)
        count, rate = self.spec.clip_frames, own or self.spec.frames_per_second
        if random is None:
            times = samplers.window(start, end, count=count, rate=rate)
        else:
            places = samplers.windows(start, end, count=count, rate=rate, views=PLACES)
            times = places[int(random.integers(PLACES))]
        if isinstance(look, RandomPatch) and random is not None:
            look = replace(look, seed=int(random.integers(2**31)))
        elif isinstance(look, RandomPatch):
            look = replace(look, seed=look.seed + self.draw)
        # A clip shorter than the window is seen whole at a higher rate, as without a look.
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
        """Where the choice for a window is kept: its name holds all that the choice depends on."""
        status = record.path.stat()
        key = [
            VERSION, self.look.model_dump(mode="json"), asdict(self.spec),
            self.entry is None or self.entry.mixes_frames,
            str(record.path), status.st_size, status.st_mtime_ns, window.start, window.end,
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
        return folder / digest[:2] / f"{digest[2:34]}.json"


class LookedClips:
    """Batches of clips as a look shows them; a `videos.Source`.

    Args:
        dataset: From `foveate.data.read`, with its splits.
        look: Its specification.
        entry: Of the network in the registry.
        kept: Folder of what was chosen before.
        batch: Clips per step over all processes.
        seed: Of order, places, random windows and transforms.
        workers: Loading processes.
        augment: As for `videos.clips_of`, without crops: what is cut out is for the look to say.
        flip: Mirror half of the clips.
        draw: See `Looked`.

    Raises:
        ConfigError: A look that needs a trained network.
    """

    def __init__(
        self,
        dataset: Dataset,
        look: TrainedLook,
        entry: ModelEntry | None,
        kept: Path | None,
        *,
        batch: int,
        seed: int,
        workers: int,
        augment: Strength,
        flip: bool,
        draw: int = 0,
    ) -> None:
        if not look.trains:
            raise ConfigError(
                f"look {look.name}: a network cannot be trained on what it shows",
                "train with uniform or motion-patch, and predict with it",
            )
        self._dataset, self._look, self._entry, self._kept = dataset, look, entry, kept
        self._settings: dict[str, Any] = {
            "batch": batch, "seed": seed, "workers": workers, "augment": augment, "flip": flip,
        }  # fmt: skip
        self._draw = draw

    @property
    def draws(self) -> int:
        """How many different patches of a clip are worth keeping features of."""
        return DRAWS if self._look.name == "random" else 1

    def drawn(self, number: int) -> LookedClips:
        """The same clips with other random windows; 0 are those of prediction."""
        return LookedClips(
            self._dataset, self._look, self._entry, self._kept, draw=number, **self._settings
        )

    def __call__(self, split: str, training: bool, spec: InputSpec, team: Team) -> Batches | None:
        """See `videos.Source`."""
        if not len(self._dataset.subset(split)):
            return None
        shows = Looked(self._look, spec, self._entry, self._kept, self._draw)
        settings = self._settings
        transform: Transform = Centre(shows.size)
        if training:
            transform = transform_of(
                settings["augment"], shows.size, self._dataset.classes, settings["flip"]
            )
        loader = make_loader(
            self._dataset,
            split,
            partial(samplers.window, count=spec.clip_frames, rate=spec.frames_per_second),
            transform,
            batch=max(settings["batch"], team.world),
            train=training,
            seed=settings["seed"],
            workers=settings["workers"],
            rank=team.rank if training else 0,
            world=team.world if training else 1,
            shows=shows,
        )
        return LoaderBatches(loader)


def transform_of(augment: Strength, size: int, classes: Sequence[str], flip: bool) -> Transform:
    """The training transform of patches: mirror images and colours, no crops.

    Raises:
        MissingExtra: torchvision is not installed (`none` does without it).
    """
    if augment == "none":
        return Centre(size)
    colours: dict[str, dict[str, Any]] = {
        "light": {},
        "strong": {"colour": 0.3, "operations": 1, "magnitude": 7},
        "full": {"operations": 2},
    }
    return Augment(
        size, (1.0, 1.0), decode=1.0, ratio=(1.0, 1.0), flip=0.5 if flip else 0.0,
        mirror=mirror_of(classes), **colours[augment],
    )  # fmt: skip


def _selected(look: Any, sample: Sample, window: Window) -> tuple[ViewRequest, ...]:
    memory: Any = None
    found: list[ViewRequest] = []
    while True:
        selection, memory = look.next(sample, window, memory, None, Budget())
        if selection is None:
            return tuple(found)
        found.append(selection.views["rgb"])


def _read(file: Path) -> tuple[ViewRequest, ...] | None:
    """What was kept, None if nothing was or the file is damaged."""
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
