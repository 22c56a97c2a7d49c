"""Typed configuration: pydantic models that suggest a valid key for an unknown one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from foveate.core.errors import ConfigError

_MAX_BYTES = 1_000_000
_KIND = re.compile(r"(constrained-|literal\[|(float|int|str|bool|none)$)")  # of a value, in paths


class Config(BaseModel):
    """Base of every configuration: immutable, and no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


C = TypeVar("C", bound=BaseModel)


def build(model: type[C], values: Mapping[str, Any], source: str = "configuration") -> C:
    """Validate `values` as `model`.

    Raises:
        ConfigError: One line with the path of the first error, and the nearest valid key.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise _explain(error, model, source) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the mapping in a YAML file with the safe loader, which runs no code.

    Raises:
        ConfigError: The file is missing, too large, or holds no mapping.
    """
    import yaml

    try:
        with path.open("rb") as file:
            # Devices have no size and may never end: limit the bytes that are read.
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_BYTES} bytes")
        values = yaml.safe_load(data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({(error.strerror or '').lower()})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not YAML{where}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds a {type(values).__name__}, not key: value lines")
    return {str(key): value for key, value in values.items()}


def apply_sets(values: dict[str, Any], sets: Iterable[str]) -> dict[str, Any]:
    """Apply `path.key=value` settings; values are read as YAML.

    Raises:
        ConfigError: A setting without `=`, or one below a plain value.
    """
    import yaml

    result = _copied(values)
    for item in sets:
        path, equals, text = item.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {item}: not of the form path.key=value")
        *parents, last = path.strip().split(".")
        node = result
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise ConfigError(f"--set {item}: {part} holds a value, not keys")
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"--set {item}: the value cannot be read") from None
    return result


def to_yaml(config: BaseModel) -> str:
    """A configuration as YAML."""
    import yaml

    dumped = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return str(dumped)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The valid word that is most similar to `word`, None if none is similar."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return found[0] if found else None


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, dict) else v for k, v in values.items()}


def _explain(error: ValidationError, model: type[BaseModel], source: str) -> ConfigError:
    fault = error.errors(include_url=False)[0]
    path, known = _follow(model, fault["loc"])
    if fault["type"] == "union_tag_invalid":
        names = fault["ctx"]["expected_tags"].replace("'", "")
        cause = f"{source}: {path}: no {fault['ctx']['tag']!r}"
        return ConfigError(cause, f"one of: {names}")
    if fault["type"] != "extra_forbidden":
        said = str(fault["msg"]).removeprefix("Value error, ")
        return ConfigError(f"{source}: {path or '(whole)'}: {said[:1].lower()}{said[1:]}")
    guess = nearest(str(fault["loc"][-1]), known)
    hint = f"did you mean {guess}?" if guess else f"known: {', '.join(sorted(known))}"
    return ConfigError(f"{source}: unknown key {path}", hint)


def _follow(model: type[BaseModel], location: Sequence[Any]) -> tuple[str, set[str]]:
    """The dotted path as a user writes it, and the valid fields at its last level."""
    nodes: list[Any] = [model]
    words: list[str] = []
    for at, part in enumerate(location):
        fields = [node.model_fields[part] for node in nodes if part in node.model_fields]
        last = at == len(location) - 1
        # pydantic adds the tag of a tagged union to the path, which is not a field.
        if not fields and not last and nodes:
            nodes = [node for node in nodes if _tag(node) == part] or nodes
            continue
        # It also adds the type of a member of a plain union.
        if not nodes and _KIND.match(str(part)):
            continue
        words.append(str(part))
        if not last:
            nodes = [found for field in fields for found in _models_in(field.annotation)]
    return ".".join(words), {name for node in nodes for name in node.model_fields}


def _tag(model: Any) -> Any:
    field = model.model_fields.get("name")
    return None if field is None else field.default


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
