"""The table of pretrained weights: files, sources, licences and input specifications.

``models/FAMILY_weights.py`` registers the weights of ``models/FAMILY.py``. These modules are plain
data, so that the command can list and check names quickly: reading the table imports neither torch
nor numpy and opens no weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from foveate.core.errors import WeightsError
from foveate.core.text import did_you_mean
from foveate.models.registry import entry, import_modules
from foveate.models.spec import InputSpec
from foveate.models.weights.builtin import refuse_checkpoint

if TYPE_CHECKING:
    from numpy.typing import NDArray

Labels = Callable[[], tuple[str, ...]]


@dataclass(frozen=True)
class WeightFile:
    """A published file.

    Attributes:
        name: File name, in the cache and in the folders of ``FOVEATE_WEIGHTS``.
        size: Size in bytes; a download never writes more.
        sha256: Hexadecimal digest of the content, or its first eight digits if only these are
            published. The size is then an upper bound.
        addresses: URLs at which it is published, tried in order.
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
        """Whether content with that sha256 is the published one."""
        return digest == self.sha256 if self.whole else digest.startswith(self.sha256)


@dataclass(frozen=True)
class WeightEntry:
    """A set of pretrained weights.

    Attributes:
        name: ``ARCH.TAG``, the name for users.
        arch: Architecture in the registry.
        num_classes: Outputs of the published classifier.
        file: The weights.
        read: Converts the file's bytes (and its name, for errors) to arrays by the names of the
            module's state dict. It imports its dependencies when it is called.
        labels: Text file whose line i is the name of class i; or a function that returns the names,
            if an installed package has them.
        licence: SPDX identifier, as stated where the file was published.
        input: How frames are prepared.
        protocol: Dataset and intended use of the model.
        accuracy: Published accuracy and its source.
        note: Information for users.
        output: `softmax` for exclusive classes, `sigmoid` for independent ones.
        method: How the network is run; see `LoadedModel.method`.
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
    method: str = "network"

    @property
    def files(self) -> tuple[WeightFile, ...]:
        """All files of the weights."""
        return (self.file, self.labels) if isinstance(self.labels, WeightFile) else (self.file,)

    @property
    def litert(self) -> bool:
        """Whether they were published as a LiteRT file, which runs as it is."""
        return self.file.name.endswith(".tflite")


_ENTRIES: dict[str, WeightEntry] = {}


def register_weights(entry: WeightEntry) -> None:
    """Register a set of weights; called by the modules ``models/FAMILY_weights.py``.

    Raises:
        WeightsError: The name is taken.
    """
    if entry.name in _ENTRIES:
        raise WeightsError(f"the weights {entry.name!r} are registered twice")
    _ENTRIES[entry.name] = entry


def entries() -> tuple[WeightEntry, ...]:
    """Return all sets of weights, grouped by family."""
    import_modules("_weights")
    return tuple(_ENTRIES.values())


def names() -> list[str]:
    """Return the names of all sets of weights, sorted."""
    return sorted(entry.name for entry in entries())


def input_of(arch: str) -> InputSpec | None:
    """Return the input of an architecture: of its published weights, or as it is registered."""
    known = next((one.input for one in entries() if one.arch == arch), None)
    return known or entry(arch).input


def find(name: str) -> WeightEntry:
    """Return the entry of a set of weights.

    Args:
        name: ``ARCH.TAG``, or ``ARCH`` alone when it has exactly one set.

    Raises:
        WeightsError: No such weights; the error suggests the nearest ones.
        ModelError: The name is that of a file.
    """
    refuse_checkpoint(name)
    known = entries()
    matches = [e for e in known if e.name == name] or [e for e in known if e.arch == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise WeightsError(f"{name!r} has several weights: {', '.join(e.name for e in matches)}")
    raise WeightsError(f"there are no weights {name!r}", did_you_mean(name, names()))
