"""The compressed domain: key frames, motion vectors accumulated back to them, and residuals.

`reader.CompressedVideo` decodes only what is asked for, group by group; `accumulate` holds the
arithmetic, `cache` keeps grids between epochs. Source: Wu et al., "Compressed Video Action
Recognition", CVPR 2018 (arXiv 1712.00636), section 3.
"""

from foveate.media.compressed.accumulate import CellMotion, PixelMotion, residual, trace_back
from foveate.media.compressed.cache import GridFile, collect, read_grids, write_grids
from foveate.media.compressed.reader import CompressedVideo, require_vectors
from foveate.media.compressed.track import Picture

__all__ = [
    "CellMotion",
    "CompressedVideo",
    "GridFile",
    "Picture",
    "PixelMotion",
    "collect",
    "read_grids",
    "require_vectors",
    "residual",
    "trace_back",
    "write_grids",
]
