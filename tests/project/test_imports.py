"""Imports: packages import lower layers only; dependencies stay in the packages that own them."""

import ast
from collections.abc import Container
from pathlib import Path

import pytest

import foveate

SOURCE = Path(foveate.__file__).parent
LAYERS = {
    "core": 0, "scale": 1, "media": 2, "viz": 2, "data": 3, "models": 3, "engines": 4, "policy": 4,
    "live": 5, "primitives": 5, "pipeline": 6, "evaluate": 7, "train": 8, "search": 9, "app": 10,
}  # fmt: skip
NARROW = {"models": {"core"}, "engines": {"core", "models"}, "policy": {"core", "models"}}
OWNERS = {
    "av": {"media"},
    "cv2": {"media", "viz", "data", "primitives"},
    "PIL": {"viz"},
    "jinja2": {"viz"},
    "platformdirs": {"core"},
    "numba": {"media"},
    "timm": {"models", "data"},
    "torchvision": {"models", "primitives"},
    "tflite": {"models"},
    "ray": {"scale", "search"},
    "optuna": {"search"},
    "sklearn": {"evaluate", "train"},
    "matplotlib": {"viz"},
    "fastapi": {"app"},
    "typer": {"app"},
    "onnxruntime": {"engines"},
    "openvino": {"engines"},
    "ai_edge_litert": {"engines"},
    "litert_torch": {"engines"},
}
FILES = sorted(SOURCE.rglob("*.py"))


def imported(path: Path) -> list[str]:
    """Full names of everything a file imports, wherever in the file."""
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def package_of(path: Path) -> str | None:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else None


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down_and_dependencies_have_owners(path: Path) -> None:
    package = package_of(path)
    if package is None:
        return  # foveate/__init__.py may import every package
    assert package in LAYERS, f"{package} has no layer"
    for name in imported(path):
        top, *rest = name.split(".")
        if top != "foveate":
            assert package in OWNERS.get(top, {package}), f"{package} may not import {top}"
            continue
        if not rest or rest[0] not in LAYERS:
            assert rest[:1] == ["__version__"], f"{package} imports the top level: {name}"
            continue
        other = rest[0]
        if other == package:
            continue
        assert LAYERS[other] < LAYERS[package], f"{package} imports {other}, which is not below it"
        if package in NARROW:
            assert other in NARROW[package], f"{package} may not import {other}"


def test_all_packages_are_checked() -> None:
    """The tests above would pass on an empty list of files."""
    assert {package_of(path) for path in FILES} >= {"core", "media", "models", "pipeline", "app"}
    assert len(FILES) > 40


def test_no_name_that_says_nothing() -> None:
    assert not [p for p in FILES if p.stem in {"utils", "helpers", "misc", "common"}]


def test_loaded_files_hold_no_code() -> None:
    """No pickle anywhere; `torch.load` only with weights_only=True."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert not called.startswith(("pickle.", "dill.", "joblib.")), path
                if called == "torch.load":
                    assert "weights_only=True" in ast.unparse(node), path


def runtime_imports(path: Path, modules: Container[str]) -> set[str]:
    """Our modules that a module imports, in functions too, except under `TYPE_CHECKING`."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in modules else str(node.module) for name in names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        else:
            waiting += ast.iter_child_nodes(node)
    return {name for name in found if name in modules}


def circles(graph: dict[str, set[str]]) -> set[str]:
    """The modules that are in a circle of imports, or between two circles.

    Modules are removed as long as one imports no other, or is imported by no other.
    """
    left = dict(graph)
    while True:
        imported = {other for name, others in left.items() for other in others - {name}}
        removed = {
            name
            for name, others in left.items()
            if not others & left.keys() - {name} or name not in imported
        }
        if not removed:
            return set(left)
        left = {name: others for name, others in left.items() if name not in removed}


def test_no_modules_import_each_other_in_a_circle() -> None:
    names = {".".join(p.relative_to(SOURCE.parent).with_suffix("").parts): p for p in FILES}
    names = {name.removesuffix(".__init__"): path for name, path in names.items()}
    found = circles({name: runtime_imports(path, names) for name, path in names.items()})
    assert not found
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {"b", "c"}


def test_imports_in_functions_count_and_those_for_types_do_not(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text(
        "import typing\nif typing.TYPE_CHECKING:\n    import b\nelse:\n    import c\n"
        "def f():\n    if f:\n        from d import e\n"
    )
    assert runtime_imports(file, {"b", "c", "d"}) == {"c", "d"}
