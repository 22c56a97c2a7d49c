"""An encoder of the test clips may not leave the test process with real-time priority."""

from __future__ import annotations

import os

import pytest

from clips import encode


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="needs POSIX scheduling")
def test_encoders_leave_the_scheduler_alone() -> None:
    before = os.sched_getscheduler(0)
    encode("mp4", "libsvtav1", 3)
    assert os.sched_getscheduler(0) == before
