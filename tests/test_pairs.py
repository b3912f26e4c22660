"""Pairs: on the grid, coded at their quality, all turns, and the validation photographs held out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import DATA, StudyError, jpeg
from helpers.models import to_tensor
from helpers.training.pairs import Photographs, read_photographs

HELD_OUT = json.loads((DATA / "splits.json").read_text())["validation"]


@pytest.fixture(scope="module")
def colour():
    return np.random.default_rng(0).integers(0, 256, (80, 112, 3), dtype=np.uint8)


def draw(photographs, task="restore", count=8, qualities=(10, 10), seed=0):
    return photographs.draw(task, count, qualities, np.random.default_rng(seed))


def to_uint8(batch):
    return batch.mul(255).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize(("space", "channels"), [("y", 1), ("rgb", 3)])
def test_a_pair_is_a_patch_and_its_jpeg(colour, space, channels):
    coded, originals = draw(Photographs({"a": colour, "b": colour[..., 0]}, space, 32), count=16)
    assert coded.shape == originals.shape == (16, channels, 32, 32) and coded.dtype == torch.float32
    for original, found in zip(to_uint8(originals), to_uint8(coded), strict=True):
        expected = jpeg.decode(jpeg.encode(original if channels == 3 else original[..., 0], 10))
        assert np.array_equal(found.reshape(expected.shape), expected)


def test_patches_that_are_not_aligned_begin_anywhere_in_a_block_of_their_jpeg(colour):
    aligned = Photographs({"a": colour}, "y", 32)
    anywhere = Photographs({"a": colour}, "y", 32, aligned=False)
    coded, originals = draw(anywhere, count=200)
    assert coded.shape == originals.shape == (200, 1, 32, 32)
    steps = (coded[:, 0, :, 1:] - coded[:, 0, :, :-1]).abs().mean((0, 1))  # over columns: where blocks end
    grid = (lambda c: (c[:, 0, :, 1:] - c[:, 0, :, :-1]).abs().mean((0, 1)))(draw(aligned, count=200)[0])
    ends, inside = grid[7::8].mean(), np.delete(grid.numpy(), range(7, 31, 8)).mean()
    assert ends > 1.3 * inside and steps.max() < 1.3 * steps.min()
    with pytest.raises(StudyError, match="has 40 pixels on each side"):
        Photographs({"a": colour[:39, :39]}, "y", 32, aligned=False)


def test_imitate_is_restore_turned_round(colour):
    photographs = Photographs({"a": colour}, "y", 32)
    forwards, backwards = draw(photographs, "imitate"), draw(photographs, "restore")
    assert torch.equal(forwards[0], backwards[1]) and torch.equal(forwards[1], backwards[0])


def test_patches_come_from_everywhere_in_all_eight_turns():
    rows, columns = np.indices((48, 40))
    image = np.stack([4 * rows, 4 * columns, np.zeros_like(rows)], 2).astype(np.uint8)
    _, originals = draw(Photographs({"a": image}, "rgb", 32), count=300)
    patches = to_uint8(originals).astype(int)
    corners = {tuple(patch[..., :2].min((0, 1)) // 4) for patch in patches}
    assert {r for r, _ in corners} == set(range(17)) and {c for _, c in corners} == set(range(9))
    turns = {
        (np.sign(p[1, 0, 0] - p[0, 0, 0]), np.sign(p[1, 0, 1] - p[0, 0, 1]),
         np.sign(p[0, 1, 0] - p[0, 0, 0]), np.sign(p[0, 1, 1] - p[0, 0, 1]))
        for p in patches
    }  # fmt: skip
    assert len(turns) == 8


def test_large_pictures_are_drawn_from_more_often():
    images = {"black": np.zeros((32, 32), np.uint8), "white": np.full((96, 96), 255, np.uint8)}
    _, originals = draw(Photographs(images, "y", 32), count=400)
    assert 0.85 < float((originals.mean((1, 2, 3)) > 0.5).float().mean()) < 0.95


def test_qualities_reach_both_ends_and_low_ones_are_as_frequent(monkeypatch, colour):
    seen = []
    real = jpeg.encode
    monkeypatch.setattr(
        "helpers.jpeg.encode", lambda image, quality: seen.append(quality) or real(image, quality)
    )
    draw(Photographs({"a": colour}, "y", 32), count=3000, qualities=(5, 95))
    assert min(seen) == 5 and max(seen) == 95
    assert np.mean(np.array(seen) <= 20) == pytest.approx(np.log(20.5 / 4.5) / np.log(95.5 / 4.5), abs=0.04)


def test_the_same_generator_draws_the_same_and_another_draws_others(colour):
    photographs = Photographs({"a": colour}, "y", 32)
    assert torch.equal(draw(photographs)[0], draw(photographs)[0])
    assert not torch.equal(draw(photographs)[0], draw(photographs, seed=1)[0])


def test_cutting_on_a_device_cuts_the_same_patches(colour):
    """The way a GPU takes, tried on the processor: equal originals, nearly equal JPEG."""
    plain, device = (Photographs({"a": colour, "b": colour[:64]}, "rgb", 32) for _ in range(2))
    device.to_device(torch.device("cpu"))
    for seed in range(5):
        coded, originals = draw(plain, count=12, qualities=(10, 90), seed=seed)
        coded_there, originals_there = draw(device, count=12, qualities=(10, 90), seed=seed)
        assert torch.allclose(originals, originals_there, atol=1e-6)
        assert (coded - coded_there).abs().mean() < 0.01


def test_validation_photographs_are_held_out(tmp_path, colour):
    for name in (HELD_OUT[0], f"{HELD_OUT[-1]}_0", "mine", "mine_0"):
        Image.fromarray(colour).save(tmp_path / f"{name}.png")
    assert sorted(read_photographs([tmp_path], 32, pytest.fail)) == [
        f"{tmp_path.name}/mine", f"{tmp_path.name}/mine_0",
    ]  # fmt: skip


def test_folders_of_one_name_keep_all_their_pictures(tmp_path, colour):
    for parent in ("one", "two"):
        (tmp_path / parent / "photos").mkdir(parents=True)
        Image.fromarray(colour).save(tmp_path / parent / "photos" / "a.png")
        Image.fromarray(colour).save(tmp_path / parent / "photos" / f"{HELD_OUT[0]}.png")
        Image.fromarray(colour).save(tmp_path / parent / "photos" / f"{HELD_OUT[0]}.jpg")
    folders = [tmp_path / parent / "photos" for parent in ("one", "two")]
    assert len(read_photographs(folders, 32, pytest.fail)) == 2


def test_small_and_broken_pictures_are_named_and_the_rest_is_read(tmp_path, colour):
    Image.fromarray(colour).save(tmp_path / "good.png")
    Image.fromarray(colour[:31]).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:900])
    (tmp_path / "notes.txt").write_text("not a picture")
    lines = []
    assert list(read_photographs([tmp_path], 32, lines.append)) == [f"{tmp_path.name}/good"]
    assert len(lines) == 2 and "broken.png: can't be read" in lines[0]
    assert "small.png: is 112x31, smaller than a 32x32 patch" in lines[1]


def test_a_folder_with_nothing_to_train_on_is_named(tmp_path, colour):
    Image.fromarray(colour).save(tmp_path / f"{HELD_OUT[0]}.png")
    with pytest.raises(StudyError, match="holds no picture to train on"):
        read_photographs([tmp_path], 32, pytest.fail)
    with pytest.raises(StudyError, match="does not exist"):
        read_photographs([tmp_path / "nowhere"], 32, pytest.fail)


def test_other_pictures_have_another_digest(colour):
    first = Photographs({"a": colour}, "rgb", 32).digest()
    changed = colour.copy()
    changed[0, 0, 0] ^= 1
    assert first == Photographs({"a": colour.copy()}, "rgb", 32).digest()
    others = [{"a": changed}, {"b": colour}, {"a": colour[:64]}]
    assert first not in {Photographs(images, "rgb", 32).digest() for images in others}


def test_tensors_keep_every_value():
    image = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    tensor = to_tensor(image)
    assert tensor.shape == (2, 3, 4, 6) and np.array_equal(to_uint8(tensor), image)
    assert to_tensor(image[..., 0]).shape == (2, 1, 4, 6)
