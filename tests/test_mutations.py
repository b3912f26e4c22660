"""Thousands of damaged and forged files: never a wrong picture, a panic, a hang; one line."""

import io
import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from mutations import Judge, mutant
from PIL import Image

from helpers import RESULTS, ROOT, checks, records
from helpers.codec import files
from helpers.codec.container import FIXED, MOST_PIXELS, PARTS, CodecError, Container, read
from helpers.codec.fitted import payload
from helpers.codec.fitted.encoder import SHIFTS
from helpers.codec.fitted.fitting import Fit, lagrangian
from helpers.codec.trained import pictures
from helpers.codec.trained.network import CompressionConfig, CompressionNetwork
from helpers.data import metadata as picture_files
from helpers.experiments import sweep
from helpers.experiments.grid import BASELINES, VERSION

SMALL = CompressionConfig(fine=16, coarse=16, blocks=(1, 1), analysis_blocks=(1, 1), context=16)


@pytest.fixture(scope="module")
def codec():
    """A small network whose every part counts."""
    torch.manual_seed(0)
    network = CompressionNetwork(SMALL).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
        network.log_gain.sub_(0.1 * torch.randn(network.log_gain.shape))
    return pictures.checked(network), b"test"


@pytest.fixture(scope="module")
def whole(codec) -> dict[bytes, np.ndarray]:
    """Whole files of small pictures, bare and with what travels along, and what they decode to."""
    rng, found = np.random.default_rng(0), {}
    alpha = files.alpha_bytes(rng.integers(0, 256, (21, 33), dtype=np.uint8))
    for height, width, metadata in (
        (16, 24, {}),
        (21, 33, {"alpha": alpha, "icc": b"a profile"}),
        (40, 48, {"icc": b"another profile", "exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}),
        (64, 64, {}),
    ):
        for channels in ((), (3,)):
            for rate in (10, 55):
                image = rng.integers(0, 256, (height, width, *channels), dtype=np.uint8)
                data, decoded = pictures.encode(image, rate, codec, **metadata)
                found[data] = decoded
    image = rng.integers(0, 256, (17, 25, 3), dtype=np.uint8)
    fit = Fit(image, lagrangian(40))
    numbers = {name: adam.value.numpy() for name, adam in fit.weights.items()}
    weights = payload.rounded_weights(numbers, SHIFTS, fit.start)
    latents = [adam.value.round().numpy().astype(np.float64) for adam in fit.latents]
    data, decoded = payload.to_bytes(weights, latents, fit.start)
    file = Container(25, 17, 40, payload.starts()[1], data, fitted=True).to_bytes()
    found[file] = payload.picture_of(weights, decoded, False)
    return found


def sealed(data: bytes) -> bytes:
    """The file with a CRC-32 that fits it."""
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def mutants(count: int, originals: list[bytes], seed: int):
    """(number, the file it was, mutant) of so many, each from a generator of its own."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        data = originals[rng.integers(len(originals))]
        yield number, data, mutant(rng, data, originals)


# The codec's files


def test_no_damaged_file_is_taken_for_a_picture(codec, whole, tenths):
    judge = Judge()
    for number, _, data in mutants(1000 * tenths, list(whole), seed=1):
        if data in whole:  # nothing happened to it, or all of another was put in its place
            continue
        taken, _ = judge.hear(number, pictures.decode, data, codec)
        assert not taken, number
    judge.tell("damaged files")
    assert judge.refused > 900 * tenths
    assert tenths == 1 or max(judge.seconds) < 1


@pytest.mark.parametrize(
    "tenths",
    [0.3, pytest.param(1, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.long)],
    ids=["a part", "a tenth", "all"],
)
def test_forged_files_are_decoded_or_refused_and_nothing_else(codec, whole, tenths, monkeypatch, tmp_path):
    """Their CRC-32 fits, so that what lies behind it is met: lengths, planes, profiles, the range coder."""
    monkeypatch.setattr(pictures, "shipped_codec", lambda: codec)
    monkeypatch.setattr(picture_files, "write_file", lambda path, data: written.append(data))
    judge, source, large = Judge(), tmp_path / "forged.npic", 0
    for number, original, data in mutants(round(1000 * tenths), list(whole), seed=2):
        claims = _claims(sealed(data))
        if claims and np.prod(claims) > 10_000:  # the same again of a size that takes no minutes
            large += 1
            data = data[: FIXED.size - 4] + original[FIXED.size - 4 : FIXED.size] + data[FIXED.size :]
        if number % 2:  # of these weights and this version: what follows is met more often
            data = original[:11] + data[11:]
        data, written = sealed(data), []
        source.write_bytes(data)
        taken, line = judge.hear(number, files.decode_file, source, tmp_path / "out.png")
        if taken:
            with Image.open(io.BytesIO(written[0])) as picture:
                assert picture.size == _claims(data)
            assert _accounted(data) == len(data), number
        else:
            assert not written and line.startswith(str(source)), number
    judge.tell(f"forged files, {large} of which claimed a large size at first")
    assert judge.taken > 300 * tenths and judge.refused > 100 * tenths


def _claims(data: bytes) -> tuple[int, int] | None:
    try:
        found = read(data)
    except CodecError:
        return None
    assert found.width * found.height <= MOST_PIXELS
    return found.width, found.height


def _accounted(data: bytes) -> int:
    """Bytes of a file by what was read from it: nothing may be counted twice or lie past its end."""
    found = read(data)
    lengths = 4 * sum(bool(data[5] & flag) for flag in PARTS.values())
    return FIXED.size + lengths + len(found.icc + found.exif + found.alpha + found.latent) + 4


@pytest.mark.parametrize("side", [11_000, 60_000])
def test_a_forged_plane_of_transparency_is_one_line(recwarn, side):
    """Pillow warns of a picture of 121 megapixels, and of one of 3,600 it raises what is no OSError."""
    from hostile_pictures import png

    bomb = png(side, side, 8, 0, zlib.compress(bytes(100)))
    for plane in (bomb, b"", b"no plane", files.alpha_bytes(np.zeros((9, 9), np.uint8))):
        with pytest.raises(CodecError) as error:
            files.alpha_plane(plane, 24, 16)
        assert len(str(error.value).splitlines()) == 1
    assert not recwarn.list  # which would be lines of their own


@pytest.mark.long
def test_the_largest_size_that_a_forged_file_can_claim_stays_within_memory(tmp_path):
    """19 bytes that claim 50 megapixels; a range coder reads zeros behind the end of its stream."""
    data = pictures.encode(np.zeros((16, 24), np.uint8), 0)[0]
    head = data[: FIXED.size - 4] + struct.pack("<HH", 7070 - 1, 7070 - 1)
    data = sealed(head + bytes(4))
    (tmp_path / "large.npic").write_bytes(data)
    script = (
        "import resource, sys, time; from helpers.__main__ import main; start = time.perf_counter()\n"
        "status = main(['decode', *sys.argv[1:]])\n"
        "print(status, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "large.npic", tmp_path / "out.png"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    status, seconds, peak = process.stdout.split()
    peak = int(peak) * (1024 if sys.platform == "linux" else 1)
    print(f"{len(data)} bytes that claim 7070x7070: {float(seconds):.0f} s, {peak / 1e9:.2f} GB")
    assert status == "0" and peak < 4.5e9, process.stderr


# Records


def run_record(key: str) -> dict:
    return {
        "key": key, "version": VERSION, "parameters": 1, "macs_per_pixel": 2.0, "seconds": 3.0, "steps": 10,
        "pixels": 11, "diverged": False, "commit": "abc", "python": "3.11", "versions": {"torch": "2"},
        "processor": "one", "run": {"a": 1}, "scenes": [{"scene": "a", "psnr": 30.0, "ssim": 0.9}],
        "curve": [{"step": 10, "psnr": 20.0}],
    }  # fmt: skip


@pytest.fixture
def places(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "RUN_FILES", tmp_path / "runs")
    monkeypatch.setattr(sweep, "TABLES", {name: tmp_path / f"{name}.csv" for name in sweep.TABLES})
    monkeypatch.setattr(
        sweep, "write_file", lambda path, data: path.write_bytes(data)
    )  # no waiting for disks
    sweep.RUN_FILES.mkdir()
    return tmp_path


def test_damaged_records_of_runs_are_told_or_gathered(places, tenths):
    run, judge, notes = BASELINES["restore"], Judge(), 0
    path = sweep.RUN_FILES / f"{run.key()}.json"
    data = json.dumps(run_record(run.key()), indent=1).encode()
    for number in range(100 * tenths):
        path.write_bytes(mutant(np.random.default_rng([6, number]), data))
        said = []
        taken, _ = judge.hear(number, sweep.gather, [run], said.append)
        assert taken and len(said) <= 1 and all(line.isprintable() for line in said), (number, said)
        assert (len(sweep.read_table("runs")) == 1) == (not said), number
        notes += len(said)
        for table in sweep.TABLES.values():
            table.unlink()
    print(f"records of runs: {notes} of {100 * tenths} told")
    assert notes > 70 * tenths


def test_a_damaged_table_is_read_or_named(places, tenths):
    run, judge = BASELINES["restore"], Judge()
    (sweep.RUN_FILES / f"{run.key()}.json").write_text(json.dumps(run_record(run.key())))
    sweep.gather([run], print)
    content = {path: path.read_bytes() for path in sweep.TABLES.values()}
    for number in range(100 * tenths):
        rng = np.random.default_rng([7, number])
        for path, data in content.items():
            path.write_bytes(mutant(rng, data, list(content.values())))
        for reader in (lambda: [sweep.read_table(name) for name in sweep.TABLES], lambda: _gathered([run])):
            taken, line = judge.hear(number, reader)
            assert taken or any(str(path) in line for path in content), line
    judge.tell("tables")
    assert judge.refused > 20 * tenths


def _gathered(runs: list) -> None:
    sweep.missing(runs, lambda line: None)
    sweep.gather(runs, lambda line: None)


def test_a_damaged_record_or_ledger_is_read_or_named(tenths, tmp_path, monkeypatch):
    judge, data = Judge(), (RESULTS / "jpeg_y_live1.json").read_bytes()[:4000] + b'"x"}]}'
    ledger = json.dumps({"key": {"question": "What?", "low": 1, "high": 2, "measured": 1.5}}).encode()
    monkeypatch.setattr(records, "RESULTS", tmp_path)
    monkeypatch.setattr(checks, "LEDGER", tmp_path / "ledger.json")
    for number in range(200 * tenths):
        rng = np.random.default_rng([8, number])
        (tmp_path / "record.json").write_bytes(mutant(rng, data))
        judge.hear(number, records.read_record, "record")
        checks.LEDGER.write_bytes(mutant(rng, ledger))
        judge.hear(number, checks.answers)
        judge.hear(number, checks.reveal, "key", 1.0, "dB")
    judge.tell("records and ledgers")
    assert judge.refused > 200 * tenths
