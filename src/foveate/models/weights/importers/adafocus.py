"""Checkpoints of AdaFocus V1 and V2 and of Uni-AdaFocus, each with temporal shifts or without.

V1's releases store their parts apart (``glancer``, ``focuser``, ``fc``, ``policy``); all arrays are
expected under the prefixes ``glancer.``, ``focuser.``, ``classifier.`` and ``focuser.policy.``, of
the form for Something-Something ``policy.``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch

from foveate.models.adafocus import Focused
from foveate.models.registry import create
from foveate.models.tsm import SHIFT_DIV
from foveate.models.weights.importers.autovideo import resnet_of
from foveate.models.weights.importers.naming import (
    check_settings,
    classes_of,
    mobilenetv2_name,
    place,
)
from foveate.models.weights.importers.registry import Imported, Outputs, checksums, importer

# Arguments of the originals that say how they are trained, or what the arrays say too.
_FREE = (
    "dataset", "batch_size", "reward", "gpu", "gamma", "policy_lr", "random_patch", "dropout",
    "hidden_dim", "hidden_state_dim", "feature_map_channels", "glance_ckpt_path", "fc_dropout",
    "stn_hidden_dim", "temporal_hidden_dim", "action_std", "modality", "partial_bn",
    "no_partialbn", "pretrain", "fc_lr5", "img_feature_dim", "tune_from", "glance_size",
    "video_div", "action_dim", "base_model", "with_glancer", "actorcritic_with_bn",
    "consensus_type", "shift",
)  # fmt: skip
_UNUSED = re.compile(r"^(global_CNN\.classifier|local_CNN\.fc|global_CNN\.fc)\.")
Rename = Callable[[str], str]


def _resnet(name: str, numbered: bool = False) -> str:
    """The original's name of a parameter of timm's ResNet."""
    name = name.replace(".layer.", ".net.")
    if numbered:  # the children of a Sequential
        name = re.sub(r"^layer(\d)", lambda found: str(int(found[1]) + 3), name)
        name = re.sub(r"^conv1", "0", name)
        name = re.sub(r"^bn1", "1", name)
    return name


def _names(
    arrays: Mapping[str, Any],
    towers: tuple[str, str],
    rest: Mapping[str, str],
    numbered: bool = False,
) -> Rename:
    """Name of the original for a name of ours.

    Args:
        arrays: By original name.
        towers: Prefixes of the glance and of the focus network.
        rest: Prefixes of ours, and those of the original.
        numbered: Whether the focus network's layers have numbers for names.
    """
    glance, focus = towers
    mobile = f"{glance}features.0.0.weight" in arrays
    apart = any(name.startswith(f"{glance}features.1.conv.4.") for name in arrays)

    def original(name: str) -> str:
        if name.startswith("glance.net."):
            inner = name.removeprefix("glance.net.")
            return glance + (mobilenetv2_name(inner, apart) if mobile else _resnet(inner))
        if name.startswith("focus.net."):
            return focus + _resnet(name.removeprefix("focus.net."), numbered)
        for ours, theirs in rest.items():
            if name.startswith(ours):
                return theirs + name.removeprefix(ours)
        return name

    return original


def _frames(x: torch.Tensor) -> torch.Tensor:
    """(B, T, 3, H, W) of the originals' (B, T * 3, H, W)."""
    frames: torch.Tensor = x.unflatten(1, (-1, 3))
    return frames


def _each(x: torch.Tensor) -> torch.Tensor:
    """Checksums (B, T, 3) of maps (B, T, ...)."""
    found: torch.Tensor = checksums(x.flatten(0, 1)).unflatten(0, x.shape[:2])
    return found


def _corner(seen: Focused) -> torch.Tensor:
    return seen.patches[..., :2, :2]


def _rows(seen: Focused) -> torch.Tensor:
    """Upper left pixels as (row, column)."""
    return seen.windows[..., :2].flip(-1).int()


def _pixels(windows: torch.Tensor) -> torch.Tensor:
    """Top, left, height, width of `xyxy`."""
    left, top, right, bottom = windows.unbind(-1)
    return torch.stack([top, left, bottom - top, right - left], -1)


def _used(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays without the classifiers that the originals leave in their backbones."""
    return {name: value for name, value in arrays.items() if not _UNUSED.match(name)}


def _count(arrays: Mapping[str, Any], name: str, axis: int, default: int) -> int:
    """Length of an axis of an array; the default where it is missing, which `place` reports."""
    shape = tuple(getattr(arrays.get(name), "shape", ()))
    return int(shape[axis]) if len(shape) > axis else default


def _focus_of(arrays: Mapping[str, Any], prefix: str) -> str:
    own = [n.removeprefix(prefix) for n in arrays if n.startswith(prefix)]
    numbered = [re.sub(r"^([4-7])\.", lambda m: f"layer{int(m[1]) - 3}.", n) for n in own]
    return resnet_of(re.sub(r"\.net\.weight$", ".weight", n) for n in numbered)


@importer("adafocus_v1")
def adafocus_v1(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build AdaFocus V1; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: The original's arguments, such as ``patch_size``.
    """
    classes = classes_of(arrays, "classifier.fc.weight", config)
    actions = _count(arrays, "focuser.policy.policy.actor.0.weight", 0, 49)
    settings = _sizes(config, 128) | {
        "focus": _focus_of(arrays, "focuser.net."),
        "actions": actions,
        "hidden": _count(arrays, "classifier.fc.weight", 1, 1024),
    }
    check_settings(
        config,
        {"policy_conv": True, "continuous": False, "consensus": "gru"},
        (*_FREE, "num_segments"),
    )
    model = create("adafocus-v1", num_classes=classes, **settings)
    policy = "focuser.policy.policy."
    arrays = {n: v for n, v in arrays.items() if not n.startswith("focuser.policy.policy_old.")}
    place(model, arrays, _names(arrays, ("glancer.net.", "focuser.net."), {
        "glance_head.": "glancer.net.classifier.1.", "focus_head.": "focuser.net.fc.",
        "policy.encoder.": f"{policy}state_encoder.", "policy.gru.": f"{policy}gru.",
        "policy.actor.": f"{policy}actor.0.", "policy.critic.": f"{policy}critic.0.",
    }))  # fmt: skip

    def run(net: Any, images: torch.Tensor) -> Outputs:
        seen = net.steps(_frames(images))
        chosen = seen.scores.argmax(-1)
        return {
            "global_feature": seen.glance,
            "global_map_checksum": _each(seen.maps),
            "policy_probs": seen.scores.softmax(-1),
            "action": chosen.int(),
            "patch_topleft": _rows(seen),
            "action_grid_topleft": net.corners(torch.arange(actions)).int(),
            "patch_checksum": _each(seen.patches),
            "local_feature": seen.focus,
            "glancer_logits": net.glance_head(seen.glance),
            "prediction": seen.logits[:, -1],
            "logits": seen.logits,
        }

    return Imported(model, run, ("images",), "adafocus-v1", settings)


@importer("adafocus_v1_tsm")
def adafocus_v1_tsm(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build AdaFocus V1 for Something-Something; see ``from_arrays``.

    Args:
        arrays: By original name, the policy's with the prefix ``policy.``.
        **config: The original's arguments, such as ``patch_size`` and ``num_segments_glancer``.
    """
    classes = classes_of(arrays, "classifier.weight", config)
    settings = _sizes(config, 144) | {
        "focus": _focus_of(arrays, "focuser.net.base_model."),
        "glances": int(config.pop("num_segments_glancer", 8)),
        "hidden": _count(arrays, "policy.actor.0.weight", 1, 1024),
        "shift_div": int(config.pop("shift_div", SHIFT_DIV)),
    }
    check_settings(
        config,
        {"policy_conv": True, "ppo_continuous": True, "is_shift": True, "temporal_pool": False,
         "shift_place": "blockres", "non_local": False, "video_div": 1},
        (*_FREE, "num_segments_focuser"),
    )  # fmt: skip
    model = create("adafocus-v1-tsm", num_classes=classes, **settings)
    place(model, arrays, _names(arrays, ("glancer.net.", "focuser.net.base_model."), {
        "glance_head.": "glancer.net.classifier.", "focus_head.": "classifier.",
        "policy.encoder.": "policy.state_encoder.", "policy.actor.": "policy.actor.0.",
        "policy.critic.": "policy.critic.0.",
    }, numbered=True))  # fmt: skip

    def run(net: Any, glance: torch.Tensor, focus: torch.Tensor) -> Outputs:
        seen = net.steps(_frames(focus), _frames(glance))
        return {
            "global_map_checksum": _each(seen.maps),
            "global_logits": net.glance_head(seen.glance),
            "policy_mean": seen.actions.unsqueeze(1),
            "patch_topleft": _rows(seen)[:, :1],
            "patch_checksum": _each(seen.patches),
            "local_logits": net.focus_head(seen.focus),
            "prediction": seen.logits,
        }

    return Imported(model, run, ("glance", "focus"), "adafocus-v1-tsm", settings)


@importer("adafocus_v2")
def adafocus_v2(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build AdaFocus V2; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: The original's arguments, such as ``patch_size``.
    """
    arrays = _used(arrays)
    classes = classes_of(arrays, "classifier.classifiers.0.1.weight", config)
    mobile = any(name.startswith("global_CNN.features.") for name in arrays)
    settings = _sizes(config, 128) | {
        "focus": _focus_of(arrays, "local_CNN."),
        "exits": _steps(arrays, "classifier.classifiers."),
        "hidden": _count(arrays, "policy_stn.fc.0.weight", 1, 2048),
        "pooled": _count(arrays, "classifier.mlp.layers.0.weight", 0, 4096),
    }
    if not mobile:
        settings |= {"glance": _focus_of(arrays, "global_CNN."), "glance_size": 96}
    check_settings(config, {}, (*_FREE, "num_segments", "glance_arch"))
    model = create("adafocus-v2", num_classes=classes, **settings)
    heads = {
        f"{ours}.": f"{theirs}_fc{_dot(arrays, theirs)}."
        for ours, theirs in (("glance_head", "global_CNN"), ("focus_head", "local_CNN"))
    }
    place(model, arrays, _names(arrays, ("global_CNN.", "local_CNN."), heads | {
        "policy.actor.": "policy_stn.fc.0.", "policy.": "policy_stn.",
        "classifier.mlp.": "classifier.mlp.layers.", "classifier.heads.": "classifier.classifiers.",
    }))  # fmt: skip

    def run(net: Any, images: torch.Tensor) -> Outputs:
        seen = net.steps(_frames(images))
        both = torch.cat([seen.glance, seen.focus], -1)
        return {
            "global_feature": seen.glance,
            "policy_xy": seen.actions,
            "patch_checksum": _each(seen.patches),
            "patch_corner": _corner(seen),
            "local_feature": seen.focus,
            "classifier_hidden_checksum": _each(net.classifier.hidden(both)),
            "logits": seen.logits,
            "global_logits": net.glance_head(seen.glance),
            "local_logits": net.focus_head(seen.focus),
            "prediction": seen.logits[:, -1],
        }

    return Imported(model, run, ("images",), "adafocus-v2", settings)


@importer("adafocus_v2_tsm")
def adafocus_v2_tsm(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build AdaFocus V2 for Something-Something and Jester; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: The original's arguments, such as ``patch_size`` and ``num_segments`` of the
            glance.
    """
    classes = classes_of(arrays, "global_CNN.new_fc.weight", config)
    settings = _sizes(config, 144) | {
        "focus": _focus_of(arrays, "local_CNN.base_model."),
        "glances": int(config.pop("num_segments", 8)),
        "shift_div": int(config.pop("shift_div", SHIFT_DIV)),
    }
    check_settings(config, _TSM, _FREE)
    model = create("adafocus-v2-tsm", num_classes=classes, **settings)
    place(model, arrays, _names(arrays, _TOWERS, _HEADS | {"policy.encoder.": "policy_stn."}))

    def run(net: Any, glance: torch.Tensor, focus: torch.Tensor) -> Outputs:
        seen = net.steps(_frames(focus), _frames(glance))
        return {
            "global_map_checksum": _each(seen.maps),
            "policy_xy": seen.actions,
            "patch_checksum": _each(seen.patches),
            "global_logits": net.glance_head(seen.glance),
            "local_logits": net.focus_head(seen.focus),
            "logits": seen.logits[:, -1],
            "global_reg_logits": net.glance_trainer(seen.glance).mean(1),
            "local_reg_logits": net.focus_trainer(seen.focus).mean(1),
        }

    return Imported(model, run, ("glance", "focus"), "adafocus-v2-tsm", settings)


@importer("uni_adafocus")
def uni_adafocus(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build Uni-AdaFocus; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: The original's arguments, such as ``patch_size`` and ``temperature``.
    """
    arrays = _used(arrays)
    classes = classes_of(arrays, "aux_fc.weight", config)
    settings = _sizes(config, 128) | {
        "focus": _focus_of(arrays, "local_CNN."),
        "glances": _steps(arrays, "classifier.global_classifiers."),
        "focuses": _steps(arrays, "classifier.local_classifiers."),
        "pooled": _count(arrays, "classifier.global_mlp.layers.0.weight", 0, 4096),
        "temperature": float(config.pop("temperature", 1.0)),
    }
    free = ("num_segments", "num_glance_segments", "num_focus_segments", "glance_arch")
    check_settings(config, {}, (*_FREE, *free))
    model = create("uni-adafocus", num_classes=classes, **settings)
    place(model, arrays, _names(arrays, ("global_CNN.", "local_CNN."), _POLICIES | {
        "glance_head.": f"global_CNN_fc{_dot(arrays, 'global_CNN')}.",
        "focus_head.": f"local_CNN_fc{_dot(arrays, 'local_CNN')}.",
        "classifier.glance.mlp.": "classifier.global_mlp.layers.",
        "classifier.glance.heads.": "classifier.global_classifiers.",
        "classifier.focus_mlp.": "classifier.local_mlp.layers.",
        "classifier.focus_heads.": "classifier.local_classifiers.",
    }))  # fmt: skip

    def run(net: Any, images: torch.Tensor) -> Outputs:
        frames = _frames(images)
        seen = net.steps(frames)
        indices = net.glance_frames(frames.shape[1])
        scores = net.temporal_policy(seen.glance)
        return _uni(net, seen) | {
            "glance_indices": torch.tensor(indices, dtype=torch.int32).expand(len(frames), -1),
            "policy_density_sampling": (scores / net.temperature).softmax(1),
            "policy_yxhw_glance": net.spatial_policy(seen.maps),
            "window_pixels": _pixels(seen.windows),
            "logits": seen.logits,
            "prediction": seen.logits[:, -1],
        }

    return Imported(model, run, ("images",), "uni-adafocus", settings)


@importer("uni_adafocus_tsm")
def uni_adafocus_tsm(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build Uni-AdaFocus for Something-Something and Jester; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: The original's arguments, such as ``patch_size`` and ``num_focus_segments``.
    """
    arrays = _used(arrays)
    classes = classes_of(arrays, "aux_fc.weight", config)
    settings = _sizes(config, 128) | {
        "focus": _focus_of(arrays, "local_CNN.base_model."),
        "glances": int(config.pop("num_glance_segments", 8)),
        "focuses": int(config.pop("num_focus_segments", 12)),
        "shift_div": int(config.pop("shift_div", SHIFT_DIV)),
    }
    check_settings(config, _TSM, (*_FREE, "num_input_focus_segments"))
    model = create("uni-adafocus-tsm", num_classes=classes, **settings)
    place(model, arrays, _names(arrays, _TOWERS, _HEADS | _POLICIES))

    def run(net: Any, glance: torch.Tensor, images: torch.Tensor) -> Outputs:
        seen = net.steps(_frames(images), _frames(glance))
        return _uni(net, seen) | {
            "policy_density_sampling": seen.density,
            "window_pixels": _pixels(seen.windows[:, 0]),
            "logits": seen.logits[:, -1],
            "exit_logits": seen.logits,
            "global_reg_logits": net.glance_trainer(seen.glance).mean(1),
            "local_reg_logits": net.focus_trainer(seen.focus).mean(1),
        }

    return Imported(model, run, ("glance", "images"), "uni-adafocus-tsm", settings)


def _uni(net: Any, seen: Focused) -> dict[str, Any]:
    """Outputs that both forms of Uni-AdaFocus have."""
    assert seen.frames is not None
    return {
        "global_feature": seen.glance,
        "global_map_checksum": _each(seen.maps),
        "global_logits": net.glance_head(seen.glance),
        "policy_density": seen.density,
        "frame_indices": seen.frames.int(),
        "policy_yxhw": seen.actions,
        "patch_checksum": _each(seen.patches),
        "patch_corner": _corner(seen),
        "local_feature": seen.focus,
        "local_logits": net.focus_head(seen.focus),
        "spatial_aux_logits": seen.window_logits,
    }


_TOWERS = ("global_CNN.base_model.", "local_CNN.base_model.")
_HEADS = {
    "glance_head.": "global_CNN.new_fc.", "focus_head.": "local_CNN.new_fc.",
    "glance_trainer.": "global_CNN.new_new_fc.", "focus_trainer.": "local_CNN.new_new_fc.",
}  # fmt: skip
_POLICIES = {
    "spatial_policy.layers.": "spatial_policy.encoder.",
    "temporal_policy.layers.": "temporal_policy.Tconv.", "window_head.": "aux_fc.",
}  # fmt: skip
_TSM = {"temporal_pool": False, "non_local": False, "shift_place": "blockres", "shift": True,
        "consensus_type": "avg"}  # fmt: skip


def _sizes(config: dict[str, Any], patch: int) -> dict[str, Any]:
    """Sides of patches and frames."""
    return {
        "patch": int(config.pop("patch_size", patch)),
        "size": int(config.pop("input_size", 224)),
    }


def _steps(arrays: Mapping[str, Any], prefix: str) -> int:
    """Number of classifiers, one for each step."""
    return max(1, len({n.removeprefix(prefix).partition(".")[0]
                       for n in arrays if n.startswith(prefix)}))  # fmt: skip


def _dot(arrays: Mapping[str, Any], network: str) -> str:
    """The place of a head behind its dropout."""
    return ".1" if f"{network}_fc.1.weight" in arrays else ""
