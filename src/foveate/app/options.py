"""From options to a preset: the command's own, a YAML file, and `--set`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.core import ConfigError
from foveate.core.budget import parse_budget
from foveate.core.config import apply_sets, build, read_yaml
from foveate.media.limits import Limits
from foveate.policy.build import ALIASES
from foveate.policy.build import LOOKS as SPECS

if TYPE_CHECKING:
    from foveate.live.outputs import EventConfig

LOOKS = ("full", *(name for name in SPECS if name != "groups"))
LOOKS_OF_TRAINING = tuple(n for n in LOOKS if SPECS[ALIASES.get(n, n)].trains)


def look_named(name: str, known: tuple[str, ...] = LOOKS, option: str = "--look") -> str:
    """The name of a look in presets.

    Raises:
        ConfigError: It is unknown or not allowed here.
    """
    if name in known:
        return ALIASES.get(name, name)
    if name == "oracle":
        raise ConfigError(
            f"{option} oracle: needs labelled videos, because it uses the true class",
            "foveate bench --looks full,oracle measures it",
        )
    raise ConfigError(f"{option} {name}: unknown", f"one of: {', '.join(known)}")


def changes(
    config: Path | None,
    sets: Sequence[str],
    look: str | None,
    budget: str | None,
    top_k: int | None,
    order: str | None = None,
    no_unknown: bool = False,
    own: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The user's changes to the preset, as (preset fields, limits).

    The file is applied first, then the options (`own` are those of one command), then `--set`.

    Raises:
        ConfigError: An option or setting that cannot be read.
    """
    values: dict[str, Any] = read_yaml(config) if config else {}
    if look is not None:
        look = look_named(look)
        values["look"] = {"name": look}
        if look == "keyframes-first":
            # Without an early decision the frames between key frames would always be decoded.
            values.setdefault("decide", {"name": "confident"})
    if order is not None:
        values["look"] = {"name": "groups", "order": order}
    if budget is not None:
        values["budget"] = parse_budget(budget)
    if top_k is not None:
        values["top_k"] = top_k
    if no_unknown:
        values["unknown"] = False
    for key, value in (own or {}).items():
        known = values.get(key)
        values[key] = {**known, **value} if isinstance(known, dict) else value
    values = apply_sets(values, sets)
    limits = values.pop("limits", {})
    if not isinstance(limits, dict):
        raise ConfigError("limits: must be a mapping", f"known: {', '.join(_limit_names())}")
    return values, limits


def event_config(values: dict[str, Any]) -> EventConfig:
    """The settings of events; their sections are removed from the changes to the preset.

    Args:
        values: Preset fields from `changes`, and the sections `events`, `clips` and `sinks`.

    Raises:
        ConfigError: A setting that is unknown or out of range.
    """
    from foveate.live.outputs import EventConfig

    sections = {name: values.pop(name) for name in EventConfig.model_fields if name in values}
    return build(EventConfig, sections, "settings")


def _limit_names() -> list[str]:
    return sorted(Limits.model_fields)
