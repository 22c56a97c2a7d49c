"""From source to result: presets, the loop that skips work, stream sessions, the ledger."""
