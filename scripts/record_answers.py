"""Records the results of the library, or compares today's results with the record.

    python scripts/record_answers.py [--shared FOLDER]           writes tests/record/answers.json
    python scripts/record_answers.py --only CASE [--shared FOLDER]  records some cases anew
    python scripts/record_answers.py --check [--shared FOLDER]   prints every difference; 1 if any

The record holds what a refactoring of the inference loop must not change: labels, segments,
multiply-adds, decoded frames, exits, warnings and the frames and boxes of the trace, for every look
and preset on clips of several containers and codecs (`tests/record/inputs.py`). Only the public API
is used, so the same script runs before and after. A ledger stage that is renamed, split or merged
is declared in `tests/record/stages.json`: `moved` has {recorded name: new name, or a list of new
names that share its work}, `uncounted` names stages whose number of calls may differ from the
record; their multiply-adds and frames may not.

Clips are encoded on every run; a clip whose bytes differ from the recorded ones (another FFmpeg
build) is not compared. Under another torch version or instruction set the last digits differ and
may flip a choice that depends on them: there scores are compared to 1e-3 and trace digests are not
compared. A change of the results on purpose is committed as a change of the record, with its
reason.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import av  # noqa: E402
import torch  # noqa: E402

import foveate  # noqa: E402
from foveate.models import InputSpec  # noqa: E402
from record import inputs  # noqa: E402

RECORD = ROOT / "tests" / "record" / "answers.json"
STAGES = ROOT / "tests" / "record" / "stages.json"
BUILT_IN = "movinet-a0-stream-lite.actions15"
KINETICS = "movinet-a0-stream-lite.k600"
NEAR, FAR = 1e-5, 1e-3  # how far scores may be off: in the record's environment, in others
CUSTOM_INPUT = InputSpec(size=64, frames_per_second=5.0, clip_frames=10)

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One way to use the library.

    Attributes:
        model: Weights, a preset, a run folder or a custom module (`inputs.CUSTOM`) by its name.
        settings: Further arguments of `foveate.load`.
        call: The method that is called; `many` has three sources in flight.
    """

    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    call: Literal["predict", "many", "stream"] = "predict"


def cases() -> dict[str, Case]:
    """All cases by name."""
    found = {
        look: Case(BUILT_IN, {"look": look})
        for look in (
            "uniform", "keyframes-first", "motion-patch", "mv-patch", "resize", "centre", "random",
            "rwf-crop", "mocrop", "activation-patch",
        )
    }  # fmt: skip
    confident = {"decide": "confident"}
    patch = {"name": "motion-patch"}
    for name, settings in preset_settings().items():
        found[f"preset {name}"] = Case(BUILT_IN, settings)
    found |= {
        "uniform, confident": Case(BUILT_IN, confident),
        "uniform, confident at 0.3, chunk=2": Case(
            BUILT_IN,
            {
                "look": {"name": "uniform", "chunk": 2},
                "decide": {"name": "confident", "threshold": 0.3},
            },
        ),
        "keyframes-first, confident at 0.3": Case(
            BUILT_IN,
            {"look": "keyframes-first", "decide": {"name": "confident", "threshold": 0.3}},
        ),
        "motion-patch, confident at 0.5, chunk=3": Case(
            BUILT_IN,
            {"look": {**patch, "chunk": 3}, "decide": {"name": "confident", "threshold": 0.5}},
        ),
        "keyframes-first, confident": Case(BUILT_IN, {"look": "keyframes-first", **confident}),
        "motion-patch, confident": Case(BUILT_IN, {"look": "motion-patch", **confident}),
        "uniform, 2 frames/s": Case(BUILT_IN, {"budget": foveate.Budget(frames_per_second=2)}),
        "uniform, 60 MMAC/s": Case(BUILT_IN, {"budget": foveate.Budget(macs_per_second=60e6)}),
        "motion-patch, 30 MMAC/s": Case(
            BUILT_IN, {"look": patch, "budget": foveate.Budget(macs_per_second=30e6)}
        ),
        "uniform, window=1, never cut": Case(BUILT_IN, {"window": 1.0, "cut_threshold": 1.0}),
        "uniform, rate=8, chunk=3": Case(
            BUILT_IN, {"look": {"name": "uniform", "rate": 8, "chunk": 3}}
        ),
        "motion-patch, extent=auto": Case(BUILT_IN, {"look": {**patch, "extent": "auto"}}),
        "motion-patch, extent=None": Case(BUILT_IN, {"look": {**patch, "extent": None}}),
        "motion-patch, source=flow": Case(BUILT_IN, {"look": {**patch, "source": "flow"}}),
        "motion-patch, gate=1": Case(BUILT_IN, {"look": {**patch, "gate": 1}}),
        "motion-patch, lasting=1": Case(BUILT_IN, {"look": {**patch, "lasting": 1}}),
        "motion-patch, sampling=motion": Case(BUILT_IN, {"look": {**patch, "sampling": "motion"}}),
    }
    for track in ("frame", "viterbi", "tube", "ema", "one-euro"):
        found[f"motion-patch, track={track}"] = Case(BUILT_IN, {"look": {**patch, "track": track}})
    found |= {
        f"{look}, stream": Case(BUILT_IN, {"look": look}, "stream")
        for look in ("uniform", "motion-patch", "mocrop")
    }
    found |= {
        f"{look}, many": Case(BUILT_IN, {"look": look}, "many")
        for look in ("uniform", "motion-patch")
    }
    found["keyframes-first, confident, many"] = Case(
        BUILT_IN, {"look": "keyframes-first", **confident}, "many"
    )
    for kind in ("frames", "mixing"):
        for look in ("uniform", "motion-patch", "activation-patch"):
            found[f"custom {kind}: {look}"] = Case(kind, {"look": look})
    found |= {
        "custom mixing: sampling=motion": Case(
            "mixing", {"look": {**patch, "sampling": "motion", "candidates": 3}}
        ),
        "custom mixing: extent=auto": Case("mixing", {"look": {**patch, "extent": "auto"}}),
        "custom mixing: sigmoid": Case("mixing", {"output": "sigmoid", **confident}),
        "custom frames: uniform, stream": Case("frames", {}, "stream"),
        "custom mixing: motion-patch, many": Case("mixing", {"look": "motion-patch"}, "many"),
        "tsn: uniform": Case("tsn"),
        "tsn: motion-patch": Case("tsn", {"look": "motion-patch"}),
        "tsn: activation-patch": Case("tsn", {"look": "activation-patch"}),
        "tsm: uniform": Case("tsm"),
        "tsm: motion-patch, sampling=motion": Case(
            "tsm", {"look": {**patch, "sampling": "motion"}}
        ),
        "tsm-online: uniform, many": Case("tsm-online", {}, "many"),
        "tsm-online: uniform, stream": Case("tsm-online", {}, "stream"),
        "cascade": Case("cascade"),
        "cascade at 0.45": Case("cascade", {"decide": {"name": "calibrated", "threshold": 0.45}}),
        "cascade at 0": Case("cascade", {"decide": {"name": "calibrated", "threshold": 0}}),
        "cascade, published order": Case(
            "cascade", {"look": {"name": "groups", "order": "published"}}
        ),
        "cascade, 45 MMAC": Case("cascade", {"budget": foveate.Budget(macs_per_answer=45e6)}),
        "cascade at 0.45, stream": Case(
            "cascade", {"decide": {"name": "calibrated", "threshold": 0.45}}, "stream"
        ),
        "cascade at 0.45, many": Case(
            "cascade", {"decide": {"name": "calibrated", "threshold": 0.45}}, "many"
        ),
    }
    return found


def shared_cases() -> dict[str, Case]:
    """Cases on the clips of the shared folder: fewer variations, but the presets' own weights."""
    some = {
        name: case
        for name, case in cases().items()
        if case.model in (BUILT_IN, "cascade")
        and not name.startswith(("preset ", "motion-patch, "))
    }
    own = {name: Case(name) for name in preset_settings()}
    stream = {"motion-patch, stream": Case(BUILT_IN, {"look": "motion-patch"}, "stream")}
    return {**some, **stream, "Kinetics-600": Case(KINETICS), **own}


def preset_settings() -> dict[str, dict[str, Any]]:
    """Every preset as arguments of `foveate.load`, to be used with other weights.

    The only import from inside the package: presets cannot be loaded without their own weights,
    and those do not come with it.
    """
    from foveate.pipeline.presets import PRESETS

    found = {name: preset.model_dump(exclude={"model"}) for name, preset in PRESETS.items()}
    for settings in found.values():
        settings["budget"] = foveate.Budget(**settings["budget"])
    return found


# --- answers ------------------------------------------------------------------------------


class Answers:
    """Answers of the library as it is, computed when they are asked for.

    Args:
        folder: An empty folder for run folders.
        clips: Name → source.
        known: Name → case.
    """

    def __init__(self, folder: Path, clips: Mapping[str, Any], known: Mapping[str, Case]) -> None:
        torch.set_num_threads(1)
        self.clips, self.known = clips, known
        self.digests = {name: inputs.digest(source) for name, source in clips.items()}
        self._folder = folder
        self._loaded: dict[str, Any] = {}
        self._many: dict[str, dict[str, Row]] = {}

    @cached_property
    def _runs(self) -> dict[str, str]:
        folder = self._folder / "runs"
        folder.mkdir()
        return inputs.write_runs(folder)

    def row(self, name: str, clip: str) -> Row:
        """The answer of a case on a clip, as it is recorded."""
        case, source = self.known[name], self.clips[clip]
        look = case.settings.get("look")
        if isinstance(source, Path) and look in ("random", "rwf-crop"):
            source = source.read_bytes()  # their random windows depend on the path of a file
        try:
            model = self._model(name)
            if case.call == "many":
                return self._together(name, model)[clip]
            fps = inputs.ARRAY_RATE if hasattr(source, "shape") else None
            if case.call == "stream":
                return row_of_stream(list(model.stream(source, fps=fps)))
            return row_of(model.predict(source, fps=fps))
        except foveate.FoveateError as error:
            return {"raised": error.kind}

    def _model(self, name: str) -> Any:
        """The loaded case; a refusal to load it is raised every time."""
        case = self.known[name]
        if name not in self._loaded:
            model, more = case.model, {}
            if model in inputs.CUSTOM:
                model = inputs.CUSTOM[model]()
                more = {"labels": inputs.CLASSES, "input": CUSTOM_INPUT}
            elif model in ("tsn", "tsm", "tsm-online", "cascade"):
                model = self._runs[model]
            self._loaded[name] = foveate.load(
                model, device="cpu", offline=True, **more, **case.settings
            )
        return self._loaded[name]

    def _together(self, name: str, model: Any) -> dict[str, Row]:
        if name not in self._many:
            results = model.predict_many(
                self.clips.values(), batch=3, fps=inputs.ARRAY_RATE if self._has_array else None
            )
            rows = [row_of(result) for result in results]
            self._many[name] = dict(zip(self.clips, rows, strict=True))
        return self._many[name]

    @property
    def _has_array(self) -> bool:
        return any(hasattr(source, "shape") for source in self.clips.values())


def row_of(result: Any) -> Row:
    """A Result as it is recorded: rounded, without seconds, file names and error messages."""
    if not result.ok:
        return {"error": result.error.kind}
    return {
        "duration": None if result.duration is None else round(result.duration, 4),
        "labels": [[s.label, round(s.score, 7)] for s in result.labels[:5]],
        "segments": segments_of([result]),
        **cost_of([result]),
        **trace_of([result]),
        "warnings": list(result.warnings),
    }


def row_of_stream(results: list[Any]) -> Row:
    """All Results of a stream as one row: total cost, and the best label of every step."""
    if not results:
        return {"steps": []}
    last = row_of(results[-1])
    return {
        "duration": last["duration"],
        "labels": last["labels"],
        "steps": [[r.labels[0].label, round(r.labels[0].score, 7)] for r in results],
        "segments": segments_of(results)[-3:],
        **cost_of(results),
        **trace_of(results),
        "warnings": last["warnings"],
    }


def segments_of(results: Iterable[Any]) -> list[list[Any]]:
    """[start, end, label, score] of all segments."""
    return [
        [round(s.start, 4), round(s.end, 4), s.label, round(s.score, 7)]
        for result in results
        for s in result.segments
    ]


def cost_of(results: Iterable[Any]) -> Row:
    """What the results cost together; per stage [calls, multiply-adds, frames]."""
    stages: dict[str, list[int]] = {}
    exits: dict[str, int] = {}
    macs = frames = 0
    for result in results:
        macs += result.cost.macs
        frames += result.cost.frames_decoded
        for name, count in result.exits.items():
            exits[name] = exits.get(name, 0) + count
        for stage in result.cost.stages:
            added = (stage.calls, stage.macs, stage.frames)
            known = stages.setdefault(stage.name, [0, 0, 0])
            stages[stage.name] = [a + b for a, b in zip(known, added, strict=True)]
    return {"macs": macs, "frames_decoded": frames, "exits": exits, "stages": stages}


def trace_of(results: Iterable[Any]) -> Row:
    """The trace: [steps, frames, boxes, digest], the mean box, [gates, their sum].

    The digest is of times to 1 ms, boxes to 0.1 pixel, exits, modalities and fallbacks.
    """
    steps = [step for result in results for step in result.trace.steps]
    boxes = [box for step in steps for box in step.boxes]
    # The offset moves the rounding boundaries away from whole and half pixels and milliseconds,
    # where values that differ only in their last bit could fall on either side.
    rounded = [
        [
            [math.floor(1e3 * t + 0.37) for t in (step.time, *step.frames)],
            [[math.floor(10 * x + 0.37) for x in box] for box in step.boxes],
            step.exit, sorted(step.modalities), step.fallback,
        ]
        for step in steps
    ]  # fmt: skip
    digest = sha256(json.dumps(rounded).encode()).hexdigest()[:12]
    mean = [round(sum(side) / len(boxes), 2) for side in zip(*boxes, strict=True)]
    gates = [step.gate for step in steps if step.gate is not None]
    return {
        "trace": [len(steps), sum(len(step.frames) for step in steps), len(boxes), digest],
        "box": mean,
        "gates": [len(gates), round(sum(gates), 6)],
    }


# --- comparison ---------------------------------------------------------------------------


def differences(old: Row, new: Row, names: Mapping[str, Any], same: bool = True) -> list[str]:
    """What differs between a recorded row and a new one, a line each.

    Args:
        old: The recorded row.
        new: The row of today.
        names: Recorded name of a stage → its names today.
        same: Whether both come from the same environment.
    """
    found = []
    for key in [*old, *(key for key in new if key not in old)]:
        a, b = old.get(key), new.get(key)
        if key in ("trace", "box") and not same and a is not None and b is not None:
            a, b = a[: 3 if key == "trace" else 0], b[: 3 if key == "trace" else 0]
        if key == "stages" and a is not None and b is not None:
            found += _stages(a, b, names)
        elif not _equal(a, b, key, NEAR if same else FAR):
            found.append(f"{key}: recorded {json.dumps(a)}, now {json.dumps(b)}")
    return found


def _equal(a: Any, b: Any, key: str, near: float) -> bool:
    """Whether two values are the same, floats up to `near` or the step of their rounding."""
    if isinstance(a, float) and isinstance(b, float | int):
        step = {"box": 0.01, "duration": 1e-4, "gates": 10 * near}.get(key, 0.0)
        return abs(a - b) <= max(near, step) * 1.0001
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_equal(x, y, key, near) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _stages(
    old: Mapping[str, list[int]], new: Mapping[str, list[int]], names: Mapping[str, Any]
) -> list[str]:
    """Differences between two ledgers, with the stages under their names of today."""
    today = {k: (v,) if isinstance(v, str) else tuple(v) for k, v in names.get("moved", {}).items()}
    label = {name: " + ".join(group) for group in today.values() for name in group}

    def summed(ledger: Iterable[tuple[str, list[int]]]) -> dict[str, list[int]]:
        total: dict[str, list[int]] = {}
        for name, counts in ledger:
            known = total.get(name, [0, 0, 0])
            total[name] = [a + b for a, b in zip(known, counts, strict=True)]
        return total

    a = summed((" + ".join(today.get(name, (name,))), counts) for name, counts in old.items())
    b = summed((label.get(name, name), counts) for name, counts in new.items())
    nothing = [0, 0, 0]
    found = []
    for name in dict.fromkeys([*a, *b]):
        before, now = a.get(name, nothing), b.get(name, nothing)
        free = any(part in names.get("uncounted", ()) for part in name.split(" + "))
        if (before[1:] if free else before) != (now[1:] if free else now):
            found.append(f"stage {name}: recorded [calls, macs, frames] {before}, now {now}")
    return found


def environment() -> dict[str, Any]:
    """What the encoded clips and the last digits of the scores depend on."""
    return {
        "torch": torch.__version__,
        "av": av.__version__,
        "ffmpeg": ".".join(map(str, av.library_versions["libavcodec"])),
        "machine": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def not_the_recorded(section: Mapping[str, Any], answers: Answers) -> list[str]:
    """Clips whose bytes are not those that the answers were recorded on."""
    return [name for name, known in section["clips"].items() if answers.digests.get(name) != known]


# --- the file -----------------------------------------------------------------------------


def section_of(answers: Answers) -> dict[str, Any]:
    """All answers as a section of the record."""
    return {
        "environment": environment(),
        "clips": answers.digests,
        "cases": {
            name: {clip: answers.row(name, clip) for clip in answers.clips}
            for name in answers.known
        },
    }


def text_of(record: Mapping[str, Any]) -> str:
    """The record as JSON with one row per line, so that a change of it can be read."""
    lines = ["{"]
    for part, section in record.items():
        lines.append(f' "{part}": {{')
        lines += [f'  "{key}": {json.dumps(section[key])},' for key in ("environment", "clips")]
        lines.append('  "cases": {')
        for name, rows in section["cases"].items():
            lines.append(f"   {json.dumps(name)}: {{")
            lines += [
                f"    {json.dumps(clip)}: {json.dumps(row, separators=(',', ':'))},"
                for clip, row in rows.items()
            ]
            lines[-1] = lines[-1][:-1]
            lines.append("   },")
        lines[-1] = "   }"
        lines += ["  }", " },"]
    lines[-1] = " }"
    return "\n".join([*lines, "}", ""])


def shared_clips(folder: Path) -> dict[str, Path]:
    """The clips of the shared folder by their names in it."""
    return {name: folder / "data" / name for name in inputs.SHARED}


def compared(section: Mapping[str, Any], answers: Answers) -> Iterator[str]:
    """Every difference from a section of the record, a line each."""
    for name in section["cases"].keys() ^ answers.known.keys():
        yield f"{name}: not in {'this script' if name in section['cases'] else 'the record'}"
    for name in section["cases"]:
        if name in answers.known:
            yield from differences_of_case(section, name, answers)


def differences_of_case(section: Mapping[str, Any], name: str, answers: Answers) -> Iterator[str]:
    """Every difference of one case on the clips that are the recorded ones, a line each."""
    names = json.loads(STAGES.read_text("utf-8"))
    same = section["environment"] == environment()
    other = not_the_recorded(section, answers)
    if other and answers.known[name].call == "many":
        return  # the batches would not be the recorded ones
    for clip, old in section["cases"][name].items():
        if clip not in other:
            for line in differences(old, answers.row(name, clip), names, same):
                yield f"{name} | {clip} | {line}"


def main(arguments: list[str] | None = None) -> int:
    """Write the record or compare with it; 1 if something differs."""
    parser = argparse.ArgumentParser(description="The record of today's answers")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    parser.add_argument(
        "--shared", type=Path, default=os.environ.get("FOVEATE_SHARED"),
        help="folder of the shared data and weights; its section is left alone without it",
    )  # fmt: skip
    parser.add_argument("--only", help="record the cases anew whose name contains this, no others")
    options = parser.parse_args(arguments)
    old = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else None
    parts: dict[str, tuple[Mapping[str, Any], Mapping[str, Case]]] = {
        "generated": (inputs.clips(), cases())
    }
    if options.shared:
        os.environ["FOVEATE_WEIGHTS"] = str(options.shared / "weights")
        parts["shared"] = (shared_clips(options.shared), shared_cases())
    elif old is None:
        parser.error("the first record needs --shared")
    record: dict[str, Any] = dict(old or {})
    lines: list[str] = []
    if options.check and old is None:
        parser.error(f"there is no {RECORD.relative_to(ROOT)}")
    for part, (clips, known) in parts.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["FOVEATE_CACHE"] = f"{folder}/cache"  # nothing kept from earlier runs
            answers = Answers(Path(folder), clips, known)
            if options.check:
                for clip in not_the_recorded(old[part], answers):
                    print(f"{clip}: not the recorded bytes, left out", file=sys.stderr)
                lines += compared(old[part], answers)
            elif options.only:
                for name in (name for name in known if options.only in name):
                    rows = {clip: answers.row(name, clip) for clip in answers.clips}
                    record[part]["cases"][name] = rows
            else:
                record[part] = section_of(answers)
    if options.check:
        print("\n".join([*lines, f"{len(lines)} differences in {', '.join(parts)}"]))
        return int(bool(lines))
    RECORD.write_text(text_of(record), "utf-8")
    count = sum(len(rows) for part in parts for rows in record[part]["cases"].values())
    print(f"{count} answers in {', '.join(parts)}: {RECORD.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
