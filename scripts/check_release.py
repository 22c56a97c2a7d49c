"""Check built archives: contents, metadata, and that an installation recognises the bundled clip.

    python -m build
    python scripts/check_release.py dist            # installs without dependencies, next to these
    python scripts/check_release.py dist --fresh    # a new environment for each archive

Exits with 1 and one line for each problem.
"""

from __future__ import annotations

import argparse
import email
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "demo" / "cartwheel.mp4"
MODEL, LABEL = "movinet-a0-stream-lite.actions15", "cartwheel"
WHOLE_WHEEL = (
    "foveate/py.typed",
    f"foveate/models/weights/built_in/{MODEL}/model.safetensors",
    f"foveate/models/weights/built_in/{MODEL}/run.json",
)
# What an installation needs, and what would be too much in it.
FOREIGN = re.compile(r"^(tests|benchmarks|docs|examples|scripts)/|\.pyc$|/\.")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "NOTICE", "src/foveate/__init__.py")
DESCRIBED = ("Summary", "License-Expression", "Requires-Python", "Keywords", "Description")


def version() -> str:
    """The version as `src/foveate/__init__.py` says."""
    text = (ROOT / "src" / "foveate" / "__init__.py").read_text("utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.M)
    assert found is not None
    return found[1]


def check_wheel(wheel: Path) -> list[str]:
    """What is wrong with a wheel: missing or foreign files, metadata, entry point."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"foveate-{version()}.dist-info"
        problems = [f"{wheel.name}: {name} is missing" for name in WHOLE_WHEEL if name not in names]
        problems += [
            f"{wheel.name}: {name} does not belong" for name in names if FOREIGN.search(name)
        ]
        if f"{info}/METADATA" not in names:
            return [*problems, f"{wheel.name}: is not version {version()}"]
        metadata = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        points = archive.read(f"{info}/entry_points.txt").decode()
    for licence in ("LICENSE", "NOTICE"):
        if f"{info}/licenses/{licence}" not in names:
            problems.append(f"{wheel.name}: {licence} is missing")
    for key in DESCRIBED:
        if not (metadata.get_payload() if key == "Description" else metadata.get(key)):
            problems.append(f"{wheel.name}: the metadata has no {key}")
    if metadata["Version"] != version():
        problems.append(f"{wheel.name}: the metadata says version {metadata['Version']}")
    if not re.search(r"^foveate = foveate\.", points, re.M):
        problems.append(f"{wheel.name}: no command foveate")
    return problems


def check_source(archive: Path) -> list[str]:
    """What is wrong with a source archive: missing files, or large ones that nobody needs."""
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    problems = [f"{archive.name}: {name} is missing" for name in SOURCES if name not in names]
    return problems + [
        f"{archive.name}: {name} does not belong" for name in names if ".venv" in name
    ]


def check_changelog() -> list[str]:
    """Whether the change log has a heading that names the version."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    headings = re.findall(r"^## (.+)$", text, re.M)
    return [] if any(version() in h for h in headings) else [f"CHANGELOG.md: no {version()}"]


def run_installed(archive: Path, fresh: bool) -> list[str]:
    """Install an archive, and recognise the bundled clip from another folder."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        python = sys.executable
        options = ["--no-deps", "--target", str(folder / "installed")]
        if fresh:
            venv.create(folder / "venv", with_pip=True)
            scripts = "Scripts" if os.name == "nt" else "bin"
            python, options = str(folder / "venv" / scripts / "python"), []
        else:
            environment["PYTHONPATH"] = str(folder / "installed")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *options, str(archive)], check=True)
        environment |= {"FOVEATE_OFFLINE": "1", "FOVEATE_CACHE": str(folder / "cache")}
        command = [python, "-m", "foveate", "predict", str(CLIP), "--model", MODEL, "--json", "-"]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            return [
                f"{archive.name}: installed, predict exits with {done.returncode}: {done.stderr}"
            ]
        label = json.loads(done.stdout)["labels"][0]["label"]
        return [] if label == LABEL else [f"{archive.name}: recognises {label}, not {LABEL}"]


def main(arguments: list[str] | None = None) -> int:
    """Check a folder of archives."""
    parser = argparse.ArgumentParser(description="Check built archives")
    parser.add_argument("dist", type=Path)
    parser.add_argument("--fresh", action="store_true", help="install with all dependencies")
    options = parser.parse_args(arguments)
    wheels = sorted(options.dist.glob("*.whl"))
    sources = sorted(options.dist.glob("*.tar.gz"))
    problems = check_changelog()
    if len(wheels) != 1 or len(sources) != 1:
        problems.append(f"{options.dist}: holds {len(wheels)} wheels and {len(sources)} archives")
    for wheel in wheels:
        problems += check_wheel(wheel) or run_installed(wheel, options.fresh)
    for source in sources:
        problems += check_source(source) or run_installed(source, options.fresh)
    print("\n".join(problems) or f"{options.dist}: version {version()} is ready")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
