"""Reading foreign files as named arrays: safetensors, npz without objects, tensors-only pickles."""

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
# Keys under which trainers keep the state of the network; averaged copies after all others.
_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module",
    "weights", "params", "generator_state_dict",
)  # fmt: skip
_AVERAGED = (
    "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "model_ema_state_dict",
    "params_ema", "ema", "ema_params", "shadow", "shadow_params",
)  # fmt: skip
# What trainers keep besides, in which no network is looked for.
_OTHERS = re.compile(
    r"(^|_)(optim|sched|lr_|scaler|amp|rng|hyper|args|config|cfg|meta|callback|loop|metric|loss)"
)
_DEEPEST = 5
_MOST_PICKLED = 100_000_000  # bytes that are looked through for names
# What tensors and their containers are made of.
_HARMLESS = re.compile(
    r"torch\._utils\.\w+|torch\.(\w+Storage|Size|device|\w*int\d+|\w*float\d+)"
    r"|torch\.storage\.\w+|torch\.nn\.parameter\.Parameter|collections\.OrderedDict|_codecs\.encode"
)
_STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer and not the file itself"),
    (b"\x89HDF", "an HDF5 file of Keras: save its arrays as npz"),
    (b"%PDF", "a PDF document"),
    (b"\x1f\x8b", "a packed file: unpack it first"),
    (b"BZh", "a packed file: unpack it first"),
    (b"7z\xbc\xaf", "a packed file: unpack it first"),
    (b"\xfd7zXZ", "a packed file: unpack it first"),
    (b"\x93NUMPY", "a single array: save the arrays by name, as npz"),
    (b"GGUF", "a GGUF file, which no importer takes"),
)


def read_arrays(path: Path, notes: list[str] | None = None) -> dict[str, Any]:
    """Read the named arrays of a checkpoint.

    Args:
        path: ``.safetensors``, ``.npz``, or a file of torch (``.pth``, ``.pt``, ``.tar``, ...).
        notes: Takes lines about what else is in the file: averaged copies beside the network.

    Returns:
        Arrays or tensors by the names in the file; where a trainer wrapped the network's state
        in dictionaries, only that state. An averaged copy is taken where there is no other.

    Raises:
        WeightsError: Not such a file; or it holds more than tensors and plain values, which would
            mean running its code.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        reason = (error.strerror or "no such file").lower()
        raise WeightsError(f"{path}: cannot be read ({reason})") from None
    if path.is_dir():
        raise WeightsError(f"{path.name}: a folder, not a file of arrays")
    if not path.is_file() or size > MOST_BYTES:
        raise WeightsError(f"{path.name}: no file, or larger than {MOST_BYTES:,} bytes")
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".npz":
        return _npz(path)
    return read_torch(path, path.name, notes)


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError):
        what = _what_it_is(path) or "damaged or cut off"
        raise WeightsError(f"{path.name}: no safetensors file ({what})") from None


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            if not hasattr(stored, "files"):
                raise WeightsError(f"{path.name}: no plain npz file (a single array)")
            found = {name: stored[name] for name in stored.files}
    except ValueError:
        raise WeightsError(
            f"{path.name}: no plain npz file (it holds objects, not only numbers, or is damaged)"
        ) from None
    except (OSError, zipfile.BadZipFile, KeyError, EOFError, TypeError, RuntimeError):
        what = _what_it_is(path) or "damaged or cut off"
        raise WeightsError(f"{path.name}: no plain npz file ({what})") from None
    odd = [name for name, value in found.items() if np.asarray(value).dtype.kind not in "fiub"]
    if odd:
        raise WeightsError(f"{path.name}: no numbers under {', '.join(odd[:8])}")
    return found


def read_torch(
    source: Path | BinaryIO, name: str, notes: list[str] | None = None
) -> dict[str, Any]:
    """Read a file of ``torch.save`` without running anything of it.

    Args:
        source: Its path, or the open file.
        name: What to call it in errors.
        notes: As for `read_arrays`.

    Raises:
        WeightsError: It holds more than tensors and plain values, or is no such file.
    """
    import warnings

    import torch

    what = _what_it_is(source, "neither a pickle nor an archive of one")
    if what is not None:
        raise WeightsError(f"{name}: no checkpoint ({what})")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(source, map_location="cpu", weights_only=True)
    except MemoryError:
        raise WeightsError(f"{name}: asks for more memory than there is") from None
    except Exception:
        # The unpickler of a damaged file fails in any way; its words mean nothing to a reader.
        odd = next((n for n in _names_in(source) if not _HARMLESS.fullmatch(n)), None)
        if odd is None:
            raise WeightsError(f"{name}: no checkpoint (damaged or cut off)") from None
        raise WeightsError(
            f"{name}: holds more than tensors ({odd}), so it is not opened",
            "save its state_dict alone, best as safetensors, where you trust it",
        ) from None
    state = _state(found, name)
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
        while stream.tell() < _MOST_PICKLED:  # older files hold several, one after the other
            for code, value, _ in pickletools.genops(stream):
                if code.name == "GLOBAL":
                    found.append(str(value).replace(" ", "."))
                elif code.name == "STACK_GLOBAL":
                    found.append(".".join(words))
                elif isinstance(value, str):
                    words = [words[1], value]
    except (ValueError, EOFError, IndexError, KeyError, OSError, StopIteration, zipfile.BadZipFile):
        pass  # cut off, or the numbers behind the last pickle
    return found


def _what_it_is(source: Path | BinaryIO, otherwise: str | None = None) -> str | None:
    """What a file is that is no checkpoint, by its first bytes; None where it may be one.

    Args:
        source: The file.
        otherwise: What to say of unknown bytes.
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
        return "a .tflite file, which no importer takes"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page and not the file itself"
    if head.startswith(b"PK\x03\x04"):
        return _archive(source)
    if head[4:8] == b"ftyp":
        return "a video"
    if head.startswith(b"\x80") or head[257:262] == b"ustar":
        return None
    return "text" if b"\0" not in head and _is_text(head) else otherwise


def _archive(source: BinaryIO) -> str | None:
    """What a ZIP archive is that is no archive of tensors."""
    try:
        with zipfile.ZipFile(source) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError):
        return "damaged or cut off"
    finally:
        source.seek(0)
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript archive, which holds code: save the state_dict of the network"
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
    """The state of the network, out of what a trainer put around it."""
    import torch

    if isinstance(found, torch.nn.Module | torch.Tensor) or not isinstance(found, Mapping):
        kind = "tensor" if isinstance(found, torch.Tensor) else type(found).__name__
        raise WeightsError(f"{name}: a {kind}, not tensors by name")
    if not found:
        raise WeightsError(f"{name}: an empty dictionary, not tensors by name")
    state = next(_states(found), None)
    if state is None:
        while keys := [key for key in _WRAPPERS if isinstance(found.get(key), Mapping)]:
            found = found[keys[0]]
        odd = [str(key) for key, value in found.items() if not isinstance(value, torch.Tensor)]
        raise WeightsError(f"{name}: no tensors under {', '.join(odd[:8])}")
    return state


def _states(found: Mapping[Any, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """States of networks in a dictionary: itself, or in its entries, the likeliest first."""
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
    if others:  # one dictionary for each part of a network, or under a name of the user's own
        joined = {f"{key}.{n}": v for key, state in others.items() for n, v in state.items()}
        yield joined if len(others) > 1 else next(iter(others.values()))
