"""Typed configuration: pydantic models that suggest a valid key for an unknown one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from foveate.core.errors import ConfigError

_MAX_BYTES = 1_000_000
_KIND = re.compile(r"(constrained-|literal\[|(float|int|str|bool|none)$)")  # of a value, in paths

# By pydantic's type of the fault; braces are filled from its context.
_TEXTS = {
    **dict.fromkeys(("bool_parsing", "bool_type"), "must be true or false"),
    **dict.fromkeys(("dict_type", "mapping_type"), "must be key: value pairs"),
    **dict.fromkeys(("model_attributes_type", "model_type"), "must be key: value pairs"),
    **dict.fromkeys(("float_parsing", "float_type"), "must be a number"),
    **dict.fromkeys(("int_from_float", "int_parsing", "int_type"), "must be a whole number"),
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list"),
    "extra_forbidden": "unknown key",
    "finite_number": "must be finite",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "string_type": "must be text",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
}


class Config(BaseModel):
    """Base of every configuration: immutable, and no unknown keys.

    Attributes:
        tag: The key by which files name the members of all unions below, whatever the field is
            called in Python; None for the name of the field.
    """

    tag: ClassVar[str | None] = None

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
        ConfigError: The file is missing, too large, holds no mapping, or a key twice.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            # YAML forbids repeated keys, PyYAML keeps the last: a camera would be lost in silence.
            seen: set[str] = set()
            for key, _ in node.value:
                if not isinstance(key.value, str) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ConfigError(f"{path}: {key.value} is given twice, again in line {line}")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        with path.open("rb") as file:
            # Devices have no size and may never end: limit the bytes that are read.
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{path}: larger than {_MAX_BYTES} bytes")
        values = yaml.load(data.decode("utf-8"), Loader)
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


def to_yaml(config: BaseModel, **sections: BaseModel) -> str:
    """A configuration as YAML, with others after it under their names."""
    import yaml

    values = config.model_dump(mode="json")
    values |= {name: section.model_dump(mode="json") for name, section in sections.items()}
    dumped = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return str(dumped)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The valid word that is most similar to `word`, None if none is similar."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.4)
    return found[0] if found else None


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _copied(v) if isinstance(v, dict) else v for k, v in values.items()}


def fault_of(error: ValidationError) -> str:
    """The first fault that a validation found, in one line: where and what."""
    where = ".".join(map(str, _without_kinds(error.errors()[0]["loc"])))
    return f"{where}: {_said(error)}" if where else _said(error)


def _said(error: ValidationError) -> str:
    """The first fault without its place."""
    faults = error.errors(include_url=False)
    where = _without_kinds(faults[0]["loc"])
    # Each type of a union has a fault of its own, all of them in the same place.
    same = [fault for fault in faults if _without_kinds(fault["loc"]) == where]
    texts = list(dict.fromkeys(map(_in_words, same)))
    return " or ".join([texts[0], *(text.removeprefix("must be ") for text in texts[1:])])


def _in_words(fault: Any) -> str:
    """What a fault says, without the types of Python and the terms of pydantic."""
    context = fault.get("ctx", {})
    if fault["type"] == "greater_than" and context["gt"] == 0:
        return "must be positive"
    if text := _TEXTS.get(fault["type"]):
        return text.format_map(context)
    said = str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return said[:1].lower() + said[1:]


def _without_kinds(location: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(part for part in location if not _KIND.match(str(part)))


def _explain(error: ValidationError, model: type[BaseModel], source: str) -> ConfigError:
    fault = error.errors(include_url=False)[0]
    path, nodes, members = _follow(model, fault["loc"])
    key = str(fault["loc"][-1]) if fault["loc"] else ""
    tag = getattr(model, "tag", None)
    if fault["type"].startswith("union_tag"):
        tag = tag or fault["ctx"]["discriminator"].strip("'")
        known = sorted(str(_tag(one)) for one in _last_union(model, fault["loc"]))
        listed = f"known: {', '.join(known)}"
        if fault["type"] == "union_tag_not_found":
            return ConfigError(f"{source}: {path}: needs a {tag}", listed)
        guess = nearest(fault["ctx"]["tag"], known)
        hint = f"did you mean {guess}? {listed}" if guess else listed
        return ConfigError(f"{source}: {path}.{tag}: there is no {fault['ctx']['tag']}", hint)
    if fault["type"] != "extra_forbidden":
        return ConfigError(f"{source}: {path + ': ' if path else ''}{_said(error)}")
    parent = path.rpartition(".")[0]
    if owners := sorted(str(_tag(one)) for one in members if key in one.model_fields):
        allowed = owners[0] if len(owners) == 1 else f"one of {', '.join(owners)}"
        field = tag or ("kind" if "kind" in nodes[0].model_fields else "name")
        hint = f"it needs {parent}.{field} to be {allowed}"
        return ConfigError(f"{source}: {path}: {_tag(nodes[0])} has no such setting", hint)
    valid = {name for node in nodes for name in node.model_fields}
    guess = nearest(key, valid)
    hint = f"did you mean {guess}?" if guess else f"known: {', '.join(sorted(valid))}"
    return ConfigError(f"{source}: unknown key {path}", hint)


def _follow(model: type[BaseModel], location: Sequence[Any]) -> tuple[str, list[Any], list[Any]]:
    """Follow a path through nested models.

    Returns:
        The dotted path as a user writes it, the models that can be at its last level, and the
        members of the tagged union that they belong to.
    """
    nodes: list[Any] = [model]
    members: list[Any] = []
    words: list[str] = []
    for at, part in enumerate(location):
        if isinstance(part, int):  # a place in a list
            words.append(str(part))
            continue
        fields = [node.model_fields[part] for node in nodes if part in node.model_fields]
        last = at == len(location) - 1
        # pydantic adds the tag of a tagged union to the path, which is not a field.
        if not fields and not last and nodes:
            members, nodes = nodes, [node for node in nodes if _tag(node) == part] or nodes
            continue
        # It also adds the type of a member of a plain union.
        if not nodes and _KIND.match(str(part)):
            continue
        words.append(str(part))
        if not last:
            members = []
            nodes = [found for field in fields for found in _models_in(field.annotation)]
    return ".".join(words), nodes, members


def _last_union(model: type[BaseModel], location: Sequence[Any]) -> list[Any]:
    """The members of the union at the end of a path."""
    return _follow(model, (*location, ""))[1]


def _tag(model: Any) -> Any:
    """The value by which a model is told apart from the others of its union."""
    field = model.model_fields.get("kind") or model.model_fields.get("name")
    return None if field is None else field.default


def _models_in(annotation: Any) -> list[Any]:
    annotation = getattr(annotation, "__value__", annotation)  # of a type alias
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]
