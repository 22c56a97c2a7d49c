"""Importers of foreign checkpoints: one file per source, found by themselves.

``from_arrays(system, arrays, **config)`` turns the named arrays of another project into a network
of this package and gives it the interface of the original: its input names and layouts, its
outputs. ``.model`` of what comes back is the network of this package. A new source is one file in
this folder whose builder carries ``@importer("its-name")``.
"""

from foveate.models.weights.importers.naming import (
    MisfitError,
    ValuesError,
    place,
    unwrapped,
    without_prefix,
)
from foveate.models.weights.importers.registry import (
    Imported,
    checksums,
    from_arrays,
    importer,
    systems,
)

__all__ = [
    "Imported",
    "MisfitError",
    "ValuesError",
    "checksums",
    "from_arrays",
    "importer",
    "place",
    "systems",
    "unwrapped",
    "without_prefix",
]
