"""`VideoClassifier`: scikit-learn's contract, its tools, saving and loading."""

from __future__ import annotations

import copy
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from sklearn.utils import estimator_checks

import foveate
from foveate.core import ConfigError, FoveateError
from foveate.primitives import TSN, AdaFocus, Detector, Resize, Segments, Supervised
from foveate.primitives.pipeline import Pipeline
from foveate.train import classifier as module
from foveate.train.classifier import NotFittedError
from train import tiny_motion

SPEC = Pipeline(
    sampler=Segments(frames=2),
    transforms=(Resize(32),),
    recogniser=TSN(backbone="test_resnet"),
    training=Supervised(epochs=1, batch=8, workers=0),
)


def classifier(**changes: Any) -> foveate.VideoClassifier:
    return foveate.VideoClassifier(SPEC, validation=0.0, **changes)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    data = tiny_motion.on_disk(tmp_path_factory.mktemp("clips"), {"train": 12})
    return [str(one.path) for one in data.records], [one.labels[0] for one in data.records]


@pytest.fixture(scope="module")
def fitted(videos: tuple[list[str], list[str]]) -> foveate.VideoClassifier:
    return classifier().fit(*videos)


def test_parameters_are_those_of_the_pipeline_by_their_path() -> None:
    one = classifier()
    params = one.get_params()
    assert params["recogniser__dropout"] == 0.5
    assert params["sampler__frames"] == 2
    assert params["spec"] is SPEC
    own = one.get_params(deep=False).keys()
    assert own == {"spec", "validation", "device", "offline", "verbose"}
    assert own < params.keys()
    assert one.set_params(recogniser__dropout=0.1, training__lr=0.1, validation=0.2) is one
    assert one.get_params()["recogniser__dropout"] == 0.1
    assert (one.spec.training.lr, one.validation) == (0.1, 0.2)
    assert SPEC.recogniser.dropout == 0.5  # type: ignore[attr-defined]
    one.set_params(recogniser=AdaFocus(), recogniser__patch=64, transforms=None, sampler="uniform",
                   training={"kind": "adafocus"})  # fmt: skip
    assert one.get_params()["recogniser__patch"] == 64


def test_a_training_without_settings_follows_the_recogniser() -> None:
    one = foveate.VideoClassifier(Pipeline())
    assert one.set_params(recogniser=AdaFocus()).get_params()["training__kind"] == "adafocus"
    with pytest.raises(ConfigError, match=r"training\.kind: supervised does not train adafocus"):
        classifier().set_params(recogniser=AdaFocus(), transforms=None, sampler="uniform")


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"recogniser__drop": 1}, "Invalid parameter 'recogniser__drop'.*recogniser__dropout"),
        ({"specs": 1}, "Invalid parameter 'specs'"),
        ({"look__size": 1}, "Invalid parameter 'look__size'"),
        ({"recogniser__dropout__x": 1}, "Invalid parameter"),
    ],
)
def test_unknown_parameters(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        classifier().set_params(**params)


def test_a_clone_has_the_parameters_and_nothing_learned(fitted: foveate.VideoClassifier) -> None:
    other = clone(fitted)
    assert other.get_params() == fitted.get_params()
    assert not hasattr(other, "classes_")
    with pytest.raises(NotFittedError, match="call fit or load first"):
        other.predict(["clip.mp4"])


@pytest.mark.parametrize(
    "check",
    [
        "check_parameters_default_constructible",
        "check_no_attributes_set_in_init",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_valid_tag_types",
        "check_mixin_order",
    ],
)
def test_scikit_learns_own_checks(check: str) -> None:
    getattr(estimator_checks, check)("VideoClassifier", classifier())


def test_it_predicts_and_scores(
    fitted: foveate.VideoClassifier, videos: tuple[list[str], list[str]]
) -> None:
    paths, labels = videos
    assert list(fitted.classes_) == sorted(set(labels))
    rows = fitted.predict_proba(paths[:3])
    assert rows.shape == (3, 3)
    np.testing.assert_allclose(rows.sum(1), 1, rtol=1e-12)
    assert list(fitted.predict(paths[:3])) == list(fitted.classes_[rows.argmax(1)])
    right = fitted.predict(paths) == np.array(labels)
    assert fitted.score(paths, labels) == pytest.approx(right.mean())
    assert fitted.score(paths, labels, sample_weight=right + 1e-9) == pytest.approx(1)
    with pytest.raises(FoveateError, match=r"none\.mp4"):
        fitted.predict(["none.mp4"])
    with pytest.raises(ValueError, match="several videos"):
        fitted.predict(paths[0])


def test_saving_loading_and_copying_keep_every_bit(
    fitted: foveate.VideoClassifier, videos: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    expected = fitted.predict_proba(videos[0][:2])
    folder = fitted.save(tmp_path / "m")
    loaded = foveate.VideoClassifier.load(folder)
    assert loaded.spec == SPEC
    assert list(loaded.classes_) == list(fitted.classes_)
    for one in (loaded, copy.deepcopy(fitted)):
        np.testing.assert_array_equal(one.predict_proba(videos[0][:2]), expected)
    best = foveate.load(folder).predict(videos[0][0]).labels[0]
    assert best.score == pytest.approx(expected[0].max(), rel=1e-6)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}
    with pytest.raises(ConfigError, match="exists"):
        fitted.save(tmp_path / "m")
    (folder / "classes.json").write_text("[1]")
    with pytest.raises(ConfigError, match="damaged"):
        foveate.VideoClassifier.load(folder)


def test_arrays_with_numbers_as_labels_in_a_grid_search_by_group() -> None:
    x, y = tiny_motion.movies(8, 1, frames=4, size=32)
    arrays = x.permute(0, 2, 3, 4, 1).numpy()
    labels, groups = [int(one) * 10 for one in y], [0, 0, 0, 0, 1, 1, 1, 1]
    grid = GridSearchCV(
        classifier(), {"recogniser__dropout": [0.25]}, cv=GroupKFold(2), error_score="raise",
        refit=False,
    )  # fmt: skip
    grid.fit(arrays, labels, groups=groups)
    assert grid.best_params_ == {"recogniser__dropout": 0.25}
    assert 0 <= grid.best_score_ <= 1
    fitted = classifier().fit(arrays, labels)
    assert fitted.classes_.dtype.kind == "i"
    assert set(fitted.predict(arrays[:2])) <= {0, 10, 20}


def test_cross_validation_by_group(videos: tuple[list[str], list[str]]) -> None:
    paths, labels = videos
    groups = [number % 2 for number in range(len(paths))]
    scores = cross_val_score(classifier(), paths, labels, groups=groups, cv=GroupKFold(2))
    assert scores.shape == (2,)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_what_cannot_be_fitted(videos: tuple[list[str], list[str]]) -> None:
    paths, labels = videos
    with pytest.raises(ValueError, match="12 videos, but 3 labels"):
        classifier().fit(paths, labels[:3])
    with pytest.raises(ValueError, match="number of classes"):
        classifier().fit(paths, ["a"] * len(paths))
    with pytest.raises(ValueError, match="requires y"):
        classifier().fit(paths, None)  # type: ignore[arg-type]
    with pytest.raises(FoveateError, match=r"none\.mp4: no such file"):
        classifier().fit(["none.mp4", paths[0]], ["a", "b"])
    with pytest.raises(FoveateError, match="<array 1>: an array of shape"):
        classifier().fit([np.zeros((2, 8, 8, 3), np.uint8), np.zeros(3)], ["a", "b"])
    with pytest.raises(ConfigError, match="detector does not classify"):
        foveate.VideoClassifier(Pipeline(recogniser=Detector())).fit(paths, labels)


def test_scikit_learn_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    made = runpy.run_path(str(module.__file__))["VideoClassifier"](SPEC)
    assert made.set_params(training__epochs=2).get_params()["training__epochs"] == 2
    with pytest.raises(ImportError):
        import sklearn  # noqa: F401
