"""Checkpoints of other projects: wrapped, averaged, damaged, of another kind."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_importers import SMALL, r3d
from torch import nn

from foveate.core.errors import FoveateError, ModelError, WeightsError
from foveate.models import registry
from foveate.models.weights.importers import from_arrays, unwrapped
from foveate.models.weights.importers.checkpoints import import_file, recognise
from foveate.models.weights.importers.files import read_arrays


def tensors(state: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(value.copy()) for name, value in state.items()}


def under(prefix: str, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


# --- wrappers -----------------------------------------------------------------------------------

WRAPS: dict[str, Any] = {
    "parallel": lambda s: under("module.", s),
    "compiled": lambda s: under("_orig_mod.", s),
    "compiled and parallel": lambda s: under("module._orig_mod.", s),
    "parallel and compiled": lambda s: under("_orig_mod.module.", s),
    "lightning": lambda s: {"state_dict": under("model.", s), "epoch": 3, "global_step": 9,
                            "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2)}}}]},
    "with a loss": lambda s: {"state_dict": {**under("net.", s), "criterion.w": torch.ones(3)}},
    "deep": lambda s: {"checkpoint": {"model": {"state_dict": under("module.model.", s)}}},
    "two": lambda s: {"model": s, "optimizer": {"a": torch.zeros(1)}},
    "own name": lambda s: {"r3d_network": s, "meta": {"t": torch.zeros(1)}},
    "timm's average": lambda s: {"state_dict_ema": under("module.", s), "epoch": 1},
    "average and network": lambda s: {"model_ema": {n: v * 0 for n, v in s.items()}, "model": s},
    "torch's average": lambda s: {"n_averaged": torch.tensor(7), **under("module.", s)},
    "mmengine's average": lambda s: {"ema_state_dict": {"steps": torch.tensor(1),
                                                        **under("module.", s)}},
    "average beside": lambda s: {**under("model.", s),
                                 **under("ema_model.", {n: v * 0 for n, v in s.items()})},
    "average only": lambda s: under("ema.module.", s),
    "sharded": lambda s: under("_fsdp_wrapped_module.", s),
    "layers compiled and checkpointed": lambda s: {
        n.replace(".", "._orig_mod._checkpoint_wrapped_module.", 1): v for n, v in s.items()
    },
    "a part of another network": lambda s: {"state_dict": under("module.encoder_q.", s)},
    "shadows": lambda s: {**s, **{f"ema_{n.replace('.', '_')}": v * 0 for n, v in s.items()}},
}  # fmt: skip


@pytest.mark.parametrize("wrap", list(WRAPS))
def test_wrapped_checkpoints_are_unwrapped(tmp_path: Path, wrap: str) -> None:
    model, state = r3d()
    torch.save(WRAPS[wrap](tensors(state)), tmp_path / "x.pth")
    config = {"widen_factor": SMALL["widen_factor"]}
    system, network = recognise(read_arrays(tmp_path / "x.pth"), config)
    assert system == "autovideo"
    again = network.model.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again[name])


def test_averaged_copies_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    state = tensors(r3d()[1])
    torch.save({"model_ema": state, "model": state}, tmp_path / "x.pth")
    _, card = import_file(tmp_path / "x.pth", "mine", config={"widen_factor": 1 / 16})
    assert card.notice.endswith("model_ema, an averaged copy, is in the file too and was not used")
    torch.save({"model_ema": state}, tmp_path / "y.pth")
    _, card = import_file(tmp_path / "y.pth", "mine", config={"widen_factor": 1 / 16})
    assert "averaged" not in card.notice


def test_names_of_the_network_are_kept() -> None:
    for names in (["net.a", "IC1.b"], ["module"], ["model.weight", "head.weight"], ["n_averaged"]):
        assert list(unwrapped(dict.fromkeys(names, 0))) == names
    assert list(unwrapped({"model.module.a": 0, "model.module.b": 0})) == ["a", "b"]


# --- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fc.weight", float("nan"), "fc.weight (1 of 96 not finite)"),
        ("layer1.0.conv1.weight", float("inf"), "not finite"),
        ("layer2.0.bn1.running_var", float("nan"), "not finite"),
        ("fc.bias", -float("inf"), "not finite"),
        ("bn1.running_var", -1.0, "bn1.running_var (a negative variance)"),
    ],
)
def test_values_that_are_not_finite_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: float, said: str
) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    found = tensors(r3d()[1])
    found[name].flatten()[0] = value
    torch.save(found, tmp_path / "x.pth")
    for system in (None, "autovideo"):
        with pytest.raises(WeightsError) as caught:
            import_file(tmp_path / "x.pth", "mine", system=system, config={"widen_factor": 1 / 16})
        assert said in str(caught.value)
        assert str(caught.value).startswith("x.pth: the checkpoint has invalid values")
    assert not (tmp_path / "cache" / "imported").exists()


def test_values_beyond_float32_and_integers_are_rejected() -> None:
    state = r3d()[1]
    large = {**state, "fc.bias": state["fc.bias"].astype(np.float64) + 1e300}
    with pytest.raises(WeightsError, match=r"fc\.bias \(3 of 3 not finite\)"):
        from_arrays("autovideo", large, **SMALL)
    quantised = {**state, "fc.weight": (state["fc.weight"] * 100).astype(np.int8)}
    with pytest.raises(
        WeightsError, match=r"fc\.weight \(int8 instead of floating-point numbers\)"
    ):
        from_arrays("autovideo", quantised, **SMALL)
    half = {n: v.astype(np.float16) if v.dtype == np.float32 else v for n, v in state.items()}
    assert from_arrays("autovideo", half, **SMALL).arch == "r3d"


# --- shifts and flow ----------------------------------------------------------------------------


class OriginalShift(nn.Module):
    """The shift of the TSM release, implemented from the formula of its paper."""

    def __init__(self, net: nn.Module, frames: int, share: int) -> None:
        super().__init__()
        self.net, self.frames, self.share = net, frames, share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        clips = x.view(-1, self.frames, *x.shape[1:])
        fold = clips.shape[2] // self.share
        out = torch.zeros_like(clips)
        out[:, :-1, :fold] = clips[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = clips[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = clips[:, :, 2 * fold :]
        return self.net(out.view_as(x))


def original_tsm(place: str, share: int, frames: int, name: str = "resnet18") -> nn.Module:
    """torchvision's ResNet with shifts inserted as in the release."""
    import torchvision

    torch.manual_seed(0)
    net = getattr(torchvision.models, name)(num_classes=3).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        for i, block in enumerate(stage):
            if place == "block":
                stage[i] = OriginalShift(block, frames, share)
            else:
                block.conv1 = OriginalShift(block.conv1, frames, share)
    return net


@pytest.mark.parametrize(
    ("place", "share", "name"),
    [("block", 8, "resnet18"), ("block", 4, "resnet50"), ("blockres", 4, "resnet18")],
)
@pytest.mark.parametrize("system", ["autovideo", "mmaction"])
def test_block_shifts_and_other_divisors(system: str, place: str, share: int, name: str) -> None:
    frames = 4
    net = original_tsm(place, share, frames, name)
    clip = torch.rand(2, frames, 3, 64, 64)
    with torch.no_grad():
        want = net(clip.flatten(0, 1)).view(2, frames, 3).mean(1)
    state = {}
    for own, value in net.state_dict().items():
        if system == "autovideo":
            theirs = own.replace("fc.", "new_fc.") if own.startswith("fc.") else f"base_model.{own}"
        else:
            theirs = _mmaction_name(own)
        state[theirs] = value.numpy()
    config = {"shift_place": place, "shift_div": share}
    inputs = {"clip": clip.flatten(1, 2)} if system == "autovideo" else {"inputs": clip}
    network = from_arrays(system, state, **config)
    torch.testing.assert_close(network(**inputs)["logits"], want, rtol=1e-4, atol=1e-5)
    again = registry.create(network.arch, num_classes=3, **network.settings)
    again.load_state_dict(network.model.state_dict())
    other = "block" if place == "blockres" else "blockres"
    with pytest.raises(WeightsError, match=f"shift_place='{other}', but the arrays are"):
        from_arrays(system, state, shift_place=other)


def _mmaction_name(own: str) -> str:
    """MMAction2's name of an array of torchvision's ResNet with shifts."""
    if own.startswith("fc."):
        return f"cls_head.fc_cls.{own[3:]}"
    *path, layer, leaf = own.split(".")
    if "downsample" in path:
        return ".".join(["backbone", *path, "conv" if layer == "0" else "bn", leaf])
    if layer == "net":  # conv1 after a shift
        return ".".join(["backbone", *path, "conv", "net", leaf])
    if layer.startswith("bn"):
        return ".".join(["backbone", *path, f"conv{layer[2]}", "bn", leaf])
    return ".".join(["backbone", *path, layer, "conv", leaf])


def test_shifts_of_blocks_frame_by_frame() -> None:
    torch.manual_seed(0)
    model = registry.create(
        "tsm-online:resnet18", num_classes=3, shift_place="block", shift_div=4
    ).eval()
    clip = torch.rand(1, 3, 4, 32, 32)
    state = model.initial_state(1, 32, 32)
    with torch.no_grad():
        for at in range(4):
            logits, state = model.step(clip[:, :, at : at + 1], state)
        torch.testing.assert_close(logits, model(clip), rtol=1e-4, atol=1e-5)
    with pytest.raises(ModelError, match="is for ResNets"):
        registry.create("tsm:mobilenetv2_100", num_classes=3, shift_place="block")
    with pytest.raises(ModelError, match="shift_place='blocks' is unknown"):
        registry.create("tsm:resnet18", num_classes=3, shift_place="blocks")
    with pytest.raises(ModelError, match="at least 2"):
        registry.create("tsm:resnet18", num_classes=3, shift_div=1)


def flow_i3d() -> tuple[nn.Module, dict[str, np.ndarray]]:
    """I3D for flow and its arrays by the original's names."""
    torch.manual_seed(0)
    model = registry.create("i3d", num_classes=3, channels=2).eval()
    state = {}
    for name, value in model.state_dict().items():
        if name.startswith("classifier."):
            theirs = name.replace("classifier", "conv3d_0c_1x1.conv3d")
        else:
            theirs = name.removeprefix("layers.").replace("branch_3.", "branch_3.1.")
            theirs = theirs.replace(".conv.", ".conv3d.").replace(".bn.", ".batch3d.")
        state[theirs] = value.numpy()
    weight = state["conv3d_0c_1x1.conv3d.weight"]
    state["conv3d_0c_1x1.conv3d.weight"] = weight[:, :, None, None, None]
    return model, state


def test_i3d_of_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    model, state = flow_i3d()
    for config in ({"modality": "flow"}, {}):
        network = from_arrays("autovideo", state, num_classes=3, **config)
        clip = torch.rand(1, 2, 9, 64, 64)
        with torch.no_grad():
            torch.testing.assert_close(network(clip=clip)["logits"], model(clip))
        assert (network.arch, network.settings) == ("i3d", {"channels": 2})
    with pytest.raises(WeightsError, match="modality='rgb', but the arrays are those of 'flow'"):
        from_arrays("autovideo", state, modality="rgb")
    with pytest.raises(ModelError, match=r"shape \(B, 2, T, H, W\), not \(1, 3, 9, 64, 64\)"):
        network(clip=torch.rand(1, 3, 9, 64, 64))
    torch.save(tensors(state), tmp_path / "flow.pth")
    with pytest.raises(ModelError, match="is optical flow"):
        import_file(tmp_path / "flow.pth", "flow")


# --- errors -------------------------------------------------------------------------------------


def the_line(path: Path, **options: Any) -> str:
    with pytest.raises(FoveateError) as caught:
        import_file(path, "mine", **options)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 900
    for foreign in ("torch.load", "weights_only", "Traceback", "pickle_module", "PytorchStream",
                    "allow_pickle", "Weights only"):  # fmt: skip
        assert foreign not in said
    assert said.count(path.name) == 1, said
    return said


def test_an_import_names_the_nearest_network_and_what_differs(tmp_path: Path) -> None:
    import torchvision

    state = tensors(r3d()[1])
    del state["layer3.0.bn1.running_mean"]
    state["extra.weight"] = torch.zeros(2, 2)
    torch.save(state, tmp_path / "x.pth")
    said = the_line(tmp_path / "x.pth", config={"widen_factor": 1 / 16})
    assert said.startswith("x.pth: nearest is the R3D of autovideo, which has 73 of the 74 names; ")
    assert "2 differ: missing layer3.0.bn1.running_mean (16,), unused extra.weight (2, 2)" in (said)
    net = torchvision.models.video.r3d_18(num_classes=3).state_dict()
    torch.save({n: v for n, v in net.items() if "layer4.1" not in n}, tmp_path / "y.pth")
    said = the_line(tmp_path / "y.pth")
    assert "of torchvision, which has" in said
    assert "10 differ" in said
    assert said.endswith("and 2 more")
    assert the_line(tmp_path / "y.pth", system="torchvision", config={"name": "r3d_18"}) == said
    torch.save({"a.weight": torch.zeros(2), "b": torch.zeros(2)}, tmp_path / "z.pth")
    said = the_line(tmp_path / "z.pth")
    assert "no importer fits these arrays (the first names: a.weight, b)" in said


@pytest.mark.parametrize("system", ["autovideo", "mmaction"])
def test_a_network_without_its_head_is_recognised(tmp_path: Path, system: str) -> None:
    """Feature extractors are published without the classifier, and files are split."""
    state = original_tsm("blockres", 8, 4).state_dict()
    names = {n: f"base_model.{n}" if system == "autovideo" else _mmaction_name(n) for n in state}
    kept = {names[n]: v for n, v in state.items() if not n.startswith("fc.")}
    torch.save(kept, tmp_path / "x.pth")
    head = "new_fc" if system == "autovideo" else "cls_head.fc_cls"
    said = the_line(tmp_path / "x.pth")
    assert f"nearest is the TSM of {system}, which has 120 of the 120 names" in said
    assert f"2 differ: missing {head}.weight (1, 512), missing {head}.bias (1,)" in said
    one = next(name for name in kept if "layer3.1" in name)
    torch.save({n: v for n, v in kept.items() if n != one}, tmp_path / "y.pth")
    assert f"missing {one}" in the_line(tmp_path / "y.pth")


def test_a_configuration_that_does_not_fit_names_its_system(tmp_path: Path) -> None:
    net = original_tsm("block", 8, 4)
    state = {("new_" if n.startswith("fc.") else "base_model.") + n: v
             for n, v in net.state_dict().items()}  # fmt: skip
    torch.save(state, tmp_path / "x.pth")
    said = the_line(tmp_path / "x.pth", config={"shift_place": "blockres"})
    assert said == ("x.pth: autovideo: shift_place='blockres', but the arrays are those of 'block'")
    assert "unknown argument 'colour'" in the_line(tmp_path / "x.pth", config={"colour": 1})


def test_torchvision_networks_are_recognised_by_their_arrays() -> None:
    import torchvision.models.video as video

    for name in ("r3d_18", "mc3_18", "r2plus1d_18"):
        state = getattr(video, name)(num_classes=2).state_dict()
        system, network = recognise(dict(state), {})
        assert (system, network.arch) == ("torchvision", name.replace("_", "-"))


def _zipped(**files: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_pkl", ".pkl"), content)
    return data.getvalue()


def _saved(value: Any) -> bytes:
    data = io.BytesIO()
    torch.save(value, data)
    return data.getvalue()


def _scripted() -> bytes:
    data = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), data)
    return data.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.pth", lambda: b"", "empty, 0 bytes"),
        ("a.pth", lambda: b"<!DOCTYPE html><html>404</html>", "a web page, not the file"),
        ("a.pth", lambda: b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("a.ckpt", lambda: b"\x89HDF\r\n\x1a\n" + bytes(99), "an HDF5 file"),
        ("a.tflite", lambda: b"\x1c\0\0\0TFL3" + bytes(99), "a.tflite: the file holds no graph"),
        ("a.pth", lambda: b"\x1c\0\0\0TFL3" + bytes(99), "a .tflite file"),
        ("a.pth", lambda: b"just words", "text"),
        ("a.pth", lambda: pickle.dumps({"a": 1}, 0), "text"),
        ("a.pth", lambda: bytes(5000), "neither a pickle nor an archive of one"),
        ("a.pth", lambda: b"\0\0\0\x20ftypisom" + bytes(99), "a video"),
        ("a.pth", lambda: b"\x80\x02abc", "damaged or truncated"),
        ("a.pth", lambda: pickle.dumps({"a": Namespace()}), "tensors (argparse.Namespace)"),
        ("a.pth", lambda: pickle.dumps({"a": Namespace()}, 2), "tensors (argparse.Namespace)"),
        ("a.pth", lambda: _saved({"a": torch.ones(9, 9)})[:400], "damaged or truncated"),
        ("a.pth", lambda: _zipped(readme=b"x"), "an archive without tensors"),
        ("a.pt", _scripted, "a TorchScript archive"),
        ("a.pth", lambda: pickle.dumps(OrderedDict(a=np.zeros(3))), "more than tensors (numpy."),
        ("a.pth", lambda: _saved(nn.Linear(2, 2)), "contains more than tensors (torch.nn.modules"),
        ("a.pth", lambda: _saved({"state_dict": {"a": torch.ones(1)}, "args": Namespace(x=1)}),
         "contains more than tensors (argparse.Namespace)"),
        ("a.pth", lambda: _saved(torch.ones(2)), "a tensor, not tensors by name"),
        ("a.pth", lambda: _saved([torch.ones(2)]), "a list, not tensors by name"),
        ("a.pth", lambda: _saved({}), "an empty dictionary"),
        ("a.pth", lambda: _saved({"model": {"a": torch.ones(1), "b": "x"}}), "no tensors but: b"),
        ("a.safetensors", lambda: b"\xff" * 50, "not a safetensors file (damaged or truncated)"),
        ("a.safetensors", lambda: b"words of a page", "not a safetensors file (text)"),
        ("a.npz", lambda: _zipped(readme=b"x"), "not numeric: readme"),
        ("a.npz", lambda: json.dumps({"a": 1}).encode(), "not a plain npz file"),
    ],
)  # fmt: skip
def test_files_of_another_kind_are_named(tmp_path: Path, name: str, make: Any, words: str) -> None:
    (tmp_path / name).write_bytes(make())
    assert words in the_line(tmp_path / name)


def test_tensors_without_values(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2), "b": torch.empty(3, device="meta")}, tmp_path / "x.pth")
    assert "tensors without values (of the device meta): b" in the_line(tmp_path / "x.pth")


def test_numbers_only(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array(["x"]), b=np.zeros(2))
    assert "not numeric: a" in the_line(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", **{"fc8.weight": np.zeros(()), "x": np.zeros(3)})
    assert "autovideo" in the_line(tmp_path / "b.npz", system="autovideo")
    assert "no such file" in the_line(tmp_path / "missing.pth")


def test_labels_given_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEATE_CACHE", str(tmp_path / "cache"))
    torch.save(tensors(r3d()[1]), tmp_path / "x.pth")
    config = {"widen_factor": 1 / 16}
    for labels, words in (
        (("a", "b", "a"), "x.pth: label 3, 'a', is also label 1"),
        (("a", " ", "c"), "x.pth: label 2 is empty"),
        (("a", "b"), "x.pth: 2 labels for 3 classes"),
    ):
        with pytest.raises(WeightsError, match=words):
            import_file(tmp_path / "x.pth", "mine", config=config, labels=labels)
