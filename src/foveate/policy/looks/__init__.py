"""Policies that choose what to look at, each with its settings; one module per kind."""
