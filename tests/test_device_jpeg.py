"""JPEG in tensors against libjpeg's: nearly all samples equal, the tables read from real files."""

import numpy as np
import pytest
import torch

from helpers import jpeg
from helpers.data import center_crop, open_set
from helpers.training.device_jpeg import jpeg_on_device, tables_by_quality

# the share of equal samples; the transform is exact here and in fixed point there
EQUAL = {("y", 10): 0.98, ("y", 75): 0.85, ("rgb", 10): 0.94, ("rgb", 75): 0.75}


@pytest.mark.parametrize(("space", "quality"), EQUAL)
def test_it_does_what_libjpeg_does(space, quality):
    images = [open_set("samples")[name].load() for name in ("astronaut", "chelsea", "coffee")]
    images = [center_crop(image if space == "rgb" else jpeg.luma(image), (256, 320)) for image in images]
    expected = np.stack([jpeg.decode(jpeg.encode(image, quality)) for image in images])
    batch = torch.from_numpy(np.stack(images)).float().reshape(3, 256, 320, -1).permute(0, 3, 1, 2)
    found = jpeg_on_device(batch, torch.full((3,), quality)).permute(0, 2, 3, 1).reshape(expected.shape)
    difference = np.abs(found.numpy() - expected)
    assert (difference == 0).mean() > EQUAL[space, quality]
    assert (difference <= 1).mean() > 0.93
    assert 10 * np.log10(255**2 / np.square(difference).mean()) > 46


def test_each_picture_has_its_own_quality():
    image = torch.from_numpy(jpeg.luma(open_set("samples")["camera"].load())[:64, :64])[None, None].float()
    both = jpeg_on_device(image.repeat(2, 1, 1, 1), torch.tensor([10, 90]))
    for number, quality in enumerate((10, 90)):
        alone = jpeg_on_device(image, torch.tensor([quality]))
        assert torch.equal(both[number : number + 1], alone)
    assert (both[0] - image[0]).square().mean() > 10 * (both[1] - image[0]).square().mean()


def test_flat_colours_come_back():
    flat = torch.tensor([200.0, 30.0, 90.0])[None, :, None, None].expand(1, 3, 16, 32)
    assert (jpeg_on_device(flat, torch.tensor([95])) - flat).abs().max() <= 3


def test_tables_are_those_of_the_files():
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    for quality in (1, 10, 50, 95):
        for ours, theirs in zip(
            tables_by_quality()[quality].numpy(),
            jpeg.quantization_tables(jpeg.encode(noise, quality)),
            strict=True,
        ):
            assert np.array_equal(ours, theirs)
