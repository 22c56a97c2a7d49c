"""`foveate weights import --labels`: files of names as editors and spreadsheets write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from foveate.data import DataError
from foveate.data.readers.classes import read_class_names
from foveate.models import registry


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small 3D ResNet of three classes under its original's names."""
    torch.manual_seed(0)
    model = registry.create("r3d", depth=10, width=4, num_classes=3)
    file = tmp_path_factory.mktemp("checkpoint") / "r3d.pth"
    state = {n.replace("classifier.", "fc."): v for n, v in model.state_dict().items()}
    torch.save(state, file)
    return file


def imported(run, checkpoint: Path, labels: Path):
    name = f"case.{labels.stem.lower()}"
    said = run(
        "weights", "import", checkpoint, "--as", name, "--set", "widen_factor=0.0625",
        "--labels", labels,
    )  # fmt: skip
    return said, name


GOOD = {
    "bom": (b"\xef\xbb\xbfa\r\nb\r\nc\r\n", ["a", "b", "c"]),
    "utf16": ("a\r\nb\r\nc".encode("utf-16"), ["a", "b", "c"]),
    "mac": (b"a\rb\rc", ["a", "b", "c"]),
    "spaces": (b" a \nb\t\n  c\n\n\n", ["a", "b", "c"]),
    "numbers": (b"0 a\n1 b\n2 c\n", ["a", "b", "c"]),
    "from1": (b"1 a\n2 b\n3 c\n", ["a", "b", "c"]),
    "shuffled": (b"2,c\n0,a\n1,b\n", ["a", "b", "c"]),
    "dots": (b"1. a\n2. b\n3) c\n", ["a", "b", "c"]),
    "behind": (b"a 0\nb b 1\nc 2\n", ["a", "b b", "c"]),
    "header": (b"id,name\n0,a\n1,b\n2,c\n", ["a", "b", "c"]),
    "quoted": (b'"a, b"\n"b"\nc\n', ["a, b", "b", "c"]),
    "digits": ("²\n3 point shot\n٣ x\n".encode(), ["²", "3 point shot", "٣ x"]),
    "apart": ("cafe\u0301\nb\nc\n".encode(), ["caf\u00e9", "b", "c"]),
}
BAD = {
    "blank": (b"a\n\nc\n", "blank.txt:2: an empty name"),
    "spaces": (b"a\n \t\nc\n", "spaces.txt:2: an empty name"),
    "twice": (b"a\na\nc\n", "twice.txt:2: the class 'a' is named twice (also line 1)"),
    "forms": ("é\ne\u0301\nc\n".encode(), "forms.txt:2: the class 'é' is named twice"),
    "gap": (b"0 a\n1 b\n3 c\n", "gap.txt: the number 2 is missing"),
    "comment": (b"# classes\na\nb\nc\n", "comment.txt:1: a comment: every line is a class"),
    "latin": (b"a\n\xe9\nc\n", "latin.txt:2: not UTF-8"),
    "empty": (b"\xef\xbb\xbf\r\n", "empty.txt: contains no class names"),
    "two": (b"a\nb\n", "2 labels for 3 classes"),
}


@pytest.mark.parametrize("name", list(GOOD))
def test_labels_as_they_are_found(
    run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    data, want = GOOD[name]
    (tmp_path / f"{name}.txt").write_bytes(data)
    said, made = imported(run, checkpoint, tmp_path / f"{name}.txt")
    assert said.code == 0, said.err
    card = json.loads((tmp_path / "cache" / "imported" / made / "run.json").read_text("utf-8"))
    assert card["classes"] == want


@pytest.mark.parametrize("name", list(BAD))
def test_labels_that_cannot_be_meant(
    run, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    data, words = BAD[name]
    (tmp_path / f"{name}.txt").write_bytes(data)
    said, _ = imported(run, checkpoint, tmp_path / f"{name}.txt")
    assert said.code == 2
    assert words in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "cache" / "imported").exists()


def test_a_file_that_is_not_there_is_named_once(run, checkpoint: Path, tmp_path: Path) -> None:
    said, _ = imported(run, checkpoint, tmp_path / "nowhere.txt")
    assert said.code == 2
    assert said.err.count("nowhere.txt") == 1
    assert "no such file" in said.err


@pytest.mark.parametrize(
    "text", ['["a", "b"]', '{"0": "a", "1": "b"}', '{"b": 1, "a": 0}', '{"a": "1", "b": "2"}']
)
def test_names_in_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.json").write_text(text)
    assert read_class_names(tmp_path / "names.json") == ("a", "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('["a", "a"]', "the class 'a' is named twice"),
        ('["a", ""]', "an empty name"),
        ('{"0": "a", "2": "b"}', "the number 1 is missing"),
        ("[1, 2]", "neither a list of names"),
        ("[", "not JSON"),
    ],
)
def test_names_in_json_that_cannot_be_meant(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(DataError, match=words):
        read_class_names(tmp_path / "names.json")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["bom", "blank", "twice", "numbers"])
def test_the_shared_label_files(
    run, checkpoint: Path, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    file = shared / "cases" / "label-file" / f"{name}.txt"
    if not file.is_file():
        pytest.skip("needs the shared case label-file")
    said, made = imported(run, checkpoint, file)
    if name in ("blank", "twice"):
        assert said.code == 2
        assert f"{name}.txt:2: " in said.err
        return
    card = json.loads((tmp_path / "cache" / "imported" / made / "run.json").read_text("utf-8"))
    assert card["classes"] == ["a", "b", "c"]
