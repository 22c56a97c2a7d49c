"""Read checkpoints as named arrays: safetensors, npz without objects, pickles of tensors only."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from foveate.core.errors import WeightsError

MOST_BYTES = 8_000_000_000
# Keys of the network's state dict in trainers' checkpoints; averaged copies last.
_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module",
    "weights", "params", "generator_state_dict",
)  # fmt: skip
_AVERAGED = (
    "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "model_ema_state_dict",
    "params_ema", "ema", "ema_params", "shadow", "shadow_params",
)  # fmt: skip
# Other keys of trainers' checkpoints, which are not searched for a network.
_OTHERS = re.compile(
    r"(^|_)(optim|sched|lr_|scaler|amp|rng|hyper|args|config|cfg|meta|callback|loop|metric|loss)"
)
_DEEPEST = 5
_MOST_PICKLED = 100_000_000  # bytes that are searched for names
# Classes that tensors and their containers consist of.
_HARMLESS = re.compile(
    r"torch\._utils\.\w+|torch\.(\w+Storage|Size|device|\w*int\d+|\w*float\d+)"
    r"|torch\.storage\.\w+|torch\.nn\.parameter\.Parameter|collections\.OrderedDict|_codecs\.encode"
)
_STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"\x89HDF", "an HDF5 file of Keras: save its arrays as npz"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a compressed file: decompress it first"),
    (b"BZh", "a compressed file: decompress it first"),
    (b"7z\xbc\xaf", "a compressed file: decompress it first"),
    (b"\xfd7zXZ", "a compressed file: decompress it first"),
    (b"\x93NUMPY", "a single array: save the arrays by name, as npz"),
    (b"GGUF", "a GGUF file, which is not supported"),
)


def read_arrays(path: Path, notes: list[str] | None = None) -> dict[str, Any]:
    """Read the named arrays of a checkpoint.

    Args:
        path: ``.safetensors``, ``.npz``, the ``.tflite`` of a MoViNet, or a file of torch
            (``.pth``, ``.pt``, ``.tar``, ...).
        notes: Gets lines about other content of the file: averaged copies of the network.

    Returns:
        Arrays or tensors by the names in the file; from a trainer's checkpoint only the state dict
        of the network. An averaged copy is used if there is no other.

    Raises:
        WeightsError: Not such a file; or it contains more than tensors and plain values, which
            would run code when loaded.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        reason = (error.strerror or "no such file").lower()
        raise WeightsError(f"{path}: cannot be read ({reason})") from None
    if path.is_dir():
        raise WeightsError(f"{path}: is a folder, not a file of arrays")
    if not path.is_file() or size > MOST_BYTES:
        raise WeightsError(f"{path.name}: not a regular file, or larger than {MOST_BYTES:,} bytes")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".npz":
        return _npz(path)
    if path.suffix == ".tflite":
        from foveate.models.weights.importers.movinet_tflite import import_movinet_tflite

        return dict(import_movinet_tflite(path.read_bytes(), path.name))
    return read_torch(path, path.name, notes)


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError):
        what = _what_it_is(path) or "damaged or truncated"
        raise WeightsError(f"{path.name}: not a safetensors file ({what})") from None


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if not hasattr(stored, "files"):
                raise WeightsError(f"{path.name}: not a plain npz file (a single array)")
            found = {name: stored[name] for name in stored.files}
    except ValueError:
        raise WeightsError(
            f"{path.name}: not a plain npz file (it has objects, not only numbers, or is damaged)"
        ) from None
    except (OSError, zipfile.BadZipFile, KeyError, EOFError, TypeError, RuntimeError):
        what = _what_it_is(path) or "damaged or truncated"
        raise WeightsError(f"{path.name}: not a plain npz file ({what})") from None
    odd = [name for name, value in found.items() if np.asarray(value).dtype.kind not in "fiub"]
    if odd:
        raise WeightsError(f"{path.name}: not numeric: {', '.join(odd[:8])}")
    return found


def read_torch(
    source: Path | BinaryIO, name: str, notes: list[str] | None = None
) -> dict[str, Any]:
    """Read a file of ``torch.save`` without running its code.

    Args:
        source: Path, or the open file.
        name: Its name in errors.
        notes: As for `read_arrays`.

    Raises:
        WeightsError: It contains more than tensors and plain values, or is not such a file.
    """
    import warnings

    import torch

    what = _what_it_is(source, "neither a pickle nor an archive of one")
    if what is not None:
        raise WeightsError(f"{name}: not a checkpoint ({what})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise WeightsError(f"{name}: needs more memory than is available") from None
    except Exception:
        # The unpickler can raise any exception on a damaged file, with messages of no use to users.
        odd = next((n for n in _names_in(source) if not _HARMLESS.fullmatch(n)), None)
        if odd is None:
            raise WeightsError(f"{name}: not a checkpoint (damaged or truncated)") from None
        raise WeightsError(
            f"{name}: contains more than tensors ({odd}), so it is not loaded",
            "if you trust it, save only its state_dict, preferably as safetensors",
        ) from None
    state = _state(found, name)
    if empty := [key for key, value in state.items() if value.is_meta]:
        raise WeightsError(f"{name}: tensors without values (of the device meta): {empty[0]}")
    if notes is not None and any(isinstance(found.get(key), Mapping) for key in _WRAPPERS):
        copies = [key for key in _AVERAGED if isinstance(found.get(key), Mapping)]
        notes += [f"{key}, an averaged copy, is in the file too and was not used" for key in copies]
    return state


def _names_in(source: Path | BinaryIO) -> list[str]:
    """What the pickles of a file name, in order, as `module.name`; nothing of it is run."""
    import pickletools

    if isinstance(source, Path):
        with source.open("rb") as file:
            return _names_in(file)
    source.seek(0)
    stream: IO[bytes] = source
    found: list[str] = []
    words = ["", ""]
    try:
        if source.read(2) == b"PK":
            with zipfile.ZipFile(source) as archive:
                inner = next(n for n in archive.namelist() if n.endswith("data.pkl"))
                stream = io.BytesIO(archive.read(inner))
        stream.seek(0)
        while stream.tell() < _MOST_PICKLED:  # older files have several pickles in sequence
            for code, value, _ in pickletools.genops(stream):
                if code.name == "GLOBAL":
                    found.append(str(value).replace(" ", "."))
                elif code.name == "STACK_GLOBAL":
                    found.append(".".join(words))
                elif isinstance(value, str):
                    words = [words[1], value]
    except (ValueError, EOFError, IndexError, KeyError, OSError, StopIteration, zipfile.BadZipFile):
        pass  # truncated, or the data after the last pickle
    return found


def _what_it_is(source: Path | BinaryIO, otherwise: str | None = None) -> str | None:
    """The kind of a file that is not a checkpoint, by its first bytes; None if it may be one.

    Args:
        source: The file.
        otherwise: Returned for unknown bytes.
    """
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return _what_it_is(file, otherwise)
        except OSError as error:
            reason = (error.strerror or "no such file").lower()
            raise WeightsError(f"{source}: cannot be read ({reason})") from None
    head = source.read(4096)
    source.seek(0)
    if not head:
        return "empty, 0 bytes"
    for start, what in _STARTS:
        if head.startswith(start):
            return what
    if head[4:8] == b"TFL3":
        return "a .tflite file: name it .tflite"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page, not the file itself"
    if head.startswith(b"PK\x03\x04"):
        return _archive(source)
    if head[4:8] == b"ftyp":
        return "a video"
    if head.startswith(b"\x80") or head[257:262] == b"ustar":
        return None
    return "text" if b"\0" not in head and _is_text(head) else otherwise


def _archive(source: BinaryIO) -> str | None:
    """The kind of a ZIP archive that has no tensors; None if it may have."""
    try:
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):
        return "damaged or truncated"
    finally:
        source.seek(0)
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript archive, which contains code: save the state_dict of the network"
    if not any(name.endswith("data.pkl") for name in names):
        return "an archive without tensors"
    return None


def _is_text(head: bytes) -> bool:
    try:
        head[: -4 if len(head) == 4096 else None].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _state(found: Any, name: str) -> dict[str, Any]:
    """The state dict of the network in a trainer's checkpoint."""
    import torch

    if isinstance(found, torch.nn.Module | torch.Tensor) or not isinstance(found, Mapping):
        kind = "tensor" if isinstance(found, torch.Tensor) else type(found).__name__
        raise WeightsError(f"{name}: is a {kind}, not tensors by name")
    if not found:
        raise WeightsError(f"{name}: is an empty dictionary, not tensors by name")
    state = next(_states(found), None)
    if state is None:
        while keys := [key for key in _WRAPPERS if isinstance(found.get(key), Mapping)]:
            found = found[keys[0]]
        odd = [str(key) for key, value in found.items() if not isinstance(value, torch.Tensor)]
        raise WeightsError(f"{name}: no tensors but: {', '.join(odd[:8])}")
    return state


def _states(found: Mapping[Any, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """State dicts in a dictionary: itself, or in its entries, the most likely first."""
    import torch

    if found and all(isinstance(value, torch.Tensor) for value in found.values()):
        yield {str(key): value for key, value in found.items()}
        return
    inner = {str(key): value for key, value in found.items() if isinstance(value, Mapping)}
    if depth >= _DEEPEST:
        return
    known = [key for key in (*_WRAPPERS, *_AVERAGED) if key in inner]
    for key in known:
        yield from _states(inner[key], depth + 1)
    others = {
        key: state
        for key, value in inner.items()
        if key not in known
        and not _OTHERS.search(key.lower())
        and (state := next(_states(value, depth + 1), None)) is not None
    }
    if others:  # one state dict per part of a network, or under another key
        joined = {f"{key}.{n}": v for key, state in others.items() for n, v in state.items()}
        yield joined if len(others) > 1 else next(iter(others.values()))
