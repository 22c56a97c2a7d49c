"""Result files: complete or refused, whole or absent."""

from __future__ import annotations

import json
import os

import pytest

from foveate.core import ConfigError, FoveateError
from foveate.evaluate.results import commit, hardware, read_result, write_result


def write(path, **changes):
    values = {"protocol": "FS-4", "n": 240, "seeds": [0, 1, 2], "figures": {"top1": 0.5}}
    return write_result(path, "fights", **{**values, **changes})


def test_what_is_written_can_be_read(tmp_path):
    path = tmp_path / "deep" / "fights.json"
    written = write(path)
    assert read_result(path) == written
    assert json.loads(path.read_text())["schema"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["fights.json"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"figures": {"a": {"b": [float("nan")]}}}, "figures"),
        ({"figures": {}}, "figures"),
        ({"protocol": ""}, "protocol"),
        ({"n": -1}, "n:"),
        ({"figures": {"a": object()}}, "figures"),
    ],
)
def test_what_may_not_be_there(tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said):
        write(tmp_path / "x.json", **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("gone", ["commit", "date", "hardware", "protocol", "n", "seeds"])
def test_metadata_are_required(tmp_path, gone):
    path = tmp_path / "x.json"
    write(path)
    values = json.loads(path.read_text())
    del values[gone]
    path.write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=gone):
        read_result(path)


def test_what_is_no_result(tmp_path):
    path = tmp_path / "x.json"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_result(path)
    for text in ("{", "[" * 100_000, "[]"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"x\.json"):
            read_result(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_old_file_outlives_a_failure(tmp_path):
    path = tmp_path / "x.json"
    write(path)
    before = path.read_bytes()
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(FoveateError, match="cannot be written"):
            write(path, n=1)
    finally:
        tmp_path.chmod(0o755)
    assert path.read_bytes() == before


def test_the_machine_is_described_without_its_name():
    machine = hardware()
    assert machine.cores >= 1
    assert os.uname().nodename not in machine.processor
    assert commit()
