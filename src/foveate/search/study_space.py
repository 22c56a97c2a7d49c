"""The search space of a typed model, such as a pipeline, read from its fields.

Every discriminated union becomes a categorical parameter, named by its path (`recogniser/kind`);
the fields of its members are parameters below their kind (`recogniser/tsm/dropout`) and exist
only where that kind was drawn. A field is varied if it has a `Search` annotation. A space file
narrows ranges, pins values, restricts kinds, and varies further fields within their bounds; an
optional union is left at its default unless the file names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from foveate.core import ConfigError
from foveate.core.config import fault_of, nearest
from foveate.primitives.base import Search

NONE = "none"  # of an optional union: without any of its kinds
_UNIONS = (Union, UnionType)
_RANGE = {"low", "high", "step", "log"}

Draw = Callable[[str, Search], Any]
"""Draws a value: path of the parameter, and what it may be."""

Follows = tuple[str, Callable[[str], tuple[str, ...]]]
"""The union that another one depends on, and what its kind allows, the usual kind first; if nothing
is allowed, the other one is left at its default."""


@dataclass(frozen=True)
class _Pin:
    value: Any


@dataclass(frozen=True)
class _Group:
    """The fields of a model that are not left at their defaults."""

    fields: dict[str, _Node] = field(default_factory=dict)


@dataclass(frozen=True)
class _Union:
    """A discriminated union: one parameter, and the fields of each kind below it."""

    tag: str
    kinds: dict[str, _Group | None]
    follows: Follows | None = None


_Node = _Pin | Search | _Group | _Union


class Space:
    """What a study draws from.

    Args:
        model: The pydantic model that is drawn, such as `foveate.Pipeline`.
        narrowed: Paths, or nested keys, with what they are narrowed to: a value pins, a list gives
            choices, and `{low:, high:, step:, log:}` a range; of a union, `kind` is a path, too.
        source: Name of the file, for errors.
        follows: Unions of the model that depend on another one, which is drawn first. Unless the
            file says more, they have the usual kind; one is drawn only where all that are left are
            allowed.

    Raises:
        ConfigError: A path that does not exist (with the nearest one), or a value out of bounds.
    """

    def __init__(
        self, model: type[BaseModel], narrowed: Mapping[str, Any] | None = None,
        source: str = "space", follows: Mapping[str, Follows] | None = None,
    ) -> None:  # fmt: skip
        self._follows = follows or {}
        self._given = dict(_flattened(narrowed or {}))
        self._mappings = dict(_mappings(narrowed or {}))
        self._source = source
        self._known: set[str] = set()
        self._root = self._group(model, "", "", ())
        for path in self._given:
            if path not in self._known:
                raise self._unknown(path)

    def parameters(self) -> dict[str, Search]:
        """All that can be drawn, by path; those of a kind are drawn only with it."""
        return {path: node for path, node in _walk(self._root, "") if isinstance(node, Search)}

    def pinned(self) -> dict[str, Any]:
        """The values that are not drawn, by path."""
        return {path: node.value for path, node in _walk(self._root, "") if isinstance(node, _Pin)}

    def draw(self, suggest: Draw) -> dict[str, Any]:
        """The values of one model, nested, without those left at their defaults."""
        drawn: dict[str, Any] = _drawn(self._root, "", suggest, {})
        return drawn

    def to_dict(self) -> dict[str, Any]:
        """The whole space in the form of a space file."""
        return {
            path: node.value if isinstance(node, _Pin) else _written(node)
            for path, node in _walk(self._root, "")
            if isinstance(node, _Pin | Search)
        }

    def _group(
        self, model: type[BaseModel], path: str, short: str, above: tuple[type[BaseModel], ...],
        tag: str | None = None,
    ) -> _Group:  # fmt: skip
        """The fields of a model.

        Args:
            model: The model.
            path: Of the model, with the kinds of unions.
            short: Likewise without the last kind, as a file may write it.
            above: The models that it is part of; one that contains itself is not varied within.
            tag: The field that names the kind.
        """
        fields: dict[str, _Node] = {}
        ordered = sorted(model.model_fields, key=lambda name: _join(path, name) in self._follows)
        for name in ordered:
            info = model.model_fields[name]
            if name == tag:
                continue
            node = self._node(info, _join(path, name), _join(short, name), (*above, model))
            if isinstance(node, _Union) and _join(path, name) in self._follows:
                node = self._following(node, _join(path, name), fields)
            if node is not None:
                fields[name] = node
        return _Group(fields)

    def _node(
        self, info: FieldInfo, path: str, short: str, above: tuple[type[BaseModel], ...]
    ) -> _Node | None:
        """What is drawn of a field, None if it is left at its default."""
        self._known |= {path, short}
        for place in (path, short) if get_origin(info.annotation) is dict else ():
            if place in self._mappings:
                self._known |= {p for p in self._given if p.startswith(f"{place}/")}
                return _Pin(self._checked(info, place, self._mappings[place]))
        at = path if path in self._given else short
        union = _union_of(info)
        if at in self._given and not (union and _names(self._given[at])):
            return self._narrowed(info, at, self._given[at])
        if union is not None:
            tag, members, optional = union
            return self._union(tag, members, optional, path, short, above)
        nested = info.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            group = self._group(nested, path, short, above)
            return group if group.fields else None
        return _search_of(info)

    def _union(
        self, tag: str, members: dict[str, type[BaseModel]], optional: bool, path: str, short: str,
        above: tuple[type[BaseModel], ...],
    ) -> _Union | None:  # fmt: skip
        """The kinds that may be drawn, None if an optional union is left at its default."""
        # A required field without a value cannot be left at its default.
        members = {k: m for k, m in members.items() if not self._lacking(m, path, short, k)}
        known = [*([NONE] if optional else ()), *members]
        places = (f"{path}/kind", f"{short}/kind", path, short)
        at = next((place for place in places if place in self._given), None)
        self._known |= {f"{path}/kind", f"{short}/kind"}
        chosen = known if at is None else self._given[at]
        chosen = chosen if isinstance(chosen, list) else [chosen]
        for kind in chosen:
            if kind not in known:
                guess = nearest(str(kind), known)
                hint = f"did you mean {guess}?" if guess else f"known: {', '.join(known)}"
                raise ConfigError(f"{self._source}: {at}: there is no {kind}", hint)
        if not chosen:
            raise ConfigError(f"{self._source}: {at}: no kinds are left")
        kinds: dict[str, _Group | None] = {}
        for kind in known:
            member = members.get(kind)
            if kind not in chosen:  # to narrow what is not drawn is no mistake
                if member is not None:
                    self._known |= {f"{path}/{kind}/{name}" for name in member.model_fields}
            elif member is None or member in above:
                kinds[kind] = _Group() if member in above else None
            else:
                kinds[kind] = self._group(member, f"{path}/{kind}", path, above, tag)
        named = any(p.startswith((f"{path}/", f"{short}/")) for p in self._given)
        if optional and at is None and not named:
            return None
        return _Union(tag, kinds)

    def _following(self, union: _Union, path: str, before: dict[str, _Node]) -> _Union | None:
        """A union with the kinds that another one allows, None if that is nothing."""
        leader, allowed = self._follows[path]
        kept: dict[str, None] = {}
        for kind in _kinds_of(before[leader]):
            usable = [one for one in allowed(kind) if one in union.kinds]
            if not usable and allowed(kind):
                hint = f"possible: {', '.join(allowed(kind))}"
                raise ConfigError(f"{self._source}: {path}/kind: none fits {leader} {kind}", hint)
            given = path in self._given or f"{path}/kind" in self._given
            kept |= dict.fromkeys(usable if given else usable[:1])
        if not kept:
            return None
        kinds = {kind: union.kinds[kind] for kind in kept}
        return _Union(union.tag, kinds, (leader, allowed))

    def _lacking(self, member: type[BaseModel], path: str, short: str, kind: str) -> bool:
        """Whether a kind has a required field that the file does not give."""
        return any(
            info.is_required()
            and f"{path}/{kind}/{name}" not in self._given
            and f"{short}/{name}" not in self._given
            for name, info in member.model_fields.items()
        )

    def _narrowed(self, info: FieldInfo, path: str, given: Any) -> _Node:
        """A pin, a range or choices from the file, checked against the field's own bounds."""
        if isinstance(given, list):
            if not given:
                raise ConfigError(f"{self._source}: {path}: no choices")
            return Search(choices=tuple(self._checked(info, path, one) for one in given))
        if not (isinstance(given, dict) and given and given.keys() <= _RANGE):
            return _Pin(self._checked(info, path, given))
        own = _search_of(info)
        low, high = (
            given.get(end, getattr(own, end, None) if own else None) for end in ("low", "high")
        )
        low, high = (_bound(info, *names) if end is None else end
                     for end, names in ((low, ("ge", "gt")), (high, ("le", "lt"))))  # fmt: skip
        for end, value in (("low", low), ("high", high)):
            if value is None:
                raise ConfigError(f"{self._source}: {path}: the range needs {end}")
        low, high = (
            self._checked(info, f"{path}: low", low),
            self._checked(info, f"{path}: high", high),
        )
        if not _numeric(low) or not _numeric(high):
            raise ConfigError(
                f"{self._source}: {path}: is no number and has no range", "give a list of choices"
            )
        integer = isinstance(low, int) and isinstance(high, int) and _whole(info)
        step = given.get("step", own.step if own else None)
        log = bool(given.get("log", own.log if own and "step" not in given else False))
        try:
            return Search(low, high, step or (1 if integer else None), log, integer=integer)
        except ValueError as error:
            reason = str(error).removeprefix("Search: ")
            raise ConfigError(f"{self._source}: {path}: {reason}") from None

    def _checked(self, info: FieldInfo, path: str, value: Any) -> Any:
        """A value as plain JSON, if the field accepts it."""
        annotation: Any = Annotated[(info.annotation, info)]
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(annotation)
            checked = adapter.validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"{self._source}: {path}: {fault_of(error)}") from None
        return adapter.dump_python(checked, mode="json")

    def _unknown(self, path: str) -> ConfigError:
        guess = nearest(path, sorted(self._known))
        return ConfigError(
            f"{self._source}: there is no {path}", f"did you mean {guess}?" if guess else None
        )


def encoded(search: Search) -> list[Any] | None:
    """Choices as plain scalars, in which lists and mappings are canonical JSON; None of a range."""
    if search.choices is None:
        return None
    return [
        one if isinstance(one, str | int | float | bool | None) else json.dumps(one, sort_keys=True)
        for one in search.choices
    ]


def _flattened(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Nested keys as paths; a mapping of the keys of a range is a value."""
    for key, value in values.items():
        path = _join(above, str(key).strip("/"))
        if isinstance(value, Mapping) and not (value and value.keys() <= _RANGE):
            yield from _flattened(value, path)
        else:
            yield path, dict(value) if isinstance(value, Mapping) else value


def _mappings(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every nested mapping by its path."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            path = _join(above, str(key).strip("/"))
            yield path, dict(value)
            yield from _mappings(value, path)


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


def _walk(node: _Node, path: str) -> Iterator[tuple[str, _Node]]:
    """Every node below one, with unions as the parameter that chooses between their kinds."""
    if isinstance(node, _Group):
        for name, inner in node.fields.items():
            yield from _walk(inner, _join(path, name))
    elif isinstance(node, _Union):
        kinds = tuple(node.kinds)
        at = f"{path}/kind"
        yield at, _Pin(kinds[0]) if len(kinds) == 1 else Search(choices=kinds)
        for kind, group in node.kinds.items():
            if group is not None:
                yield from _walk(group, f"{path}/{kind}")
    else:
        yield path, node


def _drawn(node: _Node, path: str, suggest: Draw, beside: Mapping[str, Any]) -> Any:
    if isinstance(node, _Pin):
        return node.value
    if isinstance(node, Search):
        return suggest(path, node)
    if isinstance(node, _Group):
        values: dict[str, Any] = {}
        for name, inner in node.fields.items():
            if isinstance(inner, _Union) and inner.follows is not None:
                leader, allowed = inner.follows
                if not allowed(values[leader]["kind"]):
                    continue
            values[name] = _drawn(inner, _join(path, name), suggest, values)
        return values
    kinds, kind = tuple(node.kinds), None
    if node.follows is not None:
        leader, allowed = node.follows
        fitting = [one for one in allowed(beside[leader]["kind"]) if one in kinds]
        kind = None if len(fitting) == len(kinds) else fitting[0]
    if kind is None:
        one = len(kinds) == 1
        kind = kinds[0] if one else suggest(f"{path}/kind", Search(choices=kinds))
    group = node.kinds[kind]
    if group is None:
        return None
    return {node.tag: kind, **_drawn(group, f"{path}/{kind}", suggest, {})}


def _names(given: Any) -> bool:
    """Whether a value names kinds of a union."""
    return all(isinstance(one, str) for one in (given if isinstance(given, list) else [given]))


def _kinds_of(node: _Node) -> list[str]:
    """The kinds that a union may have, whose values may be given as a whole."""
    if isinstance(node, _Union):
        return list(node.kinds)
    values = node.choices if isinstance(node, Search) else (getattr(node, "value", None),)
    return [one["kind"] for one in values or () if isinstance(one, dict)]


def _written(search: Search) -> Any:
    if search.choices is not None:
        return list(search.choices)
    values = {"low": search.low, "high": search.high, "step": search.step, "log": search.log}
    return {n: value for n, value in values.items() if value is not None and value is not False}


def _union_of(info: FieldInfo) -> tuple[str, dict[str, type[BaseModel]], bool] | None:
    """Discriminator, members by kind, and whether None is allowed; None if it is no such union."""
    parts = get_args(info.annotation) if get_origin(info.annotation) in _UNIONS else ()
    found = [(info, info.annotation)] + [
        (one, get_args(part)[0])
        for part in parts
        if get_origin(part) is Annotated
        for one in get_args(part)[1:]
        if isinstance(one, FieldInfo)
    ]
    for one, annotation in found:
        if not isinstance(one.discriminator, str):
            continue
        members = [part for part in get_args(annotation) if part is not NoneType]
        tags = {str(m.model_fields[one.discriminator].default): m for m in members}
        return one.discriminator, tags, NoneType in (*parts, *get_args(annotation))
    return None


def _search_of(info: FieldInfo) -> Search | None:
    return next((one for one in info.metadata if isinstance(one, Search)), None)


def _bound(info: FieldInfo, *names: str) -> Any:
    """The field's own bound of one of these kinds, None without one.

    An open bound is not a value of the field, which the check of the range then says.
    """
    return next(
        (getattr(one, name) for one in info.metadata for name in names if hasattr(one, name)), None
    )


def _numeric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(info: FieldInfo) -> bool:
    """Whether a field takes whole numbers only."""
    kinds = {part for part in (info.annotation, *get_args(info.annotation)) if part is not NoneType}
    return int in kinds and float not in kinds
