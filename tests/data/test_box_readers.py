"""Formats of video object detection: what they hold, and every fault by its line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import clips
from data import labelled
from foveate import data
from foveate.data.labelled import only_classes
from foveate.data.mocap15 import make
from foveate.data.record import FrameBoxes, ObjectBox


def coco() -> dict[str, list[dict[str, Any]]]:
    """Two videos: a file with frames 0 and 2, and a folder of two pictures."""
    size = {"width": 64, "height": 48}
    return {
        "videos": [{"id": 1, "file_name": "a.mp4"}, {"id": 2, "name": "b"}],
        "images": [
            {"id": 1, "video_id": 1, "frame_id": 0, **size},
            {"id": 2, "video_id": 1, "frame_id": 2, **size},
            {"id": 3, "video_id": 2, "file_name": "b/img_00001.png", **size},
            {"id": 4, "video_id": 2, "file_name": "b/img_00002.png", **size},
        ],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 10, 20], "instance_id": 7},
            {"id": 2, "image_id": 2, "category_id": 2, "bbox": [3, 4, 5, 6], "track_id": 8},
            {"id": 3, "image_id": 4, "category_id": 1, "bbox": [60, 40, 10, 10]},
            {"id": 4, "image_id": 4, "category_id": 1, "bbox": [0, 0, 64, 48], "iscrowd": 1},
        ],
        "categories": [{"id": 2, "name": "ball"}, {"id": 1, "name": "person"}],
    }


def write_coco(root: Path, found: dict[str, Any]) -> Path:
    """Line 1 opens the file; then each list takes a line more than it has entries."""
    labelled.touch(root, "a.mp4")
    labelled.pictures(root / "b", 2)
    lists = (
        f'"{key}": [\n' + ",\n".join(map(json.dumps, rows)) + "]" for key, rows in found.items()
    )
    (root / "train.json").write_text("{" + ",\n".join(lists) + "}")
    return root


def test_coco_videos_are_read(tmp_path: Path) -> None:
    dataset = data.read(write_coco(tmp_path, coco()))
    assert dataset.classes == ("person", "ball")
    assert dataset.has_boxes
    assert dataset.multilabel
    first, second = dataset.records
    assert (first.path.name, first.split, first.labels) == ("a.mp4", "train", ("ball", "person"))
    assert first.boxes == (
        FrameBoxes(0, (ObjectBox("person", (1, 2, 11, 22), 7),)),
        FrameBoxes(2, (ObjectBox("ball", (3, 4, 8, 10), 8),)),
    )
    # What leaves the picture is cut off; a frame without objects is annotated, too.
    assert second.boxes == (
        FrameBoxes(0, ()), FrameBoxes(1, (ObjectBox("person", (60, 40, 64, 48)),)),
    )  # fmt: skip
    assert dataset.passed_over == ("1 annotation of a crowd: train.json:13",)


FAULTS: list[tuple[str, Callable[[Any], Any], str]] = [
    ("annotations", lambda rows: rows[0].update(image_id=9), "json:10: no image has the id 9"),
    ("annotations", lambda rows: rows[1].update(category_id=5), "train.json:11: no category has"),
    ("annotations", lambda rows: rows[1].update(bbox=[1, 2, 0, 5]), "train.json:11: an empty box"),
    ("annotations", lambda rows: rows[1].update(bbox=[1, 2, 3]), "train.json:11: bbox is not"),
    ("annotations", lambda rows: rows[1].update(bbox=[70, 2, 3, 3]), "outside the frame of 64x48"),
    ("annotations", lambda rows: rows[2].update(id=1), "train.json:12: the id 1 is given twice"),
    ("annotations", lambda rows: rows.append({**rows[0], "id": 9}),
     "track 7 is twice in frame 0 (annotation 9)"),
    ("images", lambda rows: rows[1].update(video_id=4), "train.json:6: no video has the id 4"),
    ("images", lambda rows: rows[1].update(frame_id=0), "frame 0 of the video is given twice"),
    ("images", lambda rows: rows[1].pop("frame_id"), "json:6: an image of a video file"),
    ("images", lambda rows: rows[2].update(file_name="b/9.png"), "train.json:7: no such picture"),
    ("videos", lambda rows: rows[0].update(file_name="c.mp4"), "json:2: no such file: c.mp4"),
    ("videos", lambda rows: rows[1].update(id=1), "train.json:3: a video needs a unique id"),
    ("categories", lambda rows: rows[0].pop("name"), "a category needs a unique id and a name"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "change", "words"), FAULTS)
def test_faults_of_coco_videos_are_named_by_line(
    key: str, change: Callable[[Any], Any], words: str, tmp_path: Path
) -> None:
    found = coco()
    change(found[key])
    with pytest.raises(data.DataError) as caught:
        data.read(write_coco(tmp_path, found), "coco_videos")
    assert any(words in line for line in caught.value.faults), caught.value.faults


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"videos": [1], "images": [], "annotations": [], "categories": []}', "is no object"),
        ('{"videos": [],\n "images": [}, "categories": []', "boxes.json:2: not JSON"),
        ('{"videos": [], "images": [], "categories": []}', "no list 'annotations'"),
    ],
)
def test_what_is_no_coco_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text(text)
    with pytest.raises(data.DataError, match=words):
        data.read(tmp_path, "coco_videos")


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    write_coco(tmp_path, coco())
    (file,) = tmp_path.rglob("*.json")
    text = file.read_text()
    file.write_text(text[: text.index('"categories"')])
    with pytest.raises(data.DataError, match="not JSON"):
        data.read(tmp_path)


def test_a_table_of_boxes(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4", "b.mp4")
    rows = [
        "path,frame,x,y,w,h,label,track,split", "a.mp4,0,1,2,3,4,dog,5,train",
        "a.mp4,1,,,,,,,train", "b.mp4,3,-1.5,2,3,4,dog,,val", "b.mp4,3,9,9,3,4,dog,,val",
    ]  # fmt: skip
    (tmp_path / "boxes.csv").write_text("\n".join(rows))
    dataset = data.read(tmp_path)
    first, second = dataset.records
    assert dataset.classes == ("dog",)
    assert first.boxes == (FrameBoxes(0, (ObjectBox("dog", (1, 2, 4, 6), 5),)), FrameBoxes(1, ()))
    assert [len(one.objects) for one in second.boxes] == [2]
    assert second.split == "val"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("a.mp4,x,1,2,3,4,dog", "frame 'x' is not a number"),
        ("a.mp4,0,1,2,1,4,dog", "an empty box"),
        ("a.mp4,0,1,,3,4,dog", "a coordinate of the box is missing"),
        ("a.mp4,0,1,2,3,4,", "no label"),
        ("a.mp4,0,1,2,nan,4,dog", "is not a number of at least"),
        ("c.mp4,0,1,2,3,4,dog", "no such file: c.mp4"),
        ("a.mp4,9,1,2,3,4,dog", "the same box is twice in frame 9"),
    ],
)
def test_faults_of_a_table_are_named_by_line(row: str, words: str, tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4")
    text = f"path,frame,x1,y1,x2,y2,label\na.mp4,9,1,2,3,4,dog\n{row}\n"
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(data.DataError, match=f"boxes.csv:3: .*{words}"):
        data.read(tmp_path)


def sequence(root: Path, rows: str) -> Path:
    labelled.pictures(root / "walk" / "frames", 2)
    (root / "walk" / "boxes_xywh.csv").write_text(rows)
    return root


def test_sequences_of_one_object(tmp_path: Path) -> None:
    dataset = data.read(sequence(tmp_path, "1,2,3,4\n2,2,3,4\n"))
    (record,) = dataset.records
    assert record.group == "walk"
    assert [one.objects[0].box for one in record.boxes] == [(1, 2, 4, 6), (2, 2, 5, 6)]
    with pytest.raises(data.DataError, match="1 boxes for 2 pictures"):
        data.read(sequence(tmp_path, "1,2,3,4\n"))
    with pytest.raises(data.DataError, match=r"walk/boxes_xywh\.csv:2: not of the form"):
        data.read(sequence(tmp_path, "1,2,3,4\n1,2,3\n"))


def mot(root: Path, rows: str) -> Path:
    folder = root / "train" / "MOT17-02-FRCNN"
    labelled.pictures(folder / "img1", 2)
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text(rows)
    (folder / "seqinfo.ini").write_text("[Sequence]\nimDir=img1\nimWidth=64\nimHeight=48\n")
    (root / "test" / "MOT17-01-FRCNN").mkdir(parents=True)
    (root / "test" / "MOT17-01-FRCNN" / "seqinfo.ini").write_text("[Sequence]\n")
    return root


def test_mot_counts_from_one(tmp_path: Path) -> None:
    dataset = data.read(
        mot(tmp_path, "1,4,11,21,5,6,1,1,1.0\n2,4,12,21,5,6,0,1,1\n2,5,1,1,9,9,1,3,1\n")
    )
    (record,) = dataset.records
    assert (record.split, record.group) == ("train", "MOT17-02")
    assert record.boxes == (
        FrameBoxes(0, (ObjectBox("pedestrian", (10, 20, 15, 26), 4),)),
        FrameBoxes(1, (ObjectBox("car", (0, 0, 9, 9), 5),)),
    )
    said = " ".join(dataset.passed_over)
    assert "1 box that does not count" in said
    assert "1 sequence without boxes" in said


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("3,1,1,1,5,5,1,1,1", "frame 3, and there are 2"),
        ("1,1,1,1,5", "not of the form"),
        ("1,1,1,1,5,5,1,99,1", "unknown class 99"),
        ("1,1,99,1,5,5,1,1,1", "outside the frame of 64x48"),
    ],
)
def test_faults_of_mot_are_named_by_line(row: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match=f"MOT17-02-FRCNN/gt/gt.txt:2: .*{words}"):
        data.read(mot(tmp_path, f"1,2,1,1,5,5,1,1,1\n{row}\n"))


OBJECT = """<object><trackid>{track}</trackid><name>{name}</name><bndbox><xmax>{x2}</xmax>
<xmin>1</xmin><ymax>9</ymax><ymin>2</ymin></bndbox></object>
"""


def imagenet_vid(root: Path, *objects: str) -> Path:
    for split, folder in (("train", "ILSVRC2015_VID_train_0000/s1"), ("val", "s2")):
        place = Path("VID", split, folder)
        labelled.pictures(root / "Data" / place, 2, start=0)
        for number in range(2):
            file = root / "Annotations" / place / f"img_{number:05d}.xml"
            file.parent.mkdir(parents=True, exist_ok=True)
            inner = "".join(objects) if number else ""
            file.write_text(
                "<annotation>\n<size><width>64</width><height>48</height></size>\n"
                f"{inner}</annotation>"
            )
    return root


def test_imagenet_vid(tmp_path: Path) -> None:
    root = imagenet_vid(
        tmp_path, OBJECT.format(track=0, name="n02084071", x2=20),
        OBJECT.format(track=1, name="n02958343", x2=30),
    )  # fmt: skip
    dataset = data.read(root)
    assert len(dataset.classes) == 30
    assert [(r.split, r.group) for r in dataset.records] == [("train", "s1"), ("val", "s2")]
    assert dataset.records[0].boxes == (
        FrameBoxes(0, ()),
        FrameBoxes(1, (ObjectBox("dog", (1, 2, 20, 9), 0), ObjectBox("car", (1, 2, 30, 9), 1))),
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (OBJECT.format(track=0, name="n0", x2=20), "img_00001.xml:3: unknown class 'n0'"),
        (OBJECT.format(track=0, name="n02084071", x2=1), "img_00001.xml:3: an empty box"),
        (OBJECT.format(track=0, name="n02084071", x2="wide"), "xmax 'wide' is not a number"),
        ("<object>", "img_00001.xml:3: cannot be read"),
    ],
)
def test_faults_of_imagenet_vid_are_named_by_line(found: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(data.DataError) as caught:
        data.read(imagenet_vid(tmp_path, found))
    assert any(words in line for line in caught.value.faults), caught.value.faults


def test_entities_are_refused(tmp_path: Path) -> None:
    root = imagenet_vid(tmp_path)
    file = next(root.glob("Annotations/VID/val/*/*.xml"))
    file.write_text('<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>')
    with pytest.raises(data.DataError, match="a document type is not allowed"):
        data.read(root)


def test_boxes_change_the_digest_and_follow_the_classes(tmp_path: Path) -> None:
    dataset = data.read(write_coco(tmp_path, coco()))
    persons = only_classes(dataset, ["person"])
    assert [len(one.objects) for one in persons.records[0].boxes] == [1, 0]
    moved = coco()
    moved["annotations"][0]["bbox"] = [2, 2, 10, 20]
    assert data.read(write_coco(tmp_path, moved)).digest() != dataset.digest()
    labels = [record.labels for record in persons.records]
    assert labels == [("person",), ("person",)]


def test_check_opens_the_videos(tmp_path: Path) -> None:
    root = write_coco(tmp_path, coco())
    labelled.put(root / "a.mp4", clips.encode(frames=2, size=(64, 48)))
    found = data.check(root, workers=0, cache=tmp_path / "cache")
    assert not found.ok
    assert any("frame 2 is annotated, the video has 2 frames" in why for *_, why in found.bad)
    (tmp_path / "other").mkdir()
    labelled.put(tmp_path / "other" / "a.mp4", clips.encode(frames=2, size=(64, 48)))
    (tmp_path / "other" / "boxes.csv").write_text(
        "path,frame,x1,y1,x2,y2,label\na.mp4,0,-5,2,70,9,dog\na.mp4,1,70,2,75,9,dog\n"
    )
    found = data.check(tmp_path / "other", workers=0, cache=tmp_path / "cache")
    assert [why for *_, why in found.bad] == [
        "frame 1: the box (70, 2, 75, 9) is outside the frame of 64x48 pixels"
    ]
    labelled.put(root / "a.mp4", clips.encode(frames=4, size=(64, 48)))
    found = data.check(root, workers=0, cache=tmp_path / "cache")
    assert found.ok, found.lines()
    assert "  person: 2 boxes in 2 frames" in found.lines()


def test_rendered_boxes_are_exported(tmp_path: Path) -> None:
    make(tmp_path / "m", 2, 3, mode="detection", size=(64, 48))
    dataset = data.read(tmp_path / "m")
    assert dataset.classes == ("person", "ball", "box", "cone")
    truth = json.loads((tmp_path / "m" / "truth" / "00000.json").read_text())
    record = next(r for r in dataset.records if r.path.name == "00000.mp4")
    assert len(record.boxes) == truth["frames"]
    for track in truth["tracks"]:
        own = {
            b.frame: o.box for b in record.boxes for o in b.objects if o.track == track["instance"]
        }
        assert own == {at: tuple(box) for at, box in enumerate(track["boxes"]) if box}
