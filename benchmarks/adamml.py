"""Does a policy over modalities find the useful one, and what does it save?

`make` renders audio-visual clips of mocap15, of some actions, in which every segment of 1.28 s is
seen, heard, both or neither; `train` trains a run on them, all but the first with the single
modalities of the first one. `measure` takes runs, one per seed, and compares on test clips: every
operating point, all modalities together, each of them alone (the same networks), and on the same
answers of the networks a random policy of equal cost and of equal rates, and an oracle that knows
what is seen and heard. `fights` trains and tests the folds of FS-4 on the clips with audible sound.

Run, with OMP_NUM_THREADS=1: `python -m benchmarks.adamml make VIDEOS`, `train VIDEOS RUN --seed N`
for each seed, `measure mocap15 VIDEOS RUN...`, `fights FS4 RUNS`; it writes
`results/adamml_mocap15.json` and `results/adamml_fights.json`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from benchmarks import record
from torch import Tensor

from foveate.core import Result
from foveate.core.config import build
from foveate.data import DataRequest, Dataset, Record, folds, open_labelled, read, split
from foveate.data.mocap15.dataset import _write_clip, _write_table
from foveate.data.mocap15.spec import clip_specs
from foveate.evaluate.bootstrap import compare, interval
from foveate.evaluate.metrics import mean
from foveate.models.adamml import AdaMML
from foveate.models.weights.run import load_run, read_run
from foveate.pipeline.adamml import AdaMMLExecutor
from foveate.pipeline.loading import load
from foveate.policy.looks.modalities import CurveCard
from foveate.train.recipe import run_recipe
from foveate.train.recipes.adamml.clips import SegmentBatches, keep_all
from foveate.train.recipes.adamml.config import PRETRAINED, AdaMMLConfig
from foveate.train.recipes.adamml.recipe import RECIPE, reading_of, spec_of

ACTIONS = ("cartwheel", "crawl", "roll", "walk")  # lying, upside down, as a ball, upright
SIZE = (128, 96)
DRAWS = 20  # of the random policies
BATCH = 8  # clips in flight
ALL, ORACLE = "all modalities", "oracle: the cheapest useful one"
SMALL = "mobilenetv3_small_050"
SETTINGS: dict[str, Any] = {
    "modalities": ("rgb", "mv", "sound"), "visual": PRETRAINED, "motion": SMALL, "audio": SMALL,
    "policy": SMALL, "policy_audio": SMALL, "size": 80, "policy_size": 64, "resize": "squash",
    "frames": 4, "columns": 32, "segments": 4, "held_out": 0.4, "epochs": 40, "visual_epochs": 12,
    "policy_epochs": 20, "warmup_epochs": 1, "joint": "policy-layers", "joint_epochs": 80,
    "tune_epochs": 0, "milestones": (0.6, 0.85), "lambdas": (0.0, 0.05, 0.1, 0.2),
    "temperature": 1.0, "cooling": 1.0, "lr": 2e-3, "policy_lr": 3e-3,
}  # fmt: skip
FIGHTS: dict[str, Any] = {
    "segments": 2, "epochs": 20, "visual_epochs": 5, "policy_epochs": 10, "lambdas": (0.0, 0.1)
}  # fmt: skip
Right = npt.NDArray[np.float64]
Use = npt.NDArray[np.float64]


def make(out: Path, clips: int) -> None:
    """Render the clips of the actions among the first so many of the audio-visual set, made easy.

    On mocap15 as it is, a network learns the surroundings of so few clips instead of the action.
    Here all splits have one kind of background, a still camera, large actors seen from the side,
    and no distractors. The sound of every second clip of a class is left out, so that sound alone
    is not enough.
    """
    out.mkdir(parents=True)
    rows = []
    for spec in clip_specs(clips, 0, "audiovisual", size=SIZE):
        silent = spec.index // 15 % 2 == 1
        shown = any(part.label for part in spec.parts)
        if spec.label not in ACTIONS or (silent and not shown):
            continue
        random = np.random.default_rng(spec.index)
        easy = replace(
            spec, camera="static", distractors=0, stature=0.45, noise=1.0, exposure=0.03,
            background="clouds", elevation=10.0, azimuth=float(random.uniform(60, 120)),
            audible=() if silent else spec.audible,
        )  # fmt: skip
        rows.append(_write_clip(easy, out, "x264"))
    _write_table(out / "clips.csv", rows)


@dataclass(frozen=True)
class Truth:
    """What is seen and heard in the segments of a clip, each (S,); what is seen moves."""

    seen: Use
    heard: Use

    @classmethod
    def of(cls, folder: Path, one: Record) -> Truth | None:
        """The truth of a rendered clip; None for other videos."""
        path = folder / "truth" / f"{one.path.stem}.json"
        if not path.is_file():
            return None
        segments = json.loads(path.read_text("utf-8"))["audio"]["segments"]
        return cls(*(np.array([float(s[key]) for s in segments]) for key in ("visible", "audible")))

    def shows(self, modality: str) -> Use:
        """(S,) whether a modality shows the class."""
        return self.heard if modality == "sound" else self.seen

    def cheapest(self, modalities: Sequence[str], each: Sequence[float]) -> Use:
        """(S, M) the cheapest modality that shows the class, by multiply-adds, else nothing."""
        rows = np.zeros((len(self.seen), len(modalities)))
        for at in np.argsort(each):
            rows[:, at] = self.shows(modalities[at]) * (1 - rows.max(1))
        return rows


@dataclass
class Way:
    """One way to choose, over the test clips: right answers, multiply-adds, milliseconds, uses."""

    right: Right
    macs: Right
    ms: Right | None
    used: list[Use]


def results_of(run: Path, look: Mapping[str, Any], clips: Dataset) -> list[Result]:
    """Results of the loop, in seconds of this process's CPU time; a batch before warms up.

    The clips are in flight `BATCH` at a time, so the segments that were chosen of several clips
    share a call of a network.
    """
    recogniser = load(run, look={"name": "modalities", **look})
    paths = [one.path for one in clips.records]
    list(recogniser.predict_many(paths[:BATCH], batch=BATCH))
    with mock.patch("time.perf_counter", time.process_time):
        return list(recogniser.predict_many(paths, batch=BATCH))


def way_of(results: Sequence[Result], clips: Dataset, modalities: Sequence[str]) -> Way:
    """What results of the loop say."""
    right = [
        float(r.ok and r.labels[0].index == clips.indices(one)[0])
        for r, one in zip(results, clips.records, strict=True)
    ]
    return Way(
        np.array(right),
        np.array([float(r.cost.macs) for r in results]),
        np.array([1000 * (r.cost.seconds - r.cost.stage("open").seconds) for r in results]),
        [used_of(r, modalities) for r in results],
    )


def used_of(result: Result, modalities: Sequence[str]) -> Use:
    """(S, M) what was used, from the trace."""
    spans: dict[str, list[tuple[float, float]]] = {}
    for step in result.trace.steps if result.trace else ():
        if step.part and step.proposals:
            values = step.proposals["segments"]
            spans.setdefault(step.part, []).extend(zip(values[::2], values[1::2], strict=True))
    known = sorted({span for found in spans.values() for span in found})
    return np.array([[float(s in spans.get(m, ())) for m in modalities] for s in known])


@dataclass(frozen=True)
class Answers:
    """What the networks of a point say of every clip, nothing skipped, and what its policy decides.

    Attributes:
        network: Of the point.
        logits: (S, M, classes) of each clip.
        use: (S, M) decisions of the policy.
    """

    network: AdaMML
    logits: list[Tensor]
    use: list[Use]


def answers_of(run: Path, point: str, clips: Dataset, cache: Path) -> Answers:
    """Run the networks and the policy of a point on all segments of the clips."""
    config = build(AdaMMLConfig, dict(read_run(run).configuration), "run.json")
    network = load_run(run).networks[point]
    assert isinstance(network, AdaMML)
    how = reading_of(config, network)
    kept = keep_all(clips, cache, how, lambda done, total: None)
    assert not kept.failures
    batches = SegmentBatches(
        kept, how, spec_of(config), clips.classes, 1, 1, False, 0, config.columns
    )
    found: list[Tensor] = []
    use: list[Use] = []
    with torch.no_grad():
        for row in range(len(kept)):
            whole = batches.whole(row, network.inputs)
            x = {name: value.unsqueeze(0) for name, value in whole.x.items()}
            mask = torch.stack([whole.valid[name] for name in network.seen], 1).unsqueeze(0)
            found.append(network.recognise(x)[0])
            chosen = network.decide(network.policy(network.views(x), mask), valid=mask)
            use.append(chosen[0].double().numpy())
    return Answers(network, found, use)


def fused(network: AdaMML, answers: Sequence[Tensor], use: Sequence[Use], labels: Tensor) -> Right:
    """(N,) 1 where the answer with these decisions is right."""
    hits = []
    for one, chosen, label in zip(answers, use, labels.tolist(), strict=True):
        logits = network.fuse(one[None], torch.tensor(chosen, dtype=torch.float32)[None])
        hits.append(float(int(logits.mean(1).argmax()) == label))
    return np.array(hits)


def macs_by(use: Sequence[Use], each: Sequence[float], policy: float = 0.0) -> Right:
    """(N,) multiply-adds of decisions."""
    return np.array([float((one * each).sum() + policy * len(one)) for one in use])


def rates_for(cost: float, rates: Right, each: Right) -> Right:
    """Rates in proportion to some, none above one, whose expected cost a segment is `cost`."""
    low, high = 0.0, 1e6
    base = np.maximum(rates, 1e-6)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (np.minimum(1, middle * base) * each).sum() < cost else (
            low, middle)  # fmt: skip
    return np.minimum(1.0, low * base)


def random_way(
    network: AdaMML, answers: Sequence[Tensor], labels: Tensor, rates: Right, each: Right
) -> Way:
    """The mean over draws of decisions at these rates, without a policy network."""
    random = np.random.default_rng(0)
    hits, macs = [], []
    for _ in range(DRAWS):
        use = [(random.random((len(one), len(rates))) < rates).astype(float) for one in answers]
        hits.append(fused(network, answers, use, labels))
        macs.append(macs_by(use, list(each)))
    return Way(np.mean(hits, 0), np.mean(macs, 0), None, [])


def agreement(
    used: Sequence[Use], truths: Sequence[Truth], modalities: Sequence[str], each: Sequence[float]
) -> dict[str, Any]:
    """How decisions agree with what is seen and heard.

    `useful`: share of the segments with something to see or hear in which a modality that shows it
    is used. `spared`: share of (segment, modality) pairs with nothing in them that are not used.
    `cheapest`: share of segments in which exactly the cheapest useful modality is used.
    """
    rates: dict[str, Counter[str]] = {}
    useful, spared, cheapest = [], [], []
    for use, truth in zip(used, truths, strict=True):
        for row, seen, heard, best in zip(
            use, truth.seen, truth.heard, truth.cheapest(modalities, each), strict=True
        ):
            there = np.array([heard if m == "sound" else seen for m in modalities])
            state = f"{'seen' if seen else 'unseen'}, {'heard' if heard else 'unheard'}"
            count = rates.setdefault(state, Counter())
            count["segments"] += 1
            count.update({m: int(on) for m, on in zip(modalities, row, strict=True)})
            if there.any():
                useful.append(float((row * there).any()))
            spared += [1 - on for on, has in zip(row, there, strict=True) if not has]
            cheapest.append(float((row == best).all()))
    return {
        "useful": float(np.mean(useful)),
        "spared": float(np.mean(spared)),
        "cheapest": float(np.mean(cheapest)),
        "rates": {
            state: {m: count[m] / count["segments"] for m in modalities}
            for state, count in sorted(rates.items())
        },
    }


def saved(point: Sequence[Result], whole: Sequence[Result], used: Sequence[Use],
          modalities: Sequence[str]) -> dict[str, float]:  # fmt: skip
    """Seconds that the networks of the modalities took less, against those of what was skipped."""
    skipped = less = policy = 0.0
    for at, modality in enumerate(modalities):
        stage = f"network-{modality}"
        full = sum(r.cost.stage(stage).seconds for r in whole)
        share = 1 - float(np.concatenate(used)[:, at].mean())
        skipped += share * full
        less += full - sum(r.cost.stage(stage).seconds for r in point)
    policy = sum(r.cost.stage("network-policy").seconds for r in point)
    return {
        "skipped_ms": 1000 * skipped / len(whole), "saved_ms": 1000 * less / len(whole),
        "saved_share": less / skipped if skipped else 1.0, "policy_ms": 1000 * policy / len(whole),
    }  # fmt: skip


def ways_of(run: Path, videos: Path, clips: Dataset) -> tuple[dict[str, Way], dict[str, Any]]:
    """All ways of a run on some clips, and what is not accuracy or cost.

    Args:
        run: The run folder.
        videos: Folder of the clips, with the truth of rendered ones.
        clips: The test clips.
    """
    labels = torch.tensor([clips.indices(one)[0] for one in clips.records])
    truths = [Truth.of(videos, one) for one in clips.records]
    known = [one for one in truths if one is not None]
    is_known = len(known) == len(truths)
    card = CurveCard.read(read_run(run).calibration, run.name)
    modalities = card.modalities
    loaded = load_run(run)
    first: Any = loaded.networks[card.points[0].network]
    segment = AdaMMLExecutor(first, loaded.input).segment_macs()
    each = [float(segment[m]) for m in modalities]
    detail: dict[str, Any] = {"costs": card.costs, "segment_macs": segment, "points": {}}
    ways: dict[str, Way] = {}
    whole: list[Result] = []
    for at, point in enumerate(card.points):
        known_answers = answers_of(run, point.network, clips, run / "cache")
        network, answers = known_answers.network, known_answers.logits

        def fixed(row: Sequence[float], network: Any = network, answers: Any = answers) -> Way:
            use = [np.tile(np.array(row, float), (len(one), 1)) for one in answers]
            return Way(fused(network, answers, use, labels), macs_by(use, each), None, use)

        if at == 0:
            whole = results_of(run, {"use": "all", "point": 0}, clips)
            ways[ALL] = way_of(whole, clips, modalities)
            for place, modality in enumerate(modalities):
                only = [float(n == place) for n in range(len(modalities))]
                ways[f"{modality} alone"] = fixed(only)
            if is_known:
                best = [one.cheapest(modalities, each) for one in known]
                right = fused(network, answers, best, labels)
                ways[ORACLE] = Way(right, macs_by(best, each), None, best)
        results = results_of(run, {"point": at}, clips)
        way = way_of(results, clips, modalities)
        figures: dict[str, Any] = {"saved": saved(results, whole, way.used, modalities)}
        rates = np.concatenate(way.used).mean(0)
        figures["rates"] = dict(zip(modalities, rates.tolist(), strict=True))
        if is_known:
            figures["agreement"] = agreement(way.used, known, modalities, each)
        title = f"lambda {point.strength:g}"
        ways[f"policy, {title}"] = way
        cost = float(way.macs.sum() / sum(len(one) for one in way.used))
        for kind, chosen in (
            ("random, equal MACs", rates_for(cost, rates, np.array(each))),
            ("random, equal rates", rates),
        ):
            drawn = random_way(network, answers, labels, chosen, np.array(each))
            ways[f"{kind}, {title}"] = drawn
        detail["points"][f"{point.strength:g}"] = figures
    return ways, detail


def train(
    dataset: Dataset, run: Path, settings: Mapping[str, Any], alone: Path | None = None
) -> None:
    """Train a run, unless it is there; the single modalities may be those of another run."""
    torch.set_num_threads(1)
    for stage in () if alone is None else (alone / "stages").glob("only-*"):
        shutil.copytree(stage, run / "stages" / stage.name, dirs_exist_ok=True)
    config = build(AdaMMLConfig, {**SETTINGS, **settings}, "settings")
    if not (run / "run.json").is_file():
        begun = (run / "training.json").is_file()
        run_recipe(RECIPE, config, dataset, run, begun, lambda event: None)


def measure(name: str, videos: Path, runs: Sequence[Path], seeds: Sequence[int]) -> None:
    """Measure runs of several seeds on the test clips; writes the result."""
    torch.set_num_threads(1)
    clips = open_labelled(DataRequest(videos)).subset("test")
    found = [ways_of(run, videos, clips) for run in runs]
    ways = {title: [one[title] for one, _ in found] for title in found[0][0]}
    groups = [str(one.group or number) for number, one in enumerate(clips.records)]
    what = (
        f"audio-visual mocap15 in an easy form, rendered, actions {', '.join(ACTIONS)}, split "
        f"test; {len(runs)} runs of the recipe adamml"
    )
    configuration = read_run(runs[0]).configuration
    write(name, what, ways, [one for _, one in found], groups, configuration, seeds)


def fights(data: Path, out: Path, seed: int) -> None:
    """FS-4 on the clips with audible sound: train and test every fold; writes the result."""
    torch.set_num_threads(1)
    whole = read(data)
    audible = tuple(one for one in whole.records if one.tag("audio") == "audible")
    parts: list[dict[str, Way]] = []
    details, groups = [], []
    for fold in folds(replace(whole, records=audible)):
        dealt = split(fold.dataset.subset("train"), {"train": 0.8, "val": 0.2}, seed)
        test = fold.dataset.subset("test")
        dataset = replace(dealt, records=(*dealt.records, *test.records))
        run = out / f"fold{fold.name}"
        train(dataset, run, {**FIGHTS, "seed": seed, "cache": str(out / "cache")})
        ways, detail = ways_of(run, data, test)
        parts.append(ways)
        details.append(detail)
        groups += [str(one.group) for one in test.records]
        print(f"fold {fold.name}: {len(test)} clips", flush=True)
    ways = {title: [joined([one[title] for one in parts])] for title in parts[0]}
    write(
        "fights", "FS-4-audio: the clips of FS-4 with audible sound, 4 folds by source, a fifth of "
        "the training clips for the operating points; one run of the recipe adamml a fold", ways,
        details, groups, read_run(out / "fold0").configuration, [seed],
    )  # fmt: skip


def joined(parts: Sequence[Way]) -> Way:
    """The clips of several folds."""
    timed = [one.ms for one in parts if one.ms is not None]
    return Way(
        np.concatenate([one.right for one in parts]),
        np.concatenate([one.macs for one in parts]),
        np.concatenate(timed) if timed else None,
        [use for one in parts for use in one.used],
    )


def write(
    name: str, what: str, ways: Mapping[str, Sequence[Way]], detail: Sequence[Any],
    groups: Sequence[str], configuration: Mapping[str, Any], seeds: Sequence[int],
) -> None:  # fmt: skip
    """Write the result file and print its table."""
    rows = table(ways, groups)
    protocol = (
        f"{what}; clip top-1, mean over runs, 95 % percentile bootstrap over groups, differences "
        f"paired with all modalities; MACs per clip; milliseconds: CPU time of a clip, {BATCH} in "
        "flight on one thread, decoding included and opening left out, mean over runs; "
        f"random policies: mean of {DRAWS} draws on the networks' answers"
    )
    known = {key: value for key, value in configuration.items() if key != "cache"}
    figures = {"rows": rows, "runs": list(detail), "configuration": known}
    record.write(f"adamml_{name}", protocol, len(groups), figures, tuple(seeds))
    print(markdown(rows))


def table(ways: Mapping[str, Sequence[Way]], groups: Sequence[str]) -> dict[str, Any]:
    """Name of a way → accuracy with interval, cost, and the difference to all modalities."""
    reference = np.mean([one.right for one in ways[ALL]], 0)
    rows: dict[str, Any] = {}
    for name, found in ways.items():
        right = np.mean([one.right for one in found], 0)
        inside = interval(mean(right), len(right), groups)
        less = compare(mean(right), mean(reference), len(right), groups)
        timed = [one.ms for one in found if one.ms is not None]
        rows[name] = {
            "top1": inside.value, "low": inside.low, "high": inside.high,
            "less": less.difference, "less_low": less.low, "less_high": less.high,
            "by_run": [float(one.right.mean()) for one in found],
            "macs": float(np.mean([one.macs.mean() for one in found])),
            "ms": float(np.mean([one.mean() for one in timed])) if timed else None,
        }  # fmt: skip
    return rows


def markdown(rows: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    whole = rows[ALL]["macs"]
    lines = ["| way | top-1 | 95 % interval | less all modalities | MMACs | of all | ms |",
             "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, row in rows.items():
        ms = "–" if row["ms"] is None else f"{row['ms']:.0f}"
        lines.append(
            f"| {name} | {row['top1']:.1%} | {row['low']:.1%} to {row['high']:.1%} | "
            f"{100 * row['less']:+.1f} ({100 * row['less_low']:+.1f} to "
            f"{100 * row['less_high']:+.1f}) | {row['macs'] / 1e6:.0f} | "
            f"{row['macs'] / whole:.0%} | {ms} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make")
    making.add_argument("out", type=Path)
    making.add_argument("--clips", type=int, default=15 * 60)
    training = verbs.add_parser("train")
    training.add_argument("videos", type=Path)
    training.add_argument("run", type=Path)
    training.add_argument("--seed", type=int, default=0)
    training.add_argument("--alone", type=Path, help="a run whose single modalities are taken")
    measuring = verbs.add_parser("measure")
    measuring.add_argument("name")
    measuring.add_argument("videos", type=Path)
    measuring.add_argument("runs", type=Path, nargs="+")
    measuring.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    folding = verbs.add_parser("fights")
    folding.add_argument("data", type=Path)
    folding.add_argument("out", type=Path)
    folding.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.verb == "make":
        make(given.out, given.clips)
    elif given.verb == "train":
        cache = given.videos.with_name(f"{given.videos.name}-cache")
        settings = {"seed": given.seed, "cache": str(cache)}
        train(open_labelled(DataRequest(given.videos)), given.run, settings, given.alone)
    elif given.verb == "measure":
        measure(given.name, given.videos, given.runs, given.seeds)
    else:
        fights(given.data, given.out, given.seed)


if __name__ == "__main__":
    main()
