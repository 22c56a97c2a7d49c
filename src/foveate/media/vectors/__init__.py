"""Motion vectors of the codec as fields on a grid of 8x8 pixels, and where the groups begin.

`reader.VectorReader` reads them, `grid.VectorField` is one picture's, `gops.read_table` finds the
groups of pictures without decoding, `reader.probe` says whether a file has vectors at all.
"""
