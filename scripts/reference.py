"""Reference pages that are generated from the code: the command line, settings and pipelines.

    python scripts/reference.py command     # prints the page
    python scripts/reference.py settings
    python scripts/reference.py pipelines

The documentation site builds them with `docs_hooks.py`, so they cannot fall behind the code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from foveate import Limits, Pipeline, specs
from foveate.app.main import app
from foveate.live.camera import CameraSettings
from foveate.live.outputs import EventConfig
from foveate.media import Decoding
from foveate.policy.build import DECISIONS, LOOKS
from foveate.primitives.base import GROUPS, registered
from foveate.search.architecture import ArchitectureConfig
from foveate.search.scaling import ScalingConfig
from foveate.train.api import RECIPES, find_recipe

EVENTS = {name: field.annotation for name, field in EventConfig.model_fields.items()} | {
    "cams.yaml": CameraSettings
}
SEARCHES = {"architecture": ArchitectureConfig, "scaling": ScalingConfig}


def command() -> str:
    """The page of the command line: every command with its arguments, options and defaults."""
    lines = [
        "# Command line",
        "",
        "```text",
        "foveate COMMAND [INPUT...] [--option VALUE]... [--set path.key=value]...",
        "```",
        "",
        "Positional arguments are what is acted on: media files, or a folder of labelled videos. "
        "Everything else is an option. Settings of a preset or recipe are changed with `--config "
        "FILE.yaml` and `--set`; they are listed under [Settings](settings.md). `--` ends the "
        "options. Exit codes: 0 done, 1 an input failed, 2 usage or configuration, "
        "130 interrupted.",
        "",
    ]
    for words, found in _commands(typer.main.get_command(app), ("foveate",)):
        lines += [f"## `{' '.join(words)}`", "", found.help or "", ""]
        rows = [row for row in map(_parameter, found.params) if row is not None]
        if rows:
            lines += ["| argument | value | default | description |", "|---|---|---|---|"]
            lines += [*rows, ""]
    return "\n".join(lines)


def settings() -> str:
    """The page of the settings: presets, looks, decisions, recipes and limits."""
    preset = ("model", "engine", "precision", "window", "cut_threshold", "top_k", "none_below")
    lines = [
        "# Settings",
        "",
        "`foveate predict --print-config` prints a preset as YAML, `foveate train --print-config` "
        "the settings of a recipe; the output is a valid `--config` file. `--set look.rate=2` "
        "changes one value. In Python they are keyword arguments: `foveate.load(model, "
        'look={"name": "uniform", "rate": 2})`, `foveate.train(videos, out=..., epochs=5)`. A '
        "setting that a policy or recipe does not have is refused, with the nearest valid name.",
        "",
        "## Preset",
        "",
        *_table(specs.Preset, names=preset),
        "### `budget`",
        "",
        "`--budget 3fps`, `100MMAC/s`, `2ms/frame`; for a cascade `5GMAC` or `20ms`.",
        "",
        *_table(specs.BudgetSpec),
        "### `decode`",
        "",
        "`--set decode.skip_loop_filter=all`; both change pixels.",
        "",
        *_table(Decoding),
        "## Looks",
        "",
        "Choose what to look at: `--look NAME`, `--set look.KEY=VALUE`.",
        "",
    ]
    for name, look in LOOKS.items():
        lines += _section(name, look)
    lines += ["## Decisions", "", "Say when to stop: `--set decide.name=NAME`.", ""]
    for name, decision in DECISIONS.items():
        lines += _section(name, decision)
    lines += ["## Recipes", "", "`foveate train --recipe NAME`, `--set KEY=VALUE`.", ""]
    base = None
    for name in sorted(RECIPES, key=lambda name: (name != "supervised", name)):
        model = find_recipe(name).config
        shared = () if base is None else tuple(base.model_fields)
        own = [key for key in model.model_fields if key not in shared or _differs(key, model, base)]
        lines += [f"### `{name}`", "", *_table(model, names=own)]
        same = [f"`{key}`" for key in model.model_fields if key in shared and key not in own]
        if same:
            lines += [f"As in `supervised`: {', '.join(same)}.", ""]
        base = base or model
    lines += ["## Searches", "", "`foveate search NAME`, `--set KEY=VALUE`.", ""]
    for name, config in SEARCHES.items():
        lines += _section(name, config)
    lines += [
        "## Events",
        "",
        "Of `foveate watch`: sections of `--config`, or `--set events.start_threshold=0.7`. A "
        "camera in `cams.yaml` has `zones` and `masks` of its own.",
        "",
    ]
    for name, config in EVENTS.items():
        lines += _section(name, config)
    lines += [
        "## Limits",
        "",
        "Bounds on what one source may cost, against damaged and hostile files: "
        "`foveate.load(model, limits=foveate.Limits(open_seconds=30))`.",
        "",
        *_table(Limits),
    ]
    return "\n".join(lines)


def pipelines() -> str:
    """The page of the primitives that pipelines are made of."""
    lines = [
        "# Pipelines",
        "",
        "The parts of [pipelines](../how-to/pipelines.md) by group and kind. Looks and stopping "
        "rules are those of the [settings](settings.md).",
        "",
        "## Pipeline",
        "",
        *_table(Pipeline),
    ]
    for group in GROUPS:
        lines += [f"## {group.capitalize()}", ""]
        for kind, primitive in registered(group).items():
            lines += _section(kind, primitive)
    return "\n".join(lines)


PAGES: dict[str, Callable[[], str]] = {
    "command": command,
    "settings": settings,
    "pipelines": pipelines,
}


def _commands(found: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands below a group, with the words that call them."""
    children = getattr(found, "commands", None)
    if children is None:
        yield words, found
        return
    for name, child in children.items():
        yield from _commands(child, (*words, name))


def _parameter(parameter: Any) -> str | None:
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if "--help" in names:
        return None
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    flag = getattr(parameter, "is_flag", False)
    value = "" if flag else parameter.metavar or _type(parameter)
    default = "required" if parameter.required else _default(parameter.default)
    text = (parameter.help or "").rstrip(".")
    cells = (names, _code(value) if value and not names.startswith(f"`{value}") else "")
    return f"| {cells[0]} | {cells[1]} | {'' if flag else default} | {_cell(text)} |"


def _type(parameter: Any) -> str:
    """The type of an option's value, such as PATH; typer's attribute differs between versions."""
    found = getattr(parameter, "type", None) or parameter.type_descriptor.annotation
    if isinstance(found, type):
        return "PATH" if issubclass(found, Path) else found.__name__.upper()
    return str(found.name).upper()


def _default(value: Any) -> str:
    if value is None or value in ([], (), ""):
        return ""
    return _code(value)


def _section(name: str, model: type[BaseModel]) -> list[str]:
    text = (model.__doc__ or "").strip().split("\n\n")[0].replace("\n", " ")
    own = [key for key in model.model_fields if key not in ("name", "kind")]
    body = _table(model, names=own) if own else ["No settings.", ""]
    return [f"### `{name}`", "", " ".join(text.split()), "", *body]


def _differs(key: str, model: type[BaseModel], base: type[BaseModel] | None) -> bool:
    """Whether a setting has another type or default than in the first recipe."""
    assert base is not None
    one, other = model.model_fields[key], base.model_fields[key]
    return (one.annotation, one.default) != (other.annotation, other.default)


def _table(model: type[BaseModel], names: Any = None) -> list[str]:
    schema = model.model_json_schema()
    if "$ref" in schema:  # a model that contains itself
        schema = schema["$defs"][schema["$ref"].rpartition("/")[2]]
    properties = schema["properties"]
    lines = ["| setting | value | default | description |", "|---|---|---|---|"]
    for key in names or properties:
        found, field = properties[key], model.model_fields[key]
        value = _plain(field)
        default = "none" if value is None else "" if value == "" else _code(value)
        if field.is_required():
            default = "required"
        text = _cell(field.description or "")
        lines.append(f"| `{key}` | {_kind(found)} | {default} | {text} |")
    return [*lines, ""]


def _plain(field: Any) -> Any:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return next((getattr(value, key) for key in ("kind", "name") if hasattr(value, key)), None)
    return value


def _kind(found: dict[str, Any]) -> str:
    """A JSON Schema type in words, with its bounds."""
    if "anyOf" in found:
        return " or ".join(_kind(one) for one in found["anyOf"] if one.get("type") != "null")
    if "enum" in found:
        return ", ".join(_code(value) for value in found["enum"])
    if "const" in found:
        return _code(found["const"])
    if "$ref" in found or "oneOf" in found:
        return "name or mapping"
    names = {"number": "float", "integer": "int", "string": "str", "boolean": "bool",
             "array": "list", "object": "mapping"}  # fmt: skip
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {found[key]:g}" for key, sign in signs.items() if key in found]
    return ", ".join([names.get(found.get("type", ""), "any"), *bounds])


def _code(value: Any) -> str:
    text = {True: "true", False: "false"}.get(value, value) if isinstance(value, bool) else value
    return f"`{str(text).replace('|', chr(92) + '|')}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    print(PAGES[sys.argv[1]]())
