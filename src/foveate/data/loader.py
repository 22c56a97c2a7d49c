"""The loader: batches in a fixed order, from any step, robust to bad clips and dying workers.

A clip that cannot be read is reported and left out; it is not replaced, so the batch has one
clip less. Too many bad clips raise an error of one line.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch.utils.data import DataLoader

from foveate.data.batches import Batches, collate
from foveate.data.dataset import ClipDataset, ClipSelector
from foveate.data.errors import CAP, DataError
from foveate.data.prepare import Transform
from foveate.data.record import Dataset
from foveate.data.samplers import Sampling
from foveate.media import DEFAULT_LIMITS, Limits, display_name
from foveate.media.folder import RATE

MAX_BAD = 0.05  # share of a split
IN_A_ROW = 100
HANG_SECONDS = 300.0  # without a batch from any worker
GRACE = 30.0  # seconds that workers live on after a SIGTERM that was not for them
_BLOCKED = {signal.SIGINT, signal.SIGTERM} if hasattr(signal, "sigwaitinfo") else set()


class Loader:
    """Batches of clips; made by `make_loader`.

    Args:
        clips: The clips.
        batches: Which of them form which batch.
        workers: Processes that load; 0 loads in this process.
        max_bad: Share of the clips that may be bad before `DataError` is raised.
        in_a_row: How many bad clips in a row are too many, whatever the share.
        hang_seconds: Longest wait for a batch from the workers.

    Attributes:
        clips: The clips.
        bad: Name → reason, of all clips that could not be read so far.
        warnings: Name → what was damaged, of clips that could be read nevertheless.
    """

    def __init__(
        self,
        clips: ClipDataset,
        batches: Batches,
        *,
        workers: int = 2,
        max_bad: float = MAX_BAD,
        in_a_row: int = IN_A_ROW,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        self.clips = clips
        self.bad: dict[str, str] = {}
        self.warnings: dict[str, str] = {}
        self._batches = batches
        self._bad_places: set[int] = set()
        self._max_bad, self._in_a_row, self._row = max_bad, in_a_row, 0
        self._hang, self._workers = hang_seconds, workers
        self._loader = self._begin()

    def _begin(self) -> DataLoader[Any]:
        """A loader; workers start with the first pass."""
        return DataLoader(
            self.clips,
            batch_sampler=self._batches,
            num_workers=self._workers,
            collate_fn=collate,
            timeout=self._hang if self._workers else 0,
            worker_init_fn=_begin_worker,
            persistent_workers=self._workers > 0,
            # A generator of its own, so that loading does not change the state of the global one.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        return len(self._batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The epoch and step at which iteration starts."""
        return self.at(self._batches.epoch, self._batches.start)

    def at(self, epoch: int, start_step: int = 0) -> Iterator[dict[str, Any]]:
        """The batches of one epoch.

        Args:
            epoch: Number of the epoch, from 0.
            start_step: Steps that were done before.

        Yields:
            Per step a batch as from `batches.collate`, with `step` and `epoch`. A step whose clips
            were all bad gives a batch without clips, so steps can be counted.

        Raises:
            DataError: Too many bad clips, or a worker died or hung.
        """
        self._batches.epoch, self._batches.start = epoch, start_step
        try:
            # Without a name, so that nothing refers to the workers after an error.
            for step, batch in enumerate(self._started(), start_step):
                self._note(batch)
                yield {**batch, "step": step, "epoch": epoch}
            return
        except (RuntimeError, OSError, EOFError) as error:
            explained = self.explain(error)
            if explained is None:
                raise
        # Raised outside the handler, so that nothing refers to the workers: a dead one that
        # was kept would be reported again later, at an unrelated place.
        with suppress(RuntimeError):
            self._loader = self._begin()
        raise explained

    def _started(self) -> Iterator[Any]:
        """The batches of the epoch; the first time, workers are started."""
        with _signals_blocked():
            return iter(self._loader)

    def explain(self, error: BaseException) -> DataError | None:
        """The message for an error that a worker caused; None for other errors.

        torch reports the death of a worker at any place in the main process, so a training loop
        calls this too.
        """
        text = str(error)
        # A worker that dies between announcing a batch and sending it breaks a connection.
        broken = self._workers > 0 and isinstance(error, (OSError, EOFError))
        if "DataLoader" not in text and not broken:
            return None
        places = [int(i) for i in self.clips.at.tolist() if i >= 0]
        records = self.clips.dataset.records
        names = [display_name(self.clips.dataset.name(records[i])) for i in places]
        at = f" while reading {' or '.join(names)}" if names else ""
        if "timed out" in text:
            return DataError(
                f"loading gave no batch for {self._hang:g} seconds{at}",
                "look at that clip, or load with workers=0",
            )
        if broken or "worker" in text:
            return DataError(
                f"a loading process died{at}",
                "often too little memory, or a damaged clip: run foveate data check, or load "
                "with workers=0",
            )
        return None

    def _note(self, batch: dict[str, Any]) -> None:
        """Record the bad clips of a batch; raise if there are too many."""
        dataset = self.clips.dataset
        for index, line in batch["warnings"]:
            self.warnings[display_name(dataset.name(dataset.records[index]))] = line
        for clip in batch["bad"]:
            self.bad[clip.name] = clip.reason
            # Several clips may be parts of one file and share its name.
            self._bad_places.add(clip.index)
        self._row = 0 if len(batch["index"]) else self._row + len(batch["bad"])
        bad, total = len(self._bad_places), len(self.clips)
        allowed = tolerated(total, self._max_bad)
        if bad > allowed:
            self._stop(f"{bad} of {total} clips cannot be read, more than {allowed}")
        if self._row >= self._in_a_row:
            self._stop(f"{self._row} clips in a row cannot be read")

    def _stop(self, what: str) -> None:
        name, why = next(iter(self.bad.items()))
        lines = [f"{name}: {why}" for name, why in self.bad.items()]
        raise DataError(
            f"{what}; the first is {name}: {why}",
            "foveate data check names them all",
            faults=lines[:CAP],
            count=len(lines),
        )


def tolerated(clips: int, share: float = MAX_BAD) -> int:
    """How many of `count` clips may be bad: a share of them, at least one."""
    return max(1, int(share * clips)) if share > 0 else 0


def make_loader(
    dataset: Dataset,
    split: str | None,
    sampling: Sampling,
    transform: Transform,
    *,
    batch: int = 8,
    train: bool = False,
    seed: int = 0,
    epoch: int = 0,
    start_step: int = 0,
    workers: int = 2,
    modalities: Sequence[str] = ("rgb",),
    drop_last: bool = False,
    rank: int = 0,
    world: int = 1,
    max_bad: float = MAX_BAD,
    in_a_row: int = IN_A_ROW,
    hang_seconds: float = HANG_SECONDS,
    fps: float = RATE,
    limits: Limits = DEFAULT_LIMITS,
    selector: ClipSelector | None = None,
) -> Loader:
    """A loader for one split.

    Args:
        dataset: The clips of all splits.
        split: Which of them; None for all.
        sampling: Which times to look at, such as `partial(samplers.segments, count=8)`.
        transform: `transforms.Augment` in training, else `prepare.Centre`.
        batch: Clips per step, of all processes together.
        train: Whether the order, the times and the transforms are drawn.
        seed: Of everything that is drawn.
        epoch: The epoch that iterating starts with.
        start_step: The step of it.
        workers: Processes that load; the clips are the same for any number of them.
        modalities: What to build of each clip.
        drop_last: Leave out a last batch that is not full.
        rank: Number of this process among several that train together.
        world: How many of them there are.
        max_bad: Share of bad clips at which to stop.
        in_a_row: Number of bad clips in a row at which to stop.
        hang_seconds: Longest wait for a batch.
        fps: Frames per second of frame folders.
        limits: Bounds on what a clip may cost.
        selector: Chooses times and places instead of `sampling` (see `ClipDataset`).

    Raises:
        DataError: The split has no clips, or a clip has no class and the classes exclude another.
    """
    chosen = dataset if split is None else dataset.subset(split)
    if not len(chosen):
        there = ", ".join(dataset.splits)
        hint = f"there are: {there}" if there else "split it first"
        raise DataError(f"the split {split!r} has no clips", hint)
    if not chosen.multilabel:
        odd = next((r for r in chosen.records if len(r.labels) != 1), None)
        if odd is not None:
            raise DataError(f"{odd.where}: {len(odd.labels)} labels, one is needed")
    clips = ClipDataset(
        chosen,
        sampling,
        transform,
        train=train,
        seed=seed,
        modalities=modalities,
        fps=fps,
        limits=limits,
        selector=selector,
    )
    batches = Batches(
        len(chosen), batch, seed=seed, shuffle=train, drop_last=drop_last, rank=rank, world=world
    )
    batches.epoch, batches.start = epoch, start_step
    return Loader(
        clips,
        batches,
        workers=workers,
        max_bad=max_bad,
        in_a_row=in_a_row,
        hang_seconds=hang_seconds,
    )


def _begin_worker(number: int) -> None:
    """One thread per worker: the cores are shared out by process.

    Ctrl-C and the SIGTERM of a job scheduler reach every process. A worker leaves them to the main
    one, which would otherwise find its workers dead before it could save.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if _BLOCKED:
        threading.Thread(target=_end_with_main, args=(os.getppid(),), daemon=True).start()
    elif hasattr(os, "setpgid"):  # macOS: only a signal to the process group is kept away
        os.setpgid(0, 0)
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _end_with_main(main: int) -> None:
    """End this worker when the main process sends SIGTERM, or a while after another one has."""
    found: signal.struct_siginfo | None = signal.sigwaitinfo({signal.SIGTERM})
    while found is not None and found.si_pid != main:
        # Of two signals that wait, one is lost; it may have been that of the main process.
        found = signal.sigtimedwait({signal.SIGTERM}, GRACE)
    os._exit(0)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals in a block; processes that are started in it never receive them."""
    if not _BLOCKED:
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
