"""Trials as tasks of a Ray cluster; every node reaches the folder of the study."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from foveate.core import FoveateError
from foveate.core.lazy import import_extra

LOCAL = "local"  # address of a cluster of this machine alone, for as long as the study runs


def run_on_ray(
    step: Callable[[], bool], address: str, workers: int, *,
    timeout: float | None = None, lost: int = 10,
) -> None:  # fmt: skip
    """Run trials as Ray tasks until there are enough.

    A task whose node is lost leaves its trial to the next one, which enqueues it again.

    Args:
        step: Runs one trial of a study and says whether there may be more; a function of a module
            with its arguments (`functools.partial`), which every node imports.
        address: Of the cluster: `auto` for the one that this machine belongs to, `local` to start
            one here, else as for `ray.init`.
        workers: Tasks at the same time.
        timeout: Seconds after which no further task is begun, None for no limit.
        lost: Lost tasks after which the study ends.

    Raises:
        MissingExtra: Ray is not installed.
        FoveateError: There is no cluster at the address, or too many tasks were lost.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # on by default
    ray = import_extra("ray", "ray")
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        cpus = workers if address == LOCAL else None
        ray.init(address=address, log_to_driver=False, num_cpus=cpus, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FoveateError(
            f"--ray {address}: no cluster ({reason})", "start one: ray start --head, or --ray local"
        ) from None
    try:
        task = ray.remote(num_cpus=1, max_retries=0)(_call)
        running = [task.remote(step) for _ in range(workers)]
        while running:
            (done, *_), running = ray.wait(running)
            try:
                more = ray.get(done)
            except ray.exceptions.RayTaskError:
                raise  # an error of the study itself
            except ray.exceptions.RayError as error:
                lost -= 1
                if lost < 0:
                    raise FoveateError(f"--ray {address}: too many tasks were lost") from error
                more = True
            if more and (deadline is None or time.monotonic() < deadline):
                running.append(task.remote(step))
    finally:
        ray.shutdown()


def _call(step: Callable[[], bool]) -> bool:
    return step()
