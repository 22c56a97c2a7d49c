"""Pipelines as data: round trips, digests, faults with their paths, translation to recipes."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, get_args

import jsonschema
import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

import foveate
from foveate.core import ConfigError
from foveate.core.config import build
from foveate.data.prepare import to_tchw
from foveate.models.registry import available, create
from foveate.primitives import (
    TSM,
    AdaMML,
    Confident,
    Distill,
    Flip,
    Flow,
    Model,
    MotionPatch,
    Patch,
    RandomCrop,
    Resize,
    Segments,
    Sound,
    Supervised,
    Uniform,
    pipeline,
)
from foveate.primitives.base import GROUPS, Search, registered
from foveate.primitives.pipeline import Pipeline
from foveate.primitives.recognisers import Network
from foveate.train import pipelines

FULL = Pipeline(
    sampler=Uniform(frames=16),
    look=MotionPatch(size=128),
    transforms=(Resize(160), RandomCrop(128), Flip()),
    recogniser=TSM(backbone="efficientnet_lite0", dropout=0.1),
    stopping=Confident(threshold=0.8),
    budget={"frames_per_second": 3},
    engine={"name": "onnxruntime"},
    training=Supervised(epochs=3, lr=1e-3, settings={"momentum": 0.8}),
)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_round_trip_through_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    FULL.write(path)
    again = Pipeline.read(path)
    assert again == FULL
    assert again.digest == FULL.digest
    assert Pipeline.model_validate(FULL.model_dump()) == FULL


def test_the_schema_accepts_what_the_model_does() -> None:
    checker = jsonschema.Draft202012Validator(Pipeline.json_schema())
    assert checker.is_valid(json.loads(FULL.to_json()))
    assert not checker.is_valid({"look": {"name": "motion-patch"}})
    assert not checker.is_valid({"recogniser": {"kind": "tsm", "dropout": 2}})


def test_every_part_is_named_by_its_kind_in_files() -> None:
    values = FULL.model_dump(mode="json")
    for part in ("sampler", "look", "recogniser", "stopping", "training"):
        assert "kind" in values[part]
        assert "name" not in values[part]


def test_the_digest_is_that_of_the_canonical_json() -> None:
    values = json.loads(FULL.to_json())
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert FULL.digest == hashlib.sha256(text.encode()).hexdigest()
    assert FULL.digest != FULL.model_copy(update={"recogniser": TSM()}).digest
    # The order of keys and a whole number for a float mean the same.
    one = Pipeline.model_validate({"training": {"lr": 1, "kind": "supervised"}})
    assert one.digest == Pipeline(training=Supervised(lr=1.0)).digest


def test_specifications_are_frozen_and_leave_their_arguments_alone() -> None:
    """AutoVideo's `build_pipeline` removed keys of its argument: a second call built a TSN."""
    values: dict[str, Any] = {"recogniser": {"kind": "i3d"}, "look": {"kind": "motion-patch"}}
    kept = json.loads(json.dumps(values))
    first, second = Pipeline.model_validate(values), Pipeline.model_validate(values)
    assert values == kept
    assert first == second
    assert first.recogniser.kind == "i3d"
    with pytest.raises(ValueError, match="frozen"):
        first.recogniser = TSM()


@pytest.mark.parametrize(
    ("values", "said", "hint"),
    [
        ({"smpler": {}}, "unknown key smpler", "did you mean sampler?"),
        ({"recogniser": "tsmm"}, "recogniser.kind: there is no tsmm", "did you mean tsm? known: "),
        ({"recogniser": {}}, "recogniser: needs a kind", "known: adafocus, adamml, c3d"),
        ({"recogniser": {"kind": "tsm", "drop": 1}}, "unknown key recogniser.drop", "dropout"),
        (
            {"recogniser": {"kind": "tsm", "divide": 2}},
            "recogniser.divide: tsm has no such setting", "one of eco, i3d",
        ),
        ({"look": {"kind": "motion-pach"}}, "look.kind: there is no motion-pach", "motion-patch"),
        ({"look": {"kind": "uniform", "gate": 1}}, "look.gate: uniform has no", "look.kind to be"),
        ({"transforms": ["flp"]}, "transforms.0.kind: there is no flp", "did you mean flip?"),
        (
            {"transforms": [{"kind": "sometimes", "transforms": ["flip", "flp"]}]},
            "transforms.0.transforms.1.kind: there is no flp", "flip",
        ),
        ({"transforms": ["flip", {"kind": "flip", "q": 1}]}, "unknown key transforms.1.q", "p"),
        ({"training": {"kind": "supervised", "lr": 0}}, "training.lr: must be positive", None),
        ({"sampler": {"kind": "segments", "frames": 0}}, "sampler.frames: must be at least", None),
        ({"version": 2}, "version: there is no 2, this is 1; a newer foveate wrote it", None),
        ({"version": "x"}, "version: there is no 'x', this is 1", None),
        ({"version": [1]}, "version: there is no [1], this is 1", None),
        (
            {"recogniser": "adafocus", "training": {"kind": "supervised"}},
            "training.kind: supervised does not train adafocus; possible: adafocus", None,
        ),
        ({"recogniser": "adamml", "transforms": []}, "transforms: adamml has its own", None),
        ({"recogniser": "adamml", "sampler": "segments"}, "sampler: adamml has its own", None),
        (
            {"sampler": "segments", "look": "motion-patch"},
            "sampler.kind: motion-patch chooses the times of frames; use uniform", None,
        ),
    ],
)  # fmt: skip
def test_a_fault_is_named_by_its_path(values: Any, said: str, hint: str | None) -> None:
    with pytest.raises(ConfigError) as error:
        build(Pipeline, values, "my.yaml")
    assert error.value.cause.startswith(f"my.yaml: {said}")
    assert "\n" not in str(error.value)
    assert hint is None or hint in (error.value.hint or "")


def test_earlier_versions_are_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(values: dict[str, Any]) -> dict[str, Any]:
        values["recogniser"] = values.pop("algorithm")
        return values

    monkeypatch.setattr(pipeline, "MIGRATIONS", {0: renamed})
    found = build(Pipeline, {"version": 0, "algorithm": "i3d"}, "old.yaml")
    assert found.recogniser.kind == "i3d"
    assert found.version == 1
    with pytest.raises(ConfigError, match="version: there is no -1"):
        build(Pipeline, {"version": -1}, "old.yaml")


def test_the_description_says_what_is_done() -> None:
    """AutoVideo dropped augmentations silently where there was no transformation."""
    text = str(FULL)
    assert "resize(size=160), then random-crop(size=128), then flip" in text
    assert "what motion-patch shows" in text
    assert "efficientnet_lite0" not in text  # a default
    assert "tsm (dropout=0.1)" in text
    plain = Pipeline(transforms=(Resize(160), RandomCrop(128)), recogniser=TSM())
    assert "scaled to 160 x 160, the centre square of 128" in str(plain)
    assert "transforms: nothing" in str(Pipeline(transforms=()))


def test_translation_to_a_recipe_and_a_preset() -> None:
    recipe, config = pipelines.recipe_of(FULL)
    values: Any = config
    assert recipe.name == "supervised"
    assert (values.model, values.settings) == ("tsm:efficientnet_lite0", {"dropout": 0.1})
    assert (values.frames, values.rate, values.size) == (16, 4.0, 224)
    assert (values.epochs, values.lr, values.momentum) == (3, 1e-3, 0.8)
    assert values.augment == FULL.transforms
    assert values.look == FULL.look
    preset = FULL.preset()
    assert preset["look"]["name"] == "motion-patch"
    assert preset["decide"] == {"name": "confident", "threshold": 0.8}
    assert preset["budget"]["frames_per_second"] == 3
    assert preset["engine"] == "onnxruntime"
    assert Pipeline().preset() == {}


def test_settings_that_a_recipe_does_not_have_are_refused() -> None:
    wrong = Pipeline(training=Supervised(settings={"momentun": 0.8}))
    with pytest.raises(ConfigError, match=r"recipe supervised: unknown key momentun.*momentum"):
        pipelines.recipe_of(wrong)


def test_modalities_are_those_of_the_recipe() -> None:
    spec = Pipeline(recogniser=AdaMML(modalities=(Flow(), Patch(size=48), Sound())))
    values: Any = pipelines.recipe_of(spec)[1]
    assert values.modalities == ("flow", "patch", "sound")
    assert values.patch_size == 48


def test_every_architecture_has_a_recogniser() -> None:
    """All of the zoo: by a kind of its own, or by its name."""
    families = {
        "c3d", "eco", "i3d", "inflated", "movinet", "r2plus1d", "r3d", "resnet3d-rs", "tsm", "tsn",
        "torchvision", "model",
    }  # fmt: skip
    assert families <= registered("recognisers").keys()
    for name in available():
        assert pipelines.recipe_of(Pipeline(recogniser=Model(name=name)))[1].model == name  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", sorted(registered("recognisers")))
def test_every_recogniser_translates_with_each_of_its_recipes(kind: str) -> None:
    values: dict[str, Any] = {"kind": kind, **({"name": "i3d"} if kind == "model" else {})}
    default = Pipeline(recogniser=values)
    assert default.training.kind == default.recogniser.recipes[0]
    for name in default.recogniser.recipes:
        training: Any = {"kind": name, "epochs": 1}
        training |= {"teacher": "runs/1"} if registered("training")[name] is Distill else {}
        recipe, config = pipelines.recipe_of(Pipeline(recogniser=values, training=training))
        assert recipe.name == name
        assert config.model_dump()["epochs"] == 1


NETWORKS = {
    kind: cls for kind, cls in registered("recognisers").items() if issubclass(cls, Network)
}


@pytest.mark.parametrize("kind", sorted(NETWORKS.keys() - {"model"}))
def test_every_network_is_built_from_its_defaults_and_has_one_head_factory(kind: str) -> None:
    """On the device meta, with clips of its default input: as many outputs as classes."""
    recogniser = NETWORKS[kind]()
    settings = pipelines.recipe_of(Pipeline(recogniser=recogniser))[1]
    values: Any = settings
    size, frames, _ = recogniser.default_input or (112, 16, 1.0)
    with torch.device("meta"):
        network = create(values.model, num_classes=5, **values.settings).eval()
        clip = torch.zeros(2, 3, frames, size, size)
        assert network(clip).shape == (2, 5)


def test_names_are_imported_on_first_use() -> None:
    import foveate.primitives

    assert foveate.primitives.TSM is TSM
    with pytest.raises(AttributeError, match="no attribute 'TSMM'"):
        foveate.primitives.TSMM  # noqa: B018


def test_an_index_coded_clip_survives_the_layout_change() -> None:
    """AutoVideo reshaped (T·3, H, W) to (3, T, H, W) for 3D networks: the frames were mixed."""
    count, height, width = 4, 3, 5
    t, y, x, c = np.meshgrid(*map(np.arange, (count, height, width, 3)), indexing="ij")
    coded = (t * 60 + y * 15 + x * 3 + c).astype(np.uint8)
    clip = to_tchw(coded).transpose(0, 1)
    assert clip.shape == (3, count, height, width)
    for channel in range(3):
        for frame in range(count):
            expected = coded[frame, :, :, channel]
            np.testing.assert_array_equal(clip[channel, frame].numpy(), expected)


def test_presets_are_pipelines() -> None:
    found = pipelines.names()
    assert {"motion-patch-movinet-a0-stream-lite", "resnet3drs-small", "adafocus-uni"} <= set(found)
    for name, one in found.items():
        assert pipelines.find(name) == one
        pipelines.recipe_of(one)
    small = pipelines.recipe_of(found["resnet3drs-small"])[1].model_dump()
    from foveate.core.config import read_yaml
    from foveate.train.presets import find

    path = find("resnet3drs-small")
    assert path is not None
    assert read_yaml(path).items() <= small.items()
    assert found["motion-patch-movinet-a0-stream-lite"].preset()["look"]["name"] == "motion-patch"
    with pytest.raises(ConfigError, match="did you mean resnet3drs"):
        pipelines.find("resnet3dr")
    assert Segments().frames == 8
    assert foveate.Pipeline is Pipeline


def numbers() -> dict[str, Any]:
    """Every field of every primitive that takes a number."""
    found = {}
    for group in GROUPS:
        for kind, primitive in registered(group).items():
            for name, field in primitive.model_fields.items():
                types = {field.annotation, *get_args(field.annotation)}
                if types & {int, float}:
                    found[f"{group}/{kind}/{name}"] = field
    return found


def test_every_number_has_its_bounds_in_its_type() -> None:
    """AutoVideo's hyper-parameters were untyped: users restated their ranges."""
    found = numbers()
    assert len(found) > 50
    for path, field in found.items():
        low = [one for one in field.metadata if hasattr(one, "ge") or hasattr(one, "gt")]
        assert low, f"{path} has no bound"
        for search in (one for one in field.metadata if isinstance(one, Search)):
            for value in search.choices or (search.low, search.high):
                TypeAdapter(Annotated[(field.annotation, *field.metadata)]).validate_python(value)


def test_training_neither_exits_nor_takes_paths_apart() -> None:
    """AutoVideo called `exit()` in a base class, and split paths at slashes."""
    root = Path(foveate.__file__).parent
    for file in (
        f for part in ("data", "primitives", "train") for f in (root / part).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("exit", "quit", "sys.exit"), file
                assert not re.fullmatch(r"\w*(path|file|video)\w*\.r?split", called), file
