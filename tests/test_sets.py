"""Image sets: the three layouts on disk, broken folders, splits by scene."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import DATA, StudyError
from helpers.data import ImageSet, Scene, default_set, live1_folder, load_image, open_set, split
from helpers.data.sets import FOLDS, SAMPLES

SPLITS = json.loads((DATA / "splits.json").read_text())
COMMITTED = ["live1", "samples"]


@pytest.fixture(scope="module")
def crops() -> dict[str, np.ndarray]:
    """Small pieces of three samples, two in colour and one grey."""
    images = open_set("samples")
    return {name: images[name].load()[64:96, 64:112] for name in ("camera", "chelsea", "coffee")}


def write(folder: Path, images: dict[str, np.ndarray], extension: str = "png", **options) -> Path:
    folder.mkdir(exist_ok=True)
    for name, image in images.items():
        Image.fromarray(image).save(folder / f"{name}.{extension}", **options)
    return folder


def error_line(where: str | Path) -> str:
    with pytest.raises(StudyError) as caught:
        open_set(where)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


def live_folder(folder: Path, crops: dict[str, np.ndarray], info: str) -> Path:
    """LIVE release 2: references as BMP, JPEG streams img1.bmp, img2.bmp, ... as info.txt lists them."""
    write(folder / "refimgs", crops, "bmp")
    numbered = {f"img{number}": image for number, image in enumerate(crops.values(), start=1)}
    write(folder / "jpeg", numbered, "bmp", format="JPEG", quality=10)
    (folder / "jpeg" / "info.txt").write_text(info)
    return folder


def test_samples_are_the_fixed_list_in_colour_and_grey():
    images = open_set("samples")
    shapes = {name: image.shape for name, image in images.images(pytest.fail)}
    assert sorted(shapes) == sorted(SAMPLES) and len(shapes) == 9
    assert sum(len(shape) == 3 for shape in shapes.values()) == 4
    assert min(min(shape[:2]) for shape in shapes.values()) >= 256
    assert not any(scene.versions for scene in images.scenes)


def test_flat_folder(tmp_path, crops):
    images = open_set(write(tmp_path / "holiday", crops))
    assert (images.name, images.layout) == ("holiday", "flat")
    assert [scene.name for scene in images.scenes] == sorted(crops)
    for name, image in crops.items():
        np.testing.assert_array_equal(images[name].load(), image)


def test_side_files_are_passed_over_and_pictures_found_by_content(tmp_path, crops):
    folder = write(tmp_path, crops)
    for name in ("SOURCES.md", "SHA256SUMS", "Thumbs.db", ".hidden.png", "notes.txt"):
        (folder / name).write_text("not a picture\n")
    (folder / "nested").mkdir()
    (folder / "chelsea.png").rename(folder / "chelsea")
    assert [scene.name for scene in open_set(folder).scenes] == ["camera", "chelsea", "coffee"]


def test_same_stem_in_two_formats_is_kept_twice(tmp_path, crops):
    write(tmp_path, crops)
    write(tmp_path, {"camera": crops["camera"]}, "jpg")
    names = [scene.name for scene in open_set(tmp_path).scenes]
    assert names == ["camera.jpg", "camera.png", "chelsea", "coffee"]


def test_course_layout(tmp_path, crops):
    write(tmp_path / "refimgs", crops, "bmp")
    for quality in (10, 40, 90):  # as the course has them: JPEG streams by the name of .bmp
        write(tmp_path / f"qf{quality}", crops, "bmp", format="JPEG", quality=quality)
    Image.fromarray(crops["camera"]).save(tmp_path / "qf40" / "stranger.bmp", "JPEG")
    (tmp_path / "qf90" / "coffee.bmp").unlink()

    images = open_set(tmp_path)
    assert images.layout == "course"
    assert [scene.name for scene in images.scenes] == sorted(crops)
    assert list(images["chelsea"].versions) == ["qf10", "qf40", "qf90"]
    assert list(images["coffee"].versions) == ["qf10", "qf40"]
    np.testing.assert_array_equal(images["chelsea"].load(), crops["chelsea"])
    with Image.open(images["chelsea"].versions["qf10"], formats=["JPEG"]) as picture:
        np.testing.assert_array_equal(load_image(images["chelsea"].versions["qf10"]), np.array(picture))


def test_live_layout(tmp_path, crops):
    info = "camera.bmp img1.bmp 0.3451\nchelsea.bmp img2.bmp 0\n\ncamera.bmp img3.bmp 1.25\r\n"
    images = open_set(live_folder(tmp_path, crops, info))
    assert images.layout == "live"
    assert [scene.name for scene in images.scenes] == sorted(crops)
    assert {label: path.name for label, path in images["camera"].versions.items()} == {
        "0.3451bpp": "img1.bmp",
        "1.25bpp": "img3.bmp",
    }
    assert images["chelsea"].versions == {}  # rate 0 marks a copy of the reference
    assert images["coffee"].versions == {}
    assert load_image(images["camera"].versions["0.3451bpp"]).shape == crops["camera"].shape


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("camera.bmp img1.bmp", "expected `source destination bits-per-pixel`"),
        ("camera.bmp img1.bmp 0.3 0.4", "found 'camera.bmp img1.bmp 0.3 0.4'"),
        ("camera.bmp img1.bmp much", "expected"),
        ("camera.bmp img1.bmp nan", "expected"),
        ("camera.bmp img1.bmp inf", "expected"),
        ("camera.bmp img1.bmp -0.3", "expected"),
        ("\x00\x01\x02" + "x" * 10_000, "expected"),
        ("camera.bmp img9.bmp 0.3", "img9.bmp is not beside it"),
    ],
)
def test_broken_info_file_is_named_with_its_line(tmp_path, crops, line, reason):
    live_folder(tmp_path, crops, f"camera.bmp img1.bmp 0.3451\n{line}\n")
    text = error_line(tmp_path)
    assert text.startswith(f"{tmp_path / 'jpeg' / 'info.txt'}, line 2: ")
    assert reason in text
    assert len(text) < 400


def test_folders_that_hold_nothing(tmp_path, crops):
    (tmp_path / "readme.txt").write_text("later")
    assert error_line(tmp_path) == f"{tmp_path}: holds no pictures"
    assert "does not exist" in error_line(tmp_path / "nowhere")
    assert "is not a folder" in error_line(tmp_path / "readme.txt")
    assert "can't be read" in error_line("a" * 300)
    (tmp_path / "line\nbreak").mkdir()
    assert "line\\nbreak: holds no pictures" in error_line(tmp_path / "line\nbreak")
    (tmp_path / "refimgs").mkdir()
    assert error_line(tmp_path) == f"{tmp_path / 'refimgs'}: holds no pictures"


def test_one_bad_picture_is_reported_and_the_rest_read(tmp_path, crops):
    write(tmp_path, crops)
    (tmp_path / "damaged.png").write_bytes((tmp_path / "coffee.png").read_bytes()[:200])
    (tmp_path / "lost.png").symlink_to(tmp_path / "gone.png")
    lines = []
    names = [name for name, _ in open_set(tmp_path).images(lines.append)]
    assert names == sorted(crops)
    assert [line.split(": ")[0] for line in lines] == [
        str(tmp_path / "damaged.png"),
        str(tmp_path / "lost.png"),
    ]


def test_an_unknown_scene_is_named():
    with pytest.raises(StudyError, match="samples: has no scene 'lena'"):
        open_set("samples")["lena"]


def test_live1_is_found_by_the_environment_or_named_as_missing(tmp_path, crops, monkeypatch):
    monkeypatch.setattr("helpers.data.sets.DATA", tmp_path)
    monkeypatch.delenv("LIVE1_DIR", raising=False)
    assert live1_folder() is None
    assert default_set().name == "samples"
    assert "python -m helpers data live1" in error_line("live1")

    write(tmp_path / "live1", crops, "bmp")
    assert live1_folder() == tmp_path / "live1"
    assert default_set().name == "live1"

    named = write(tmp_path / "elsewhere", {"camera": crops["camera"]})
    monkeypatch.setenv("LIVE1_DIR", str(named))
    assert (open_set("live1").name, len(open_set("live1"))) == ("live1", 1)
    monkeypatch.setenv("LIVE1_DIR", str(tmp_path / "typo"))
    assert "LIVE1_DIR" in error_line("live1")


def check_splits(images: ImageSet) -> None:
    names = sorted(scene.name for scene in images.scenes)
    tested, validated = [], []
    for fold in range(FOLDS):
        train, validation, test = split(images, fold)
        assert sorted(train + validation + test) == names  # disjoint, and nothing lost
        tested += test
        validated += validation
    assert sorted(tested) == names
    assert sorted(validated) == names


def named_set(name: str, scenes: list[str]) -> ImageSet:
    return ImageSet(name, tuple(Scene(scene, Path(scene)) for scene in sorted(scenes)), "flat")


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_folds_judge_each_scene_once(name):
    parts = SPLITS["folds"][name]
    scenes = [scene for part in parts for scene in part]
    known = json.loads((DATA / "live1.json").read_text())["sha256"] if name == "live1" else SAMPLES
    assert len(parts) == FOLDS
    assert sorted(scenes) == sorted(known)
    check_splits(named_set(name, scenes))
    for fold in range(FOLDS):
        assert split(named_set(name, scenes), fold)[2] == parts[fold]


def test_a_partial_live1_keeps_its_folds():
    parts = SPLITS["folds"]["live1"]
    some = named_set("live1", [part[0] for part in parts[1:]] + parts[0])
    check_splits(some)
    assert sorted(split(some, 0)[2]) == sorted(parts[0])


@pytest.mark.parametrize("name", COMMITTED)
def test_a_folder_that_only_shares_the_name_loses_no_scene(name):
    check_splits(named_set(name, [f"photo{number}" for number in range(7)] + ["camera"]))


@given(st.sets(st.text(min_size=1, max_size=4), min_size=1, max_size=40))
def test_any_set_is_split_by_scene(names):
    images = named_set("holiday", sorted(names))
    check_splits(images)
    sizes = [len(split(images, fold)[2]) for fold in range(FOLDS)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("fold", [-1, FOLDS])
def test_there_are_five_folds(fold):
    with pytest.raises(ValueError, match="folds 0 to 4"):
        split(open_set("samples"), fold)


def test_validation_photographs_are_forty_and_no_scene_of_a_test():
    names = SPLITS["validation"]
    assert len(names) == len(set(names)) == 40
    assert not set(names) & {scene for part in SPLITS["folds"]["live1"] for scene in part}


def test_live1_has_its_29_scenes(live1):
    assert [scene.name for scene in live1.scenes] == sorted(
        json.loads((DATA / "live1.json").read_text())["sha256"]
    )
    assert {scene.load().ndim for scene in live1.scenes} == {3}
    check_splits(live1)
