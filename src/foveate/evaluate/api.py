"""Measuring in one call: a recogniser, or several, on labelled videos."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from foveate.core import ConfigError
from foveate.core.errors import DataWarning
from foveate.data.labelled import Videos, choose_split, only_classes, open_labelled
from foveate.data.readers.unlabelled import LABEL as UNLABELLED
from foveate.data.record import Dataset

if TYPE_CHECKING:
    from foveate.evaluate.bench import Table
    from foveate.evaluate.run import Evaluation
    from foveate.pipeline.recogniser import Recogniser

    Measurable = Recogniser | str | os.PathLike[str]


def evaluate(
    recogniser: Measurable,
    videos: Videos,
    *,
    split: str | None = None,
    batch: int = 1,
    seed: int = 0,
    device: str | None = None,
    offline: bool = False,
    classes: Sequence[str] | None = None,
    threshold: float | None = None,
    controls: bool = False,
    on_progress: Callable[[int, int, str], None] | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure a model on labelled videos, with intervals and executed cost.

    A warning is issued where the model may have been trained on some of the videos.

    Args:
        recogniser: From `foveate.load`, or what that takes: a run folder, a preset, a model.
        videos: A folder with one folder per class, an annotation file, a
            `foveate.data.DataRequest` or a `foveate.data.Dataset`.
        split: Which videos; `test` if None, or `val` where there is no test split.
        batch: Videos whose windows share one call of the network.
        seed: Of the bootstrap.
        device: Where a named model runs; CUDA if there is one when None.
        offline: Never touch the network for weights.
        classes: Only videos of these classes are measured.
        threshold: Videos whose best label scores lower count as not answered; see
            `evaluate.run.evaluate`.
        controls: Also measure still, shuffled and reversed clips and a motion-energy baseline
            (`Evaluation.controls`); the model runs six more times.
        on_progress: Called after each video with (videos done, videos in all, name).
        **settings: Fields of the preset of a named model, such as `look="motion-patch"`.

    Raises:
        ConfigError: A setting or split is unknown, or the model does not know a class.
        DataError: The data set has faults.
        ModelError: No such model.
    """
    from foveate.evaluate.detection_run import evaluate_any

    dataset = open_labelled(videos)
    chosen = choose_split(dataset, split)
    loaded = _loaded(recogniser, device, offline, settings)
    _warn(loaded.name, dataset, chosen)
    if classes is not None:
        dataset = only_classes(dataset, classes)
    found = evaluate_any(
        loaded, dataset, chosen,
        batch=batch, seed=seed, threshold=threshold, progress=on_progress,
    )  # fmt: skip
    if not controls:
        return found
    from foveate.evaluate.controls import with_controls

    return with_controls(
        found, loaded, dataset, chosen, batch=batch, seed=seed, progress=on_progress
    )


def bench(
    recognisers: Mapping[str, Measurable],
    videos: Videos,
    *,
    split: str | None = None,
    reference: str | None = None,
    batch: int = 1,
    seed: int = 0,
    device: str | None = None,
    offline: bool = False,
    classes: Sequence[str] | None = None,
    threshold: float | None = None,
    on_progress: Callable[[str, int, int, str], None] | None = None,
    **settings: Any,
) -> Table:
    """Compare recognisers on the same videos: accuracy, executed multiply-adds, time.

    Args:
        recognisers: By the names for the table; each as for `evaluate`.
        videos: As for `evaluate`; without labels, cost and agreement are measured.
        split: As for `evaluate`; all videos if None and they have no labels.
        reference: Name of the one that the others are compared with; the first if None.
        batch: As for `evaluate`.
        seed: As for `evaluate`.
        device: As for `evaluate`.
        offline: As for `evaluate`.
        classes: As for `evaluate`.
        threshold: As for `evaluate`.
        on_progress: Called after each video with (recogniser, videos done, videos in all, name).
        **settings: As for `evaluate`, of every named model.

    Raises:
        ConfigError: There are no recognisers, or what `evaluate` raises.
        DataError: As for `evaluate`.
        ModelError: As for `evaluate`.
    """
    from foveate.evaluate.bench import bench as measure

    dataset = open_labelled(videos)
    chosen = split
    if split is not None or not unlabelled(dataset):
        chosen = choose_split(dataset, split)
    loaded = {name: _loaded(one, device, offline, settings) for name, one in recognisers.items()}
    for one in loaded.values():
        _warn(one.name, dataset, chosen)
    if classes is not None:
        dataset = only_classes(dataset, classes)
    return measure(
        loaded, dataset, chosen,
        batch=batch, seed=seed, reference=reference, threshold=threshold, progress=on_progress,
    )  # fmt: skip


def unlabelled(dataset: Dataset) -> bool:
    """Whether the videos were read without labels."""
    return dataset.classes == (UNLABELLED,)


def seen_in_training(model: str, dataset: Dataset, split: str | None) -> str | None:
    """A warning if the model may have been trained on videos of the split.

    A run folder keeps digests of its training clips: if the training clips of this data set are the
    same, its other clips were not used.
    """
    from foveate.models.weights.builtin import is_run
    from foveate.models.weights.run import read_run

    if split is None or not is_run(model):
        return None
    card = read_run(model)
    trained = card.digests.get(str(card.configuration.get("train_split", "train")))
    if split == "train":
        return "these clips were used for training: the metrics do not generalise to other clips"
    if trained and "train" in dataset.splits and dataset.digest("train") != trained:
        return (
            "the training clips of this data set are not those the model was trained on (other "
            "clips, another split seed or fold): some of these videos may have been seen"
        )
    return None


def _warn(model: str, dataset: Dataset, split: str | None) -> None:
    line = seen_in_training(model, dataset, split)
    if line is not None:
        warnings.warn(f"{model}: {line}", DataWarning, stacklevel=3)


def _loaded(
    recogniser: Measurable, device: str | None, offline: bool, settings: Mapping[str, Any]
) -> Recogniser:
    from foveate.pipeline.loading import load
    from foveate.pipeline.recogniser import Recogniser

    if not isinstance(recogniser, Recogniser):
        return load(recogniser, device=device, offline=offline, **settings)
    if settings:
        raise ConfigError(
            f"{recogniser.name}: is already loaded, {', '.join(settings)} cannot be set",
            "set it in foveate.load",
        )
    return recogniser
