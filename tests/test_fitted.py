"""The codec that is fitted to each picture: exact decoding, damage, budgets, interrupts, folders."""

import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import run
from PIL import Image
from scipy import stats

from helpers import RESULTS, ROOT, StudyError
from helpers.__main__ import main
from helpers.codec.container import CodecError, Container, read
from helpers.codec.fitted import layout, network
from helpers.codec.fitted.encoder import SHIFTS, FitBudget, FittedEncoder
from helpers.codec.fitted.fitting import Fit, lagrangian
from helpers.codec.fitted.layout import laplace_tables
from helpers.codec.fitted.payload import decode, from_bytes, rounded_weights, starts, to_bytes, weights_bits
from helpers.data import open_set
from helpers.study import fits, rate_distortion_figures

COMMAND = [sys.executable, "-m", "helpers"]


def photograph(height: int, width: int) -> np.ndarray:
    return open_set("samples")["coffee"].load()[100 : 100 + height, 150 : 150 + width]


def whole(fit: Fit) -> tuple[dict, list[np.ndarray]]:
    """The fit's networks and latents as whole numbers."""
    weights = rounded_weights(
        {name: adam.value.numpy() for name, adam in fit.weights.items()}, SHIFTS, fit.start
    )
    return weights, [adam.value.round().numpy().astype(np.float64) for adam in fit.latents]


@pytest.fixture(scope="module")
def fit() -> Fit:
    """Two windows side by side, and sides that are no multiple of anything, after some steps."""
    torch.set_num_threads(1)
    fit = Fit(photograph(150, 301), lagrangian(32))
    for step in range(80):
        fit.step(step / 80)
    return fit


@pytest.fixture(scope="module")
def file(fit: Fit) -> bytes:
    payload, _ = to_bytes(*whole(fit), fit.start)
    return Container(301, 150, 32, starts()[1], payload, fitted=True).to_bytes()


def test_steps_make_a_picture_cheaper(fit):
    start = Fit(photograph(150, 301), lagrangian(32))
    (error, bits), (first_error, first_bits) = fit.estimate(), start.estimate()
    assert error + fit.cost * bits < 0.7 * (first_error + fit.cost * first_bits)


def test_the_file_decodes_to_what_the_encoder_saw(fit, file):
    weights, latents = whole(fit)
    _, decoded = to_bytes(weights, latents, fit.start)
    again, found = from_bytes(read(file).latent, 150, 301)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, found, strict=True))
    assert all(np.array_equal(weights[name].numbers, again[name].numbers) for name in weights)
    assert all(np.array_equal(a, b) for a, b in zip(decoded, latents, strict=True))  # nothing was cut


def test_the_file_is_within_a_hundredth_of_the_estimate(fit, file):
    weights, _ = whole(fit)
    values = {name: torch.from_numpy(w.numbers * 2.0**-w.shift).float() for name, w in weights.items()}
    bits = fit.estimate(values)[1] * fit.pixels + weights_bits(weights, fit.start)
    assert abs(8 * len(read(file).latent) / bits - 1) < 0.01


def test_the_decoder_shows_what_training_measured(fit, file):
    weights, _ = whole(fit)
    values = {name: torch.from_numpy(w.numbers * 2.0**-w.shift).float() for name, w in weights.items()}
    error = np.square((decode(read(file)).astype(float) - photograph(150, 301)) / 255).mean()
    assert abs(10 * np.log10(error / fit.estimate(values)[0])) < 0.05  # dB; windows meet the same edges


@pytest.mark.parametrize("threads", ["1", "2"])
def test_latents_and_pixels_are_the_same_elsewhere_and_torch_is_not_needed(file, tmp_path, threads):
    path, out = tmp_path / "file", tmp_path / "out.npz"
    path.write_bytes(file)
    script = (
        "import sys, numpy as np; from helpers.codec.container import read;"
        "from helpers.codec.fitted.payload import decode, from_bytes;"
        "found = read(open(sys.argv[1], 'rb').read());"
        "np.savez(sys.argv[2], decode(found), *from_bytes(found.latent, found.height, found.width)[1]);"
        "assert 'torch' not in sys.modules"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, threads), "OPENBLAS_CORETYPE": "Haswell"}
    subprocess.run([sys.executable, "-c", script, path, out], check=True, cwd=ROOT, env=environment)
    with np.load(out) as there:
        picture, *latents = there.values()
    assert np.array_equal(picture, decode(read(file)))
    here = from_bytes(read(file).latent, 150, 301)[1]
    assert all(np.array_equal(a, b) for a, b in zip(latents, here, strict=True))


@settings(max_examples=25)
@given(st.integers(1, 70), st.integers(1, 70), st.booleans(), st.integers(0, 2**32 - 1))
def test_any_size_grey_or_colour(height, width, grey, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width) + (3,) * (not grey), np.uint8)
    fit = Fit(image, lagrangian(40))
    fit.step(0.5)
    payload, decoded = to_bytes(*whole(fit), fit.start)
    found = Container(width, height, 40, starts()[1], payload, grey, fitted=True)
    assert decode(read(found.to_bytes())).shape == image.shape
    latents = from_bytes(payload, height, width)[1]
    assert all(np.array_equal(a, b) for a, b in zip(decoded, latents, strict=True))


@settings(max_examples=40)
@given(st.data())
def test_damage_under_the_checksum_is_refused(file, data):
    where = data.draw(st.integers(0, 8 * len(file) - 1))
    cut = data.draw(st.booleans())
    damaged = bytearray(file[: where // 8]) if cut else bytearray(file)
    if not cut:
        damaged[where // 8] ^= 1 << where % 8
    with pytest.raises(CodecError):
        read(bytes(damaged))


@settings(max_examples=30)
@given(st.data())
def test_a_forged_file_gives_a_picture_or_one_error(file, data):
    """What a checksum made anew hides: a stream of anything ends, and raises nothing else."""
    forged = bytearray(file[:-4])
    for _ in range(data.draw(st.integers(1, 5))):
        forged[data.draw(st.integers(15, len(forged) - 1))] = data.draw(st.integers(0, 255))
    forged = forged[: data.draw(st.sampled_from([len(forged), len(forged) - 4, 25, 31, 45]))]
    found = read(bytes(forged) + zlib.crc32(forged).to_bytes(4, "little"))
    try:
        assert decode(found).shape == (150, 301, 3)
    except CodecError as error:
        assert "\n" not in str(error)


def test_a_file_cut_inside_its_networks_is_one_line(file, tmp_path):
    path = tmp_path / "cut.npic"
    body = file[:40]
    path.write_bytes(body + zlib.crc32(body).to_bytes(4, "little"))
    done = run("decode", path, tmp_path / "out.png")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "cut.npic" in done.stderr
    assert not (tmp_path / "out.png").exists()


def test_tables_are_laplace_distributions():
    bounds, counts = laplace_tables()
    most = counts.shape[1] // 2
    numbers = np.arange(-most, most + 1)
    for scale in range(0, layout.SCALES, 7):
        spread = layout.SMALLEST * (layout.LARGEST / layout.SMALLEST) ** (scale / (layout.SCALES - 1))
        for phase in range(layout.PHASES):
            mean = (phase - layout.PHASES // 2) / layout.PHASES
            wanted = np.diff(stats.laplace(mean, spread).cdf(np.append(numbers - 0.5, most + 0.5)))
            found = counts[scale * layout.PHASES + phase]
            assert np.abs(found / 2**24 - wanted).max() < 2e-7 and found.min() >= 1
            assert stats.laplace(0, spread).sf(bounds[scale]) < 1e-6


def test_gradients_are_those_of_finite_differences():
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.double, requires_grad=True)

    check = torch.autograd.gradcheck
    assert check(network.Convolution.apply, (draw(1, 3, 6, 7), draw(3, 3, 3, 3), draw(3)))
    for axis in (1, 2):
        assert check(
            lambda x, taps, axis=axis: network.Doubled.apply(x, taps, axis), (draw(2, 7, 8), draw(8))
        )
    plane = draw(6, 9)
    near = network.Neighbours.apply(plane, 4, 5, torch.double)
    wanted = torch.autograd.grad(near.square().sum(), plane)[0]
    stacked = torch.stack([plane[2 + y : 6 + y, 2 + x : 7 + x] for y, x in layout.NEIGHBOURS])
    assert torch.equal(near, stacked.flatten(1))
    assert torch.allclose(wanted, torch.autograd.grad(stacked.square().sum(), plane)[0])


def test_decoding_takes_at_most_two_thousand_multiplications_a_pixel():
    assert layout.macs_per_pixel() < 2000


@pytest.mark.slow
def test_a_budget_of_bytes_is_kept_and_one_out_of_reach_is_named():
    image = photograph(64, 96)
    data, picture = FittedEncoder(FitBudget(5, 32, most_bytes=1600))(image)
    assert len(data) <= 1600 and np.array_equal(decode(read(data)), picture)
    with pytest.raises(CodecError, match="300 were not reached"):
        FittedEncoder(FitBudget(1, 32, most_bytes=300))(image)


def test_a_picture_too_large_is_named():
    with pytest.raises(CodecError, match="at most"):
        FittedEncoder(FitBudget(1, 32))(np.zeros((4000, 3000), np.uint8))


def saved(path: Path, height: int = 96, width: int = 128) -> Path:
    Image.fromarray(photograph(height, width)).save(path)
    return path


@pytest.mark.slow
def test_control_c_keeps_the_best_and_resume_goes_on(tmp_path):
    source, target = saved(tmp_path / "in.png"), tmp_path / "out.npic"
    state = tmp_path / "out.npic.fit.safetensors"
    command = [*COMMAND, "encode", source, target, "--fit", "0.08", "--rate", "40"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not state.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130 and "--resume goes on" in errors and "Traceback" not in errors
    early = read(target.read_bytes())
    assert decode(early).shape == (96, 128, 3)
    before = error_of(target, source)
    done = run(*command[len(COMMAND) :], "--resume")
    assert done.returncode == 0, done.stderr
    assert not state.exists() and cost_of(target, source) <= before[0] + lagrangian(40) * before[1]


def error_of(target: Path, source: Path) -> tuple[float, float]:
    data, image = target.read_bytes(), np.asarray(Image.open(source))
    error = np.square((decode(read(data)).astype(float) - image) / 255).mean()
    return error, 8 * len(data) / image[..., 0].size


def cost_of(target: Path, source: Path) -> float:
    error, bits = error_of(target, source)
    return error + lagrangian(40) * bits


def test_a_state_that_is_missing_damaged_or_anothers_is_named(tmp_path):
    state = tmp_path / "state"
    image = photograph(64, 64)
    with pytest.raises(StudyError, match="nothing to go on from"):
        FittedEncoder(FitBudget(1, 32), state, resume=True)(image)
    state.write_bytes(b"no state")
    with pytest.raises(StudyError, match="no readable safetensors file"):
        FittedEncoder(FitBudget(1, 32), state, resume=True)(image)

    def stop(attempt) -> None:
        if state.stat().st_size > 100:
            raise KeyboardInterrupt

    encoder = FittedEncoder(FitBudget(3, 32), state, on_candidate=stop)
    with pytest.raises(KeyboardInterrupt):  # from the last attempt, too
        encoder(image)
    with pytest.raises(StudyError, match="another picture or rate"):
        FittedEncoder(FitBudget(3, 33), state, resume=True)(image)
    whole = bytearray(state.read_bytes())
    whole[-1000] ^= 1
    state.write_bytes(whole)
    with pytest.raises(StudyError, match="SHA-256 differs"):
        FittedEncoder(FitBudget(3, 32), state, resume=True)(image)


@pytest.mark.slow
def test_a_folder_goes_through_workers_and_resume_leaves_what_is_done(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("one", "two"):
        saved(folder / f"{name}.png", 40, 50)
    (folder / "bad.png").write_bytes(b"none")
    command = ["encode", folder, out, "--fit", "0.01", "--workers", "1"]
    done = run(*command)
    assert done.returncode == 2 and done.stderr.count("bad.png") == 1 and "Traceback" not in done.stderr
    assert {path.name for path in out.iterdir()} == {"one.npic", "two.npic"}
    stamps = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "two.npic").unlink()
    again = run(*command, "--resume")
    assert again.returncode == 2 and (out / "two.npic").exists()
    assert (out / "one.npic").stat().st_mtime_ns == stamps[out / "one.npic"]


@pytest.mark.parametrize("option", ["--resume", "--workers 1", "--cluster tcp://127.0.0.1:1"])
def test_what_only_fits_have_is_refused_without_one(tmp_path, capfd, option):
    words = ["encode", str(saved(tmp_path / "in.png")), str(tmp_path / "out.npic"), *option.split()]
    assert main(words) == 2
    assert capfd.readouterr().err == f"encode: {option.split()[0]} belongs to --fit\n"
    assert not (tmp_path / "out.npic").exists()


@pytest.mark.slow
def test_a_recorded_fit_says_what_it_took(tmp_path, monkeypatch):
    samples = open_set("samples")
    monkeypatch.setattr(fits, "FIT_FILES", tmp_path)
    monkeypatch.setattr(fits, "TABLE", tmp_path / "table.csv")
    monkeypatch.setattr(fits, "open_set", lambda name: samples)
    job = fits.Job("coffee", 60, 1)
    fits.fit_scene(job)
    fits.gather([job])
    (row,) = pd.read_csv(tmp_path / "table.csv").to_dict("records")
    image = samples[job.image].load()
    assert (row["codec"], row["setting"], row["image"]) == ("fitted", 60, job.image)
    assert row["bpp"] == pytest.approx(8 * row["bytes"] / image[..., 0].size, abs=1e-6)
    assert 1 <= row["took"] < 60 and 0.1 < row["visits"] < 100 and 20 < row["psnr"] < 40


def test_the_recorded_fits_are_those_that_were_planned():
    """And every plot has what it needs: all rates on some scenes, all times on a few."""
    found = pd.read_csv(RESULTS / "fitted_live1.csv")
    names = sorted(pd.read_csv(RESULTS / "rd_live1.csv")["image"].unique())
    done = [fits.Job(*job) for job in found[["image", "setting", "seconds"]].itertuples(index=False)]
    assert done == fits.jobs(names)
    by_time = rate_distortion_figures.over_jpeg().query("codec == 'fitted'").groupby("seconds")["scene"]
    assert by_time.nunique().to_dict() == dict.fromkeys(sorted({*fits.TIMES, fits.SECONDS}), 3)
    assert (found["took"] >= found["seconds"]).all() and found["commit"].str.fullmatch("[0-9a-f]{40}").all()


def test_info_and_decode_know_a_fitted_file(file, tmp_path):
    path = tmp_path / "file.npic"
    path.write_bytes(file)
    told = run("info", path)
    assert told.returncode == 0
    assert "301x150, colour, rate 32" in told.stdout and "fitted to the picture" in told.stdout
    assert run("decode", path, tmp_path / "back.png").returncode == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "back.png")), decode(read(file)))
