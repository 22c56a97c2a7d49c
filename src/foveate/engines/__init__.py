"""Exported networks: graphs with explicit state, written from torch and run without it.

`functions` states the parts of a network as functions of tensors, `export` writes them as graphs
into a run folder, `runtimes` opens graphs in an engine, `network` calls them, `cache` exports on
first use, and `auto` measures which engine is fastest on this machine.
"""
