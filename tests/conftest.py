"""What all tests share: where the shared data lies, and threads that do not fight."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The project's shared folder, named by FOVEATE_SHARED; skips where there is none."""
    folder = os.environ.get("FOVEATE_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs the shared data: set FOVEATE_SHARED to its folder")
    return Path(folder)


@pytest.fixture(scope="session")
def k600(shared: Path) -> str:
    """The name of the Kinetics-600 weights; skips where they are not to be found."""
    folder = shared / "weights"
    if not (folder / "movinet_a0_stream_k600_int8.tflite").is_file():
        pytest.skip("needs the Kinetics-600 weights in the shared folder")
    os.environ["FOVEATE_WEIGHTS"] = str(folder)
    return "movinet-a0-stream-lite.k600"
