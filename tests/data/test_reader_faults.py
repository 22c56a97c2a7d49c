"""What is wrong with an annotation is told by file and line, all of it at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import labelled
import pytest
from test_readers import activitynet, something

from foveate import data
from foveate.data.errors import CAP


def faults(path: Path, **options: object) -> list[str]:
    with pytest.raises(data.DataError) as caught:
        data.read(path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert caught.value.kind == "data"
    return list(caught.value.faults)


def test_every_fault_of_a_table_is_named_by_line(tmp_path: Path) -> None:
    labelled.touch(tmp_path, *(f"{i}.mp4" for i in range(1, 9)))
    lines = [
        b"path,label,split,start,end",
        b"1.mp4,run,train,,",
        b"2.mp4,Run,train,,",  # 3: another spelling
        b"3.mp4,jump,train,x,2",  # 4: no number
        b"4.mp4,run,train,3,2",  # 5: ends before its start
        b"nowhere.mp4,run,train,,",  # 6: missing
        b"1.mp4,run,train,,",  # 7: duplicate
        b"1.mp4,run,test,,",  # 8: overlap
        b"5.mp4,run",  # 9: fields
        b'"6.mp4,run,train,,',  # 10: quote
        b"7.mp4,\xe9,train,,",  # 11: not UTF-8
        b"8.mp4,run,trian,,",  # 12: split
        b"8.mp4,,train,,",  # 13: no label
        b"7.mp4,jump,test,nan,",  # 14: nan
        b"6.mp4,jump,test,,",  # 15: fine, but jump has no training clip
    ]
    (tmp_path / "clips.csv").write_bytes(b"\n".join(lines))
    found = {int(line.split(":")[1]): line for line in faults(tmp_path)}
    assert sorted(found) == [*range(3, 16)]
    for at, words in {
        3: "unknown class 'Run' (did you mean run, as in clips.csv:2?)",
        4: "start 'x' is not a number",
        5: "ends at 2 s, not after its start at 3 s",
        6: "no such file: nowhere.mp4",
        7: "1.mp4 duplicate of clips.csv:2",
        8: "1.mp4 is in test here and in train at clips.csv:2",
        9: "2 fields where the header has 5 columns",
        10: "a quote that does not close",
        11: "not UTF-8 (byte 0xe9 at position 7)",
        12: "unknown split 'trian' (did you mean train)",
        13: "no label",
        14: "start nan is not a number",
        15: "class 'jump' of split test has no training clip",
    }.items():
        assert words in found[at], found[at]


def test_one_line_counts_them_and_keeps_fifty(tmp_path: Path) -> None:
    rows = "".join(f"{i}.mp4,x\n" for i in range(70))
    (tmp_path / "clips.csv").write_text("path,label\n" + rows)
    with pytest.raises(data.DataError, match=r"70 faults, the first is clips\.csv:2: no") as got:
        data.read(tmp_path)
    assert len(got.value.faults) == CAP
    assert got.value.count == 70


def test_the_classes_of_a_model_are_all_there_are(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4")
    (tmp_path / "clips.csv").write_text("path,label\na.mp4,fihgt\n")
    assert faults(tmp_path, classes=("fight", "peace")) == [
        "clips.csv:2: unknown class 'fihgt' (did you mean fight?)"
    ]


def test_a_missing_file_names_the_one_that_looks_like_it(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "v/clip_01.mp4")
    (tmp_path / "clips.csv").write_text("path,label\nv/clip_1.mp4,x\n")
    assert faults(tmp_path) == [
        "clips.csv:2: no such file: v/clip_1.mp4 (did you mean v/clip_01.mp4?)"
    ]


def write(text: str, name: str = "clips.csv") -> Callable[[Path], Path]:
    def made(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return made


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (write(""), "clips.csv: empty"),
        (write("", "notes.md"), "is no annotation of a known format"),
        (write("path,label\n"), "no clips found"),
        (write("path,label,label\na,b,c\n"), "two columns have the same name"),
        (write("file,classes\na,b\n"), "clips.csv:1: no column label (is it classes?)"),
        (write("a.mp4\n", "train.txt"), "train.txt:1: not of the form: path label"),
        (write("a.mp4,1,2,3\n", "train.txt"), "train.txt:1: 4 fields"),
        (write('{"database": {\n"a": 3,}}', "a.json"), "a.json:2: not JSON"),
        (write('{"database": 3}', "a.json"), "no database of videos"),
        (lambda p: something(p, template="Holding [some]"), "did you mean 'Holding something'?"),
        (lambda p: something(p, placeholders=["a", "b"]), "2 placeholders where"),
        (lambda p: something(p, id="4"), "train.json:3: no such file: 4"),
        (lambda p: something(p, template=None), "clip 78687 has no template"),
        (lambda p: activitynet(p), "activity_net.v1-3.json:8: video abc: no annotations"),
        (lambda p: activitynet(p, {"segment": [1, 2], "label": "Archry"}), "mean 'Archery'"),
        (lambda p: activitynet(p, {"segment": [3, 2], "label": "Archery"}), "3 to 2 s is none"),
        (lambda p: activitynet(p, {"segment": [99, 100], "label": "Archery"}), "lasts 60 s"),
        (lambda p: activitynet(p, {"label": "Archery"}), "without two numbers"),
        (lambda p: activitynet(p, subset="tests"), "unknown subset 'tests'"),
    ],
)  # fmt: skip
def test_other_faults(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    assert words in " / ".join(faults(make(tmp_path)))


def test_ucf101_counts_its_classes(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "Archery/a.avi", "Bikng/b.avi")
    (tmp_path / "classInd.txt").write_text("1 Archery\n3 Biking\n")
    (tmp_path / "trainlist01.txt").write_text("Archery/a.avi 2\nBikng/b.avi 2\nArchery/a.avi x\n")
    (tmp_path / "testlist01.txt").write_text("a.avi\n")
    assert faults(tmp_path) == [
        "classInd.txt:2: not of the form: 2 Name ('3 Biking')",
        "trainlist01.txt:1: class 2 is Biking, but the folder is Archery",
        "trainlist01.txt:2: unknown class 'Bikng' (did you mean Biking?)",
        "trainlist01.txt:3: the number of the class 'x' is not a number",
        "testlist01.txt:1: not of the form: Class/clip.avi 1 ('a.avi')",
    ]


def test_hmdb51_knows_three_sides(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "wave/a_wave_b_0.avi")
    (tmp_path / "wave_test_split1.txt").write_text("a_wave_b_0.avi 3\nb_wave_c_0.avi 1\n")
    first, second = faults(tmp_path)
    assert first.startswith("wave_test_split1.txt:1: not of the form")
    assert second.startswith("wave_test_split1.txt:2: no such file: wave/b_wave_c_0.avi")


def test_kinetics_numbers_and_splits(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a_000001_000002.mp4")
    (tmp_path / "k.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nx,a,1,zwei,train\nx,a,5,2,train\nx,a,1,2,all\n"
    )
    assert [line.partition(": ")[2] for line in faults(tmp_path)] == [
        "time_end 'zwei' is not a number",
        "ends at 2 s, not after its start at 5 s",
        "unknown split 'all' (train, val or test)",
    ]


def test_numbered_classes_must_have_names(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "classes.txt").write_text("zero\n")
    (tmp_path / "train.txt").write_text("a.mp4 0\nb.mp4 1\n")
    assert faults(tmp_path) == ["train.txt:2: unknown class 1: classes.txt names 1 classes"]


def test_class_folders_say_what_is_odd(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "stray.mp4", "run/a.mp4")
    (tmp_path / "empty").mkdir()
    labelled.pictures(tmp_path / "stills", 2)
    assert faults(tmp_path) == [
        "stray.mp4: lies in no class folder",
        "empty: no clips in this class folder",
        "stills: holds pictures: put the frames of each clip in a folder of its own",
    ]


def test_a_file_is_listed_whole_or_in_stretches(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4")
    (tmp_path / "clips.csv").write_text("path,label,start,end\na.mp4,x,1,2\na.mp4,y,,\n")
    assert faults(tmp_path) == ["clips.csv:3: a.mp4 is listed whole and in stretches (clips.csv:2)"]


def test_the_same_clip_with_two_labels(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4")
    (tmp_path / "clips.csv").write_text("path,label\na.mp4,x\n./a.mp4,y\n")
    assert faults(tmp_path) == ["clips.csv:3: a.mp4 is y here and x at clips.csv:2"]
