"""Progress where standard error is no terminal: few lines, each of them whole."""

from __future__ import annotations

import pytest

from foveate.train.kit import progress
from foveate.train.kit.progress import TerminalProgress
from foveate.train.kit.state import ProgressEvent


def test_an_epoch_is_a_line_and_a_long_one_has_several(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with TerminalProgress() as shown:
        for minute in range(8):
            now[0] = 60.0 * minute
            shown(ProgressEvent(1, 3, 20 + minute, 60, 0.5, 4.0, 600.0))
        figures = {"loss": 0.4, "top1@clip,views=1": 0.875, "infonce": 2.0}
        shown(ProgressEvent(1, 3, 40, 60, 0.4, 4.0, 300.0, figures))
        shown(ProgressEvent(0, 1, 0, 0, message="resumed at epoch 8 of 30"))
        now[0] += 200.0
        shown(ProgressEvent(0, 1, 3, 9, stage="features of train"))
    assert capsys.readouterr().err.splitlines() == [
        "epoch 2/3, 24 of 60, loss 0.500, 4.0 clips/s, 10 min 00 s left",
        "epoch 2/3: loss 0.400, top1@clip,views=1 87.5 %, infonce 2.000, 4.0 clips/s, "
        "5 min 00 s left",
        "resumed at epoch 8 of 30",
        "features of train, 3 of 9",
    ]
