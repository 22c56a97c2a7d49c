"""`foveate predict` as a user types it."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest

import foveate
from clips import encode
from foveate.app.annotated import thumbnails
from foveate.core import Result, Trace, TraceStep
from foveate.media import Limits, Video
from tiny_weights import LABELS, NAME


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_clip_prints_labels_timeline_and_cost(run, clips) -> None:
    said = run("predict", clips / "one.mp4", "-k", "3")
    assert said.code == 0
    assert sum(label in said.out for label in LABELS) == 3
    for stage in ("decode", "network", "head", "total"):
        assert stage in said.out
    assert not said.err


def test_json_on_stdout_is_json_only(run, clips) -> None:
    said = run("predict", clips / "one.mp4", "--json", "-")
    (result,) = lines(said.out)
    jsonschema.validate(result, Result.model_json_schema(by_alias=True, mode="serialization"))
    assert result["model"] == NAME
    assert said.err  # the table is there


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> Path:
    """A folder of numbered pictures, the frames of a video."""
    folder = tmp_path_factory.mktemp("frames") / "walk"
    folder.mkdir()
    with Video(encode(frames=60)) as video:
        pixels = video.frames([i / 25 for i in range(60)]).pixels
    for i, frame in enumerate(pixels):
        cv2.imwrite(str(folder / f"frame_{i + 8}.png"), frame[..., ::-1])
    return folder


@pytest.mark.parametrize("look", ["uniform", "motion-patch"])
def test_a_folder_of_numbered_pictures_is_the_array_of_its_frames(run, numbered, look) -> None:
    (said,) = lines(run("predict", numbered, "--look", look, "--json", "-").out)
    files = sorted(numbered.iterdir(), key=lambda path: int(path.stem.partition("_")[2]))
    frames = np.stack([cv2.imread(str(path))[..., ::-1] for path in files])
    result = foveate.load(NAME, look=look, device="cpu").predict(frames, fps=25)
    assert said["source"] == str(numbered)
    assert said["duration"] == result.duration == 2.4
    assert said["cost"]["macs"] == result.cost.macs > 0
    assert [(s["index"], s["score"]) for s in said["labels"]] == [
        (s.index, pytest.approx(s.score, abs=1e-6)) for s in result.labels
    ]
    shown = [[step["frames"], step["boxes"]] for step in said["trace"]["steps"]]
    assert shown == [[step.frames, step.boxes] for step in result.trace.steps]
    assert any(boxes for _, boxes in shown) == (look == "motion-patch")


def test_a_folder_of_numbered_pictures_is_drawn_and_reported(run, numbered, tmp_path) -> None:
    drawn, page = tmp_path / "a.mp4", tmp_path / "r.html"
    assert not run("predict", numbered, "--video", drawn, "--report", page).err.count("not in")
    with Video(drawn) as video:
        assert video.info.frames == 60
    assert page.read_text("utf-8").count("data:image/jpeg") > 1
    why = run("explain", numbered, "--video", tmp_path / "e.mp4", "--model", NAME)
    assert why.code == 0, why.err
    assert f"{numbered}: " in why.out
    assert (tmp_path / "e.mp4").stat().st_size > 1000


def test_folder_with_bad_files_runs_on_and_says_so(run, clips, tmp_path) -> None:
    out = tmp_path / "out.jsonl"
    said = run("predict", clips, "nosuch.mp4", "--json", out)
    assert said.code == 1
    results = lines(out.read_text())
    assert [(os.path.basename(r["source"]), r["ok"]) for r in results] == [
        ("cut.mp4", False), ("one.mp4", True), ("text.mp4", False), ("two.mkv", True),
        ("nosuch.mp4", False),
    ]  # fmt: skip
    errors = [line for line in said.err.splitlines() if line.startswith("foveate:")]
    assert len(errors) == 3
    assert "text.mp4: text, not a video" in said.err
    assert "nosuch.mp4: no such file" in said.err
    assert "5 inputs, 3 failed" in said.out


def test_report_is_one_page_on_its_own(run, clips, tmp_path) -> None:
    page = tmp_path / "r.html"
    assert run("predict", clips / "one.mp4", "--report", page, "-q").code == 0

    class Links(HTMLParser):
        def handle_starttag(self, tag, attrs):
            for name, value in attrs:
                if name in ("src", "href"):
                    assert value.startswith(("data:", "#")), (tag, value)

    text = page.read_text("utf-8")
    Links().feed(text)
    assert "data:image/jpeg" in text
    assert "<svg" in text


def test_annotated_video_has_every_frame_and_is_drawn_on(run, clips, tmp_path) -> None:
    out = tmp_path / "a.mp4"
    assert run("predict", clips / "one.mp4", "--video", out, "-q").code == 0
    with Video(clips / "one.mp4") as before, Video(out) as after:
        assert after.info.frames == 30
        assert after.info.duration == pytest.approx(before.info.duration, abs=0.05)
        a, b = (v.frames([0.4]).pixels.astype(int) for v in (before, after))
    assert np.abs(a - b).mean() > 2


def test_annotated_video_of_many_inputs_is_one_reel_or_a_folder(run, clips, tmp_path) -> None:
    both = (clips / "one.mp4", clips / "sub" / "two.mkv")
    reel = tmp_path / "reel.mp4"
    assert run("predict", *both, "--video", reel, "-q").code == 0
    with Video(reel) as video:
        assert video.info.frames == 90
    folder = tmp_path / "drawn"
    folder.mkdir()
    assert run("predict", *both, "--video", folder, "-q").code == 0
    assert sorted(os.listdir(folder)) == ["one.annotated.mp4", "two.annotated.mp4"]


def test_drawings_of_one_name_do_not_take_each_other_s_place(run, clips, tmp_path) -> None:
    data = (clips / "one.mp4").read_bytes()
    inputs = [tmp_path / name for name in ("a/x.mp4", "b/x.mp4", "out/x.annotated.mp4")]
    for path in inputs:
        path.parent.mkdir()
        path.write_bytes(data)
    folder = tmp_path / "out"
    assert run("predict", *inputs, "--video", folder, "-q").code == 0
    assert sorted(os.listdir(folder)) == [
        "x-2.annotated.mp4", "x-3.annotated.mp4", "x.annotated.annotated.mp4", "x.annotated.mp4",
    ]  # fmt: skip
    assert inputs[2].read_bytes() == data


def test_a_reel_is_drawn_at_its_own_size(run, clips, tmp_path) -> None:
    """The letters over a small source are as sharp as those over a large one."""
    large = tmp_path / "large.mp4"
    large.write_bytes(encode(frames=10, size=(640, 480)))
    reel = tmp_path / "reel.mp4"
    assert run("predict", clips / "one.mp4", large, "--video", reel, "-q").code == 0
    with Video(reel) as video:
        small, big = video.frames([0.2, 1.4]).pixels
    white = [int((frame[380:].min(-1) > 200).sum()) for frame in (small, big)]
    assert min(white) > 100
    assert max(white) < 3 * min(white)


def test_as_many_labels_are_shown_as_were_asked_for(run, clips, tmp_path) -> None:
    said = run("predict", clips / "one.mp4", "-k", "7", "--report", tmp_path / "r.html")
    assert sum(label in said.out for label in LABELS) == 7
    page = (tmp_path / "r.html").read_text("utf-8")
    assert sum(f"<bdi>{label}</bdi></th>" in page for label in LABELS) == 7


def test_batch_gives_the_same_labels(run, clips) -> None:
    inputs = (clips / "one.mp4", clips / "sub" / "two.mkv")
    one = lines(run("predict", *inputs, "--json", "-").out)
    two = lines(run("predict", *inputs, "--json", "-", "--batch", "4").out)
    assert [r["labels"][0]["label"] for r in one] == [r["labels"][0]["label"] for r in two]


def test_settings_reach_the_loop(run, clips, tmp_path) -> None:
    config = tmp_path / "p.yaml"
    config.write_text("look:\n  rate: 10\ntop_k: 2\n")
    said = run("predict", clips / "one.mp4", "--config", config, "--json", "-")
    (result,) = lines(said.out)
    assert len(result["labels"]) == 2
    assert len([t for s in result["trace"]["steps"] for t in s["frames"]]) == 12
    said = run("predict", clips / "one.mp4", "--config", config, "--set", "look.rate=5",
               "--no-trace", "--json", "-")  # fmt: skip
    (result,) = lines(said.out)
    assert result["trace"] is None


def test_look_and_budget(run, clips) -> None:
    said = run("predict", clips / "one.mp4", "--look", "keyframes-first", "--json", "-")
    assert lines(said.out)[0]["trace"]["steps"][0]["gate"] is not None
    said = run("predict", clips / "one.mp4", "--budget", "2fps", "--json", "-")
    steps = lines(said.out)[0]["trace"]["steps"]
    assert len([t for s in steps for t in s["frames"]]) == 3


def test_a_video_folder_is_made(run, clips, tmp_path) -> None:
    folder = tmp_path / "new" / "videos"
    said = run("predict", clips / "one.mp4", clips / "sub" / "two.mkv", "--video", f"{folder}/")
    assert said.code == 0, said.err
    assert sorted(path.name for path in folder.iterdir()) == [
        "one.annotated.mp4", "two.annotated.mp4",
    ]  # fmt: skip
    (tmp_path / "file").write_text("x")
    said = run("predict", clips / "one.mp4", "--video", f"{tmp_path}/file/")
    assert said.code == 2
    assert "file: cannot be made a folder (a file of that name exists)" in said.err


@pytest.mark.parametrize("words", [("predict",), ("explain", "--model", NAME), ("probe",)])
def test_debug_shows_one_traceback_of_each_file_that_cannot_be_read(start, tmp_path, words) -> None:
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_text("no video")
    said = start(*words, tmp_path)
    assert "Traceback" not in said.err
    said = start(*words, tmp_path, "--debug")
    assert said.code == 1
    assert said.err.count("Traceback") == 2
    assert said.err.count("\nfoveate: ") == 2


def test_debug_shows_the_traceback_of_a_wrong_request(start, tmp_path) -> None:
    said = start("predict", tmp_path / "a.mp4", "--set", "top_k=0", "--debug")
    assert said.code == 2
    assert "Traceback" in said.err
    assert said.err.splitlines()[-1] == "foveate: settings: top_k: must be at least 1"


@pytest.mark.parametrize(("option", "value"), [("--batch", "0"), ("--threads", "0")])
def test_an_option_out_of_range_is_one_plain_line(start, option, value) -> None:
    said = start("predict", "a.mp4", option, value)
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert option in said.err
    assert "must be at least 1" in said.err or "range" in said.err  # by the version of typer


def test_print_config_is_valid_configuration(run, tmp_path, clips) -> None:
    said = run("predict", "--print-config", "--budget", "50MMAC/s,3fps")
    assert "macs_per_second: 50000000.0" in said.out
    path = tmp_path / "saved.yaml"
    path.write_text(said.out)
    assert run("predict", "--print-config", "--config", path).out == said.out
    assert "unknown: true\n" in said.out
    assert "unknown: false\n" in run("predict", "--print-config", "--no-unknown").out
    said = run("predict", "--print-config", "--set", "limits.pixels=1000")
    assert "limits:\n  pixels: 1000\n" in said.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "nothing to recognise"),
        (("x.mp4", "--set", "look.rat=3"), "unknown key look.rat (did you mean rate?)"),
        (("x.mp4", "--budget", "fast"), "budget fast: not understood"),
        (("x.mp4", "--look", "magic"), "--look magic"),
        (("x.mp4", "--model", "movinet-a9"), "no model or preset 'movinet-a9'"),
        (("x.mp4", "--device", "cuda:7"), "device 'cuda:7': not on this machine (it has cpu"),
        (("x.mp4", "--report", "no/such/folder/r.html"), "mkdir -p"),
        (("x.mp4", "--json", "no/such/folder/r.jsonl"), "cannot be written"),
        (("x.mp4", "--json", "."), "is a folder"),
        (("x.mp4", "--video", "/dev/null"), "is not a regular file"),
        (("x.mp4", "--config", "nosuch.yaml"), "nosuch.yaml: cannot be read"),
    ],
)
def test_usage_mistakes_cost_one_line_and_code_2(run, words, says) -> None:
    said = run("predict", *words)
    assert said.code == 2
    assert says in said.err
    assert said.err.startswith("foveate: ")
    assert len(said.err.strip().splitlines()) == 1
    assert not said.out


def test_an_input_is_never_written_over(run, clips, tmp_path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes((clips / "one.mp4").read_bytes())
    before = path.read_bytes()
    for option in ("--video", "--report", "--json"):
        said = run("predict", path, option, path)
        assert said.code == 2
        assert "is an input too" in said.err
    assert path.read_bytes() == before


def test_a_device_or_a_pipe_takes_the_lines_and_stays_what_it_is(run, clips, tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        text = reader.submit(pipe.read_text)
        assert run("predict", clips / "one.mp4", "--json", pipe, "-q").code == 0
        assert lines(text.result(timeout=30))[0]["ok"]
    assert pipe.is_fifo()
    link, target = tmp_path / "link.jsonl", tmp_path / "target.jsonl"
    link.symlink_to(target)
    assert run("predict", clips / "one.mp4", "--json", link, "-q").code == 0
    assert link.is_symlink()
    assert lines(target.read_text())[0]["ok"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_one_line(run, clips) -> None:
    said = run("predict", clips / "one.mp4", "--json", "/dev/full", "-q")
    assert said.code == 2
    assert said.err == "foveate: /dev/full: cannot be written (no space left on device)\n"


def test_inputs_that_no_file_can_have_cost_one_line_each(run, clips, tmp_path) -> None:
    loop = tmp_path / "loop.mp4"
    loop.symlink_to(loop)
    bad = ["x" * 5000, "http://localhost/a.mp4", "", loop, loop / "a.mp4"]
    said = run("predict", *bad, clips / "one.mp4", "--json", "-", "--video", tmp_path)
    assert said.code == 1
    assert [r["ok"] for r in lines(said.out)] == [False] * len(bad) + [True]
    assert "an address, and only files are opened" in said.err
    assert "an empty name" in said.err
    assert "symbolic links" in said.err
    assert said.err.count("foveate: ") == len(bad)
    said = run("probe", *bad)
    assert said.code == 1
    assert len(said.err.splitlines()) == len(bad)


NAMES = ["a b.mp4", 'quote".mp4', "it's.mp4", "a%03d.mp4", "new\nline.mp4", "concat:x.mp4",
         "[bold]x.mp4", "ünïcode 視.mp4"]  # fmt: skip


def test_awkward_names(run, tmp_path, monkeypatch) -> None:
    data = encode(frames=10)
    for name in NAMES:
        (tmp_path / name).write_bytes(data)
    monkeypatch.chdir(tmp_path)
    said = run("predict", *NAMES, "--json", "-")
    assert said.code == 0
    assert [r["ok"] for r in lines(said.out)] == [True] * len(NAMES)
    folder = run("predict", ".", "--json", "-")
    assert len(lines(folder.out)) == len(NAMES)


def test_as_a_process_leading_dash_not_utf8_and_an_interrupted_pipe(start, tmp_path) -> None:
    data = encode(frames=10)
    names = [b"-dash.mp4", b"\xff\xfe.mp4"]
    for name in names:
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(data)
    said = start("predict", "--json", "-", "--", *names, cwd=tmp_path)
    assert said.code == 0, said.err
    assert [r["source"] for r in lines(said.out)] == ["-dash.mp4", "\\xff\\xfe.mp4"]


def test_as_a_process_no_traceback_reaches_a_user(start, tmp_path) -> None:
    (tmp_path / "broken.mp4").write_bytes(encode(frames=10)[:400])
    said = start("predict", tmp_path / "broken.mp4")
    assert said.code == 1
    assert "Traceback" not in said.err
    assert said.err.count("\n") == 1


def test_as_a_process_a_mistake_in_the_words_costs_one_line(start) -> None:
    for words, says in (
        (["predict", "--foo", "x"], "No such option: --foo"),
        (["trian"], "No such command 'trian'"),
        (["weights", "import", "x"], "Missing option '--as'"),
    ):
        said = start(*words)
        assert said.code == 2
        assert said.err.startswith(f"foveate: {says}")
        assert "--help)" in said.err
        assert len(said.err.splitlines()) == 1
    assert "Usage: foveate weights" in start("weights").out


def test_the_windows_are_drawn_on_the_thumbnails_of_the_report(tmp_path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode(frames=10, size=(128, 96)))
    steps = [TraceStep(time=t, frames=[t], boxes=[[32, 24, 96, 72]]) for t in (0.0, 0.2)]
    trace = Trace(size=[128, 96], steps=steps)
    boxed, plain = (
        [cv2.imdecode(np.frombuffer(data, np.uint8), 1).astype(int) for _, data in pictures]
        for pictures in (
            thumbnails(path, Result(source="a", model="m", trace=one), Limits())
            for one in (
                trace,
                Trace(size=[128, 96], steps=[s.model_copy(update={"boxes": []}) for s in steps]),
            )
        )
    )
    assert len(boxed) == len(plain) == 2
    for with_window, without in zip(boxed, plain, strict=True):
        changed = abs(with_window - without).max(axis=2) > 60
        rows, columns = (np.flatnonzero(changed.any(axis=axis)) for axis in (1, 0))
        # A quarter of the frame is outside the window on every side.
        assert rows[[0, -1]] == pytest.approx([22, 66], abs=2)
        assert columns[[0, -1]] == pytest.approx([30, 89], abs=2)
