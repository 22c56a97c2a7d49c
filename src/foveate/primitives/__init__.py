"""Typed pipelines: their parts are primitives, which are data."""
