"""Starts the command with the tiny model in its table: `python launch.py FOLDER ARGUMENTS...`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "models")]

import tiny_weights  # noqa: E402
from foveate.app import main  # noqa: E402

tiny_weights.enter(Path(sys.argv[1]))
sys.argv = ["foveate", *sys.argv[2:]]
main.main()
