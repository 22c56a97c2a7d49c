"""Starts the command with the tiny model in its table: `python launch.py FOLDER ARGUMENTS...`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "models")]

import tiny_weights  # noqa: E402
from foveate.app import main  # noqa: E402

tiny_weights.enter(Path(sys.argv[1]))
words = sys.argv[2:]
if words[:1] == ["predict"]:
    words[1:1] = ["--model", tiny_weights.NAME]
sys.argv = ["foveate", *words]
main.main()
