"""Release: the wheel that the Dockerfile's files give, and the instructions of the Dockerfile."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from scripts import check_release
from typer.testing import CliRunner

from foveate import __version__
from foveate.app.main import app

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, in order."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def of(word: str) -> list[str]:
    return [rest for found, rest in instructions() if found == word]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel built from the files that the Dockerfile copies, and no others."""
    pytest.importorskip("hatchling", reason="needs the extra dev: hatchling builds the wheel")
    folder = tmp_path_factory.mktemp("build")
    for words in map(shlex.split, of("COPY")):
        for name in words[:-1]:
            if (ROOT / name).is_dir():
                ignore = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / name, folder / name, ignore=ignore)
            else:
                shutil.copyfile(ROOT / name, folder / name)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    done = subprocess.run(build, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = (folder / "dist").glob("*.whl")
    return found


def test_the_wheel_is_whole_and_recognises_the_bundled_clip(wheel: Path) -> None:
    assert check_release.check_wheel(wheel) == []
    assert check_release.run_installed(wheel, fresh=False) == []


def test_a_wheel_that_lacks_something_is_told(wheel: Path, tmp_path: Path) -> None:
    broken = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(broken, "w") as out:
        for name in whole.namelist():
            if name != "foveate/py.typed":
                out.writestr(name, whole.read(name))
        out.writestr("tests/test_it.py", "")
    problems = check_release.check_wheel(broken)
    assert [p.partition(": ")[2] for p in problems] == [
        "foveate/py.typed is missing", "tests/test_it.py does not belong",
    ]  # fmt: skip


def test_the_version_is_in_one_place_and_in_the_change_log() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert check_release.version() == __version__
    assert check_release.check_changelog() == []


def test_the_dockerfile_is_well_formed() -> None:
    words = [word for word, _ in instructions()]
    assert words[0] == "FROM"
    assert set(words) <= {"FROM", "ENV", "RUN", "COPY", "USER", "WORKDIR", "ENTRYPOINT", "CMD"}
    assert re.fullmatch(r"python:3\.\d+-slim", of("FROM")[0])
    assert of("USER") not in ([], ["root"])
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")


def test_what_the_dockerfile_installs_exists() -> None:
    installs = [shlex.split(run) for run in of("RUN") if run.startswith("pip install")]
    assert len(installs) == 2
    first, second = installs
    assert first[-2:] == ["--index-url", CPU_INDEX]
    assert not set(first[2:-2]) - {"torch", "torchvision"}
    place, extras = re.fullmatch(r"(/[\w/]+)\[([\w,]+)\]", second[2]).groups()
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    targets = {shlex.split(copy)[-1].rstrip("/").removesuffix("/src") for copy in of("COPY")}
    assert targets == {place}
    addresses = re.findall(r"https?://\S+", (ROOT / "Dockerfile").read_text("utf-8"))
    assert addresses == [CPU_INDEX]


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    kept = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for name in (name for copy in of("COPY") for name in shlex.split(copy)[:-1]):
        assert (ROOT / name).exists()
        assert f"!{name}" in kept


def test_what_the_dockerfile_starts_runs() -> None:
    (command,) = json.loads(of("ENTRYPOINT")[0])
    assert command in PROJECT["scripts"]
    done = CliRunner().invoke(app, json.loads(of("CMD")[0]))
    assert done.exit_code == 0
    assert "predict" in done.stdout
