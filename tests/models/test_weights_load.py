"""Loading by name: conversion, the cache of converted weights, other class counts."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import torch
from litefile import MoViNetFile
from nontrivial import clip, randomise

from foveate.core.errors import WeightsError
from foveate.models import load, registry
from foveate.models.weights import resolve, table

LABELS = "".join(f"class {i}\n" for i in range(7)).encode()
ARCH = "tiny-lite"
NAME = f"{ARCH}.test"


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Tiny weights in a folder, registered in the table; returns the model."""
    model = randomise(registry.create_tiny("movinet-a0-stream-lite"))
    data = MoViNetFile(model, (20, 24), quantised=True).tobytes()
    folder = tmp_path / "weights"
    folder.mkdir()
    files = []
    for name, content in (("tiny.tflite", data), ("tiny.txt", LABELS)):
        (folder / name).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        files.append(table.WeightFile(name, len(content), digest, ("https://x.invalid/",)))
    entry = replace(
        table.find("movinet-a0-stream-lite.k600"),
        name=NAME,
        arch=ARCH,
        num_classes=7,
        file=files[0],
        labels=files[1],
    )
    tiny = registry.entry("movinet-a0-stream-lite")

    def build(num_classes=7):
        return tiny.build(**{**tiny.tiny, "num_classes": num_classes})

    monkeypatch.setitem(registry._ENTRIES, ARCH, registry.ModelEntry(ARCH, build, streaming=True))
    monkeypatch.setattr(table, "_ENTRIES", {NAME: entry})
    monkeypatch.setenv("FOVEATE_WEIGHTS", str(folder))
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FOVEATE_OFFLINE", "1")
    return model


def kept():
    """The only file of converted weights."""
    (path,) = resolve.cache_folder().glob("*.safetensors")
    return path


def same(a, b):
    """Whether two models have bit-equal parameters."""
    mine, other = a.state_dict(), b.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in mine.items())


def test_load_returns_the_model_and_its_metadata(published):
    loaded = load(NAME)
    model = loaded.network
    assert (loaded.name, loaded.method, loaded.card) == (NAME, "network", None)
    assert loaded.entry is table.find(NAME)
    assert (loaded.input, loaded.output) == (loaded.entry.input, "softmax")
    assert list(loaded.networks) == ["network"]
    assert loaded.labels == tuple(f"class {i}" for i in range(7))
    assert not model.training
    assert all(p.requires_grad for p in model.parameters())
    x = clip((1, 3, 3, 20, 24))
    with torch.no_grad():
        # Quantisation to eight bits leaves a small difference.
        assert (model(x) - published(x)).abs().max() < 0.05 * published(x).abs().max()


def test_the_second_load_reads_the_cache(published, monkeypatch):
    first = load(NAME).network
    assert kept().name.startswith(NAME)
    monkeypatch.setitem(table._ENTRIES, NAME, replace(table.find(NAME), read=None))
    second = load(NAME).network
    assert same(first, second)


@pytest.mark.parametrize("damage", ["empty", "cut", "flip", "other"])
def test_a_damaged_cache_is_replaced(published, damage):
    first = load(NAME).network
    good = kept().read_bytes()
    bad = {
        "empty": b"",
        "cut": good[:-100],
        "flip": good[:-5] + bytes([good[-5] ^ 255]) + good[-4:],
        "other": b"not a file of tensors",
    }[damage]
    kept().write_bytes(bad)
    second = load(NAME).network
    assert same(first, second)
    assert kept().read_bytes() == good


def test_an_unwritable_cache_is_not_fatal(published, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "file" / "cache"))
    model = load(NAME).network
    assert sum(p.numel() for p in model.parameters()) == sum(
        p.numel() for p in published.parameters()
    )


def test_another_number_of_classes_keeps_the_pretrained_layers(published):
    full = load(NAME).network
    loaded = load(NAME, num_classes=3)
    model = loaded.network
    assert loaded.labels == ()
    assert model.classifier.weight.shape == (3, 32)
    assert model.classifier.weight.std() > 0
    assert torch.equal(model.stem.weight, full.stem.weight)
    assert torch.equal(model.classifier_head.weight, full.classifier_head.weight)


def test_the_number_of_labels_must_match(published, monkeypatch, tmp_path):
    entry = table.find(NAME)
    short = LABELS[:-8]
    (tmp_path / "weights" / "tiny.txt").write_bytes(short)
    digest = hashlib.sha256(short).hexdigest()
    changed = replace(entry, labels=replace(entry.labels, sha256=digest, size=len(short)))
    monkeypatch.setitem(table._ENTRIES, NAME, changed)
    with pytest.raises(WeightsError, match="6 labels for 7 classes"):
        load(NAME)


def test_weights_of_another_network_are_rejected(published, monkeypatch):
    tiny = registry.entry("movinet-a0-stream-lite")
    monkeypatch.setitem(registry._ENTRIES, ARCH, registry.ModelEntry(ARCH, tiny.build))
    with pytest.raises(WeightsError, match="does not fit"):
        load(NAME)


def test_missing_weights_say_what_to_do(published, monkeypatch):
    monkeypatch.delenv("FOVEATE_WEIGHTS")
    with pytest.raises(WeightsError, match=f"foveate weights fetch {NAME}"):
        load(NAME)


def test_loading_draws_no_random_values(published):
    load(NAME)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    load(NAME)
    assert torch.equal(torch.get_rng_state(), before)
