"""Importers of checkpoints of other projects: one module per project, found automatically.

``from_arrays(system, arrays, **config)`` converts the named arrays of another project to a network
of this package and gives it the interface of the original: names and layouts of its inputs and
outputs. ``.model`` of the result is the network of this package. A new importer is one module in
this folder with a function decorated by ``@importer("its-name")``.
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
