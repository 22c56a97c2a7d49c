"""Folders as people have them: previews beside videos, splits beside others, names of all kinds."""

from __future__ import annotations

import os
import shutil
import unicodedata
from pathlib import Path

import av
import labelled
import pytest
from test_reader_faults import faults
from test_readers import rows

from foveate import data
from foveate.data.readers.request import split_in, split_of
from foveate.media import SUFFIXES, container, find_media


def paths(root: Path, **options: str) -> list[str]:
    dataset = data.read(root, **options)
    return sorted(dataset.name(record) for record in dataset.records)


def shared_case(shared: Path, name: str, tmp_path: Path) -> Path:
    """A copy of one of the shared cases."""
    folder = shared / "cases" / name
    if not folder.is_dir():
        pytest.skip(f"needs the shared case {name}")
    return Path(shutil.copytree(folder / "set", tmp_path / "set"))


# --- pictures beside videos ---------------------------------------------------------------------


@pytest.mark.shared
def test_the_shared_thumbnails_hide_no_video(shared: Path, tmp_path: Path) -> None:
    root = shared_case(shared, "thumbnail-hides-videos", tmp_path)
    assert paths(root) == ["jump/a.mp4", "run/session/clip1.mp4", "run/session/clip2.mp4"]


def test_thumbnails_neither_hide_videos_nor_become_clips(tmp_path: Path) -> None:
    labelled.touch(
        tmp_path,
        "run/session/clip1.mp4",
        "run/session/clip1.jpg",
        "run/session/clip2.mp4",
        "run/session/day 2/clip3.mp4",
        "run/cover1.png",
        "jump/a.mp4",
        "jump/a1.jpg",
        "jump/@eaDir/a.mp4/SYNOPHOTO_THUMB_XL2.jpg",
        "jump/@eaDir/a.mp4/SYNOPHOTO_THUMB_M1.jpg",
        "jump/.@__thumb/default1.jpg",
        "jump/.DS_Store",
        "jump/._a.mp4",
        "jump/Thumbs.db",
        "jump/a.trickplay/320 - 10x10/0.jpg",
        "jump/a.trickplay/320 - 10x10/1.jpg",
        "jump/notes 1.txt",
    )
    dataset = data.read(tmp_path)
    assert sorted(dataset.name(r) for r in dataset.records) == [
        "jump/a.mp4",
        "run/session/clip1.mp4",
        "run/session/clip2.mp4",
        "run/session/day 2/clip3.mp4",
    ]
    assert dataset.passed_over == (
        "6 hidden or system entries: jump/.@__thumb, jump/.DS_Store, jump/._a.mp4 and 3 more",
        "1 file that is no video: jump/notes 1.txt",
        "3 pictures that are no frames of a clip: jump/a1.jpg, run/cover1.png, "
        "run/session/clip1.jpg",
    )


@pytest.mark.parametrize(
    "previews",
    [
        ("run/thumbs/a.jpg", "run/thumbs/b1.jpg"),
        ("run/pictures/b1.jpg", "run/pictures/b2.jpg"),  # named after the videos
        ("run/pictures/b1.mp4.jpg", "run/pictures/b2_thumb.png"),
        ("run/pictures/thumb1.jpg", "run/pictures/thumb2.jpg"),
        ("run/b1/0001.jpg", "run/b1/0002.jpg"),  # pictures of a video beside them
        ("run/b1_frames/0001.jpg", "run/b1_frames/0002.jpg"),
        ("run/b1.gif",),
        ("run/one/0001.jpg",),
        ("thumbs/run/0001.jpg", "thumbs/run/0002.jpg"),
        ("Thumbnails/b1.jpg", "Thumbnails/b2.jpg"),
        ("run/poster.webp", "run/fanart1.tbn", "run/b1.THM", "poster1.jpg"),
    ],
)
def test_previews_are_told_by_their_names(tmp_path: Path, previews: tuple[str, ...]) -> None:
    labelled.touch(tmp_path, "run/b1.mp4", "run/b2.mp4", "sit/b1.mp4", *previews)
    dataset = data.read(tmp_path)
    assert paths(tmp_path) == ["run/b1.mp4", "run/b2.mp4", "sit/b1.mp4"]
    assert dataset.classes == ("run", "sit")
    assert len(dataset.passed_over) >= 1


def test_frame_folders_beside_videos_are_clips(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "run/1.mp4", "run/2.mp4", "run/poster1.jpg")
    labelled.pictures(tmp_path / "run" / "clip 3", 4)
    labelled.pictures(tmp_path / "run" / "clip 3" / "flow", 6)
    labelled.pictures(tmp_path / "run" / "session" / "clip 4", 5)
    labelled.touch(tmp_path, "run/session/preview1.jpg", "run/session/preview2.jpg")
    labelled.touch(tmp_path, "sit/1.gif", "sit/2.gif")
    assert paths(tmp_path) == [
        "run/1.mp4", "run/2.mp4", "run/clip 3", "run/session/clip 4", "sit/1.gif", "sit/2.gif",
    ]  # fmt: skip


def test_links_and_unlabelled_folders(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "all/a.mp4", "all/a1.jpg", "all/x/y/b.mp4", "all/x/Thumbs.db")
    (tmp_path / "all" / "x" / "y" / "up").symlink_to(tmp_path / "all", True)
    dataset = data.read(tmp_path / "all", "unlabelled")
    assert [dataset.name(r) for r in dataset.records] == ["a.mp4", "x/y/b.mp4"]
    assert "1 link to a folder: x/y/up" in dataset.passed_over
    assert [p.name for p in find_media(tmp_path / "all")] == ["a.mp4", "b.mp4"]


def test_every_ending_that_can_be_opened_counts(tmp_path: Path) -> None:
    """What FFmpeg lists for the containers that are opened, but pictures and sound."""
    other = {".aac", ".flac", ".m2a", ".m4a", ".m4b", ".mka", ".mks", ".mp2", ".mp3", ".mpa",
             ".isma", ".ism", ".avif", ".heic", ".heif", ".mpo", ".j2k"}  # fmt: skip
    known = set()
    for name in (*container.FORMATS, *container.MOV):
        for part in (name, *name.split(",")):
            try:
                known |= {f".{end}" for end in av.format.ContainerFormat(part, "r").extensions}
            except ValueError:
                continue
    assert len(known) > 20
    assert known - other <= SUFFIXES
    labelled.touch(tmp_path, *(f"run/a{suffix.upper()}" for suffix in SUFFIXES - {".gif"}))
    assert len(data.read(tmp_path)) == len(SUFFIXES) - len({".gif", ".apng"})


# --- splits -------------------------------------------------------------------------------------


@pytest.mark.shared
def test_the_shared_split_folders_give_two_classes(shared: Path, tmp_path: Path) -> None:
    report = data.check(
        shared_case(shared, "split-folders-and-one-more", tmp_path),
        workers=0,
        cache=tmp_path / "probes",
    )
    assert report.ok
    assert report.dataset is not None
    assert report.dataset.classes == ("a", "b")
    assert report.dataset.splits == ("train", "val", "test")
    assert any("extra" in line for line in report.lines())


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "TESTING"),
        ("training_set", "test_set"),
        ("TrainData", "EvalData"),
        ("trn", "tst"),
        ("train-videos", "validation videos"),
        ("01_train", "02_dev"),
        ("train_val", "Valid"),
    ],
)
def test_split_folders_beside_another_one(tmp_path: Path, train: str, test: str) -> None:
    for split in (train, test, "extra"):
        labelled.touch(tmp_path, f"{split}/a/{split}1.mp4", f"{split}/b/{split}2.mp4")
    dataset = data.read(tmp_path)
    assert dataset.classes == ("a", "b")
    assert len(dataset) == 4
    assert dataset.splits[0] == "train"
    assert len(dataset.splits) == 2
    assert any(line.startswith("2 clips in extra, which lies") for line in dataset.passed_over)


def test_names_that_are_no_splits() -> None:
    for name in ("train station", "testimony", "vale", "dress rehearsal", "extra", "", "ｔｅｓｔ"):
        assert split_of(name) is None, name
    assert split_in("kinetics_train_list") == "train"
    assert split_in("restrain") is None


def test_one_split_beside_others_is_a_question(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "train/a/1.mp4", "train/b/2.mp4", "extra/a/3.mp4")
    (line,) = faults(tmp_path)
    assert line.startswith("train: a split, or a class like extra?")
    (tmp_path / "extra" / "a" / "3.mp4").rename(tmp_path / "extra" / "3.mp4")
    dataset = data.read(tmp_path)  # classes with sessions in them
    assert dataset.classes == ("extra", "train")
    (tmp_path / "extra" / "3.mp4").unlink()
    dataset = data.read(tmp_path)
    assert rows(dataset) == [
        ("train/a/1.mp4", ("a",), "train"), ("train/b/2.mp4", ("b",), "train"),
    ]  # fmt: skip
    assert "1 folder without clips beside the splits: extra" in dataset.passed_over


def test_a_class_called_train_may_hold_frame_folders(tmp_path: Path) -> None:
    labelled.pictures(tmp_path / "train" / "clip 1", 3)
    labelled.pictures(tmp_path / "bus" / "clip 1", 3)
    assert data.read(tmp_path).classes == ("bus", "train")
    labelled.pictures(tmp_path / "split_1" / "clip 1", 3)
    for name in ("bus", "train"):
        shutil.move(tmp_path / name, tmp_path / f"split_{name[0]}")
    assert data.read(tmp_path).classes == ("split_1", "split_b", "split_t")


def test_splits_below_the_classes(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "run/train/1.mp4", "run/test/2.mp4", "sit/train/3.mp4")
    assert rows(data.read(tmp_path)) == [
        ("run/test/2.mp4", ("run",), "test"),
        ("run/train/1.mp4", ("run",), "train"),
        ("sit/train/3.mp4", ("sit",), "train"),
    ]


@pytest.mark.parametrize("other", ["unsorted/3.mp4", "thumbnails/1.jpg"])
def test_what_lies_beside_splits_below_the_classes_mixes_no_splits(
    tmp_path: Path, other: str
) -> None:
    labelled.touch(tmp_path, "run/train/1.mp4", "run/test/2.mp4", "sit/train/4.mp4", f"run/{other}")
    dataset = data.read(tmp_path)
    assert rows(dataset) == [
        ("run/test/2.mp4", ("run",), "test"),
        ("run/train/1.mp4", ("run",), "train"),
        ("sit/train/4.mp4", ("sit",), "train"),
    ]
    if other.startswith("unsorted"):
        assert dataset.passed_over == (
            "1 clip in run/unsorted, which lies beside the splits test, train",
        )


def test_videos_beside_splits_below_the_classes_are_faults(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "run/train/1.mp4", "run/test/2.mp4", "run/5.mp4", "sit/train/3.mp4")
    assert faults(tmp_path) == ["run/5.mp4: is in none of the splits test, train"]


def test_a_folder_around_the_data_set_is_named(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "videos/train/a/1.mp4", "videos/val/a/2.mp4")
    (line,) = faults(tmp_path)
    assert line == "videos: holds the splits train, val: name this folder itself as the data set"
    assert data.read(tmp_path / "videos").classes == ("a",)


def test_videos_beside_split_folders_are_faults(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "train/a/1.mp4", "val/a/2.mp4", "val/3.mp4", "stray.mp4")
    assert faults(tmp_path) == [
        "stray.mp4: is not in a class folder",
        "val/3.mp4: is not in a class folder",
    ]


# --- names --------------------------------------------------------------------------------------


@pytest.mark.shared
def test_the_shared_superscript_is_a_class(shared: Path, tmp_path: Path) -> None:
    assert data.read(shared_case(shared, "superscript-class", tmp_path)).classes == ("1", "²")


@pytest.mark.parametrize("name", ["²", "①", "٣", "３", "Ⅷ", "½", "৪", "9" * 5000, "1_0"])
def test_digits_that_are_none_are_names(tmp_path: Path, name: str) -> None:
    if len(name) < 200:
        labelled.touch(tmp_path, "1/a.mp4", "10/b.mp4", f"{name}/c.mp4")
        assert set(data.read(tmp_path).classes) == {"1", "10", name}
        shutil.rmtree(tmp_path / name)
    labelled.touch(tmp_path, "1.mp4", "2.mp4", "3.mp4")
    (tmp_path / "train.txt").write_text(f"1.mp4 0\n2.mp4 1\n3.mp4 {name}\n", "utf-8")
    (line,) = faults(tmp_path / "train.txt")
    assert line.startswith("train.txt:3: label '")
    assert line.endswith("is not the number of a class")


def test_other_scripts_digits_are_no_seconds(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    (tmp_path / "clips.csv").write_text(
        "path,label,start,end\na.mp4,x,٣,4\nb.mp4,x,1_0,20\nc.mp4,x,²,\n", "utf-8"
    )
    assert [line.partition(": ")[2] for line in faults(tmp_path)] == [
        "start '٣' is not a number", "start '1_0' is not a number", "start '²' is not a number",
    ]  # fmt: skip


def test_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "2/a.mp4", "10/b.mp4", "1/c.mp4")
    assert data.read(tmp_path).classes == ("1", "2", "10")


def test_forms_of_unicode_are_one_name(tmp_path: Path) -> None:
    composed, apart = "Café", unicodedata.normalize("NFD", "Café")
    labelled.touch(tmp_path, f"train/{composed}/1.mp4", f"val/{apart}/2.mp4", f"val/{apart}/é3.mp4")
    dataset = data.read(tmp_path)
    assert dataset.classes == (composed,)
    labelled.touch(tmp_path, f"{apart}/{apart}.mp4", "b.mp4", "c.mp4")
    (tmp_path / "clips.csv").write_text(
        f"path,label\n{composed}/{composed}.mp4,{apart}\nb.mp4,{composed}\nc.mp4,x\n", "utf-8"
    )
    dataset = data.read(tmp_path / "clips.csv")
    assert dataset.classes == (composed, "x")
    assert os.path.exists(dataset.records[0].path)
    dataset = data.read(tmp_path / "clips.csv", classes=(apart, "x"))
    assert dataset.classes == (apart, "x")
    assert [dataset.indices(r) for r in dataset.records] == [(0,), (0,), (1,)]


def test_a_name_that_is_no_unicode_is_named(tmp_path: Path) -> None:
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    with open(os.path.join(folder, b"a.mp4"), "wb"):
        pass
    (line,) = faults(tmp_path)
    assert line == "caf\\xe9/a.mp4: the class caf\\xe9 is not valid Unicode"


# --- inputs made up to break the rules above ----------------------------------------------------


def test_photos_and_animated_previews(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "run/a.mp4", "run/b.mp4", "run/Screens/shot_3.png")
    labelled.touch(tmp_path, "run/Screens/shot_9.png", "run/Screens/shot_10.png")  # uneven
    labelled.touch(tmp_path, "run/day/IMG_2041.jpg", "run/day/DSC_2042.jpg")  # two names
    labelled.pictures(tmp_path / "sit" / "clip", 4)
    labelled.touch(tmp_path, "sit/clip/preview.gif", "sit/clip/poster.jpg")
    labelled.touch(tmp_path, "sit/clip 2/1.gif")
    assert paths(tmp_path) == ["run/a.mp4", "run/b.mp4", "sit/clip", "sit/clip 2/1.gif"]


def test_a_name_without_its_ending_means_the_video(tmp_path: Path) -> None:
    labelled.touch(
        tmp_path, "a.gif", "a.jpg", "a.mp4", "@eaDir/deep/a.mp4", "sub/b.mp4", "sub/b.gif"
    )
    (tmp_path / "clips.csv").write_text("path,label\na,x\nsub/b,y\n")
    assert paths(tmp_path) == ["a.mp4", "sub/b.mp4"]


def test_cameras_and_archives(tmp_path: Path) -> None:
    labelled.touch(
        tmp_path,
        "run/GX010001.MP4",
        "run/GX010001.THM",
        "run/GX010001.LRV",
        "__MACOSX/run/._GX010001.MP4",
        "$RECYCLE.BIN/x/old.mp4",
        "System Volume Information/a.mp4",
        "lost+found/a.mp4",
        "sit/00001.MTS",
        "sit/MOV001.TOD",
        "sit/@SynoResource",
    )
    assert paths(tmp_path) == ["run/GX010001.MP4", "sit/00001.MTS", "sit/MOV001.TOD"]


def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    labelled.touch(tmp_path, "sit/2.mp4")
    labelled.put(tmp_path / "run" / "1.mp4")
    os.mkfifo(tmp_path / "run" / "pipe.mp4")
    dataset = data.read(tmp_path)
    assert [record.path.name for record in dataset.records] == ["1.mp4", "2.mp4"]
    assert "1 pipe, socket or device: run/pipe.mp4" in dataset.passed_over
    (tmp_path / "clips.csv").write_text("path,label\nrun/1.mp4,a\nrun/pipe.mp4,b\n")
    report = data.check(tmp_path / "clips.csv", workers=0, cache=tmp_path / "probes")
    assert report.bad == (("clips.csv:3", "run/pipe.mp4", "is not a regular file"),)


def test_a_very_deep_folder_and_a_link_in_a_circle(tmp_path: Path) -> None:
    deep = tmp_path / "run"
    for _ in range(150):
        deep = deep / "d"
    deep.mkdir(parents=True)
    labelled.touch(tmp_path, "run/a.mp4")
    (tmp_path / "sit").mkdir()
    (tmp_path / "sit" / "again").symlink_to(tmp_path / "sit", True)
    labelled.touch(tmp_path, "sit/b.mp4")
    (tmp_path / "elsewhere").symlink_to(tmp_path / "run", True)  # a class may be a link
    dataset = data.read(tmp_path)
    assert dataset.classes == ("elsewhere", "run", "sit")
    assert any("folders that cannot be read" in line for line in dataset.passed_over)


def test_folds_of_folders(tmp_path: Path) -> None:
    for fold in (1, 2, 10):
        labelled.touch(tmp_path, f"Fold {fold}/a/{fold}.mp4", f"Fold {fold}/b/{fold}.mp4")
    dataset = data.read(tmp_path)
    assert dataset.classes == ("a", "b")
    assert set(dataset.splits) == {"Fold 1", "Fold 2", "Fold 10"}
    assert len(data.folds(dataset)) == 3
    labelled.touch(tmp_path, "fold_extra/a/x.mp4", "docs/read.me")
    beside = data.read(tmp_path)
    assert (beside.classes, beside.splits) == (dataset.classes, dataset.splits)
    assert any(line.startswith("1 clip in fold_extra") for line in beside.passed_over)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("train/a/1.mp4", "public_test/a/2.mp4", "private_test/a/3.mp4"), "a split, or a class"),
        (("2020/train/a/1.mp4", "2020/val/a/2.mp4", "2021/train/a/3.mp4", "2021/val/a/4.mp4"),
         "name this folder itself"),
        (("train/1.mp4", "test/2.mp4", "bus/3.mp4"), "is not in a class folder"),
        (("train/a/1.mp4", "test/b/2.mp4"), "class 'b' of split test has no training clip"),
        (("Run/1.mp4", "run\u200b/2.mp4"), "unknown class"),
        (("01/1.mp4", "1/2.mp4"), "unknown class '1' (did you mean 01"),
        ((" /1.mp4", "b/2.mp4"), "the name of its class is empty"),
    ],
)  # fmt: skip
def test_folders_that_could_mean_two_things_are_faults(
    tmp_path: Path, names: tuple[str, ...], said: str
) -> None:
    labelled.touch(tmp_path, *names)
    assert any(said in line for line in faults(tmp_path)), faults(tmp_path)


def test_odd_classes_are_noted(tmp_path: Path) -> None:
    labelled.put(tmp_path / "run" / "1.mp4")
    labelled.put(tmp_path / "test" / "2.mp4", labelled.video(first=40))
    report = data.check(tmp_path, workers=0, cache=tmp_path / "probes")
    assert "note: class 'test' has the name of a split" in report.lines()
    shutil.rmtree(tmp_path / "test")
    report = data.check(tmp_path, workers=0, cache=tmp_path / "probes")
    assert "note: there is one class only" in report.lines()


def test_splits_of_other_names_are_noted(tmp_path: Path) -> None:
    """Their names are classes, but what they hold tells."""
    for number, name in enumerate(("训练/a", "训练/b", "测试/a", "测试/b")):
        labelled.put(tmp_path / name / f"{number}.mp4", labelled.video(first=40 * number))
    report = data.check(tmp_path, workers=0, cache=tmp_path / "probes")
    assert any("hold the same folders (a, b)" in line for line in report.notes)
    labelled.put(tmp_path / "测试" / "c" / "4.mp4", labelled.video(first=200))
    report = data.check(tmp_path, workers=0, cache=tmp_path / "probes")
    assert not any("hold the same folders" in line for line in report.notes)


def test_a_folder_around_the_classes_is_noted(tmp_path: Path) -> None:
    labelled.put(tmp_path / "videos" / "run" / "1.mp4")
    labelled.put(tmp_path / "videos" / "sit" / "2.mp4", labelled.video(first=40))
    report = data.check(tmp_path, workers=0, cache=tmp_path / "probes")
    assert any("hold the same folders (run, sit)" in line for line in report.notes)
    (tmp_path / "clips.csv").write_text("path,label\nvideos/run/1.mp4,x\nvideos/sit/2.mp4,y\n")
    report = data.check(tmp_path, workers=0, cache=tmp_path / "probes")
    assert report.notes == ()


def test_groups_in_two_forms_of_unicode_are_one(tmp_path: Path) -> None:
    labelled.put(tmp_path / "a.mp4")
    labelled.put(tmp_path / "b.mp4", labelled.video(first=40))
    (tmp_path / "clips.csv").write_text(
        "path,label,split,group\na.mp4,x,train,Café\nb.mp4,x,test,Cafe\u0301\n", "utf-8"
    )
    report = data.check(tmp_path, workers=0, cache=tmp_path / "probes")
    assert report.leaks == (
        "group 'Café' in test and train: b.mp4 (clips.csv:3), a.mp4 (clips.csv:2)",
    )
