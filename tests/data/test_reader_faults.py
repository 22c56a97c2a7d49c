"""What is wrong with an annotation is told by file and line, all of it at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

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
    root = tmp_path / "set"
    labelled.touch(root, "v/clip_01.mp4", "v/clip_02.mp4", "v/CLIP_3.MP4")
    labelled.touch(tmp_path, "sex/clip_1.mp4")
    (root / "clips.csv").write_text(
        "path,label\nv/clip_1.mp4,x\nv/clip_3.mp4,x\nv/zzz.mp4,x\n../sets/1.mp4,x\nclips.mp4,x\n"
    )
    assert faults(root) == [
        "clips.csv:2: no such file: v/clip_1.mp4 (did you mean v/clip_01.mp4?)",
        "clips.csv:3: no such file: v/clip_3.mp4 (did you mean v/CLIP_3.MP4?)",
        # Neither an ending in common, nor a folder beside the set, nor the table itself is alike.
        "clips.csv:4: no such file: v/zzz.mp4 (if the clips lie elsewhere, name their folder)",
        "clips.csv:5: no such file: ../sets/1.mp4 (if the clips lie elsewhere, name their folder)",
        "clips.csv:6: no such file: clips.mp4 (if the clips lie elsewhere, name their folder)",
    ]


def test_every_fault_of_an_activitynet_video(tmp_path: Path) -> None:
    found = faults(
        activitynet(
            tmp_path,
            {"segment": [3, 2], "label": "Archery"},
            {"segment": [1, "x"], "label": "Archery"},
            {"segment": [1, 2], "label": " "},
            {"segment": [1, 2], "label": "Archry"},
            {"segment": [99, 100], "label": "Beer pong"},
            {"segment": [4, 5], "label": "Archery"},
            {"segment": [4, 5], "label": "Archery"},
            7,
            subset="tests",
        )
    )
    said = ["does not end after", "'x' is not a number", "no label", "not a segment with two",
            "'Archry' (did you mean 'Archery'?)", "starts at 99 s", "is given twice",
            "unknown subset 'tests'"]  # fmt: skip
    assert len(found) == len(said)
    assert all(words in line for words, line in zip(said, found, strict=True)), found


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
        (lambda p: something(p, id="4"), "train.json:3: clip 4: no such file: 4"),
        (lambda p: something(p, template=None), "clip 78687: no template"),
        (lambda p: activitynet(p), "activity_net.v1-3.json:8: video abc: no annotations"),
        (lambda p: activitynet(p, {"segment": [1, 2], "label": "Archry"}), "mean 'Archery'"),
        (lambda p: activitynet(p, {"segment": [3, 2], "label": "Archery"}), "3 to 2 s does not"),
        (lambda p: activitynet(p, {"segment": [99, 100], "label": "Archery"}), "lasts 60 s"),
        (lambda p: activitynet(p, {"label": "Archery"}), "segment 1: no segment"),
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
        "stray.mp4: is not in a class folder",
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


def test_one_pass_names_all_by_line(tmp_path: Path) -> None:
    """Several faults of a row, of its neighbours, and of what all rows have in common."""
    root = tmp_path / "set"
    labelled.touch(root, *(f"{i}.mp4" for i in range(8)))
    labelled.touch(tmp_path, "outside.mp4")
    (root / "clips.csv").write_text(
        "path,label,start,end,split\n"
        "1.mp4,run,,,train\n"
        "../outside.mp4,run,,,train\n"  # 3: leaves the folder
        "nowhere.mp4,,x,y,trian\n"  # 4: five faults
        "2.mp4,Run,5,2,train\n"  # 5: two
        "3.mp4,7,,,train\n"  # 6: a number among words
        f"{tmp_path / 'outside.mp4'},run,1,2,train\n"  # 7: leaves the folder, whole and in stretch
        "4.mp4,jump,,,test\n"  # 8: no training clip
        "1.mp4,run,,,train\n"  # 9: duplicate
    )
    found = faults(root)
    assert [int(line.split(":")[1]) for line in found] == [3, 4, 4, 4, 4, 4, 5, 5, 6, 7, 8, 9]
    for at, words in {
        0: "../outside.mp4 is outside the folder of the clips",
        1: "no label",
        2: "start 'x' is not a number",
        3: "end 'y' is not a number",
        4: "unknown split 'trian'",
        5: "no such file: nowhere.mp4",
        6: "ends at 2 s, not after its start at 5 s",
        7: "unknown class 'Run' (did you mean run, as in clips.csv:2?)",
        8: "label '7' is a number, the others are words",
        9: "is outside the folder of the clips",
        10: "class 'jump' of split test has no training clip",
        11: "1.mp4 duplicate of clips.csv:2",
    }.items():
        assert words in found[at], found


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("format", ["activitynet", "something", "labelstudio"])
def test_a_fault_of_one_entry_hides_none_of_another(
    tmp_path: Path, format: str, indent: int | None
) -> None:
    """Most JSON files have one line: it says nothing about which entry a fault belongs to."""
    labelled.touch(tmp_path, "1.mp4", "2.mp4")
    entries: dict[str, Any] = {
        "activitynet": {
            "database": {
                str(name): {"subset": "training", "annotations": [{"label": label, "segment": to}]}
                for name, label, to in ((9, "a", [0, 1]), (1, "a", [2, 1]), (2, "a", [1, 2]))
            }
            | {"./2": {"subset": "training", "annotations": [{"label": "b", "segment": [1, 2]}]}}
        },
        "something": [
            {"id": name, "template": template}
            for name, template in (("9", "[a]"), ("1", "x"), ("2", "[a]"), ("./2", "b"))
        ],
        "labelstudio": [
            {"data": {"video": f"{name}.mp4", "fps": 1}, "annotations": [{"result": [
                {"value": {"ranges": [{"start": a, "end": b}], "timelinelabels": [label]}}
            ]}]}
            for name, label, a, b in (
                (9, "a", 1, 2), (1, "a", 3, 1), (2, "a", 1, 2), ("./2", "b", 1, 2)
            )
        ],
    }  # fmt: skip
    (tmp_path / "labels.json").write_text('{"a": 0, "b": 1}' if format == "something" else "{}")
    (tmp_path / "train.json").write_text(json.dumps(entries[format], indent=indent))
    found = faults(tmp_path, format=format)
    assert len(found) == 3, found
    assert "no such file" in found[0]
    assert "unknown class 'x'" in found[1] or "does not end after its start" in found[1]
    assert "2.mp4 is b here and a at" in found[2]


@pytest.mark.parametrize("odd", [None, True, -1, 1e300, "", "x", [], {}, [[]], {"a": 1}])
def test_json_of_odd_types_is_no_traceback(tmp_path: Path, odd: Any) -> None:
    labelled.touch(tmp_path, "1.mp4")
    node = {"nodeId": odd, "nodeName": odd, "parentId": odd}
    segments = [{"label": odd, "segment": [0, 1]}, {"label": "a", "segment": odd}, odd]
    for format, value in (
        ("activitynet", {"database": {"1": {"subset": "training", "annotations": odd}}}),
        ("activitynet", {"database": {"1": odd}, "taxonomy": odd}),
        ("activitynet", {"database": {"1": {"subset": "val", "annotations": segments}},
                         "taxonomy": [node, odd]}),
        ("labelstudio", [{"data": {"video": "1.mp4"}, "annotations": [{"result": odd}]}]),
        ("labelstudio", [{"data": {"video": "1.mp4", "fps": odd}, "annotations": [
            {"result": [odd, {"value": odd}, {"value": {"ranges": odd, "timelinelabels": odd}}]}
        ]}]),
        ("labelstudio", [{"data": odd, "annotations": odd}, odd]),
        ("something", [{"id": odd, "template": odd}, odd]),
    ):  # fmt: skip
        (tmp_path / "labels.json").write_text('{"a": 0}' if format == "something" else "{}")
        (tmp_path / "train.json").write_text(json.dumps(value))
        with suppress(data.DataError):
            data.read(tmp_path / "train.json", format=format)


def test_a_wrong_number_of_frames_hides_no_second_label(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "f/1.jpg", "f/2.jpg", "f/3.jpg")
    (tmp_path / "train.txt").write_text("f 5 0\nf 3 1\n")
    assert faults(tmp_path / "train.txt") == [
        "train.txt:1: 5 frames, but the folder holds 3",
        "train.txt:2: f is 1 here and 0 at train.txt:1",
    ]


def test_lists_whose_clips_all_lie_elsewhere_are_meant(tmp_path: Path) -> None:
    labelled.touch(tmp_path / "videos", "a.mp4", "b.mp4")
    lists = tmp_path / "annotations"
    lists.mkdir()
    (lists / "train.txt").write_text(f"../videos/a.mp4 0\n{tmp_path}/videos/b.mp4 1\n")
    assert len(data.read(lists)) == 2
    labelled.touch(lists, "c.mp4")
    (lists / "train.txt").write_text(f"../videos/a.mp4 0\n{tmp_path}/videos/b.mp4 1\nc.mp4 0\n")
    assert [line.partition(" ")[0] for line in faults(lists)] == ["train.txt:1:", "train.txt:2:"]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("0", "1", "-1", "1.0", "nan", "x"), (3, 4, 5, 6)),
        (("run", "sit", "3", "run", "2.5"), (3, 5)),
        (("0", "1", "2", "5000"), (4,)),
        (("17", "203", "399"), ()),
        (("0", "1", "2", "4"), ()),
    ],
)
def test_labels_that_are_numbers_out_of_place(
    tmp_path: Path, rows: tuple[str, ...], said: tuple[int, ...]
) -> None:
    labelled.touch(tmp_path, *(f"{i}.mp4" for i in range(len(rows))))
    (tmp_path / "train.txt").write_text("".join(f"{i}.mp4 {x}\n" for i, x in enumerate(rows)))
    if not said:
        assert len(data.read(tmp_path)) == len(rows)
        return
    found = faults(tmp_path)
    assert [int(line.split(":")[1]) for line in found] == list(said)
    assert all(f"label '{rows[at - 1]}'" in line or f"label {rows[at - 1]} " in line
               for at, line in zip(said, found, strict=True))  # fmt: skip


def test_a_number_of_several_clips_is_a_class(tmp_path: Path) -> None:
    """Gestures are called 1 and 2 as well as wave: only a single clip looks like a slip."""
    labelled.touch(tmp_path, *(f"{i}.mp4" for i in range(6)))
    labels = ("wave", "wave", "zoom", "zoom", "2", "2")
    (tmp_path / "clips.csv").write_text(
        "path,label\n" + "".join(f"{i}.mp4,{x}\n" for i, x in enumerate(labels))
    )
    assert data.read(tmp_path).classes == ("2", "wave", "zoom")


def test_a_list_with_its_columns_swapped(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4")
    (tmp_path / "train.txt").write_text("0 a.mp4\n")
    assert faults(tmp_path) == ["train.txt:1: the label is before the path"]


def test_a_reader_that_stops_tells_what_it_found_before(tmp_path: Path) -> None:
    something(tmp_path, template=None)
    (tmp_path / "something-something-v2-validation.json").write_text("[\n{]")
    found = faults(tmp_path)
    assert len(found) == 2
    assert found[0].endswith("clip 78687: no template")
    assert "v2-validation.json:2: not JSON" in found[1]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("a\n\nc\n", "classes.txt:2: an empty name: every line is a class"),
        ("a\nb\na\n", "classes.txt:3: the class 'a' is named twice (also line 1)"),
        ("0 a\n1 b\n1 c\n", "classes.txt:3: the number 1 is also in line 2"),
        ("0 a\n1 b\n5 c\n", "classes.txt:3: the number 5 is out of place in 3 classes"),
        ("0 a\n1 b\n3 c\n", "classes.txt: the number 2 is missing"),
    ],
)
def test_files_of_class_names(tmp_path: Path, names: str, said: str) -> None:
    labelled.touch(tmp_path, "a.mp4")
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    (tmp_path / "classes.txt").write_text(names)
    assert faults(tmp_path)[0] == said


def test_no_line_names_a_path_twice(tmp_path: Path) -> None:
    labelled.put(tmp_path / "run" / "text.mp4", b"just words")
    labelled.put(tmp_path / "run" / "fine.mp4")
    labelled.touch(tmp_path, "train/a/1.mp4")
    shared_file = labelled.put(tmp_path / "sit" / "copy.mp4")
    report = data.check(tmp_path, workers=0, cache=tmp_path / "probes")
    lines = report.lines()
    assert any(line.startswith("bad clip: run/text.mp4: ") for line in lines)
    assert any("run/fine.mp4, sit/copy.mp4" in line for line in lines)
    for line in lines:
        for path in (str(tmp_path), "run/text.mp4", "run/fine.mp4", shared_file.name):
            assert line.count(path) <= 1, line


def test_kinetics_wants_its_columns(tmp_path: Path) -> None:
    (tmp_path / "k.csv").write_text('label",youtube_id,time_start,time_end\nx,a,1,2\n')
    assert "k.csv:1: no column label" in faults(tmp_path / "k.csv", format="kinetics")[0]
    (tmp_path / "k.csv").write_text("Label;YouTube_ID;time_start;time_end\nx;a;1;2\n")
    assert "no such file: a_000001_000002" in faults(tmp_path)[0]
