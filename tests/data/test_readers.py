"""Every annotation format gives the same kind of record."""

from __future__ import annotations

import json
from pathlib import Path

import labelled
import pytest

from foveate import data
from foveate.data.readers.detect import FORMATS, recognise
from foveate.data.record import Dataset


def rows(dataset: Dataset) -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(dataset.name(r), r.labels, r.split) for r in dataset.records]


def test_class_folders(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "run/b.mp4", "run/a.MP4", "jump/deep/c.avi", ".git/x.mp4")
    labelled.touch(tmp_path, "run/notes.txt")
    dataset = data.read(tmp_path)
    assert dataset.classes == ("jump", "run")
    assert rows(dataset) == [
        ("jump/deep/c.avi", ("jump",), None),
        ("run/a.MP4", ("run",), None),
        ("run/b.mp4", ("run",), None),
    ]
    assert not dataset.multilabel


def test_class_folders_with_splits_above_them(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "training/a/1.mp4", "training/b/2.mp4", "Validation/a/3.mp4")
    dataset = data.read(tmp_path)
    assert dataset.splits == ("train", "val")
    assert [r.split for r in dataset.records] == ["val", "train", "train"]
    assert dataset.class_counts("train") == {"a": 1, "b": 1}


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "train/1.mp4", "bus/2.mp4")
    assert data.read(tmp_path).classes == ("bus", "train")


def test_frame_folders_are_clips(tmp_path: Path) -> None:
    labelled.pictures(tmp_path / "wave" / "clip1", 3)
    labelled.pictures(tmp_path / "clap" / "clip2", 3, suffix=".jpg")
    assert rows(data.read(tmp_path)) == [
        ("clap/clip2", ("clap",), None),
        ("wave/clip1", ("wave",), None),
    ]


def test_clips_table(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "v/a.mp4", "v/b, c.mp4")
    (tmp_path / "clips.csv").write_bytes(
        b"\xef\xbb\xbfPath,Label,fold,source,audio\r\n"
        b'v/a.mp4,fight,0,cam 1,silent\r\n\r\n"v/b, c.mp4",no fight,1,cam 2,none'
    )
    dataset = data.read(tmp_path)
    assert dataset.classes == ("fight", "no fight")
    assert dataset.splits == ("0", "1")
    first, second = dataset.records
    assert (first.group, first.tag("audio"), first.where) == ("cam 1", "silent", "clips.csv:2")
    assert second.path == tmp_path / "v" / "b, c.mp4"
    assert second.where == "clips.csv:4"
    assert second.tag("nothing") is None


def test_clips_table_with_semicolons_stretches_and_several_labels(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "ä.mp4")
    (tmp_path / "clips.csv").write_text(
        "label;path;start;end;split\nrun|jump;ä.mp4;0.5;2;train\nrun;ä.mp4;2;3.5;train\n", "utf-16"
    )
    dataset = data.read(tmp_path / "clips.csv")
    assert dataset.multilabel
    assert [(r.labels, r.start, r.end) for r in dataset.records] == [
        (("run", "jump"), 0.5, 2.0),
        (("run",), 2.0, 3.5),
    ]
    whole = dataset.whole_videos()
    assert [(r.labels, r.start) for r in whole.records] == [(("run", "jump"), None)]


def test_kinetics(tmp_path: Path) -> None:
    trimmed = "train/abseiling/abc_000010_000020.mp4", "q/-9_000001_000011.mp4"
    labelled.touch(tmp_path, *trimmed, "xyz.mkv")
    (tmp_path / "train.csv").write_text(
        "label,youtube_id,time_start,time_end,split\n"
        "abseiling,abc,10,20,train\n"
        '"air drumming",xyz,5,15,train\n'
        "abseiling,-9,1,11,train\n"
    )  # fmt: skip
    dataset = data.read(tmp_path)
    assert recognise(tmp_path) == "kinetics"
    assert [(r.path.name, r.start, r.end, r.group) for r in dataset.records] == [
        ("abc_000010_000020.mp4", None, None, "abc"),
        ("xyz.mkv", 5.0, 15.0, "xyz"),
        ("-9_000001_000011.mp4", None, None, "-9"),
    ]
    assert dataset.classes == ("abseiling", "air drumming")


@pytest.mark.parametrize("delimiter", [" ", ",", "\t"])
def test_lists_of_path_and_label(tmp_path: Path, delimiter: str) -> None:
    labelled.touch(tmp_path, "a b.mp4", "c.mp4", "d.mp4")
    (tmp_path / "train_list.txt").write_text(
        f"a b.mp4{delimiter}0\nc.mp4{delimiter}2\n\nd.mp4{delimiter}1"
    )
    dataset = data.read(tmp_path / "train_list.txt", video_root=tmp_path)
    assert [(dataset.name(r), dataset.indices(r), r.split) for r in dataset.records] == [
        ("a b.mp4", (0,), "train"),
        ("c.mp4", (2,), "train"),
        ("d.mp4", (1,), "train"),
    ]
    assert dataset.classes == ("0", "1", "2")
    (tmp_path / "classes.txt").write_text("zero\none\ntwo\n")
    assert data.read(tmp_path).classes == ("zero", "one", "two")


def test_lists_of_frame_folders_with_counts(tmp_path: Path) -> None:
    labelled.pictures(tmp_path / "clip 1", 4)
    (tmp_path / "val.txt").write_text("clip 1 4 7\n")
    dataset = data.read(tmp_path)
    assert rows(dataset) == [("clip 1", ("7",), "val")]
    (tmp_path / "val.txt").write_text("clip 1 5 7\n")
    with pytest.raises(data.DataError, match=r"val.txt:1: 5 frames, but the folder holds 4"):
        data.read(tmp_path)


def test_ucf101(tmp_path: Path) -> None:
    lists, videos = tmp_path / "lists", tmp_path / "UCF-101"
    names = ["Archery/v_Archery_g08_c01.avi", "Biking/v_Biking_g01_c02.avi",
             "Archery/v_Archery_g01_c01.avi", "Biking/v_Biking_g09_c01.avi"]  # fmt: skip
    labelled.touch(videos, *names)
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Archery\n2 Biking\n")
    (lists / "trainlist02.txt").write_text(f"{names[0]} 1\r\n{names[1]} 2\r\n")
    (lists / "testlist02.txt").write_text(f"{names[2]}\n{names[3]}\n")
    dataset = data.read(lists, video_root=videos, part=2)
    assert rows(dataset) == [
        (names[0], ("Archery",), "train"),
        (names[1], ("Biking",), "train"),
        (names[2], ("Archery",), "test"),
        (names[3], ("Biking",), "test"),
    ]
    assert dataset.records[0].group == "v_Archery_g08"
    assert data.read(lists / "testlist02.txt", video_root=videos) == dataset
    with pytest.raises(data.DataError, match="part 1 of UCF-101"):
        data.read(lists, video_root=videos)


def test_hmdb51(tmp_path: Path) -> None:
    film = "April_09_brush_hair_u_nm_np1_ba_goo_{}.avi"
    labelled.touch(tmp_path, *(f"brush_hair/{film.format(i)}" for i in range(3)))
    labelled.touch(tmp_path, "catch/x_catch_f_nm_np1_fr_med_0.avi")
    (tmp_path / "brush_hair_test_split1.txt").write_text(
        "".join(f"{film.format(i)} {i} \n" for i in range(3))
    )
    (tmp_path / "catch_test_split1.txt").write_text("x_catch_f_nm_np1_fr_med_0.avi 1 \n")
    dataset = data.read(tmp_path)
    assert recognise(tmp_path) == "hmdb51"
    assert [(r.path.name, r.labels[0], r.split, r.group) for r in dataset.records] == [
        (film.format(1), "brush_hair", "train", "April_09"),
        (film.format(2), "brush_hair", "test", "April_09"),
        ("x_catch_f_nm_np1_fr_med_0.avi", "catch", "train", "x"),
    ]


def something(tmp_path: Path, **changes: object) -> Path:
    labelled.touch(tmp_path / "videos", "78687.webm", "1.webm")
    (tmp_path / "labels.json").write_text(json.dumps({"Holding something": "1", "Closing": "0"}))
    entry = {"id": "78687", "label": "holding potato", "template": "Holding [something]",
             "placeholders": ["potato"], **changes}  # fmt: skip
    train = [entry, {"id": "1", "template": "Closing", "placeholders": []}]
    (tmp_path / "something-something-v2-train.json").write_text(json.dumps(train, indent=1))
    return tmp_path


def test_something_something(tmp_path: Path) -> None:
    dataset = data.read(something(tmp_path))
    assert recognise(tmp_path) == "something"
    assert dataset.classes == ("Closing", "Holding something")
    assert rows(dataset) == [
        ("videos/78687.webm", ("Holding something",), "train"),
        ("videos/1.webm", ("Closing",), "train"),
    ]
    assert dataset.records[0].where == "something-something-v2-train.json:3: clip 78687"


def activitynet(tmp_path: Path, *annotations: object, subset: str = "training") -> Path:
    labelled.touch(tmp_path, "v_abc.mp4")
    (tmp_path / "activity_net.v1-3.json").write_text(
        json.dumps(
            {
                "database": {
                    "hidden": {"subset": "testing", "duration": 9.0, "annotations": []},
                    "abc": {"subset": subset, "duration": 60.0, "annotations": list(annotations)},
                },
                "taxonomy": [
                    {"nodeId": 0, "nodeName": "Root", "parentId": None},
                    {"nodeId": 1, "nodeName": "Archery", "parentId": 0},
                    {"nodeId": 2, "nodeName": "Beer pong", "parentId": 0},
                ],
            },
            indent=1,
        )
    )
    return tmp_path


def test_activitynet(tmp_path: Path) -> None:
    dataset = data.read(
        activitynet(
            tmp_path,
            {"segment": [1, 5.5], "label": "Archery"},
            {"segment": [1, 5.5], "label": "Beer pong"},
            {"segment": [20, 60.4], "label": "Archery"},
        )
    )
    assert dataset.multilabel
    assert dataset.classes == ("Archery", "Beer pong")
    assert [(r.labels, r.start, r.end, r.split, r.group) for r in dataset.records] == [
        (("Archery", "Beer pong"), 1.0, 5.5, "train", "abc"),
        (("Archery",), 20.0, 60.4, "train", "abc"),
    ]


def test_every_format_is_named_and_has_a_reader() -> None:
    for name in FORMATS:
        with pytest.raises(data.DataError):
            data.read("no such place", format=name)


def test_a_clip_may_be_missing_if_one_says_so(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4")
    (tmp_path / "clips.csv").write_text("path,label\na.mp4,x\nb.mp4,x\n")
    dataset = data.read(tmp_path, allow_missing=True)
    assert len(dataset) == 1
    assert dataset.left_out == ("clips.csv:3: no such file: b.mp4",)


def test_digest_knows_content_and_not_order_or_place(tmp_path: Path) -> None:
    for name in ("one", "two"):
        labelled.touch(tmp_path / name, "a.mp4", "b.mp4")
    table = "path,label,split\na.mp4,x,train\nb.mp4,y,train\n"
    (tmp_path / "one" / "clips.csv").write_text(table)
    (tmp_path / "two" / "clips.csv").write_text("path,label,split\nb.mp4,y,train\na.mp4,x,train\n")
    one, two = data.read(tmp_path / "one"), data.read(tmp_path / "two")
    assert one.digest() == two.digest() == one.digest("train")
    assert one.digest("test") != one.digest("train")
    (tmp_path / "two" / "clips.csv").write_text(table.replace("b.mp4,y", "b.mp4,x"))
    assert data.read(tmp_path / "two", classes=("x", "y")).digest() != one.digest()


@pytest.mark.parametrize("delimiter", [" ", ",", ";", "\t"])
def test_the_disk_tells_where_a_path_ends(tmp_path: Path, delimiter: str) -> None:
    names = ["a, b.mp4", "a b; c.mp4", "a\tb.mp4", "1, 2.mp4", "a.mp4", "d 3.mp4", "it's.mp4"]
    labelled.touch(tmp_path, *names)
    labelled.pictures(tmp_path / "clip 3, 4", 2)
    label = "ride a horse, fast"
    (tmp_path / "train.txt").write_text(
        "".join(f"{name}{delimiter}{label}\n" for name in names)
        + f"clip 3, 4{delimiter}2{delimiter}{label if delimiter != ',' else 'x'}\n"
    )
    dataset = data.read(tmp_path)
    assert [dataset.name(r) for r in dataset.records] == [*names, "clip 3, 4"]
    assert {r.labels for r in dataset.records[:-1]} == {(label,)}
    (tmp_path / "train.txt").write_text(f"nowhere 1, 2.mp4{delimiter}0\n")
    with pytest.raises(data.DataError, match="no such file: nowhere 1"):
        data.read(tmp_path)


def test_an_unquoted_path_of_a_table(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a, b, c.mp4", "d.mp4")
    (tmp_path / "clips.csv").write_text("label,path,split\nx,a, b, c.mp4,train\ny,d.mp4,train\n")
    assert rows(data.read(tmp_path)) == [
        ("a, b, c.mp4", ("x",), "train"), ("d.mp4", ("y",), "train"),
    ]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_marks_of_byte_order(tmp_path: Path, encoding: str) -> None:
    labelled.touch(tmp_path, "ä.mp4", "b.mp4")
    (tmp_path / "train.txt").write_text("ä.mp4 0\r\nb.mp4 1\r\n", encoding)
    (tmp_path / "classes.txt").write_text("0 läuft\r\n1 sitzt\r\n\r\n", encoding)
    assert rows(data.read(tmp_path)) == [
        ("ä.mp4", ("läuft",), "train"), ("b.mp4", ("sitzt",), "train"),
    ]  # fmt: skip
    joined = b"\xef\xbb\xbfa.mp4,x\n" + b"\xef\xbb\xbfb.mp4,x\n"
    (tmp_path / "train.txt").write_bytes(joined.replace(b"a.mp4", "ä.mp4".encode()))
    assert data.read(tmp_path / "train.txt").classes == ("x",)


def test_ucf101_with_spaces(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "Horse Riding/v 1.avi", "Horse Riding/v 2.avi")
    (tmp_path / "trainlist01.txt").write_text("Horse Riding/v 1.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("Horse Riding/v 2.avi\n")
    assert rows(data.read(tmp_path)) == [
        ("Horse Riding/v 1.avi", ("Horse Riding",), "train"),
        ("Horse Riding/v 2.avi", ("Horse Riding",), "test"),
    ]


def test_every_reader_counts_what_it_passes_over(tmp_path: Path) -> None:
    labelled.touch(tmp_path / "t", "a.mp4", "b.mp4", "c.mp4", "d.txt", ".e.mp4")
    (tmp_path / "t" / "clips.csv").write_text("path,label\na.mp4,x\n")
    (tmp_path / "t" / "old.csv").write_text("anything\n")
    (tmp_path / "t" / "val_list.txt").write_text("a.mp4 0\n")
    assert data.read(tmp_path / "t").passed_over == (
        "2 other tables beside clips.csv: old.csv, val_list.txt",
        "2 videos that no line names: b.mp4, c.mp4",
    )
    (tmp_path / "t" / "val_list.txt").unlink()
    (tmp_path / "t" / "clips.csv").rename(tmp_path / "t" / "train.txt")
    (tmp_path / "t" / "train.txt").write_text("a.mp4 0\nb.mp4 0\n")
    assert data.read(tmp_path / "t").passed_over == (
        "2 lists whose names have no split: d.txt, old.csv",
        "1 video that no line names: c.mp4",
    )
    (tmp_path / "t" / "train.txt").unlink()
    (tmp_path / "t" / "k.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nx,a,0,9,train\n"
    )
    assert data.read(tmp_path / "t").passed_over == (
        "1 table without the columns of Kinetics: old.csv",
        "2 videos that no line names: b.mp4, c.mp4",
    )
    activitynet(tmp_path / "n", {"segment": [1, 5.5], "label": "Archery"})
    assert data.read(tmp_path / "n").passed_over == ("1 video whose labels are withheld: hidden",)
    labelled.touch(tmp_path / "h", "wave/a_wave_b_0.avi")
    (tmp_path / "h" / "wave_test_split1.txt").write_text("a_wave_b_0.avi 1\nb_wave_c_0.avi 0\n")
    (tmp_path / "h" / "wave_test_split2.txt").write_text("")
    assert data.read(tmp_path / "h").passed_over == (
        "1 file of another split: wave_test_split2.txt",
        "1 clip that the split does not use: wave_test_split1.txt:2",
    )
    something(tmp_path / "s")
    labelled.touch(tmp_path / "s", "videos/2.webm", "something-something-v2-test.json")
    assert data.read(tmp_path / "s").passed_over == (
        "1 JSON file that is neither labels nor a split with labels: "
        "something-something-v2-test.json",
        "1 video that no line names: videos/2.webm",
    )


def test_tables_that_only_the_disk_can_read(tmp_path: Path) -> None:
    labelled.touch(tmp_path, 'a "b".mp4', '"c" d.mp4', "e;f.mp4", "g.mp4", "h, i.mp4")
    (tmp_path / "clips.csv").write_text(
        'path,label\na "b".mp4,x\n"c" d.mp4,x\ne;f.mp4,x\ng.mp4,x, and y\nh, i.mp4,x\n'
    )
    assert rows(data.read(tmp_path)) == [
        ('a "b".mp4', ("x",), None), ('"c" d.mp4', ("x",), None), ("e;f.mp4", ("x",), None),
        ("g.mp4", ("x, and y",), None), ("h, i.mp4", ("x",), None),
    ]  # fmt: skip
    (tmp_path / "train.txt").write_text('"c" d.mp4 0\n"h, i.mp4" 1\n"g.mp4",2\n')
    assert [r.labels for r in data.read(tmp_path / "train.txt").records] == [("0",), ("1",), ("2",)]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_two_bytes_a_letter_without_a_mark(tmp_path: Path, encoding: str) -> None:
    labelled.touch(tmp_path, "a.mp4")
    (tmp_path / "clips.csv").write_bytes("path,label\r\na.mp4,läuft\r\n".encode(encoding))
    assert data.read(tmp_path).classes == ("läuft",)


def test_numbers_with_zeros_in_front(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "train.txt").write_text("a.mp4 00\nb.mp4 01\n")
    assert data.read(tmp_path).classes == ("0", "1")
    (tmp_path / "classes.txt").write_text("1 x\n2 y\n")
    (tmp_path / "train.txt").write_text("a.mp4 01\nb.mp4 2\n")
    assert data.read(tmp_path).classes == ("x", "y")
    assert [r.labels for r in data.read(tmp_path).records] == [("x",), ("y",)]


def test_columns_and_fields_without_a_name(tmp_path: Path) -> None:
    """Spreadsheets write delimiters for cells that were touched once."""
    labelled.touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "clips.csv").write_text("path,label,,camera,\na.mp4,x,,1,,,\n,,,,\nb.mp4,y,,2,\n")
    dataset = data.read(tmp_path)
    assert rows(dataset) == [("a.mp4", ("x",), None), ("b.mp4", ("y",), None)]
    assert [r.tags for r in dataset.records] == [(("camera", "1"),), (("camera", "2"),)]
    (tmp_path / "clips.csv").write_text("path,label\na.mp4,x,,\nb.mp4,y, z,\n")
    assert data.read(tmp_path).classes == ("x", "y, z")


def test_a_folder_of_nothing_but_previews_says_what_it_holds(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "one/poster.jpg", "one/.DS_Store")
    with pytest.raises(data.DataError, match=r"skipped 1 hidden or .*; 1 picture that is no"):
        data.read(tmp_path, "unlabelled")
