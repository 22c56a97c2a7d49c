"""The table of pretrained weights: what exists, whose it is, where it lies, how to feed it.

The entries stand beside their families: ``models/FAMILY_weights.py`` registers those of
``models/FAMILY.py``. Those modules are plain data, so that the command can list and check names at
once: reading the table imports neither torch nor numpy and opens no weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from foveate.core.errors import WeightsError
from foveate.models.registry import import_modules
from foveate.models.spec import InputSpec
from foveate.models.weights.builtin import refuse_checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

Labels = Callable[[], tuple[str, ...]]


@dataclass(frozen=True)
class WeightFile:
    """One published file.

    Attributes:
        name: File name, in the cache and in the folders of ``FOVEATE_WEIGHTS``.
        size: Bytes; a download never writes more.
        sha256: Hexadecimal digest of the content; its first eight digits where the owner
            publishes no more. The size is then an upper bound.
        addresses: Where its owner publishes it, tried in order.
    """

    name: str
    size: int
    sha256: str
    addresses: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether the whole digest and the exact size are known."""
        return len(self.sha256) == 64

    def matches(self, digest: str) -> bool:
        """Whether a content with that sha256 is the published one."""
        return digest == self.sha256 if self.whole else digest.startswith(self.sha256)


@dataclass(frozen=True)
class WeightEntry:
    """One set of pretrained weights.

    Attributes:
        name: ``ARCH.TAG`` as users type it.
        arch: Architecture in the registry.
        num_classes: Outputs of the published classifier.
        file: The weights.
        read: Reads the file's bytes (and its name, for errors) as arrays by the names of our
            module. It imports what it needs when it is called.
        labels: Text file, line i is the name of class i; or a function that gives the names, where
            an installed package knows them.
        licence: SPDX identifier, as stated where the file was published.
        input: How frames are prepared.
        protocol: Dataset and how its owner meant the model to be used.
        accuracy: Published accuracy and whose figure it is; never ours.
        note: What a user must know before relying on it.
        output: Whether the classes exclude each other (`softmax`) or not (`sigmoid`).
    """

    name: str
    arch: str
    num_classes: int
    file: WeightFile
    read: Callable[[bytes, str], dict[str, NDArray[Any]]]
    labels: WeightFile | Labels
    licence: str
    input: InputSpec
    protocol: str
    accuracy: str
    note: str
    output: Literal["softmax", "sigmoid"] = "softmax"

    @property
    def files(self) -> tuple[WeightFile, ...]:
        """Everything that has to be fetched."""
        return (self.file, self.labels) if isinstance(self.labels, WeightFile) else (self.file,)


_ENTRIES: dict[str, WeightEntry] = {}


def register_weights(entry: WeightEntry) -> None:
    """Enter a set of weights; called by the modules ``models/FAMILY_weights.py``.

    Raises:
        WeightsError: The name is taken.
    """
    if entry.name in _ENTRIES:
        raise WeightsError(f"the weights {entry.name!r} are registered twice")
    _ENTRIES[entry.name] = entry


def entries() -> tuple[WeightEntry, ...]:
    """Return all sets of weights, family by family."""
    import_modules("_weights")
    return tuple(_ENTRIES.values())


def names() -> list[str]:
    """Return the names of all sets of weights, sorted."""
    return sorted(entry.name for entry in entries())


def input_of(arch: str) -> InputSpec | None:
    """Return what an architecture's published weights expect, None where there are none."""
    return next((entry.input for entry in entries() if entry.arch == arch), None)


def find(name: str) -> WeightEntry:
    """Return the entry of a set of weights.

    Args:
        name: ``ARCH.TAG``, or ``ARCH`` alone when it has exactly one set.

    Raises:
        WeightsError: No such set; the error names the nearest one.
        ModelError: The name is that of a file.
    """
    refuse_checkpoint(name)
    known = entries()
    matches = [e for e in known if e.name == name] or [e for e in known if e.arch == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise WeightsError(f"{name!r} has several weights: {', '.join(e.name for e in matches)}")
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.0)
    raise WeightsError(f"there are no weights {name!r}", f"did you mean {near[0]!r}?")
