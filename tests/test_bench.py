"""The benchmarks: what they measure is there, and the ratios are those of the rows."""

import json
import os

import pytest
import torch

from helpers.__main__ import main
from helpers.codec.container import DEFAULT_RATE
from helpers.data import open_set
from helpers.records import read_record
from helpers.study import bench_codec, bench_numpy
from helpers.study import rate_distortion as rd
from helpers.weights import default_weights


@pytest.mark.slow
def test_a_row_holds_the_three_times_and_their_ratio():
    for threads in (1, 2):
        forward, step = bench_numpy.numpy_against_torch((2, 4, 8, 8), threads, repeats=4)
        assert (forward["pass"], step["pass"]) == ("forward", "step")
        for row in (forward, step):
            assert row["size"] == "2x4x8x8" and row["threads"] == threads
            assert row["ratio"] == pytest.approx(row["numpy"] / min(row["torch"], row["channels_last"]))
        # two convolutions forwards, five in a step, half of their multiplications
        products = 2 * 8 * 8 * 9 * 4 * 4 / 2
        assert forward["floor"] == pytest.approx(2 * products / (threads * forward["gmac_per_second"] * 1e6))
        assert step["floor"] == pytest.approx(2.5 * forward["floor"])


def test_the_command_prints_a_table_and_writes_the_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench_numpy, "SIZES", ((1, 2, 4, 4),))
    for library in ("OPENBLAS", "MKL", "VECLIB", "OMP"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")  # the command sets them; restored afterwards
    assert main(["bench", "numpy", "--json", str(tmp_path / "bench_numpy.json")]) == 0
    shown = capsys.readouterr().out
    assert "ratio" in shown and shown.count("1x2x4x4") == 4
    record = json.loads((tmp_path / "bench_numpy.json").read_text())
    assert len(record["rows"]) == 4 and record["processor"]


shipped = pytest.mark.skipif(
    not default_weights("compress", "rgb").exists(), reason="no codec weights are shipped"
)


@pytest.fixture
def small(monkeypatch):
    """A small picture, and two codecs, for the codec's benchmark."""
    image = open_set("samples")["coffee"].load()[100:292, 100:356]
    monkeypatch.setattr(bench_codec, "photograph", lambda: ("a cup", image))
    monkeypatch.setattr(bench_codec, "BENCH_CODECS", ("jpeg", "avif", "ours"))
    return image


@pytest.mark.slow
@shipped
def test_the_codecs_row_by_row_at_one_size_and_their_ratios(small):
    turns = []
    record = bench_codec.record(lambda: turns.append(1), bench_codec.BENCH_CODECS, repeats=4)
    assert record["picture"] == "a cup" and (record["width"], record["height"]) == (256, 192)
    rows = {row["codec"]: row for row in record["rows"]}
    assert list(rows) == ["jpeg", "avif", "ours", bench_codec.EXACT]
    assert len(turns) == bench_codec.TURNS * 7
    for row in rows.values():
        for way in ("encode", "decode"):
            if row[way] is not None:
                assert row[way] > 0 and row[f"{way}_ratio"] == row[way] / rows["jpeg"][way]
    exact, ours = rows[bench_codec.EXACT], rows["ours"]
    assert exact["encode"] is None and exact["encode_ratio"] is None
    assert exact["bytes"] == ours["bytes"] and exact["psnr"] == pytest.approx(ours["psnr"], abs=0.001)
    assert ours["setting"] == DEFAULT_RATE
    assert rows["jpeg"]["bytes"] == pytest.approx(ours["bytes"], rel=0.1)
    file = rd.CODERS["avif"][1].encode(small, rows["avif"]["setting"], max_threads=1)
    assert rows["avif"]["bytes"] == len(file)
    assert [row["synthesis"] for row in record["pixels"]] == ["float32"] * 4 + ["float64"] * 4
    assert record["pixels"][0]["different"] == 0


@pytest.mark.parametrize("codec", ["jpeg", "jpeg2000"])  # larger settings, larger and smaller files
@pytest.mark.parametrize("size", [1, 1500, 3000, 10**6])
def test_the_nearest_setting_is_found(codec, size):
    image = open_set("samples")["coffee"].load()[100:196, 100:228]
    settings, coder = rd.CODERS[codec]
    found = bench_codec.nearest(coder.encode, image, settings, size)
    every = range(min(settings), max(settings) + 1)
    best = min(abs(len(coder.encode(image, setting)) - size) for setting in every)
    assert abs(len(coder.encode(image, found)) - size) == best


@pytest.mark.parametrize("here", [True, False])
def test_the_picture_has_768_by_512_pixels(here, monkeypatch, request):
    if here:
        request.getfixturevalue("live1")
    else:
        monkeypatch.setattr(bench_codec, "live1_folder", lambda: None)
    name, image = bench_codec.photograph()
    assert image.shape == (512, 768, 3) and ("LIVE1" in name) == here


def test_everything_is_as_before_after_one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    with pytest.raises(RuntimeError), bench_codec._one_thread():
        assert torch.get_num_threads() == 1
        assert cores is None or len(os.sched_getaffinity(0)) == 1
        raise RuntimeError
    after = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert after == 2 and (cores is None or os.sched_getaffinity(0) == cores)


@pytest.mark.slow
@shipped
def test_the_command_prints_the_codecs_and_writes_their_record(small, tmp_path, monkeypatch, capsys):
    for library in ("OPENBLAS", "MKL", "VECLIB", "OMP"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")
    assert main(["bench", "codec", "--json", str(tmp_path / "bench_numpy.json")]) == 0
    shown = capsys.readouterr().out
    assert "JPEG 4:2:0, optimize=True (Pillow)" in shown and bench_codec.EXACT in shown
    record = json.loads((tmp_path / "bench_numpy.json").read_text())
    assert len(record["rows"]) == 4 and len(record["pixels"]) == 8 and record["processor"]


def test_the_recorded_codec_takes_at_most_half_a_second_each_way():
    record = read_record("bench_codec")
    rows = {row["codec"]: row for row in record["rows"]}
    assert (record["width"], record["height"]) == (768, 512)
    assert {"jpeg", "webp", "jpeg2000", "avif"} <= rows.keys()  # timed in the same run
    assert max(rows["ours"]["encode"], rows["ours"]["decode"]) < 500  # ms, one thread
