"""The codec: exact round trips, files that are refused, what travels along, and the commands."""

import io
import json
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from in_process import run
from PIL import Image, ImageCms
from sandbox import PEAK, helpers_command, quiet_environment
from skimage import data as photographs

from helpers import RESULTS, ROOT, metrics
from helpers.codec import files
from helpers.codec.container import FIXED, CodecError, Container, read
from helpers.codec.trained import entropy_model, pictures
from helpers.codec.trained.entropy_model import (
    CHANNEL_GROUPS,
    gaussian_bits,
    lattice,
    scale_of,
    table_bounds,
)
from helpers.codec.trained.network import RATE_COUNT, CompressionConfig, CompressionNetwork, macs_of
from helpers.codec.trained.stream import decode_latent, encode_latent
from helpers.codec.trained.variants import SIDE_CHANNELS
from helpers.data import live1_folder, open_set
from helpers.models import count_parameters
from helpers.study import bench_codec
from helpers.study.rate_distortion import bd_rates
from helpers.weights import default_weights, load_network

SMALL = CompressionConfig(fine=16, coarse=16, blocks=(1, 1), analysis_blocks=(1, 1), context=16)


@pytest.fixture(scope="module")
def codec():
    """A small network with weights that nobody trained, but none of them zero."""
    torch.manual_seed(0)
    network = CompressionNetwork(SMALL).eval()
    with torch.no_grad():
        for part in (network.analysis, network.synthesis):
            for parameter in part.parameters():
                parameter.normal_(0, 0.05)
        for predict, channels in network.prior.parts():
            size = CHANNEL_GROUPS[0] if channels.start == 0 else channels.stop - channels.start
            predict.first.weight.normal_(0, 0.3)
            predict.second.weight.normal_(0, 0.1)
            predict.second.bias[size:] = 2.0
    return network, b"test"


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def latent_of(network, image, rate):
    with torch.inference_mode():
        return pictures._analysed(network, image) * network.gain(torch.tensor([float(rate)]))


# Exact round trips


@pytest.mark.parametrize("grey", [pytest.param(False, marks=pytest.mark.slow), True])
@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, RATE_COUNT - 1), st.integers(0, 99))
@example(1, 1, 30, 0)
@example(8, 9, 30, 0)
@example(70, 70, 30, 0)
@settings(max_examples=40)
def test_any_size_comes_back_as_the_encoder_saw_it(codec, grey, height, width, rate, seed):
    comes_back(codec, grey, height, width, rate, seed)


@pytest.mark.long
@pytest.mark.parametrize("grey", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("height", range(1, 71))
def test_every_size_to_70_comes_back(codec, height, grey):
    for width in range(1, 71):
        comes_back(codec, grey, height, width, 30, seed=width)


def comes_back(codec, grey, height, width, rate, seed):
    image = noise(height, width, seed=seed) if grey else noise(height, width, 3, seed=seed)
    data, reconstruction = pictures.encode(image, rate, codec)
    decoded = pictures.decode(data, codec)
    assert decoded.dtype == np.uint8 and decoded.shape == image.shape
    assert np.array_equal(decoded, reconstruction)


@pytest.mark.parametrize("shape", [(1, 1500), (1301, 3), (1061, 1123, 3)], ids=str)
def test_large_odd_sizes_go_through_tiles(codec, shape):
    image = noise(*shape)
    data, reconstruction = pictures.encode(image, 10, codec)
    decoded = pictures.decode(data, codec)
    assert decoded.shape == image.shape and np.array_equal(decoded, reconstruction)


def test_tiles_leave_no_seam(codec, monkeypatch):
    """A picture in many small tiles, each seeing its surroundings, is the picture in one piece."""
    network, _ = codec
    image = np.ascontiguousarray(photographs.astronaut()[:256, :320])
    whole = pictures._analysed(network, image)
    decoded = torch.round(whole)
    at_once = pictures._synthesised(network, decoded, 20, 256, 320, False)
    monkeypatch.setattr(pictures, "TILE", 13)
    assert torch.allclose(pictures._analysed(network, image), whole, atol=1e-3)
    in_tiles = pictures._synthesised(network, decoded, 20, 256, 320, False)
    assert np.abs(in_tiles.astype(int) - at_once).max() <= 1


@pytest.mark.parametrize("kind", ["context", "factorised"])
def test_strips_of_rows_foretell_what_the_whole_plane_does(codec, monkeypatch, kind):
    network = codec[0]
    if kind == "factorised":
        network = CompressionNetwork(CompressionConfig(prior="factorised")).eval()
        network.prior.network.second.weight.data.normal_(0, 1, generator=torch.Generator().manual_seed(0))
    scaled = 9 * torch.randn(1, 128, 61, 5, generator=torch.Generator().manual_seed(0))
    data, decoded = encode_latent(network, scaled, 40)
    calls, at_once = [], entropy_model.EntropyParameters.at_once
    monkeypatch.setattr(
        entropy_model.EntropyParameters, "at_once", lambda *x: calls.append(x[1].shape[2]) or at_once(*x)
    )
    monkeypatch.setattr(entropy_model, "STRIP", 10 * 5)
    in_strips, decoded_in_strips = encode_latent(network, scaled, 40)
    assert set(calls) == {12, 14, 13, 3} and len(calls) == 7 * len(network.prior.parts())
    assert in_strips == data and torch.equal(decoded_in_strips, decoded)
    calls.clear()
    with torch.enable_grad():  # training goes in one piece
        network.coded(scaled, torch.tensor([40.0]))
    assert set(calls) == {61}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (9, 70), (61, 85)])
def test_a_hyperprior_codes_side_information_and_comes_back(height, width):
    torch.manual_seed(0)
    network = CompressionNetwork(replace(SMALL, prior="hyperprior")).eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, 0, 0.1)
    image, rate = noise(height, width, 3), torch.tensor([40.0])
    file, decoded = pictures.encode(image, 40, (network, b"side"))
    assert np.array_equal(pictures.decode(file, (network, b"side")), decoded)
    with torch.inference_mode():
        scaled = network.to_steps(pictures._analysed(network, image), rate)
        bits = network.coded(scaled, rate)[1].item()
    assert scaled.shape[1] == SIDE_CHANNELS + network.config.latent
    assert len(read(file).latent) == pytest.approx(bits / 8, abs=8)


CONFIGURATIONS = {
    "two threads": {"threads": 2},
    "oneDNN off": {"onednn": False},
    "channels last": {"layout": torch.channels_last},
    "all three": {"threads": 2, "onednn": False, "layout": torch.channels_last},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_latents_are_the_same_bit_for_bit_in_any_configuration(codec, name):
    assert latents_are_the_same(codec[0], **CONFIGURATIONS[name])


def test_latents_of_sums_that_round_differ_in_some_configuration(codec, monkeypatch):
    """The test above could fail: without the whole numbers it would."""
    monkeypatch.setattr(entropy_model, "straight_through", lambda function, x: x)
    assert latents_are_the_same(codec[0])
    same = {name: latents_are_the_same(codec[0], **how) for name, how in CONFIGURATIONS.items()}
    print(same)
    assert not all(same.values())


def latents_are_the_same(network, threads=1, onednn=True, layout=torch.contiguous_format):
    """Whether one thread's file, and the latent decoded from it, are this configuration's too."""
    image = np.ascontiguousarray(photographs.astronaut()[:200, :264])
    scaled = latent_of(network, image, 40)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    data, decoded = encode_latent(network, scaled, 40)
    try:
        torch.set_num_threads(threads)
        network.to(memory_format=layout)
        with torch.backends.mkldnn.flags(enabled=onednn):
            again = decode_latent(network, data, 40, tuple(scaled.shape))
            encoded_again, _ = encode_latent(network, scaled, 40)
    except CodecError:  # predicted otherwise, a stream may be an impossible one
        return False
    finally:
        torch.set_num_threads(before)
        network.to(memory_format=torch.contiguous_format)
    return torch.equal(decoded, again) and data == encoded_again


def test_the_latent_is_rounded_and_cut_to_the_largest_number_of_its_table():
    network = CompressionNetwork(
        CompressionConfig(prior="factorised", rdo_strength=0)
    )  # untrained: mean 0, the smallest scale
    most = int(table_bounds()[0])
    scaled = torch.empty(1, 128, 5, 7).uniform_(-most, most, generator=torch.Generator().manual_seed(0))
    scaled[0, 0, 0, 0], scaled[0, 1, 0, 0] = 500, -500
    expected = scaled.round().clamp(-most, most)
    data, decoded = encode_latent(network, scaled, 3)
    assert torch.equal(decoded, expected)
    assert torch.equal(decode_latent(network, data, 3, (1, 128, 5, 7)), expected)


def test_sums_of_the_whole_number_networks_stay_below_2_to_the_24(codec):
    for predict, _ in codec[0].prior.parts():
        assert predict.largest_sum() < 2**24


def test_a_network_whose_sums_could_round_is_refused(codec):
    torch.manual_seed(0)
    network = CompressionNetwork(SMALL).eval()
    with torch.no_grad():
        network.prior.groups[-1].first.weight.fill_(1.9)
    with pytest.raises(CodecError, match="sums"):
        pictures.checked(network)


def test_levels_cover_each_position_once_and_tables_hold_each_number():
    for height, width in ((1, 1), (5, 7), (8, 8)):
        covered = [lattice(level, height, width) for level in range(4)]
        assert all(((b - a) >= 0).all() for a, b in zip(covered, covered[1:], strict=False))
        assert covered[-1].all() and covered[0].sum() == -(-height // 4) * -(-width // 4)
    for index, bound in enumerate(table_bounds()):
        scale = scale_of(torch.tensor(float(index)))
        assert gaussian_bits(torch.tensor(float(bound)), scale) > 25


# Files that must be refused


def file_of(codec, **metadata):
    return pictures.encode(noise(24, 32, 3), 30, codec, **metadata)[0]


def forged(data, **fields):
    """The file with other header fields and a CRC-32 that fits them."""
    names = ("magic", "version", "flags", "rate", "model", "width", "height")
    values = dict(zip(names, FIXED.unpack_from(data), strict=True)) | fields
    body = FIXED.pack(*values.values()) + data[FIXED.size : -4]
    return body + struct.pack("<I", zlib.crc32(body))


def test_the_format_is_what_its_description_says():
    file = Container(300, 200, 17, b"abcd", b"latent--", grey=True, icc=b"profile", alpha=b"plane").to_bytes()
    assert file[:4] == b"NPIC" and file[4] == 1 and file[5] == 1 | 2 | 8 and file[6] == 17
    assert file[7:11] == b"abcd" and struct.unpack("<HH", file[11:15]) == (299, 199)
    assert struct.unpack("<II", file[15:23]) == (7, 5)
    assert file[23:-4] == b"profile" + b"plane" + b"latent--"
    assert struct.unpack("<I", file[-4:])[0] == zlib.crc32(file[:-4])
    assert read(file) == Container(300, 200, 17, b"abcd", b"latent--", True, b"profile", b"", b"plane")


def test_a_file_cut_anywhere_or_with_any_bit_flipped_is_refused(codec):
    data = file_of(codec)
    for length in range(len(data)):
        with pytest.raises(CodecError):
            pictures.decode(data[:length], codec)
    for bit in range(8 * len(data)):
        with pytest.raises(CodecError):
            pictures.decode(flipped(data, bit), codec)


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def mutations(data, count, seed):
    """Files with flipped bytes, cuts, repeated and swapped pieces, all with a CRC-32 that fits."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        body = bytearray(data[:-4])
        for _ in range(rng.integers(1, 4)):
            kind, a, b = rng.integers(4), *sorted(rng.integers(0, len(body), 2))
            if kind == 0:
                body[a] = rng.integers(256)
            elif kind == 1:
                del body[a : min(b, a + 8)]
            elif kind == 2:
                body[a:a] = body[a : min(b, a + 8)]
            else:
                body[a], body[b] = body[b], body[a]
            if len(body) < 8:
                break
        yield bytes(body) + struct.pack("<I", zlib.crc32(body))


@pytest.mark.slow
def test_forged_files_are_decoded_or_refused_and_never_crash(codec):
    """Under a CRC-32 that fits, a changed stream may be another picture, but no panic and no hang."""
    data = file_of(codec, icc=b"profile")
    refused = 0
    for forgery in mutations(data, 200, seed=0):
        try:
            if read(forgery).width * read(forgery).height < 10_000:
                pictures.decode(forgery, codec)
        except CodecError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 0 < refused < 200


def test_2000_damaged_files_are_refused(codec):
    """Without the key to the CRC-32: bytes changed, cut, repeated or swapped."""
    data = file_of(codec, icc=b"profile", exif=b"exif")
    for forgery in mutations(data, 2000, seed=1):
        damaged = forgery[:-4] + data[-4:]
        if damaged != data:
            with pytest.raises(CodecError):
                read(damaged)


HOSTILE = {
    "empty": (lambda data: b"", "is empty"),
    "text": (lambda data: b"a picture of a cat\n" * 9, "no file of this codec"),
    "cut": (lambda data: data[: len(data) // 2], "damaged or cut off"),
    "short": (lambda data: data[:10], "cut off"),
    "with a bit of its magic flipped": (lambda data: flipped(data, 3), "no file of this codec"),
    "with a bit of its sides flipped": (lambda data: flipped(data, 8 * 12 + 7), "damaged or cut off"),
    "with a bit of its latent flipped": (lambda data: flipped(data, 4 * len(data)), "damaged or cut off"),
    "with a bit of its CRC-32 flipped": (lambda data: flipped(data, 8 * len(data) - 1), "damaged or cut off"),
    "of another version": (lambda data: forged(data, version=9), "format version 9"),
    "with a rate of 64": (lambda data: forged(data, rate=64), "rate 64"),
    "of 4 thousand million pixels": (lambda data: forged(data, width=65535, height=65535), "65536x65536"),
    "of other weights": (lambda data: forged(data, model=b"\0\1\2\3"), "other weights (00010203"),
    "with lengths past its end": (lambda data: forged(data, flags=14), "lengths that lead past its end"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_told_in_one_line(codec, name):
    make, reason = HOSTILE[name]
    with pytest.raises(CodecError) as error:
        pictures.decode(make(file_of(codec)), codec)
    assert reason in str(error.value) and "\n" not in str(error.value)


def costs(command, peak):
    """(process, its seconds, its peak in bytes) of the quicker of two times that it is run."""
    found = []
    for _ in range(2):  # the first may have to read the libraries from the disk
        start = time.perf_counter()
        process = subprocess.run(command, cwd=ROOT, env=quiet_environment(), capture_output=True, text=True)
        found.append((process, time.perf_counter() - start, int(peak.read_text())))
    return min(found, key=lambda one: one[1])


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """What an interpreter costs that does nothing."""
    peak = tmp_path_factory.mktemp("bare") / "peak"
    return costs([sys.executable, "-c", PEAK.format(str(peak))], peak)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name != "of other weights"])
def test_a_hostile_file_costs_the_command_neither_time_nor_memory(codec, bare, name, tmp_path):
    """At most a second and 100 MB above an interpreter that does nothing, from its start to its end."""
    (tmp_path / "bad.npic").write_bytes(HOSTILE[name][0](file_of(codec)))
    peak = PEAK.format(str(tmp_path / "peak"))
    first = f"{peak}\natexit.register(lambda: print('torch' in sys.modules))"
    command = helpers_command("decode", tmp_path / "bad.npic", tmp_path / "out.png", first=first)
    process, seconds, memory = costs(command, tmp_path / "peak")
    _, bare_seconds, bare_memory = bare
    print(f"{name}: {seconds - bare_seconds:.2f} s, {(memory - bare_memory) / 1e6:.0f} MB above")
    assert process.returncode == 2 and process.stdout == "False\n", process.stderr
    assert seconds < bare_seconds + 1 and memory < bare_memory + 100e6
    assert process.stderr.count("\n") == 1 and process.stderr.startswith(str(tmp_path / "bad.npic"))
    assert HOSTILE[name][1] in process.stderr and not (tmp_path / "out.png").exists()


# What the commands do with files


shipped = pytest.mark.skipif(
    not default_weights("compress", "rgb").exists(), reason="no codec weights are shipped"
)


def live1_or_samples(number):
    """(name, image) of one of three photographs: a sample, and two of LIVE1 where it is here."""
    if number == 0:
        return "astronaut", photographs.astronaut()
    if live1_folder() is None:
        return [("chelsea", photographs.chelsea()), ("coffee", photographs.coffee())][number - 1]
    name = ("parrots", "stream")[number - 1]
    return name, open_set("live1")[name].load()


@pytest.fixture
def photograph(tmp_path):
    path = tmp_path / "photograph.png"
    Image.fromarray(photographs.astronaut()[:200, 100:340]).save(path)
    return path


@shipped
def test_encode_decode_and_info_agree(photograph, tmp_path):
    small, large = tmp_path / "small.npic", tmp_path / "large.npic"
    first, second = (
        run("encode", photograph, small, "--rate", 0),
        run("encode", photograph, large, "--rate", 63),
    )
    assert first.returncode == second.returncode == 0 and first.stderr == second.stderr == ""
    original = np.array(Image.open(photograph))
    found = []
    for file, process in ((small, first), (large, second)):
        assert run("decode", file, tmp_path / "back.png").returncode == 0
        back = np.array(Image.open(tmp_path / "back.png"))
        psnr, size = metrics.psnr(original, back), file.stat().st_size
        assert f"{size:,} bytes" in process.stdout and f"{psnr:.2f} dB" in process.stdout
        said = run("info", file).stdout
        assert "240x200" in said and f"{size:,} bytes" in said
        found.append((size, psnr))
    assert found[0][0] < found[1][0] / 3 and found[0][1] < found[1][1] - 5


@shipped
@pytest.mark.parametrize("budget", [("--bytes", 4000), ("--bpp", 0.5)])
def test_a_budget_is_kept_and_used(photograph, tmp_path, budget):
    most = {"--bytes": 4000, "--bpp": 0.5 * 200 * 240 / 8}[budget[0]]
    assert run("encode", photograph, tmp_path / "x.npic", *budget).returncode == 0
    file = read((tmp_path / "x.npic").read_bytes())
    assert (tmp_path / "x.npic").stat().st_size <= most
    more, _ = pictures.encode(np.array(Image.open(photograph)), file.rate + 1)
    assert len(more) > most


@given(st.lists(st.integers(0, 100), min_size=1, max_size=70).map(sorted), st.integers(0, 100))
def test_the_most_within_a_budget_is_found_by_halving(sizes, most):
    calls = []

    def code(setting: int) -> tuple[bytes, int]:
        calls.append(setting)
        return bytes(sizes[setting]), setting

    _, setting = pictures.most_within(code, range(len(sizes)), most)
    assert setting == max((k for k, size in enumerate(sizes) if size <= most), default=0)
    assert len(calls) == len(set(calls)) <= 8


@shipped
def test_a_budget_that_can_not_be_kept_is_one_line(photograph, tmp_path):
    process = run("encode", photograph, tmp_path / "x.npic", "--bytes", 50)
    assert process.returncode == 2 and "at the lowest rate; 50 can't be reached" in process.stderr
    assert process.stderr.count("\n") == 1 and not (tmp_path / "x.npic").exists()


@pytest.mark.slow
@shipped
def test_the_file_is_as_large_as_the_model_says():
    network, _ = pictures.shipped_codec()
    for image in (photographs.astronaut(), photographs.coffee(), photographs.chelsea()):
        for rate in (32, 45, 63):
            scaled = latent_of(network, image, rate)
            data, _ = encode_latent(network, scaled, rate)
            with torch.inference_mode():
                estimate = network.coded(scaled, torch.tensor([float(rate)]))[1].item() / 8
            assert len(data) > 2000 and abs(len(data) / estimate - 1) < 0.01


@shipped
@pytest.mark.slow
def test_pixels_are_the_encoders_own_with_one_and_two_threads(tmp_path):
    """Of a picture wider than a tile, as every process sees it that encodes or decodes."""
    picture, file = tmp_path / "x.png", tmp_path / "x.npic"
    photograph_of(1100, 64).save(picture)
    assert run("encode", picture, file).returncode == 0
    script = (
        "import hashlib, sys\nimport numpy as np, torch\nfrom PIL import Image\n"
        "from helpers.codec.trained import pictures\ntorch.set_num_threads(int(sys.argv[1]))\n"
        "image = np.array(Image.open(sys.argv[2]))\n"
        "for pixels in pictures.encode(image, 32)[1], pictures.decode(open(sys.argv[3], 'rb').read()):\n"
        "    assert pixels.shape == (64, 1100, 3)\n"
        "    print(hashlib.sha256(pixels.tobytes()).hexdigest())"
    )
    found = []
    for threads in ("1", "2"):
        command = [sys.executable, "-c", script, threads, picture, file]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        found += process.stdout.split()
    assert len(found) == 4 and len(set(found)) == 1


@shipped
@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_pixels_of_other_configurations_are_at_most_one_level_off(number):
    """At most 0.01 % of the samples; with a synthesis in float64 none, but for ties."""
    name, image = live1_or_samples(number)
    network, model = pictures.shipped_codec()
    rows = bench_codec.differences(pictures.encode(image, 32)[0], (network, model))
    assert len(rows) == 8 and all(row["samples"] == image.size for row in rows)
    for row in rows:
        print(f"{name}, {row['synthesis']}, {row['configuration']}: {row['different']} differ")
        assert row["largest"] <= 1 and row["different"] <= 1e-4 * image.size
    assert sum(row["different"] for row in rows[5:]) <= 1


def photograph_of(width, height):
    """A sample photograph enlarged until it is large enough, with a camera's noise."""
    picture = Image.fromarray(photographs.astronaut()).resize((width, height), Image.BICUBIC)
    noisy = np.array(picture, np.int16)
    noisy += np.random.default_rng(0).integers(-6, 7, noisy.shape, dtype=np.int16)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@shipped
@pytest.mark.parametrize(
    ("width", "height", "most"),
    [
        pytest.param(1500, 1000, 1.2e9, marks=pytest.mark.slow),
        pytest.param(4000, 3000, 1.5e9, marks=pytest.mark.slow),
        pytest.param(6000, 4000, 2e9, marks=pytest.mark.long),
    ],
    ids=["1.5 megapixels", "12 megapixels", "24 megapixels"],
)
def test_a_large_photograph_takes_less_than_2_gigabytes(tmp_path, width, height, most):
    photograph_of(width, height).save(tmp_path / "x.png", compress_level=1)
    script = (
        "import resource, sys, time; from helpers.__main__ import main; start = time.perf_counter()\n"
        "assert main(sys.argv[1:]) == 0\n"
        "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    for command, source, target in (("encode", "x.png", "x.npic"), ("decode", "x.npic", "y.png")):
        arguments = [sys.executable, "-c", script, command, tmp_path / source, tmp_path / target]
        process = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
        seconds, memory = map(float, process.stdout.split()[-2:])
        memory *= 1024 if sys.platform == "linux" else 1
        print(f"{command} of {width}x{height}: {seconds:.1f} s, {memory / 1e9:.2f} GB")
        assert memory < most
    before, after = (np.array(Image.open(tmp_path / name)) for name in ("x.png", "y.png"))
    assert metrics.psnr(before, after) > 30


@shipped
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_and_profile_and_exif_are_kept(tmp_path, orientation):
    picture = Image.fromarray(photographs.astronaut()[:64, 100:180])
    exif = picture.getexif()
    exif[0x0112], exif[0x010F] = orientation, "a camera"
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=exif, icc_profile=b"a profile of no known kind")
    (tmp_path / "x.png").write_bytes(buffer.getvalue())
    assert run("encode", tmp_path / "x.png", tmp_path / "x.npic", "--rate", 60).returncode == 0
    assert run("decode", tmp_path / "x.npic", tmp_path / "y.png").returncode == 0
    with Image.open(tmp_path / "y.png") as back, Image.open(tmp_path / "x.png") as before:
        from PIL import ImageOps

        upright = np.array(ImageOps.exif_transpose(before))
        assert metrics.psnr(upright, np.array(back)) > 30
        assert back.getexif().get(0x010F) == "a camera" and back.getexif()[0x0112] == 1
        assert back.info["icc_profile"] == b"a profile of no known kind"


def there_and_back(source, target):
    files.encode_file(source, target.with_suffix(".npic"), partial(pictures.encode, rate=0))
    files.decode_file(target.with_suffix(".npic"), target)


@shipped
@pytest.mark.parametrize("kind", ["JPEG", "TIFF", "WEBP"])
def test_the_orientation_is_1_also_where_it_was_all_that_exif_held(tmp_path, kind):
    picture = Image.fromarray(photographs.astronaut()[:64, 100:180])
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "x", kind, exif=exif)
    there_and_back(tmp_path / "x", tmp_path / "y.png")
    with Image.open(tmp_path / "y.png") as back:
        assert back.size == (64, 80) and back.getexif()[0x0112] == 1


@shipped
def test_grey_of_16_bits_keeps_its_levels_beside_a_transparent_one(tmp_path):
    levels = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint16) * 500
    Image.fromarray(levels).save(tmp_path / "x.png", transparency=20_000)
    there_and_back(tmp_path / "x.png", tmp_path / "y.png")
    with Image.open(tmp_path / "y.png") as back:
        grey, alpha = (np.array(band) for band in back.convert("LA").split())
    assert np.array_equal(alpha == 0, levels == 20_000)
    assert metrics.psnr(np.rint(levels * (255 / 65535)).astype(np.uint8), grey) > 30


SPACES = {  # what a profile's header calls the channels of Pillow's modes
    **dict.fromkeys(("1", "L", "LA", "I;16"), "GRAY"),
    **dict.fromkeys(("P", "PA", "RGB", "RGBA"), "RGB "),
    **{"CMYK": "CMYK", "LAB": "Lab ", "YCbCr": "YCbr"},
}


def profile_of(space):
    """An ICC profile of a colour space, with a header and no table: enough for LittleCMS to open it."""
    head = struct.pack(">I4xI4s4s4s12x4s92x", 132, 0x02100000, b"prtr", space.encode(), b"Lab ", b"acsp")
    assert ImageCms.getOpenProfile(io.BytesIO(head)).profile.xcolor_space == space
    return head


@shipped
@pytest.mark.parametrize(("mode", "kind"), [*((mode, "TIFF") for mode in SPACES), ("CMYK", "JPEG")])
def test_a_profile_travels_where_it_is_of_the_channels_that_are_coded(tmp_path, mode, kind):
    profile = profile_of(SPACES[mode])
    Image.new(mode, (24, 16)).save(tmp_path / "x", kind, icc_profile=profile)
    with Image.open(tmp_path / "x") as before:
        assert before.mode == mode and before.info["icc_profile"] == profile
    there_and_back(tmp_path / "x", tmp_path / "y.png")
    with Image.open(tmp_path / "y.png") as back:
        kept = SPACES[mode] in ("GRAY", "RGB ")
        assert back.info.get("icc_profile") == (profile if kept else None)
        assert SPACES[back.mode] == (SPACES[mode] if kept else "RGB ")


@shipped
def test_transparency_is_kept_without_loss(tmp_path):
    alpha = noise(64, 80)
    picture = Image.fromarray(np.dstack([photographs.astronaut()[:64, 100:180], alpha]))
    picture.save(tmp_path / "x.png")
    assert run("encode", tmp_path / "x.png", tmp_path / "x.npic").returncode == 0
    assert run("decode", tmp_path / "x.npic", tmp_path / "y.webp").returncode == 0
    with Image.open(tmp_path / "y.webp") as back:
        assert back.mode == "RGBA" and np.array_equal(np.array(back)[..., 3], alpha)


@shipped
def test_a_folder_is_done_and_its_bad_files_are_named(photograph, tmp_path):
    (photograph.parent / "broken.png").write_bytes(photograph.read_bytes()[:900])
    process = run("encode", photograph.parent, tmp_path / "files")
    assert (
        process.returncode == 2 and "broken.png" in process.stderr and "1 of 2 files done" in process.stdout
    )
    (tmp_path / "files" / "text.npic").write_text("text")
    process = run("decode", tmp_path / "files", tmp_path / "back")
    assert process.returncode == 2 and "text.npic: is no file of this codec" in process.stderr
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["photograph.png"]


@shipped
def test_the_card_of_the_shipped_codec_is_counted_again():
    network, card = load_network(default_weights("compress", "rgb"), CompressionNetwork, "compress", "rgb")
    assert (
        card["parameters"] == count_parameters(network)
        and default_weights("compress", "rgb").stat().st_size < 20e6
    )
    parts = macs_of(network.config)
    assert card["macs_per_pixel"] == parts["decoder"] <= 40_000
    assert card["macs_of_parts"] == {name: parts[name] for name in ("analysis", "context", "synthesis")}
    record = json.loads((RESULTS / "codec_training.json").read_text())
    assert record["legs"] == card["legs"] and all(leg["training"]["steps"] > 0 for leg in card["legs"])
    checked = pictures.checked(network)
    assert max(predict.largest_sum() for predict, _ in checked.prior.parts()) < 2**24


@shipped
def test_the_shipped_codec_gives_its_recorded_numbers_again(live1):
    table = pd.read_csv(RESULTS / "rd_live1.csv").set_index(["codec", "setting", "image"])
    for name in ("caps", "womanhat"):
        image = live1[name].load()
        for rate in (9, 54):
            data, decoded = pictures.encode(image, rate)
            recorded = table.loc[("ours", rate, name)]
            assert metrics.psnr(image, decoded) == pytest.approx(recorded.psnr, abs=0.01)
            assert len(data) == pytest.approx(recorded.bytes, rel=0.002)


@shipped
def test_the_record_holds_what_the_study_says_of_it():
    found = bd_rates(pd.read_csv(RESULTS / "rd_live1.csv")).set_index("codec").psnr
    assert found["jpeg"] == 0 and found["ours"] < -25
    # the protocol's values but for one setting more at the low end, so that the curves span the window
    assert found["webp"] == pytest.approx(-33.7, abs=0.5) and found["jpeg2000"] == pytest.approx(
        -43.9, abs=0.5
    )
