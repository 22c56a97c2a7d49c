"""Checkpoints of AdaMML (arXiv 2105.05165)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from foveate.core.errors import ModelError
from foveate.models.adamml import CHANNELS, PROXIES
from foveate.models.registry import create
from foveate.models.weights.importers.autovideo import resnet_of
from foveate.models.weights.importers.naming import (
    check_settings,
    classes_of,
    mobilenetv2_name,
    place,
)
from foveate.models.weights.importers.registry import Imported, Outputs, importer

# Arguments of the original that say how it is trained, or what the arrays say too.
_FREE = ("dropout", "num_segments", "rng_policy", "rng_threshold", "unimodality_pretrained",
         "input_channels", "depth", "learnable_lf_weights")  # fmt: skip


@importer("adamml")
def adamml(arrays: Mapping[str, Any], **config: Any) -> Imported:
    """Build AdaMML; see ``from_arrays``.

    Args:
        arrays: By original name.
        **config: The original's arguments; ``modality`` lists what the networks and the policy
            take, such as ``["rgb", "flow", "rgbdiff"]``.

    Raises:
        ModelError: ``modality`` is missing.
    """
    listed = config.pop("modality", None)
    if not listed:
        raise ModelError("modality= is missing", "for example modality=['rgb', 'sound']")
    modalities = tuple(name for name in listed if name != "rgbdiff" or "flow" not in listed)
    sound = modalities.index("sound") if "sound" in modalities else None
    visual = next((at for at, name in enumerate(modalities) if name != "sound"), None)
    head = f"main_net.nets.{visual}.fc.weight"
    if visual is None:
        head = f"main_net.nets.{sound}.classifier.1.weight"
    classes = classes_of(arrays, head, config)
    settings: dict[str, Any] = {"modalities": modalities, "frames": int(config.pop("groups", 8))}
    if visual is not None:
        prefix = f"main_net.nets.{visual}."
        settings["visual"] = resnet_of(
            name.removeprefix(prefix) for name in arrays if name.startswith(prefix)
        )
    check_settings(
        config,
        {"causality_modeling": "lstm", "fusion_point": "logits", "pooling_method": "max",
         "without_t_stride": False},
        _FREE,
    )  # fmt: skip
    model = create("adamml", num_classes=classes, **settings)
    place(model, arrays, lambda name: _original(name, modalities))

    def run(net: Any, **inputs: torch.Tensor) -> Outputs:
        x = {name: _segments(net, name, value) for name, value in inputs.items()}
        policy_logits = net.policy(net.views(x))
        use = net.decide(policy_logits)
        found = net.recognise(x)  # the original computes all of them, and multiplies by zero
        segments = net.fuse(found, use)
        return {
            "policy_logits": policy_logits.movedim(0, 2),
            "decisions": use.int(),
            "modality_logits": found.movedim(0, 2),
            "segment_logits": segments.transpose(0, 1),
            "logits": segments.mean(1),
            "logits_all_on": net.fuse(found, torch.ones_like(use)).mean(1),
        }

    inputs = tuple(dict.fromkeys((*modalities, *(PROXIES.get(m, m) for m in modalities))))
    return Imported(model, run, inputs, "adamml", settings)


def _segments(net: Any, name: str, value: torch.Tensor) -> torch.Tensor:
    """(B, S, F, C, H, W) of the original's (B, S * F * C, H, W)."""
    frames = 1 if name == "sound" else net.frames
    found: torch.Tensor = value.unflatten(1, (-1, frames, CHANNELS[name]))
    return found


def _original(name: str, modalities: tuple[str, ...]) -> str:
    """The original's name of a parameter of ours."""
    if name == "free_weights":
        return "main_net.lf_weights"
    found = re.fullmatch(r"nets\.(\w+)\.(net|fc)\.(.+)", name)
    if found is not None:
        modality, part, leaf = found.groups()
        prefix = f"main_net.nets.{modalities.index(modality)}."
        if part == "fc":
            return prefix + ("classifier.1." if modality == "sound" else "fc.") + leaf
        return prefix + _network(leaf, mobile=modality == "sound")
    found = re.fullmatch(r"policy\.nets\.(\d+)\.net\.(.+)", name)
    if found is not None:
        leaf = _network(found[2], mobile=True, apart=True)
        leaf = re.sub(r"^features\.18\.", "conv.", leaf)
        return f"policy_net.joint_net.nets.{found[1]}.{leaf}"
    name = re.sub(r"^policy\.joint\.", "policy_net.joint_net.joint.", name)
    name = re.sub(r"^policy\.heads\.", "policy_net.fcs.", name)
    return re.sub(r"^policy\.lstm\.", "policy_net.lstm.", name)


def _network(name: str, mobile: bool, apart: bool = False) -> str:
    """Name inside a network; stages behind a pooling over time have one more level."""
    name = re.sub(r"^(layer\d|blocks\.\d)\.1\.(?=\d+\.)", r"\1.", name)
    return mobilenetv2_name(name, apart) if mobile else name
