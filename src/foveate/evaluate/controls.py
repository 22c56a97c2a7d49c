"""Controls: does a model need more than one frame, their order, or more than how much moves?

The model runs on the decoded frames of every clip (`whole`) and on altered copies of them: the
first, middle or last frame repeated, the frames in random order, and the frames reversed. A
baseline classifies the clips by their motion energy alone. A conclusion is chosen by `conclude`,
whose rules are stated there and in `RULES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.core import ConfigError, FoveateError
from foveate.data.sources import duration_of, motion_energy
from foveate.evaluate import metrics
from foveate.evaluate.bootstrap import REPEATS, Comparison, compare_correct
from foveate.evaluate.run import (
    Control,
    Controls,
    Evaluation,
    Figure,
    Progress,
    figure_of,
    units_of,
)
from foveate.evaluate.truth import Item, Labelled, columns_of, items_of
from foveate.media import ArrayVideo, open_source
from foveate.pipeline.recogniser import Recogniser

WHOLE, ENERGY = "whole", "motion energy"
STILLS = ("first frame", "middle frame", "last frame")
ALTERED = (*STILLS, "shuffled", "reversed")
MARGIN = 0.05  # accuracy that a single frame may lose and still count as good as the clip
RULES = (
    "the first that holds: (1) whole clips are not above the share of the most frequent class; "
    f"(2) the best single frame loses at most {MARGIN:g}, by the upper end of the paired interval; "
    "(3) no difference to it is found; (4) no gain over motion energy is found; (5) shuffled or "
    "reversed clips are worse; (6) otherwise"
)
_NEEDS = "controls need videos with one label each"
_MAX_BYTES = 2_000_000_000  # decoded frames of one clip
_ROWS = 256  # pixels; larger frames are scaled down


def with_controls(
    found: Evaluation,
    recogniser: Recogniser,
    dataset: Labelled,
    split: str | None,
    *,
    batch: int = 1,
    seed: int = 0,
    repeats: int = REPEATS,
    progress: Progress | None = None,
) -> Evaluation:
    """An evaluation with its controls; the model runs six more times over the clips.

    Args:
        found: From `evaluate`, of the same recogniser, data and split.
        recogniser: As for `evaluate`.
        dataset: As for `evaluate`.
        split: As for `evaluate`.
        batch: As for `evaluate`.
        seed: Of the bootstrap and of the random order.
        repeats: Bootstrap resamples.
        progress: Called after each clip.

    Raises:
        ConfigError: The videos have no single label each, or none could be decoded.
    """
    if not found.classes:
        raise ConfigError(_NEEDS, "leave out --controls")
    answers = control_answers(recogniser, dataset, split, batch=batch, seed=seed, progress=progress)
    return found.model_copy(update={"controls": summary(answers, seed=seed, repeats=repeats)})


@dataclass(frozen=True)
class ControlAnswers:
    """Predictions under every control; those of several models and splits can be joined.

    Attributes:
        truth: True classes, (N,) indices.
        predicted: Name of the control → predicted classes, (N,) indices.
        groups: As for `bootstrap.interval`.
        left_out: Clips that could not be decoded.
    """

    truth: NDArray[np.int64]
    predicted: dict[str, NDArray[np.int64]]
    groups: list[str] | None
    left_out: int


def control_answers(
    recogniser: Recogniser,
    dataset: Labelled,
    split: str | None,
    *,
    batch: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> ControlAnswers:
    """Run a model and the baseline over whole and altered clips; see `with_controls`."""
    items = items_of(dataset, split)
    if any(len(item.labels) != 1 or item.stretches for item in items):
        raise ConfigError(_NEEDS, "leave out --controls")
    columns = columns_of(dataset.classes, recogniser.labels, recogniser.name)
    column = dict(zip(dataset.classes, columns, strict=True))
    energies: dict[int, float] = {}
    failures: list[str] = []
    answers = _answers(recogniser, items, energies, failures, batch, seed, progress)
    names = (WHOLE, *ALTERED)
    good = [
        i for i in sorted(energies) if all(answers.get((i, name)) is not None for name in names)
    ]
    if not good:
        why = f" (the first: {failures[0]})" if failures else ""
        raise ConfigError(f"controls: none of the {len(items)} videos could be measured{why}")
    truth = np.array([column[items[i].labels[0]] for i in good], np.int64)
    groups = units_of([items[i].group for i in good])
    predicted = {name: np.array([answers[i, name] for i in good], np.int64) for name in names}
    energy = np.array([energies[i] for i in good])
    predicted[ENERGY] = energy_baseline(energy, truth, groups)
    return ControlAnswers(truth, predicted, groups, len(items) - len(good))


def summary(answers: ControlAnswers, *, seed: int = 0, repeats: int = REPEATS) -> Controls:
    """Accuracies with intervals, paired differences, and the conclusion."""
    truth, count = answers.truth, len(answers.truth)
    right = {name: (said == truth).astype(float) for name, said in answers.predicted.items()}
    whole = answers.predicted[WHOLE]
    rows = [
        Control(
            name=name,
            top1=figure_of(
                metrics.Protocol().name("top1"), metrics.mean(correct), count, answers.groups,
                repeats=repeats, seed=seed,
            ),
            loss=None if name == WHOLE else compare_correct(
                right[WHOLE], correct, answers.groups, seed=seed, repeats=repeats
            ),
            agreement=float((answers.predicted[name] == whole).mean()),
        )
        for name, correct in right.items()
    ]  # fmt: skip
    frequent = float(np.bincount(truth).max() / count)
    rule, sentence = conclude(rows, frequent)
    return Controls(
        n=count, left_out=answers.left_out, most_frequent_class=frequent, margin=MARGIN,
        rows=rows, rule=rule, rules=RULES, conclusion=sentence,
    )  # fmt: skip


def conclude(rows: Sequence[Control], frequent: float) -> tuple[int, str]:
    """Number of the first of `RULES` that holds, and what it suggests in one sentence.

    Args:
        rows: Whole clips, the altered ones and the baseline.
        frequent: Share of the most frequent class.
    """
    by_name = {row.name: row for row in rows}
    whole = by_name[WHOLE].top1
    # Of equally good frames the first.
    still = max((by_name[name] for name in STILLS), key=lambda row: row.top1.value or 0.0)
    energy, loss = by_name[ENERGY], _loss(still)
    if (whole.low or 0.0) <= frequent:
        return 1, (
            f"Whole clips ({_interval(whole)}) are not shown to be better than the most frequent "
            f"class ({frequent:.3f}): the controls say nothing about motion."
        )
    single = f"{still.name} {still.top1.value:.3f}, whole clips {_interval(whole)}, {_change(loss)}"
    if loss.high <= MARGIN:
        return 2, (
            f"A single frame does as well ({single}): the classes differ by scene, not by motion."
        )
    if not loss.found:
        return 3, (
            f"No difference between a single frame and whole clips was found ({single}), but too "
            "few clips were measured to call them equal: the model may not use motion."
        )
    if not (_loss(energy).found and _loss(energy).difference > 0):
        return 4, (
            f"Several frames are better than one ({single}), but no better than how much moves "
            f"({ENERGY} {energy.top1.value:.3f}, {_change(_loss(energy))}): the classes may differ "
            "by the amount of motion alone."
        )
    ordered = [
        row
        for row in (by_name["shuffled"], by_name["reversed"])
        if _loss(row).found and _loss(row).difference > 0
    ]
    if ordered:
        worse = "; ".join(
            f"{row.name} {row.top1.value:.3f}, {_change(_loss(row))}" for row in ordered
        )
        return 5, (
            f"Several frames are better than one ({single}) and their order matters ({worse}): the "
            "model uses motion."
        )
    order = _loss(by_name["shuffled"])
    return 6, (
        f"Several frames are better than one ({single}), but no use of their order was found "
        f"(shuffled: {_change(order)})."
    )


def energy_baseline(
    energy: NDArray[np.float64], truth: NDArray[np.int64], groups: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Classes (N,) by the logarithm of motion energy, leaving out one clip or group at a time.

    A normal distribution per class with a common variance and equal priors: the nearest mean.

    Args:
        energy: (N,), at least 0.
        truth: (N,) classes.
        groups: One per clip, None if clips are independent.
    """
    values = np.log(energy + 1e-3)
    unit = np.arange(len(values)) if groups is None else np.unique(groups, return_inverse=True)[1]
    out = np.full(len(values), -1, np.int64)
    for one in np.unique(unit):
        others = unit != one
        classes = np.unique(truth[others])
        if len(classes):
            means = np.array([values[others & (truth == c)].mean() for c in classes])
            nearest = np.abs(values[~others, None] - means).argmin(1)
            out[~others] = classes[nearest]
    return out


def _answers(
    recogniser: Recogniser,
    items: Sequence[Item],
    energies: dict[int, float],
    failures: list[str],
    batch: int,
    seed: int,
    progress: Progress | None,
) -> dict[tuple[int, str], int | None]:
    """The predicted label's index by (clip, control), None where the model failed."""
    keys: list[tuple[int, str]] = []

    def altered() -> Iterator[ArrayVideo]:
        for i, item in enumerate(items):
            try:
                frames, rate = _decoded(item)
            except FoveateError as error:
                failures.append(error.cause)
                continue  # counted as left out
            energies[i] = motion_energy(frames, rate)
            for name, clip in _copies(frames, np.random.default_rng((seed, i))):
                keys.append((i, name))
                yield ArrayVideo(clip, rate, item.name)

    out: dict[tuple[int, str], int | None] = {}
    results = recogniser.predict_many(altered(), batch=batch, trace=False)
    for position, result in enumerate(results):
        if result.error is not None:
            failures.append(result.error.message)
        out[keys[position]] = result.labels[0].index if result.ok and result.labels else None
        if progress is not None and keys[position][1] == ALTERED[-1]:
            at = keys[position][0]
            progress(at + 1, len(items), items[at].name)
    return out


def _copies(
    frames: NDArray[np.uint8], random: np.random.Generator
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    yield WHOLE, frames
    for name, at in zip(STILLS, (0, len(frames) // 2, len(frames) - 1), strict=True):
        yield name, np.broadcast_to(frames[at], frames.shape)
    yield "shuffled", frames[random.permutation(len(frames))]
    yield "reversed", frames[::-1]


def _decoded(item: Item) -> tuple[NDArray[Any], float]:
    """All frames of a clip at its own rate, (T, H, W, 3), and the rate.

    Raises:
        FoveateError: It cannot be decoded, or is too long.
    """
    sample = open_source(item.source)
    try:
        seconds, rate = duration_of(sample), sample.info.rate or 25.0
        scale = min(1.0, _ROWS / min(sample.info.width, sample.info.height))
        size = (round(sample.info.width * scale), round(sample.info.height * scale))
        count = max(1, round(seconds * rate))
        if count * size[0] * size[1] * 3 > _MAX_BYTES:
            raise ConfigError(f"{item.name}: too long for controls ({seconds:.0f} s)")
        times = [i / rate for i in range(count)]
        return sample.frames(times, size if scale < 1 else None).pixels, rate
    finally:
        if not isinstance(sample, ArrayVideo):
            sample.close()


def _loss(row: Control) -> Comparison:
    if row.loss is None:
        raise ConfigError(f"the control {row.name!r} was not compared with whole clips")
    return row.loss


def _interval(figure: Figure) -> str:
    return f"{figure.value:.3f}, {figure.low:.3f} to {figure.high:.3f}"


def _change(loss: Comparison) -> str:
    ends = f"{loss.low:+.3f} to {loss.high:+.3f}"
    return f"loss {loss.difference:+.3f}, {loss.level:.0%} interval {ends}"
