"""Every reader of annotations, on the smallest data set that it reads; new ones are found."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest

import foveate.data.readers
from data import labelled
from foveate import data
from foveate.data.readers.detect import FORMATS, recognise


def _file(root: Path, name: str, text: str) -> Path:
    (root / name).write_text(text)
    return root / name


def clips(root: Path) -> Path:
    labelled.touch(root, "a.mp4", "b.mp4")
    return _file(root, "clips.csv", "path,label\na.mp4,x\nb.mp4,y\n")


def kinetics(root: Path) -> Path:
    labelled.touch(root, "abc_000001_000011.mp4", "xyz_000002_000012.mp4")
    rows = "label,youtube_id,time_start,time_end,split\nx,abc,1,11,train\ny,xyz,2,12,train\n"
    _file(root, "train.csv", rows)
    return root


def ucf101(root: Path) -> Path:
    names = ["Archery/v_Archery_g01_c01.avi", "Biking/v_Biking_g01_c01.avi"]
    labelled.touch(root, *names)
    _file(root, "classInd.txt", "1 Archery\n2 Biking\n")
    _file(root, "testlist01.txt", "")
    _file(root, "trainlist01.txt", f"{names[0]} 1\n{names[1]} 2\n")
    return root


def hmdb51(root: Path) -> Path:
    names = ["film_brush_hair_f_nm_np1_ba_med_0.avi", "x_catch_f_nm_np1_fr_med_0.avi"]
    labelled.touch(root, f"brush_hair/{names[0]}", f"catch/{names[1]}")
    _file(root, "brush_hair_test_split1.txt", f"{names[0]} 1\n")
    _file(root, "catch_test_split1.txt", f"{names[1]} 1\n")
    return root


def something(root: Path) -> Path:
    labelled.touch(root / "videos", "1.webm", "2.webm")
    _file(root, "labels.json", json.dumps({"Closing something": "0", "Holding something": "1"}))
    entries = [
        {"id": str(i), "label": f"{verb} it", "template": f"{verb} [something]"}
        for i, verb in ((1, "Closing"), (2, "Holding"))
    ]
    _file(root, "something-something-v2-train.json", json.dumps(entries))
    return root


def activitynet(root: Path) -> Path:
    labelled.touch(root, "v_abc.mp4")
    parts = [{"segment": [0, 1], "label": "x"}, {"segment": [1, 2], "label": "y"}]
    entry = {"subset": "training", "duration": 9.0, "annotations": parts}
    text = json.dumps({"version": "1.3", "taxonomy": [], "database": {"abc": entry}})
    return _file(root, "activity_net.v1-3.json", text)


def labelstudio(root: Path) -> Path:
    labelled.touch(root, "a.mp4", "b.mp4")
    tasks = []
    for number, label in enumerate("xy", 1):
        region = {
            "type": "timelinelabels",
            "from_name": "label",
            "to_name": "video",
            "value": {"ranges": [{"start": 1, "end": 25}], "timelinelabels": [label]},
        }
        source = {"video": f"{'_ab'[number]}.mp4", "fps": 25}
        tasks.append({"id": number, "data": source, "annotations": [{"result": [region]}]})
    return _file(root, "tasks.json", json.dumps(tasks))


def coco_videos(root: Path) -> Path:
    labelled.touch(root, "a.mp4", "b.mp4")
    found = {
        "videos": [{"id": i, "file_name": f"{name}.mp4"} for i, name in enumerate("ab", 1)],
        "images": [{"id": i, "video_id": i, "frame_id": 0} for i in (1, 2)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": i, "bbox": [1, 2, 3, 4]} for i in (1, 2)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate("xy", 1)],
    }
    return _file(root, "boxes.json", json.dumps(found))


def boxes(root: Path) -> Path:
    labelled.touch(root, "a.mp4", "b.mp4")
    rows = "path,frame,x1,y1,x2,y2,label\na.mp4,0,1,2,3,4,x\nb.mp4,0,1,2,3,4,y\n"
    return _file(root, "boxes.csv", rows)


def mot(root: Path) -> Path:
    for number in (1, 2):
        folder = root / f"MOT17-0{number}"
        labelled.touch(folder, "img1/000001.jpg", "gt/gt.txt")
        _file(folder / "gt", "gt.txt", f"1,1,1,1,5,5,1,{number},1\n")
    return root


def imagenet_vid(root: Path) -> Path:
    for name in ("s1", "s2"):
        labelled.touch(root / "Data" / "VID" / "val" / name, "000000.JPEG")
        file = Path("Annotations", "VID", "val", name, "000000.xml")
        labelled.touch(root, str(file))
        _file(root, str(file), "<annotation></annotation>")
    return root


def lists(root: Path) -> Path:
    labelled.touch(root, "a.mp4", "b.mp4")
    return _file(root, "train.txt", "a.mp4 0\nb.mp4 1\n")


def folders(root: Path) -> Path:
    labelled.touch(root, "x/a.mp4", "y/b.mp4")
    return root


def unlabelled(root: Path) -> Path:
    labelled.touch(root, "a.mp4", "b.mp4")
    return root


EXAMPLES: dict[str, Callable[[Path], Path]] = {
    made.__name__: made
    for made in (
        boxes, coco_videos, imagenet_vid, mot, clips, kinetics, ucf101, hmdb51, something,
        activitynet, labelstudio, lists, folders, unlabelled,
    )
}  # fmt: skip


def readers() -> set[str]:
    """Names of the modules of the package that read a format."""
    found = set()
    for module in pkgutil.iter_modules(foveate.data.readers.__path__):
        one = importlib.import_module(f"foveate.data.readers.{module.name}")
        if hasattr(one, "read") and hasattr(one, "claims"):
            found.add(module.name)
    return found


def test_every_reader_is_a_format_with_an_example() -> None:
    assert readers() == set(FORMATS) == set(EXAMPLES)


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_recognised_and_gives_labelled_clips(name: str, tmp_path: Path) -> None:
    path = EXAMPLES[name](tmp_path)
    if name != "unlabelled":  # only read when it is named
        assert recognise(path) == name
    dataset = data.read(path, name)
    assert len(dataset) == 2
    assert len(dataset.classes) == {"unlabelled": 1, "imagenet_vid": 30}.get(name, 2)
    for record in dataset.records:
        assert set(record.labels) <= set(dataset.classes)
        assert Path(record.path).exists()
    assert data.read(path, name).digest() == dataset.digest()


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_its_format_is_refused_in_lines(name: str, tmp_path: Path) -> None:
    file = _file(tmp_path, "notes.md", "nothing\n")
    with pytest.raises(data.DataError) as caught:
        data.read(file, name)
    assert "\n" not in str(caught.value)
