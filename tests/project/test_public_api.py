"""The public API: small, exact, lazy and silent."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import foveate
from foveate.core import Result

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "av", "cv2", "numpy")


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# The public API. A name that comes or goes is a decision, and a line in the change log.
PUBLIC = {
    "Budget", "ConfigError", "DataError", "DataRequest", "FoveateError", "InputSpec", "Limits",
    "MediaError", "MissingExtra", "ModelError", "Pipeline", "Preset", "Recogniser", "Result",
    "ResultError", "Video", "VideoClassifier", "WeightsError", "__version__", "bench", "evaluate",
    "export", "fit", "load", "looks", "read_results", "specs", "train",
}  # fmt: skip
# Names that load torch on their first use.
LOADING = {"Pipeline", "Recogniser", "VideoClassifier", "fit", "load", "looks"}


def test_all_is_exact() -> None:
    assert len(set(foveate.__all__)) == len(foveate.__all__)
    assert set(foveate.__all__) == PUBLIC
    for name in foveate.__all__:
        assert getattr(foveate, name) is not None
    assert set(dir(foveate)) == set(foveate.__all__)


def test_import_is_silent_light_and_offline() -> None:
    code = (
        "import socket, sys\n"
        "def no(*a, **k): raise AssertionError('network at import')\n"
        "socket.socket.connect = no\n"
        "import foveate, foveate.models.weights.table\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_names_are_imported_one_by_one_and_load_what_they_need() -> None:
    code = (
        "import sys, foveate\n"
        f"for name in {sorted(PUBLIC - LOADING)!r}:\n"
        "    exec(f'from foveate import {name}')\n"
        "    assert name in dir(foveate)\n"
        "print('torch' in sys.modules)\n"
        f"for name in {sorted(LOADING)!r}:\n"
        "    exec(f'from foveate import {name}')\n"
        "from foveate import *\n"
        "assert callable(train) and callable(evaluate) and specs.Preset is Preset\n"
        "try: foveate.nothing\n"
        "except AttributeError as error: print(error)"
    )
    assert run(code).splitlines() == ["False", "module 'foveate' has no attribute 'nothing'"]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['foveate', '--help']\n"
        "from foveate.app.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)\n"
        f"assert not [m for m in {HEAVY!r} if m in sys.modules]"
    )
    assert "predict" in run(code)


@pytest.mark.parametrize("model", ["movinet-a0-stream-lite.k600", "movinet-a0-stream-lite.fights"])
def test_printing_a_configuration_loads_no_torch(model: str) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['foveate', 'predict', '--model', {model!r}, '--print-config']\n"
        "from foveate.app.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    assert f"model: {model}" in run(code)


def test_the_committed_schema_is_the_code_s() -> None:
    committed = json.loads((ROOT / "docs" / "result.schema.json").read_text("utf-8"))
    assert committed == Result.model_json_schema(by_alias=True, mode="serialization"), (
        "type: python scripts/write_result_schema.py"
    )


def test_no_path_of_a_machine_and_nothing_outside_the_repository() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert ".." not in makefile.replace("...", "")
    assert "/home" not in makefile
    assert "/root" not in makefile
