"""A study: trials drawn by Optuna, kept in a journal, each evaluated in a child process.

The folder of a study holds

* `study.json`: what is looked for; a study that is resumed with other settings is refused,
* `journal.log`: every trial, in Optuna's journal storage,
* `trials/NUMBER/`: the result or the messages of each trial.

Any number of processes can work on one study. Each holds a lock on the trial that it runs, which
the kernel releases when the process ends, however it ends. The next step of any process settles
such a trial: if it left a result, that counts; otherwise it is marked as interrupted and enqueued
again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from foveate.core import ConfigError, MissingExtra
from foveate.core.config import Config, build
from foveate.core.files import replace_file
from foveate.primitives.base import Search
from foveate.search.study_space import Space, encoded
from foveate.search.study_trials import Job, Objective, Outcome, read_outcome, run_in_child

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as OptunaTrial

SETTINGS, JOURNAL, TRIALS = "study.json", "journal.log", "trials"
DIRECTIONS = {"accuracy": "maximize", "macs": "minimize", "milliseconds": "minimize"}
INTERRUPTED = "interrupted"  # the reason of trials that were enqueued again
_NAME = "study"  # in the journal
POPULATION = 16  # of NSGA-II: studies have tens of trials

Name = Literal["accuracy", "macs", "milliseconds"]


class StudySettings(Config):
    """What a study looks for; `study.json`.

    Attributes:
        at_least: Lower bounds on measured values, by name.
        at_most: Upper bounds, likewise.
        space: In the form of a space file, with everything that is varied.
        context: What every trial is given.
    """

    version: Literal[1] = 1
    objectives: tuple[Name, ...] = ("accuracy", "milliseconds")
    at_least: dict[Name, float] = Field(default_factory=dict)
    at_most: dict[Name, float] = Field(default_factory=dict)
    sampler: Literal["tpe", "nsga2", "random"] = "tpe"
    seed: int = Field(0, ge=0)
    prune: bool = Field(True, description="accuracy alone: end trials that are behind")
    space: dict[str, Any] = Field(default_factory=dict)
    context: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_or_two(self) -> StudySettings:
        names = self.objectives
        if len(names) == 1 or (len(names) == 2 and len({*names} - {"accuracy"}) == 1):
            return self
        raise ValueError("objectives: one, or accuracy with one of macs and milliseconds")

    @property
    def prunes(self) -> bool:
        """Whether trials are ended by their accuracy after an epoch."""
        return self.prune and self.objectives == ("accuracy",) and not self.at_most


@dataclass(frozen=True)
class Limits:
    """How long and how large a study and its trials may become.

    Attributes:
        trials: In all, those before a resume included; interrupted ones do not count.
        timeout: Seconds after which no further trial is begun, None for no limit.
        trial_time: Seconds for one trial, None for no limit.
        trial_memory: Bytes for one trial, None for no limit.
        workers: Trials at the same time.
    """

    trials: int = 40
    timeout: float | None = None
    trial_time: float | None = None
    trial_memory: float | None = None
    workers: int = 1


@dataclass(frozen=True)
class Trial:
    """One trial of a study.

    Attributes:
        number: From 0; also the name of its folder.
        state: `complete`, `pruned`, `failed`, `interrupted` or `running`.
        parameters: What was drawn, by path.
        values: What the objective function returned.
        feasible: Whether the bounds of the study are kept.
        reason: Why it failed.
        seconds: How long it took.
        saved: Seconds that were not spent because another trial had done the work.
        same_as: The trial with the same parameters whose values these are, None if it was run.
    """

    number: int
    state: str
    parameters: dict[str, Any]
    values: dict[str, Any] = field(default_factory=dict)
    feasible: bool = True
    reason: str = ""
    seconds: float = 0.0
    saved: float = 0.0
    same_as: int | None = None


def open_study(folder: Path, settings: StudySettings) -> None:
    """Begin a study in a folder, or check that the one that is there has these settings.

    Raises:
        ConfigError: It was begun with other settings, or the folder holds something else.
        MissingExtra: Optuna is not installed.
    """
    _optuna()
    path = folder / SETTINGS
    with locked(folder):
        if not path.is_file():
            ours = {".lock", ".journal.lock", JOURNAL}  # of one that was killed at its beginning
            if any(one.name not in ours for one in folder.iterdir()):
                raise ConfigError(f"{folder}: is no folder of a study", "name a new folder")
            _load(folder, settings, begin=True)
            replace_file(path, settings.model_dump_json(indent=1).encode())
            return
    begun = read_settings(folder).model_dump(mode="json")
    for name, value in settings.model_dump(mode="json").items():
        if begun[name] != value:
            raise ConfigError(
                f"{folder}: the study was begun with {_difference(name, begun[name], value)}",
                "name a new folder to begin another study",
            )


def _difference(name: str, old: Any, new: Any) -> str:
    """The first setting that differs, as `sampler=tpe, not random`."""
    if isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
        return _difference(f"{name} {key}", old.get(key), new.get(key))
    return f"{name}={json.dumps(old)}, not {json.dumps(new)}"


def read_settings(folder: Path) -> StudySettings:
    """The settings that a study was begun with.

    Raises:
        ConfigError: There is no study, or the file is damaged.
    """
    try:
        values = json.loads((folder / SETTINGS).read_bytes())
    except OSError:
        raise ConfigError(f"{folder}: no study was begun in this folder") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{SETTINGS}: damaged") from None
    return build(StudySettings, values, SETTINGS)


def read_trials(folder: Path, settings: StudySettings) -> tuple[Trial, ...]:
    """All trials of a study, by number."""
    return tuple(_trial_of(one) for one in _load(folder, settings).get_trials(deepcopy=False))


class Runner:
    """Runs the trials of one study; one object per process.

    Args:
        folder: Of the study, after `open_study`.
        settings: Of the study.
        space: What is drawn.
        objective: A function of a module.
        limits: When to stop.
        on_trial: Called with each trial that ends here.
    """

    def __init__(
        self, folder: Path, settings: StudySettings, space: Space, objective: Objective,
        limits: Limits, on_trial: Callable[[Trial], None] = lambda trial: None,
    ) -> None:  # fmt: skip
        self.folder, self.settings, self.limits = folder, settings, limits
        self._space, self._objective, self._on_trial = space, objective, on_trial
        self._stopped = False
        self._deadline = None if limits.timeout is None else time.monotonic() + limits.timeout

    def run(self) -> None:
        """Run trials until there are enough."""
        if self.limits.workers == 1:
            self._steps()
            return
        with ThreadPoolExecutor(self.limits.workers) as pool:
            try:
                for done in [pool.submit(self._steps) for _ in range(self.limits.workers)]:
                    done.result()
            except BaseException:
                self._stopped = True
                raise

    def _steps(self) -> None:
        while self.step():
            pass

    def step(self) -> bool:
        """Run one trial; False if there are enough, or the time is over."""
        late = self._deadline is not None and time.monotonic() > self._deadline
        if late or self._stopped:
            return False
        with locked(self.folder):
            study = _load(self.folder, self.settings)
            _recover(study, self.folder, self.settings)
            counted = [t for t in study.get_trials(deepcopy=False) if _counts(t)]
            if len(counted) >= self.limits.trials:
                return False
            study.sampler = _sampler(self.settings, len(counted))
            trial = study.ask()
            lease = _lease(_folder_of(self.folder, trial.number))
            assert lease is not None, "a new trial has no other owner"
            values = self._space.draw(lambda path, search: _suggest(trial, path, search))
            digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
            trial.set_user_attr("digest", digest)
        try:
            outcome = self._same(study, digest) or self._evaluate(trial, values)
            with locked(self.folder):
                _tell(study, trial, self.settings, outcome)
        finally:
            os.close(lease)
        found = study.get_trials(deepcopy=False)[trial.number]
        self._on_trial(_trial_of(found))
        return True

    def _same(self, study: OptunaStudy, digest: str) -> Outcome | None:
        """The values of a trial of the same parameters: it would measure the same again."""
        for one in map(_trial_of, _with_digest(study, digest)):
            if one.state == "complete" and one.same_as is None:
                again = {"same_as": one.number, "saved_seconds": one.seconds}
                return Outcome("complete", {**one.values, **again})
        return None

    def _evaluate(self, trial: OptunaTrial, values: dict[str, Any]) -> Outcome:
        def prune(step: int, value: float) -> bool:
            if not self.settings.prunes:
                return False
            trial.report(value, step)
            return trial.should_prune()

        folder = _folder_of(self.folder, trial.number)
        job = Job(trial.number, folder, self.folder, values, self.settings.context)
        return run_in_child(
            self._objective, job,
            seconds=self.limits.trial_time, memory=self.limits.trial_memory, prune=prune,
            stopped=lambda: self._stopped,
        )  # fmt: skip


def best_of(trials: tuple[Trial, ...], settings: StudySettings) -> tuple[Trial, ...]:
    """The Pareto front of the trials within the bounds, the most accurate first.

    With one objective that is its best trial; where values are equal, the first one. It is empty
    if no trial is within the bounds.
    """
    good = [t for t in trials if t.state == "complete" and t.feasible and t.same_as is None]
    scores = {t.number: tuple(_score(name, t) for name in settings.objectives) for t in good}

    def beaten(one: Trial) -> bool:
        mine = scores[one.number]
        return any(
            all(a >= b for a, b in zip(theirs, mine, strict=True))
            and (theirs != mine or number < one.number)
            for number, theirs in scores.items()
        )

    front = [one for one in good if not beaten(one)]
    return tuple(sorted(front, key=lambda t: scores[t.number], reverse=True))


def importances(folder: Path, settings: StudySettings) -> dict[str, dict[str, float]]:
    """How much of the differences each parameter explains, by objective (conditional PED-ANOVA).

    Empty for an objective with fewer than four different trials.

    Source: Watanabe et al., "PED-ANOVA", IJCAI 2023 (arXiv 2304.10255).
    """
    optuna = _optuna()
    study = _load(folder, settings)
    found: dict[str, dict[str, float]] = {}
    for at, name in enumerate(settings.objectives):
        with warnings.catch_warnings(), suppress(ValueError, RuntimeError):
            warnings.simplefilter("ignore")
            found[name] = optuna.importance.get_param_importances(
                study, target=lambda one, at=at: one.values[at]
            )
    return found


@contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Exclusive access to something in a folder, across threads, processes and machines.

    The kernel releases the lock of a process that ends, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _lease(folder: Path) -> int | None:
    """Mark a trial as running for as long as this process lives; None if another one has it."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def _folder_of(study: Path, number: int) -> Path:
    return study / TRIALS / f"{number:04d}"


def _recover(study: OptunaStudy, folder: Path, settings: StudySettings) -> None:
    """Settle the trials whose process is gone; the lock of the study is held."""
    from optuna.trial import Trial as OptunaTrial
    from optuna.trial import TrialState

    for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        place = _folder_of(folder, one.number)
        lease = _lease(place)
        if lease is None:
            continue
        try:
            trial = OptunaTrial(study, one._trial_id)
            outcome = read_outcome(place)
            if outcome is None:
                again = {"again": one.number}
                others = study.get_trials(deepcopy=False)
                if not any(other.user_attrs.get("again") == one.number for other in others):
                    study.enqueue_trial(one.params, user_attrs=again)
                outcome = Outcome("failed", reason=INTERRUPTED)
            _tell(study, trial, settings, outcome)
        finally:
            os.close(lease)


def _tell(
    study: OptunaStudy, trial: OptunaTrial, settings: StudySettings, outcome: Outcome
) -> None:
    """Enter an outcome into the journal; the lock of the study is held."""
    from optuna.trial import TrialState

    values, state = dict(outcome.values), outcome.state
    reason = outcome.reason
    missing = [name for name in settings.objectives if values.get(name) is None]
    if state == "complete" and missing:
        state, reason = "failed", f"the objective function gave no {', '.join(missing)}"
    trial.set_user_attr("seconds", outcome.seconds)
    if state == "failed":
        trial.set_user_attr("reason", reason)
        study.tell(trial, state=TrialState.FAIL)
    elif state == "pruned":
        study.tell(trial, state=TrialState.PRUNED)
    else:
        trial.set_user_attr("values", values)
        for sign, bounds in ((1, settings.at_least), (-1, settings.at_most)):
            for name, bound in bounds.items():
                trial.set_constraint(name, sign * (bound - values.get(name, -sign * math.inf)))
        study.tell(trial, [float(values[name]) for name in settings.objectives])


def _counts(trial: FrozenTrial) -> bool:
    from optuna.trial import TrialState

    waits = trial.state == TrialState.WAITING
    return not waits and trial.user_attrs.get("reason") != INTERRUPTED


def _with_digest(study: OptunaStudy, digest: str) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False)
    return [one for one in trials if one.user_attrs.get("digest") == digest]


def _trial_of(trial: FrozenTrial) -> Trial:
    kept = trial.user_attrs
    reason, values = str(kept.get("reason", "")), dict(kept.get("values", {}))
    state = {"FAIL": "failed", "WAITING": "running"}.get(trial.state.name, trial.state.name.lower())
    return Trial(
        number=trial.number,
        state=INTERRUPTED if reason == INTERRUPTED else state,
        parameters=dict(trial.params),
        values=values,
        feasible=all(value <= 0 for value in trial.constraints.values()),
        reason=reason,
        seconds=float(kept.get("seconds", 0.0)),
        saved=float(values.get("saved_seconds", 0.0)),
        same_as=values.get("same_as"),
    )


def _score(name: str, trial: Trial) -> float:
    value = float(trial.values[name])
    return value if DIRECTIONS[name] == "maximize" else -value


def _suggest(trial: OptunaTrial, path: str, search: Search) -> Any:
    """Draw a parameter with Optuna; choices that are no scalars are drawn as JSON."""
    scalars = encoded(search)
    if scalars is not None:
        assert search.choices is not None
        return search.choices[scalars.index(trial.suggest_categorical(path, scalars))]
    assert search.low is not None
    assert search.high is not None
    if search.integer:
        low, high, step = int(search.low), int(search.high), int(search.step or 1)
        return trial.suggest_int(path, low, high, step=1 if search.log else step, log=search.log)
    step_or_none = None if search.log else search.step
    return trial.suggest_float(path, search.low, search.high, step=step_or_none, log=search.log)


def _load(folder: Path, settings: StudySettings, begin: bool = False) -> OptunaStudy:
    """The study in the journal, which `begin` creates if there is none; its sampler is not set."""
    optuna = _optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock: Any = _JournalLock(folder)
    storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL), lock))
    pruner = (
        optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
        if settings.prunes
        else optuna.pruners.NopPruner()
    )
    if begin:
        directions = [DIRECTIONS[name] for name in settings.objectives]
        optuna.create_study(
            study_name=_NAME, storage=storage, directions=directions, load_if_exists=True
        )
    study: OptunaStudy = optuna.load_study(study_name=_NAME, storage=storage, pruner=pruner)
    return study


class _JournalLock:
    """In place of Optuna's own locks, which outlive a killed process by half a minute.

    It is held while lines are appended, so what such a process left of a line is cut off first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def acquire(self) -> bool:
        self._held = locked(self._folder, ".journal.lock")
        self._held.__enter__()
        _mend(self._folder / JOURNAL)
        return True

    def release(self) -> None:
        self._held.__exit__(None, None, None)


def _mend(journal: Path) -> None:
    """Cut off a line that a process was killed in the middle of; the journal's lock is held."""
    with suppress(FileNotFoundError), journal.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            file.seek(end - 1)
            if file.read(1) == b"\n":
                break
            end -= 1
        file.truncate(end)


def _sampler(settings: StudySettings, drawn: int) -> Any:
    """A sampler whose draws depend on the seed, the trials so far and their number alone.

    So an interrupted study goes on as if it had not been interrupted.
    """
    optuna = _optuna()
    seed = int.from_bytes(hashlib.sha256(f"{settings.seed} {drawn}".encode()).digest()[:4])
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings.sampler == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtra("optuna", "search") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
