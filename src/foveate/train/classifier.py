"""A pipeline with the interface of a scikit-learn classifier.

scikit-learn is not needed: the contract (`get_params`, `set_params`, `fit`, `predict`, `score`,
`classes_`) is kept without its base classes, and its tools work where it is installed.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from foveate.core import ConfigError, FoveateError
from foveate.core.config import nearest
from foveate.core.files import replace_file
from foveate.data import Dataset
from foveate.data.record import Record
from foveate.data.splits import held_out
from foveate.media.array import ArrayVideo
from foveate.media.folder import RATE, write_pictures
from foveate.models.weights.builtin import CARD, WEIGHTS
from foveate.primitives.pipeline import Pipeline, described
from foveate.train.pipelines import FILE, AnyPipeline, find, recipe_of

CLASSES = "classes.json"  # the labels as they were given to `fit`, which may be numbers
_FILES = (CARD, WEIGHTS, FILE, CLASSES)

Array = npt.NDArray[Any]


class NotFittedError(FoveateError, ValueError, AttributeError):
    """A classifier that is used before `fit`."""

    kind = "config"


class VideoClassifier:
    """Trains a pipeline on videos and labels, and classifies videos.

    >>> VideoClassifier({"recogniser": {"kind": "tsn"}}).get_params()["recogniser__dropout"]
    0.5

    Parameters of the pipeline are named by their path: `set_params(recogniser__dropout=0.2)`, or
    `{"training__lr": [1e-3, 1e-2]}` for a grid search. Videos are paths of files and of folders of
    numbered pictures, or arrays (T, H, W, 3) uint8 RGB, which have 25 frames per second.

    Args:
        spec: A `foveate.Pipeline`, its values, a file, or a name of `foveate pipeline list`.
        validation: Share of the clips given to `fit` on which epochs are compared; 0: none. Clips
            of one group, file or content stay together.
        device: Where to compute; None for CUDA if available, else the CPU.
        offline: Do not use the network for weights.
        verbose: Show the progress of training.

    Attributes:
        classes_: Labels in the order of the columns of `predict_proba`.
        summary_: Of the training; see `foveate.train`. Not of a loaded classifier.
    """

    _estimator_type = "classifier"
    _folder: _Folder | None
    _recogniser: Any

    def __init__(
        self,
        spec: AnyPipeline = "early-movinet-a0-stream-lite",
        *,
        validation: float = 0.15,
        device: str | None = None,
        offline: bool = False,
        verbose: bool = False,
    ) -> None:
        self.spec = spec
        self.validation = validation
        self.device = device
        self.offline = offline
        self.verbose = verbose

    def __repr__(self) -> str:
        values = [f"{name}={value!r}" for name, value in self.get_params(deep=False).items()]
        return f"VideoClassifier({', '.join(values)})"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters by name.

        Args:
            deep: With those of the pipeline by their path, such as `training__lr`.
        """
        own = {name: getattr(self, name) for name in _OWN}
        return own | (dict(_nested(find(self.spec), "")) if deep else {})

    def set_params(self, **params: Any) -> Self:
        """Change parameters; see `get_params` for their names.

        Raises:
            ValueError: There is no such parameter.
            ConfigError: A value is out of range, or parts of the pipeline do not fit.
        """
        for name in [one for one in _OWN if one in params]:
            setattr(self, name, params.pop(name))
        if params:
            self.spec = _changed(find(self.spec), params)
        return self

    def fit(self, X: Sequence[Any], y: Sequence[Any], groups: Sequence[Any] | None = None) -> Self:  # noqa: N803
        """Train on videos.

        Args:
            X: Paths or arrays.
            y: Their labels: texts, numbers or booleans.
            groups: Of the clips; clips of a group are not divided for validation.

        Raises:
            ValueError: Not as many labels (or groups) as videos, or fewer than two classes.
            ConfigError: The pipeline does not fit.
            DataError: Too few clips for validation, or too many that cannot be read.
        """
        from foveate.train.recipe import run_recipe

        pipeline = find(self.spec)
        if not pipeline.recogniser.classes:
            raise ConfigError(f"recogniser.kind: {pipeline.recogniser.kind} does not classify")
        recipe, config = recipe_of(pipeline)
        folder = _Folder()
        dataset = self._dataset(X, y, groups, folder.path / "arrays")
        run = folder.path / "run"
        summary = run_recipe(
            recipe, config, dataset, run,
            on_progress=None if self.verbose else lambda event: None,
            device=self.device, offline=self.offline, preset=pipeline.preset(),
            before=lambda: pipeline.write(run / FILE),
        )  # fmt: skip
        replace_file(run / CLASSES, json.dumps(self.classes_.tolist()).encode())
        shutil.rmtree(folder.path / "arrays", ignore_errors=True)
        self.summary_, self._folder, self._recogniser = summary, folder, None
        return self

    def predict_proba(self, X: Sequence[Any]) -> Array:  # noqa: N803
        """Probabilities (N, classes) float64 of the classes in the order of `classes_`.

        Args:
            X: Paths or arrays.

        Raises:
            NotFittedError: Neither `fit` nor `load` was called.
            FoveateError: A video cannot be read.
        """
        recogniser = self._loaded()
        sources = [source if isinstance(source, str | os.PathLike) else np.asarray(source)
                   for source in _videos(X)]  # fmt: skip
        rows = np.zeros((len(sources), len(self.classes_)))
        results = recogniser.predict_many(sources, fps=RATE, trace=False)
        for row, result in zip(rows, results, strict=True):
            if not result.ok:
                raise FoveateError(result.error.message)
            for label in result.labels:
                row[label.index] = label.score
        # A float32 softmax sums to one only within 1e-7.
        scaled: Array = rows / rows.sum(1, keepdims=True)
        return scaled

    def predict(self, X: Sequence[Any]) -> Array:  # noqa: N803
        """The most probable class of each video; see `predict_proba`."""
        scores = self.predict_proba(X)
        found: Array = self.classes_[scores.argmax(1)]
        return found

    def score(
        self, X: Sequence[Any], y: Sequence[Any], sample_weight: Sequence[float] | None = None  # noqa: N803
    ) -> float:  # fmt: skip
        """Accuracy: the share of videos whose most probable class is their label.

        Args:
            X: Paths or arrays.
            y: Their labels.
            sample_weight: Weights of the videos; None: all equal.
        """
        return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the classifier as a run folder, which `foveate predict --model` takes, too.

        Raises:
            NotFittedError: Neither `fit` nor `load` was called.
            ConfigError: The folder is not empty.
        """
        source, target = self._run(), Path(path)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ConfigError(f"{target}: exists", "name a new folder")
        target.mkdir(parents=True, exist_ok=True)
        for name in _FILES:
            replace_file(target / name, (source / name).read_bytes())
        return target

    @classmethod
    def load(cls, path: str | os.PathLike[str], **params: Any) -> Self:
        """Read a classifier that `save` wrote, or a run folder of `foveate fit`; no code is run.

        Args:
            path: The folder.
            **params: `device`, `offline` and other arguments of the class.

        Raises:
            ConfigError: It was not trained from a pipeline.
            WeightsError: A file is missing or damaged.
        """
        found = cls(find(path), **params)
        found._folder, found._recogniser = _Folder(Path(path)), None
        found._loaded()
        return found

    def _dataset(
        self, videos: Sequence[Any], labels: Sequence[Any], groups: Sequence[Any] | None, made: Path
    ) -> Dataset:
        """Records of the videos, some of them for validation; sets `classes_`."""
        videos = _videos(videos)
        if labels is None:
            raise ValueError("fit needs labels: requires y to be passed, but the target y is None")
        for name, values in (("labels", labels), ("groups", groups)):
            if values is not None and len(values) != len(videos):
                raise ValueError(f"{len(videos)} videos, but {len(values)} {name}")
        self.classes_, places = np.unique(np.asarray(labels), return_inverse=True)
        names = [str(one) for one in self.classes_]
        if len(names) < 2:
            raise ValueError(f"the number of classes has to be greater than one, not {len(names)}")
        records = []
        for number, (video, place) in enumerate(zip(videos, places, strict=True)):
            path = video
            if not isinstance(video, str | os.PathLike):
                path = made / f"{number:06d}"
                write_pictures(_checked(video, number), path)
            elif not os.path.exists(video):
                raise FoveateError(f"{video}: no such file")
            group = None if groups is None else str(groups[number])
            records.append(
                Record(Path(path).absolute(), (names[place],), split="train", group=group)
            )
        root = Path(os.path.commonpath([record.path.parent for record in records]))
        dataset = Dataset(tuple(records), tuple(names), root)
        if not self.validation:
            return dataset
        return held_out(dataset, "train", self.validation, "val")

    def _run(self) -> Path:
        folder: _Folder | None = getattr(self, "_folder", None)
        if folder is None:
            raise NotFittedError("this VideoClassifier is not fitted", "call fit or load first")
        return folder.path / "run" if folder.temporary else folder.path

    def _loaded(self) -> Any:
        """The trained model, loaded on first use."""
        from foveate.pipeline.loading import load

        run = self._run()
        if self._recogniser is None:
            self._recogniser = load(
                run, device=self.device, offline=self.offline, unknown=False, top_k=1_000_000
            )
            self.classes_ = _classes(run, self._recogniser.labels)
        return self._recogniser

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `predict` can be called; scikit-learn asks."""
        return getattr(self, "_folder", None) is not None

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn wants to know of an estimator; only it calls this."""
        from sklearn.utils import ClassifierTags, InputTags, Tags, TargetTags

        return Tags(
            estimator_type="classifier",
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags(),
            input_tags=InputTags(two_d_array=False, string=True),
        )

    def __getstate__(self) -> dict[str, Any]:
        """The parameters, and the files of the model: a copy has a folder of its own."""
        state = {k: v for k, v in vars(self).items() if k not in ("_folder", "_recogniser")}
        if self.__sklearn_is_fitted__():
            run = self._run()
            state["_files"] = {name: (run / name).read_bytes() for name in _FILES
                               if (run / name).is_file()}  # fmt: skip
        return state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        files = dict(state).pop("_files", None)
        vars(self).update({key: value for key, value in state.items() if key != "_files"})
        if files is not None:
            self._folder, self._recogniser = _Folder(), None
            (self._folder.path / "run").mkdir()
            for name, data in files.items():
                replace_file(self._folder.path / "run" / name, data)


_OWN = ("spec", "validation", "device", "offline", "verbose")


class _Folder:
    """A folder that is deleted with the classifier, or one that is kept."""

    def __init__(self, path: Path | None = None) -> None:
        self.temporary = tempfile.TemporaryDirectory(prefix="foveate-") if path is None else None
        self.path = Path(self.temporary.name) if self.temporary else Path(path or ".")


def _nested(config: BaseModel, above: str) -> Iterator[tuple[str, Any]]:
    for name in type(config).model_fields:
        value = getattr(config, name)
        yield f"{above}{name}", value
        if isinstance(value, BaseModel):
            yield from _nested(value, f"{above}{name}__")


def _changed(pipeline: Pipeline, params: Mapping[str, Any]) -> Pipeline:
    """The pipeline with other parameters; parts are replaced before their own parameters are."""
    values = {name: getattr(pipeline, name) for name in Pipeline.model_fields}
    given = {name.partition("__")[0] for name in params}
    training = pipeline.training
    if "recogniser" in given and "training" not in given and described(training) == training.kind:
        del values["training"]  # with nothing set, it follows from the recogniser
    known = dict(_nested(pipeline, ""))
    for name in sorted(params, key=lambda one: one.count("__")):
        *parents, last = name.split("__")
        node = values
        for part in parents:
            if isinstance(node.get(part), BaseModel):
                node[part] = _plain(node[part])
            if not isinstance(node.get(part), dict):
                break
            node = node[part]
        else:
            if last in node or (not parents and last in Pipeline.model_fields):
                node[last] = params[name]
                continue
        guess = nearest(name, known)
        hint = f"; did you mean {guess}?" if guess else ""
        raise ValueError(f"Invalid parameter {name!r} for estimator VideoClassifier{hint}")
    return find(values)


def _plain(part: BaseModel) -> dict[str, Any]:
    return {name: getattr(part, name) for name in type(part).model_fields}


def _videos(videos: Any) -> list[Any]:
    """Several videos as a list.

    Raises:
        ValueError: It is one video, or none.
    """
    if isinstance(videos, str | bytes | os.PathLike) or not hasattr(videos, "__len__"):
        raise ValueError("X takes several videos: give a list")
    if not len(videos):
        raise ValueError("X has no videos")
    return list(videos)


def _checked(frames: Any, number: int) -> Array:
    """Frames (T, H, W, 3) uint8.

    Raises:
        MediaError: They are something else.
    """
    ArrayVideo(frames, RATE, f"<array {number}>")
    return np.asarray(frames)


def _classes(run: Path, labels: Sequence[str]) -> Array:
    """The labels as `fit` was given them; of another run folder, their names.

    Raises:
        ConfigError: The file is damaged.
    """
    path = run / CLASSES
    if not path.is_file():
        return np.asarray(labels)
    try:
        found: list[Any] = json.loads(path.read_bytes())
    except ValueError:
        found = []
    if not isinstance(found, list) or [str(one) for one in found] != list(labels):
        raise ConfigError(f"{path}: damaged")
    return np.asarray(found)
