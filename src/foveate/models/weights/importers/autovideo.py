"""Checkpoints of AutoVideo (arXiv 2108.04212): TSN, TSM, C3D, I3D, ECO, R3D, R(2+1)D.

The family is recognised by the names of the arrays.
The same names are used by the projects that AutoVideo is based on: the 3D ResNets of Hara et al.,
ECO's
PyTorch code, the TSN and TSM code with torchvision's ResNets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import nn

from foveate.core.errors import ModelError, WeightsError
from foveate.models.r3d import DEPTHS
from foveate.models.registry import create
from foveate.models.weights.importers.naming import (
    check_settings,
    classes_of,
    place,
    unknown_network,
)
from foveate.models.weights.importers.registry import Imported, Outputs, checksums, importer

_IN_BLOCK = re.compile(r"\.layer\d\.\d+\.net\.")  # a block after a shift
_SHIFTED = re.compile(r"base_model\.layer\d\.\d+\.(conv1\.net|net\.conv1)\.")
_RESNETS: dict[str, tuple[tuple[int, ...], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
    "resnet152": ((3, 8, 36, 3), True),
}
Depth = TypeVar("Depth", int, str)
Build = Callable[[Mapping[str, Any], dict[str, Any]], Imported]


@importer("autovideo")
def autovideo(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build one of the seven families; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: The arguments of the original's constructor. Those without effect at inference
            (dropout, partial BatchNorm, initial weights) are ignored; the number of classes is read
            from the arrays and must agree.
    """
    family = family_of(arrays)
    return _FAMILIES[family](arrays, dict(config))


def family_of(arrays: Mapping[str, Any]) -> str:
    """Recognise the family by the names of the arrays.

    Raises:
        WeightsError: No family has such names.
    """
    # Two names each, since one of them may be missing.
    for family, marks in (
        ("c3d", ("fc8.weight", "conv3b.weight")),
        ("i3d", ("conv3d_0c_1x1.conv3d.weight", "conv3d_1a_7x7.conv3d.weight")),
        ("eco", ("base_model.conv1_7x7_s2.weight", "base_model.conv2_3x3.weight")),
        ("r2plus1d", ("conv1_s.weight", "layer1.0.conv1_s.weight")),
    ):
        if any(mark in arrays for mark in marks):
            return family
    if any(_SHIFTED.match(name) for name in arrays):
        return "tsm"
    if "base_model.fc.weight" not in arrays and (
        "base_model.conv1.weight" in arrays or "base_model.layer1.0.conv1.weight" in arrays
    ):
        return "tsn"
    if (
        "layer1.0.conv1.weight" in arrays
        and getattr(arrays["layer1.0.conv1.weight"], "ndim", 0) == 5
    ):
        return "r3d"
    raise unknown_network("AutoVideo", arrays)


def _c3d(arrays: Mapping[str, Any], config: dict[str, Any]) -> Imported:
    classes = classes_of(arrays, "fc8.weight", config)
    check_settings(config, {}, ("pretrained",))
    model = create("c3d", num_classes=classes)
    place(model, arrays, lambda n: n.removeprefix("convs.").replace("classifier", "fc8"))

    def run(net: Any, clip: torch.Tensor) -> Outputs:
        fc6, fc7 = net.dense(clip)
        return {
            "logits": net.classify(fc7),
            "fc6_checksum": checksums(fc6),
            "fc7_checksum": checksums(fc7),
        }

    return Imported(model, run, arch="c3d")


def _i3d(arrays: Mapping[str, Any], config: dict[str, Any]) -> Imported:
    classes = classes_of(arrays, "conv3d_0c_1x1.conv3d.weight", config)
    channels = _channels(arrays, config)
    check_settings(config, {}, ("dropout_prob", "name"))

    def original(name: str) -> str:
        if name.startswith("classifier."):
            return name.replace("classifier", "conv3d_0c_1x1.conv3d")
        # The pooling of the fourth branch has index 0 in the original.
        name = name.removeprefix("layers.").replace("branch_3.", "branch_3.1.")
        return name.replace(".conv.", ".conv3d.").replace(".bn.", ".batch3d.")

    settings = {} if channels == 3 else {"channels": channels}
    model = create("i3d", num_classes=classes, **settings)
    place(model, arrays, original, _flat_classifier)

    def run(net: Any, clip: torch.Tensor) -> Outputs:
        maps = net.maps(clip)
        kept = {f"{n}_checksum": checksums(maps[n]) for n in ("mixed_3c", "mixed_4f", "mixed_5c")}
        return {"logits": net(clip), **kept}

    return Imported(model, run, arch="i3d", settings=settings)


def _channels(arrays: Mapping[str, Any], config: dict[str, Any]) -> int:
    """Input channels of I3D: 3 for RGB, 2 for flow; the configuration must agree."""
    stem = arrays.get("conv3d_1a_7x7.conv3d.weight")
    if stem is None or getattr(stem, "ndim", 0) != 5 or stem.shape[1] not in (2, 3):
        return 3  # listed with all other differences
    found = "rgb" if stem.shape[1] == 3 else "flow"
    said = config.pop("modality", found)
    if said not in ("rgb", "flow"):
        raise ModelError(f"modality={said!r} is not supported, only 'rgb' and 'flow'")
    if said != found:
        raise WeightsError(f"modality={said!r}, but the arrays are those of {found!r}")
    return int(stem.shape[1])


def _flat_classifier(name: str, value: torch.Tensor) -> torch.Tensor:
    """A 1x1x1 convolution as a linear layer."""
    return value.flatten(1) if name == "classifier.weight" and value.ndim == 5 else value


_ECO_ROLES = {
    "one": "1x1",
    "three_reduce": "3x3_reduce",
    "three": "3x3",
    "double_reduce": "double_3x3_reduce",
    "double_1": "double_3x3_1",
    "double_2": "double_3x3_2",
    "pool_proj": "pool_proj",
}
_ECO_STEM = {
    "conv1": "conv1_7x7_s2",
    "conv2_reduce": "conv2_3x3_reduce",
    "conv2": "conv2_3x3",
    "inception_3c_reduce": "inception_3c_double_3x3_reduce",
    "inception_3c_1": "inception_3c_double_3x3_1",
}
_ECO_BLOCK = {"conv1": "1", "bn1": "1_bn", "conv2": "2", "down": "down", "bn": "bn"}


def _eco_name(name: str) -> str:
    """The original's name of a parameter."""
    path, leaf = name.rsplit(".", 1)
    parts = path.split(".")
    if path == "classifier":
        return f"new_fc.{leaf}"
    if path in ("res3a", "res3a_bn"):
        theirs = {"res3a": "res3a_2", "res3a_bn": "res3a_bn"}[path]
    elif parts[0] == "residual":
        theirs = f"{parts[1]}_{_ECO_BLOCK[parts[2]]}"
    elif parts[0] == "inception":
        theirs = f"{parts[1]}_{_ECO_ROLES[parts[2]]}" + ("_bn" if parts[3] == "bn" else "")
    else:
        theirs = _ECO_STEM[parts[0]] + ("_bn" if parts[1] == "bn" else "")
    return f"base_model.{theirs}.{leaf}"


def _eco(arrays: Mapping[str, Any], config: dict[str, Any]) -> Imported:
    classes = classes_of(arrays, "new_fc.weight", config)
    full = "base_model.inception_5b_1x1.weight" in arrays
    name = "ECOfull" if full else "ECO"
    check_settings(
        config,
        {"modality": "RGB", "base_model": name, "consensus_type": "identity"},
        (
            "num_segments",
            "pretrained_parts",
            "dropout",
            "partial_bn",
            "new_length",
            "before_softmax",
        ),
    )
    arch = "eco-full" if full else "eco-lite"
    model = create(arch, num_classes=classes)
    place(model, arrays, _eco_name)

    def run(net: Any, clip: torch.Tensor) -> Outputs:
        features = net.features(_frames_apart(clip))[:, 0]
        return {"logits": net.classify(features), "feature": features}

    return Imported(model, run, arch=arch)


def _frames_apart(clip: torch.Tensor) -> torch.Tensor:
    """Frames concatenated along the channels (B, T * 3, H, W) as a clip (B, 3, T, H, W)."""
    if clip.ndim != 4 or clip.shape[1] % 3:
        raise ModelError(f"a clip has the shape (B, T * 3, H, W), not {tuple(clip.shape)}")
    frames: torch.Tensor = clip.unflatten(1, (-1, 3))
    return frames.transpose(1, 2)


def _hara(arch: str, original: Callable[[str], str]) -> Build:
    """Importer of R3D and R(2+1)D, which differ only in their names."""

    def build(arrays: Mapping[str, Any], config: dict[str, Any]) -> Imported:
        classes = classes_of(arrays, "fc.weight", config)
        settings = {
            ours: config.pop(theirs)
            for theirs, ours in (
                ("model_depth", "depth"),
                ("conv1_t_size", "stem_frames"),
                ("conv1_t_stride", "stem_stride"),
            )
            if theirs in config
        }
        settings.setdefault("depth", _depth_of(arrays))
        if "no_max_pool" in config:
            settings["max_pool"] = not config.pop("no_max_pool")
        settings["width"] = int(64 * config.pop("widen_factor", 1.0))
        check_settings(config, {"n_input_channels": 3, "shortcut_type": "B"})
        model = create(arch, num_classes=classes, **settings)
        place(model, arrays, original)

        def run(net: Any, clip: torch.Tensor) -> Outputs:
            maps = net.maps(clip)
            kept = {f"{name}_checksum": checksums(value) for name, value in maps.items()}
            features = maps["layer4"].mean((2, 3, 4))
            return {"logits": net.classify(features), **kept}

        return Imported(model, run, arch=arch, settings=settings)

    return build


def _depth_of(arrays: Mapping[str, Any]) -> int:
    """The depth of a 3D ResNet, by its numbers of blocks.

    Raises:
        WeightsError: No depth has these numbers.
    """
    blocks = {m.groups() for m in map(re.compile(r"layer(\d)\.(\d+)\.").match, arrays) if m}
    counts = tuple(sum(stage == str(i) for stage, _ in blocks) for i in (1, 2, 3, 4))
    depth = _nearest(DEPTHS, counts, "layer1.0.conv3.weight" in arrays)
    if depth is None:
        raise WeightsError(f"a 3D ResNet of unknown depth (blocks {counts})", "give model_depth=")
    return depth


def _nearest(
    known: Mapping[Depth, tuple[tuple[int, ...], bool]], counts: tuple[int, ...], bottleneck: bool
) -> Depth | None:
    """The depth with these numbers of blocks, or up to two more or fewer; None otherwise."""
    off = {
        depth: sum(abs(a - b) for a, b in zip(blocks, counts, strict=True))
        for depth, (blocks, wide) in known.items()
        if wide == bottleneck
    }
    best = min(off, key=lambda depth: off[depth], default=None)
    return best if best is not None and off[best] <= 2 and all(counts) else None


def _r3d_name(name: str) -> str:
    return name.replace("classifier.", "fc.")


def _r2plus1d_name(name: str) -> str:
    """Map ``conv1.{spatial, bn, temporal}`` to ``conv1_s``, ``bn1_s`` and ``conv1_t``."""
    name = re.sub(r"conv(\d)\.spatial", r"conv\1_s", name)
    name = re.sub(r"conv(\d)\.temporal", r"conv\1_t", name)
    name = re.sub(r"conv(\d)\.bn", r"bn\1_s", name)
    return name.replace("classifier.", "fc.")


def _paired_norms(arrays: Mapping[str, Any]) -> Callable[[str], str]:
    """Names of R(2+1)D, where the norm after a separated convolution is ``bn1_t``."""

    def original(name: str) -> str:
        theirs = _r2plus1d_name(name)
        behind = re.sub(r"(^|\.)bn(\d)\.", r"\1bn\2_t.", theirs)
        return behind if behind in arrays else theirs

    return original


def _r2plus1d(arrays: Mapping[str, Any], config: dict[str, Any]) -> Imported:
    return _hara("r2plus1d", _paired_norms(arrays))(arrays, config)


def _segments(arch: str) -> Build:
    """Importer of TSN and TSM over torchvision's ResNets."""

    def build(arrays: Mapping[str, Any], config: dict[str, Any]) -> Imported:
        classes = classes_of(arrays, "new_fc.weight", config)
        backbone = config.pop("base_model", None) or resnet_of(
            name.removeprefix("base_model.") for name in arrays
        )
        settings: dict[str, Any] = {"backbone": backbone}
        if arch == "tsm":
            settings |= shift_settings(arrays, config)
        check_settings(
            config,
            {"modality": "RGB", "consensus_type": "avg", "is_shift": arch == "tsm",
             "non_local": False, "temporal_pool": False, "new_length": None,
             "before_softmax": True},
            ("num_segments", "dropout", "img_feature_dim", "partial_bn", "pretrain", "crop_num",
             "print_spec", "fc_lr5")
            + (("shift_div", "shift_place") if arch == "tsn" else ()),
        )  # fmt: skip
        model: nn.Module = create(arch, num_classes=classes, **settings)

        def original(name: str) -> str:
            name = name.replace("classifier.", "new_fc.").replace("backbone.", "base_model.")
            return name.replace(".layer.", ".net.")

        place(model, arrays, original)

        def run(net: Any, clip: torch.Tensor) -> Outputs:
            frame_logits = net.classify(net.features(_frames_apart(clip)))
            return {"logits": frame_logits.mean(1), "frame_logits": frame_logits}

        kept = {key: value for key, value in settings.items() if key != "backbone"}
        return Imported(model, run, arch=f"{arch}:{backbone}", settings=kept)

    return build


def shift_settings(arrays: Mapping[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """TSM's arguments that are not the defaults: position and fraction of the shift.

    The names of the arrays determine the position; the configuration must agree.
    """
    found = "block" if any(_IN_BLOCK.search(name) for name in arrays) else "blockres"
    said = config.pop("shift_place", found)
    if said != found:
        raise WeightsError(f"shift_place={said!r}, but the arrays are those of {found!r}")
    share = config.pop("shift_div", 8)
    settings: dict[str, Any] = {} if found == "blockres" else {"shift_place": found}
    return settings if share == 8 else {**settings, "shift_div": share}


def resnet_of(names: Iterable[str]) -> str:
    """Name of a ResNet, by its numbers of blocks.

    Args:
        names: Names of its arrays, as in torchvision's ResNets.

    Raises:
        WeightsError: Unknown depth.
    """
    pattern = re.compile(r"layer(\d)\.(\d+)\.(?:net\.)?conv(\d)\.")
    matches = [match for match in map(pattern.match, names) if match]
    blocks = {match.groups()[:2] for match in matches}
    counts = tuple(sum(stage == str(i) for stage, _ in blocks) for i in (1, 2, 3, 4))
    bottleneck = any(match[3] == "3" for match in matches)
    found = _nearest(_RESNETS, counts, bottleneck)
    if found is None:
        raise WeightsError(f"a ResNet of unknown depth (blocks {counts})")
    return found


_FAMILIES: dict[str, Build] = {
    "c3d": _c3d,
    "i3d": _i3d,
    "eco": _eco,
    "r3d": _hara("r3d", _r3d_name),
    "r2plus1d": _r2plus1d,
    "tsn": _segments("tsn"),
    "tsm": _segments("tsm"),
}
