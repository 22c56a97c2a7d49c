"""From a name, a preset or a module to a recogniser: what `foveate.load` does."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, get_args

from foveate.core import Budget, ConfigError, Decide, InputSpec, Look
from foveate.core.budget import parse_budget
from foveate.media import DEFAULT_LIMITS, Limits
from foveate.pipeline.presets import Preset, edit, resolve
from foveate.pipeline.recogniser import Output, Recogniser
from foveate.pipeline.threads import Threads, fastest_threads, sleep_when_idle
from foveate.policy import Context, PatchLook
from foveate.policy.unknown import Familiar

if TYPE_CHECKING:
    import torch

    from foveate.models import LoadedModel


def load(
    model: str | os.PathLike[str] | torch.nn.Module = "movinet-a0-stream-lite.k600",
    *,
    labels: Sequence[str] | None = None,
    input: InputSpec | None = None,
    output: Output | None = None,
    look: Look | str | Mapping[str, Any] | None = None,
    decide: Decide | str | Mapping[str, Any] | None = None,
    budget: Budget | str | None = None,
    device: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: Threads | None = None,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    **settings: Any,
) -> Recogniser:
    """Load a model with its weights and policies.

    Args:
        model: A run folder (`runs/1`), a preset (`keyframes-movinet-a0-stream-lite`), or a model
            with its weights (`movinet-a0-stream-lite.k600`); or a module of your own, which takes
            clips (B, 3, T, H, W) and gives logits (B, classes). If its frames interact
            only in a mean, say so with an attribute `mixes_frames = False`.
        labels: Names of the outputs of your own module; other models have their own.
        input: What your own module expects (`foveate.models.InputSpec`).
        output: Whether its classes exclude each other (`softmax`, the default) or not (`sigmoid`).
        look: Chooses the frames: a policy, the name of one, or its settings with the name among
            them (`{"name": "motion-patch", "size": 128}`); the preset's if None.
        decide: Says when enough was seen, likewise.
        budget: What may be spent, such as `3fps`, `100MMAC/s` or `2ms/frame`; the preset's if None.
        device: Where the network runs, such as `cpu` or `cuda:0`; CUDA if there is one.
        engine: `torch`, `onnxruntime`, `openvino`, `litert`, or `auto` for the fastest here; None
            for the preset's, else `torch`, and for an exported model the engine of its format.
        precision: `fp32`, `bf16` or `int8`; the preset's or what the model has if None.
        threads: CPU threads of the network; `auto` for the fastest number here; None leaves those
            of PyTorch as they are, and is one for other engines.
        offline: Never touch the network for weights.
        progress: Called with (bytes so far, bytes in total) during a download.
        limits: Bounds on what a source may cost.
        **settings: Fields of the preset, such as `top_k=10` or `window=5.0`.

    Raises:
        ModelError: No such model.
        WeightsError: The weights are missing or damaged.
        ConfigError: A setting is unknown or out of range, or does not belong to this model.
    """
    own = None
    if isinstance(model, os.PathLike):
        model = os.fspath(model)
    if isinstance(model, str):
        named, preset = resolve(model)
        given = {"labels": labels, "input": input, "output": output}
        for key, value in given.items():
            if value is not None:
                raise ConfigError(f"{key}=: only for a module of your own, {model} has its own")
    else:
        own = OwnModule(model, labels, input, output or "softmax")
        named, preset = None, Preset(model=type(model).__name__)
    for key, policy in (("look", look), ("decide", decide)):
        if isinstance(policy, str):
            settings[key] = {"name": policy}
        elif isinstance(policy, Mapping):
            settings[key] = dict(policy)
    if budget is not None:
        if isinstance(budget, str):
            settings["budget"] = parse_budget(budget)
        elif not isinstance(budget, Budget):
            raise ConfigError(
                f"budget={budget!r}: no unit", "say budget='3fps', '100MMAC/s' or '2ms/frame'"
            )
        else:
            settings["budget"] = {k: v for k, v in asdict(budget).items() if k != "costs"}
    return assemble(
        edit(preset, settings, "foveate.load"),
        named,
        look=None if isinstance(look, str | Mapping) else look,
        decide=None if isinstance(decide, str | Mapping) else decide,
        device=device,
        engine=engine,
        precision=precision,
        threads=threads,
        offline=offline,
        progress=progress,
        limits=limits,
        own=own,
    )


class OwnModule:
    """A user's module with what a weights table would state about it.

    Raises:
        ConfigError: `input` or `labels` is missing.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        labels: Sequence[str] | None,
        spec: InputSpec | None,
        output: Output,
    ) -> None:
        from torch import float32, nn

        if not isinstance(module, nn.Module) or isinstance(module, type):
            raise ConfigError(
                f"{module!r} is not a model", "give a name, a run folder or a torch.nn.Module"
            )
        if labels is None or not isinstance(spec, InputSpec):
            raise ConfigError(
                "a custom module needs `labels=` and `input=`",
                "foveate.load(module, labels=[...], input=foveate.InputSpec(224, 5.0, 16))",
            )
        check_labels(labels)
        if output not in get_args(Output):
            raise ConfigError(f"output={output!r}: unknown", "one of: softmax, sigmoid")
        others = {p.dtype for p in module.parameters() if p.is_floating_point()} - {float32}
        if others:
            raise ConfigError(
                f"{type(module).__name__} computes in {str(others.pop()).removeprefix('torch.')}",
                "clips are float32: call module.float() first",
            )
        if any(p.is_meta for p in module.parameters()):
            raise ConfigError(
                f"{type(module).__name__} has no values (its parameters are on the device meta)",
                "load its weights first",
            )
        self.module, self.labels = module.eval(), tuple(labels)
        self.input, self.output = spec, output

    def loaded(self, name: str) -> LoadedModel:
        """The module as if it had been loaded by a name."""
        from foveate.models import LoadedModel

        networks = {"network": self.module}
        return LoadedModel(name, networks, self.labels, self.input, self.output)


def assemble(
    preset: Preset,
    named: str | None = None,
    *,
    look: Look | None = None,
    decide: Decide | None = None,
    device: str | None = None,
    engine: str | None = None,
    precision: str | None = None,
    threads: Threads | None = None,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
    notice: Callable[[str], None] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    own: OwnModule | None = None,
) -> Recogniser:
    """Load the weights of a preset and join them with its policies; see `load`.

    Args:
        preset: All settings.
        named: Name of the preset for the Result, if it has one.
        look: Takes the place of the preset's.
        decide: Takes the place of the preset's.
        device: As for `load`.
        engine: As for `load`.
        precision: As for `load`.
        threads: As for `load`.
        offline: As for `load`.
        progress: As for `load`.
        notice: Called with a line about work that is done once, such as an export.
        limits: As for `load`.
        own: A user's module instead of weights.

    Raises:
        ConfigError: The look or the budget does not fit the model.
    """
    from foveate.engines.cache import exported_folder
    from foveate.models.loaded import NETWORK
    from foveate.models.registry import is_streaming, mixes_frames
    from foveate.pipeline.engines import fastest, load_model
    from foveate.pipeline.methods import executor_of, method_of

    if engine is None:
        engine, precision = preset.engine, precision or preset.precision
    if threads not in (None, 1):
        sleep_when_idle()
    if engine == "auto" and (own is not None or device not in (None, "cpu")):
        engine = "torch"  # other engines run models with weights, on the CPU
    if engine == "auto" and exported_folder(preset.model) is None:
        precision = precision or "fp32"  # fewer bits only on request
    given: dict[str, Any] = {
        "look": look, "decide": decide, "device": device, "precision": precision,
        "offline": offline, "progress": progress, "notice": notice, "limits": limits, "own": own,
    }  # fmt: skip
    if engine == "auto":
        count = threads if isinstance(threads, int) else 1
        engine = fastest(
            preset,
            lambda name: assemble(preset, engine=name, threads=count, **given).executor,
            precision=precision,
            threads=count,
            notice=notice,
        )
    if threads == "auto":
        threads = fastest_threads(
            preset,
            lambda count: assemble(preset, engine=engine, threads=count, **given),
            engine=engine,
            precision=precision,
            own=own is not None,
            notice=notice,
        )
    loaded, place = load_model(
        preset, None if own is None else own.loaded, device=device, engine=engine,
        precision=precision, threads=threads, offline=offline, progress=progress, notice=notice,
    )  # fmt: skip
    whole = next(iter(loaded.networks.values()))
    calibration = {} if loaded.card is None else loaded.card.calibration
    card = None if loaded.card is None else loaded.card.unknown
    familiar = None if card is None else Familiar(*card.arrays(), card.limit)
    context = Context(
        input=loaded.input,
        mixes_frames=mixes_frames(whole),
        streaming=is_streaming(whole),
        temporal=hasattr(whole, "nonkey"),
        min_score=preset.min_score,
        output=loaded.output,
        model=preset.model,
        budget=preset.budget.value(),
        window=preset.window or loaded.input.clip_seconds,
        calibration=preset.look.calibrated(calibration, preset.model),
        network=whole,
        patch=getattr(whole, "patch", None) if loaded.method == NETWORK else None,
    )
    if look is not None and (isinstance(look, type) or not hasattr(look, "next")):
        raise ConfigError(f"look={look!r}: not a policy", "give a name, settings, or an instance")
    if look is None:
        look = preset.look.build(context)
    elif isinstance(look, PatchLook):
        look = look.fitted(context)
    executor = executor_of(loaded, look, context, place)
    if preset.memory is not None:
        executor.persistent = True
    if not calibration and (context.budget.macs_per_answer or context.budget.ms_per_answer):
        raise ConfigError(
            f"{preset.model}: has no calibrated exits to keep a budget per answer",
            "say 100MMAC/s or 2ms/frame",
        )
    return Recogniser(
        executor,
        loaded.labels,
        look=look,
        decide=decide or preset.decide.build(context),
        budget=context.budget if not calibration else None,
        window=context.window,
        output=loaded.output,
        task=method_of(loaded.method, loaded.name).task,
        preset=preset,
        preset_name=named,
        familiar=familiar if preset.unknown else None,
        limits=limits,
        notice=notice,
    )


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that cannot name the outputs of a network.

    Raises:
        ConfigError: They are not a sequence of different names.
    """
    if isinstance(labels, str | bytes) or not isinstance(labels, Sequence) or not labels:
        raise ConfigError(f"labels={labels!r}: not a list of names", "labels=['day', 'night']")
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise ConfigError(f"labels: {label!r} is not a name", "labels=['day', 'night']")
    twice = next((one for one, count in Counter(labels).items() if count > 1), None)
    if twice is not None:
        raise ConfigError(f"labels: {twice!r} is there twice", "give one name per output")
