"""The published weights on real clips: a sanity check, not a benchmark."""

import pytest

import foveate

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def recogniser(k600):
    return foveate.load(k600, offline=True)


def test_carving_ice_comes_first(recogniser, shared) -> None:
    result = recogniser.predict(shared / "data" / "samples" / "carving_ice.mp4")
    assert result.labels[0].label == "carving ice"
    assert result.labels[0].score > 0.9


@pytest.mark.parametrize("name", ["sign_eat", "sign_milk", "sign_thanks"])
def test_sign_language_is_among_the_first_five(recogniser, shared, name) -> None:
    result = recogniser.predict(shared / "data" / "samples" / f"{name}.mkv")
    assert "sign language interpreting" in [score.label for score in result.labels]


def test_stream_and_clip_agree_on_a_real_clip(recogniser, shared) -> None:
    path = shared / "data" / "samples" / "carving_ice.mp4"
    *_, last = recogniser.stream(path)
    whole = recogniser.predict(path)
    assert last.labels[0].score == pytest.approx(whole.labels[0].score, rel=1e-4)


def test_key_frames_first_saves_on_a_real_clip(k600, recogniser, shared) -> None:
    path = shared / "data" / "samples" / "carving_ice.mp4"
    early = foveate.load(k600, offline=True, look="keyframes-first", decide="confident")
    less, full = early.predict(path), recogniser.predict(path)
    assert less.labels[0].label == full.labels[0].label
    assert less.cost.macs < full.cost.macs
    assert less.cost.frames_decoded < full.cost.frames_decoded


def test_cuts_are_found_where_they_are(recogniser, shared) -> None:
    result = recogniser.predict(shared / "data" / "motion-vectors" / "h264" / "street.mp4")
    ends = [segment.end for segment in result.segments]
    assert any(abs(end - 8.4) < 0.21 for end in ends)
