"""Names of models and the functions that build them.

A family is one module of this package whose builders carry ``@register``. The modules are
imported on the first question to the registry, so adding a model adds one file and no list.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from foveate.core.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

Builder = TypeVar("Builder", bound=Callable[..., Any])


@dataclass(frozen=True)
class ModelEntry:
    """One registered architecture.

    Attributes:
        name: The architecture, without tag or backbone.
        build: Returns a freshly initialised module.
        tiny: Arguments of ``build`` that give a small network for tests.
        tiny_input: Shape of a clip (B, C, T, H, W) that fits the small network.
        streaming: Whether the module has the functional step form.
        mixes_frames: Whether features of one place meet those of other frames. Only where they do
            not may a patch jump from frame to frame without feeding the network false motion.
        classifier: Whether it takes clips (B, 3, T, H, W) and gives logits (B, classes), so that it
            can be trained and used by itself; others are parts of models of several networks.
    """

    name: str
    build: Callable[..., nn.Module]
    tiny: Mapping[str, Any] = field(default_factory=dict)
    tiny_input: tuple[int, ...] = (2, 3, 4, 32, 32)
    streaming: bool = False
    mixes_frames: bool = True
    classifier: bool = True


_ENTRIES: dict[str, ModelEntry] = {}


def register(
    name: str,
    *,
    tiny: Mapping[str, Any] | None = None,
    tiny_input: tuple[int, ...] = (2, 3, 4, 32, 32),
    streaming: bool = False,
    mixes_frames: bool = True,
    classifier: bool = True,
) -> Callable[[Builder], Builder]:
    """Enter a builder function under an architecture name.

    Args:
        name: Architecture name, lower case with hyphens, without tag or backbone.
        tiny: Arguments that make the builder return a small network for contract tests.
        tiny_input: Clip shape (B, C, T, H, W) for the small network.
        streaming: True when the module offers ``initial_state`` and ``step``.
        mixes_frames: False when every frame is seen alone and only the scores are averaged.
        classifier: False for networks that are only parts of models, as those with several exits.

    Raises:
        ModelError: The name is malformed or already taken by another function.
    """
    if name != name.lower() or not name or set(name) & set(".:/ "):
        raise ModelError(f"{name!r} is no architecture name (lower case and hyphens only)")

    def enter(build: Builder) -> Builder:
        known = _ENTRIES.get(name)
        if known is not None and known.build.__qualname__ != build.__qualname__:
            raise ModelError(f"the model name {name!r} is registered twice")
        _ENTRIES[name] = ModelEntry(
            name, build, dict(tiny or {}), tiny_input, streaming, mixes_frames, classifier
        )
        return build

    return enter


@cache
def import_modules(ending: str = "") -> None:
    """Import every module of this package whose name has some ending, once.

    What they register is known afterwards: a new family is found without being listed anywhere.
    """
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        if not module.ispkg and module.name.endswith(ending):
            importlib.import_module(f"{__package__}.{module.name}")


def available() -> list[str]:
    """Return the names of all architectures that classify clips by themselves, sorted.

    Those over backbones come without one; parts of models are not listed (see `entry`).
    """
    import_modules()
    return sorted(name for name, found in _ENTRIES.items() if found.classifier)


def entry(name: str) -> ModelEntry:
    """Return what is registered under an architecture name; a backbone behind it is dropped.

    Raises:
        ModelError: No such architecture; the error names the nearest one.
    """
    import_modules()
    name = name.partition(":")[0]
    if name not in _ENTRIES:
        near = difflib.get_close_matches(name, _ENTRIES, n=1, cutoff=0.0)
        hint = f"did you mean {near[0]!r}?" if near else None
        raise ModelError(f"there is no model {name!r}", hint)
    return _ENTRIES[name]


def is_architecture(name: str) -> bool:
    """Whether a name is that of an architecture that can be trained, without a weights tag."""
    try:
        return split_name(name)[1] is None and entry(name).classifier
    except ModelError:
        return False


def create(name: str, **config: Any) -> nn.Module:
    """Build a freshly initialised model.

    Args:
        name: An architecture, with its backbone if it takes one (``tsm:mobilenetv2_100``); a
            name with a weights tag is for ``load``. A backbone's tag is kept, but its weights
            are read only with ``pretrained=True``.
        **config: Arguments of the architecture's builder, for example ``num_classes``.

    Raises:
        ModelError: Unknown name or argument, a backbone where none is taken, or a name that asks
            for weights.
    """
    arch, tag = split_name(name)
    if tag is not None:
        entry(arch)
        raise ModelError(f"{name!r} names weights", f"use load({name!r}) or create({arch!r})")
    found = entry(arch)
    known = inspect.signature(found.build).parameters
    backbone = split_backbone(name)
    if backbone is not None:
        if "backbone" not in known:
            raise ModelError(f"{arch} takes no backbone", f"its name is {arch!r} alone")
        if config.get("backbone", backbone) != backbone:
            raise ModelError(f"{name!r} and backbone={config['backbone']!r} contradict each other")
        config = {**config, "backbone": backbone}
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]!r}?" if near else None
            raise ModelError(f"{arch} has no setting {key!r}", hint)
    return _marked(found, found.build(**config))


def create_tiny(name: str) -> nn.Module:
    """Build the small configuration of an architecture, as the contract tests use it."""
    found = entry(name)
    return _marked(found, found.build(**found.tiny))


def is_streaming(model: nn.Module | ModelEntry) -> bool:
    """Whether a network has the functional step form (`initial_state`, `step_features`).

    It is declared, not found out: by the registry, or by an attribute `streaming` of a module that
    is not of the registry. One that says nothing takes whole clips.
    """
    return bool(getattr(model, "streaming", False))


def mixes_frames(model: nn.Module | ModelEntry) -> bool:
    """Whether features of one place meet those of other frames; declared like `is_streaming`.

    A module that says nothing with an attribute `mixes_frames` is taken to.
    """
    return bool(getattr(model, "mixes_frames", True))


def _marked(found: ModelEntry, module: nn.Module) -> nn.Module:
    """The module, which says itself what the registry says of it, as a user's own may."""
    vars(module).update(streaming=found.streaming, mixes_frames=found.mixes_frames)
    return module


def split_backbone(name: str) -> str | None:
    """Return the backbone of ``ARCH[.TAG]:BACKBONE[.TIMMTAG]`` as timm takes it, or None.

    >>> split_backbone("tsm:resnet50.a1_in1k")
    'resnet50.a1_in1k'
    """
    _, colon, backbone = name.partition(":")
    if colon and not backbone:
        raise ModelError(f"{name!r} names no backbone behind the colon")
    return backbone or None


def split_name(name: str) -> tuple[str, str | None]:
    """Split ``ARCH[.TAG][:BACKBONE]`` into architecture and tag; the backbone is dropped.

    >>> split_name("movinet-a0-stream-lite.k600")
    ('movinet-a0-stream-lite', 'k600')
    """
    arch, _, tag = name.partition(":")[0].partition(".")
    return arch, tag or None
