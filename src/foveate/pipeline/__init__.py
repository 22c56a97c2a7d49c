"""Joins source to result: presets, the loop that truly skips, stream sessions, the ledger."""
