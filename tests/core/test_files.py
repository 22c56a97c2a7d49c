"""Atomic writes and the cache folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import platformdirs
import pytest
from platformdirs.macos import MacOS
from platformdirs.unix import Unix
from platformdirs.windows import Windows

from foveate.core.errors import FoveateError
from foveate.core.files import cache_folder, replace_file, replacing


@pytest.mark.parametrize(
    ("system", "variables", "end"),
    [
        (Unix, {"XDG_CACHE_HOME": "/x"}, "/x/foveate"),
        (Unix, {}, "/home/me/.cache/foveate"),
        (MacOS, {}, "/home/me/Library/Caches/foveate"),
        (Windows, {}, "/local/foveate"),
        (Unix, {"FOVEATE_CACHE": "/y", "XDG_CACHE_HOME": "/x"}, "/y"),
        (Windows, {"FOVEATE_CACHE": "~/kept"}, "/home/me/kept"),
    ],
)
def test_the_cache_folder_of_each_system(
    monkeypatch: pytest.MonkeyPatch, system: type, variables: dict[str, str], end: str
) -> None:
    for name in ("FOVEATE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda _: "/local")
    monkeypatch.setattr(platformdirs, "PlatformDirs", system)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder().as_posix() == end


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    target = tmp_path / "a" / ("n" * 250)  # the longest names leave no space for a suffix
    replace_file(target, b"old")
    replace_file(target, b"new")
    assert target.read_bytes() == b"new"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    target = tmp_path / "line\nbreak"
    replace_file(target, b"old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, refuse)
    with pytest.raises(
        FoveateError, match=r"cannot be written .No space left.*free some disk space"
    ) as caught:
        replace_file(target, b"new")
    assert "\n" not in str(caught.value)
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_an_interrupted_block_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(target) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]
