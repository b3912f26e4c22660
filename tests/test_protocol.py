"""The reference values of the protocol, which published tables print: the licence to stand beside them."""

import json

import numpy as np
import pytest

from helpers import RESULTS, jpeg, metrics
from helpers.data import open_set
from helpers.study.evaluation import evaluate

QUALITIES = [10, 20, 30, 40]
# LIVE1, mean of 29 pictures: PSNR, SSIM, PSNR-B (where a table prints it), bits a pixel
LIVE1 = {
    "y": [
        ("27.770", "0.7730", "25.333", "0.302"), ("30.072", "0.8512", "27.566", "0.489"),
        ("31.407", "0.8851", "28.923", "0.639"), ("32.355", "0.9041", "29.957", "0.762"),
    ],
    "grey": [
        ("27.024", "0.7720", None, "0.337"), ("29.296", "0.8509", None, "0.541"),
        ("30.647", "0.8847", None, "0.703"), ("31.623", "0.9039", None, "0.837"),
    ],
    "rgb": [
        ("25.693", "0.7433", None, "0.384"), ("28.061", "0.8256", None, "0.598"),
        ("29.366", "0.8615", None, "0.773"), ("30.280", "0.8821", None, "0.918"),
    ],
}  # fmt: skip


def refuse(line):
    pytest.fail(line)


@pytest.mark.parametrize(
    "space", ["y", pytest.param("grey", marks=pytest.mark.slow), pytest.param("rgb", marks=pytest.mark.slow)]
)
def test_jpeg_on_live1_to_the_printed_digit(live1, space):
    rows = evaluate("jpeg", live1, QUALITIES, space, refuse)["rows"]
    for row, (psnr, ssim, psnr_b, rate) in zip(rows, LIVE1[space], strict=True):
        assert len(row["images"]) == 29
        assert f"{row['psnr']:.3f}" == psnr
        assert f"{row['ssim']:.4f}" == ssim
        assert psnr_b is None or abs(row["psnr_b"] - float(psnr_b)) < 0.0011  # printed from more digits
        assert abs(row["bits_per_pixel"] - float(rate)) <= 0.0006


@pytest.mark.parametrize(
    ("quality", "psnr", "ssim"),
    [
        (10, "28.360", "0.7937"),
        *(
            pytest.param(*numbers, marks=pytest.mark.slow)
            for numbers in ((20, "30.621", "0.8653"), (30, "31.965", "0.8960"), (40, "32.935", "0.9133"))
        ),
    ],
)
def test_colour_jpeg_measured_on_luma(live1, quality, psnr, ssim):
    found = []
    for scene in live1.scenes:
        image = scene.load()
        pair = jpeg.luma(image), jpeg.luma(jpeg.decode(jpeg.encode(image, quality)))
        found.append((metrics.psnr(*pair), metrics.ssim(*pair)))
    means = np.mean(found, axis=0)
    assert (f"{means[0]:.3f}", f"{means[1]:.4f}") == (psnr, ssim)


@pytest.mark.parametrize("space", ["y", "rgb"])
def test_jpeg_on_the_samples_as_recorded(space):
    recorded = json.loads((RESULTS / f"jpeg_{space}_samples.json").read_text())
    rows = evaluate("jpeg", open_set("samples"), QUALITIES, space, refuse)["rows"]
    for row, old in zip(rows, recorded["rows"], strict=True):
        assert [image["name"] for image in row["images"]] == [image["name"] for image in old["images"]]
        for image, before in zip(row["images"], old["images"], strict=True):
            assert image["psnr"] == pytest.approx(before["psnr"], abs=0.005)
            assert image["ssim"] == pytest.approx(before["ssim"], abs=5e-5)
            assert image["psnr_b"] == pytest.approx(before["psnr_b"], abs=0.005)


@pytest.mark.parametrize("space", ["y", pytest.param("rgb", marks=pytest.mark.slow)])
def test_the_record_of_live1_is_what_the_code_measures(live1, space):
    recorded = json.loads((RESULTS / f"jpeg_{space}_live1.json").read_text())
    old = next(row for row in recorded["rows"] if row["quality"] == 10)
    new = evaluate("jpeg", live1, [10], space, refuse)["rows"][0]
    for image, before in zip(new["images"], old["images"], strict=True):
        assert image["name"] == before["name"]
        assert image["psnr"] == pytest.approx(before["psnr"], abs=0.005)
