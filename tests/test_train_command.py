"""`train` as a process: killed at random moments, interrupted, out of space, in two processes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import in_process
import numpy as np
import pytest
import torch
from PIL import Image
from sandbox import checkpointed

from helpers import ROOT
from helpers.codec.trained.entropy_model import gaussian_tables
from helpers.codec.trained.network import CompressionNetwork
from helpers.data import open_set
from helpers.models import ConvolutionalNetwork
from helpers.weights import load_network, read_tensors, write_tensors


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("astronaut", "camera", "coffee"):
        Image.fromarray(open_set("samples")[name].load()[:160, :200]).save(folder / f"{name}.png")
    return folder


def command(folder, out, *arguments, task="restore", interpreter=(sys.executable, "-m")):
    given = {
        "--images": folder, "--out": out, "--network": "unet", "--steps": 60, "--batch": 4, "--patch": 32,
        "--threads": 1, "--checkpoint-seconds": 0,
    }  # fmt: skip
    given.update(zip(arguments[::2], arguments[1::2], strict=True))
    words = [word for pair in given.items() for word in pair if word is not None]
    return [*map(str, interpreter), "helpers", "train", task, *map(str, words)]


def run(*arguments, **options):
    return subprocess.run(
        command(*arguments, **options), cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


def run_here(*arguments, **options):
    return in_process.run(*command(*arguments, interpreter=(), **options)[1:])


def from_weights(folder, out, weights, steps, *more, task="restore"):
    """A training that starts from weights, whose network is that of the weights."""
    words = command(folder, out, "--init", weights, "--steps", steps, task=task, interpreter=())[1:]
    place = words.index("--network")
    return in_process.run(*words[:place], *words[place + 2 :], *more)


def leg(out: Path) -> dict:
    return json.loads(out.with_suffix(".json").read_text())["legs"][-1]


def error(process) -> str:
    assert process.returncode == 2, process.stderr
    (line,) = process.stderr.splitlines()
    return line


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "weights.safetensors"
    process = run(folder, out)
    assert process.returncode == 0 and process.stderr == "", process.stderr
    assert "60 steps in" in process.stdout and "0 s left" in process.stdout
    return out


def test_weights_card_and_record_are_written_and_the_checkpoint_is_gone(whole):
    assert sorted(path.name for path in whole.parent.iterdir()) == ["weights.json", "weights.safetensors"]
    network, card = load_network(whole, ConvolutionalNetwork, "restore", "y")
    record = json.loads(whole.with_suffix(".json").read_text())
    assert {key: record[key] for key in card} == card
    found = leg(whole)
    assert found["training"]["steps"] == 60 and found["pixels"] == 60 * 4 * 32 * 32
    assert found["threads"] == 1 and found["seconds"] > 0 and found["pictures"]["count"] == 3
    assert {"commit", "versions", "processor"} <= found.keys()
    assert [point["step"] for point in record["curve"]] == [10, 20, 30, 40, 50, 60]
    assert record["macs_per_pixel"] > 0 and network.config.width == 16


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.long) for n in range(1, 5))])
def test_killed_at_random_moments_and_resumed_it_ends_with_the_same_weights(folder, whole, tmp_path, seed):
    chance, out = random.Random(seed), tmp_path / "weights.safetensors"
    checkpoint = out.with_suffix(".checkpoint.safetensors")
    kills = 0
    for _ in range(30):
        resume = ("--resume", None) if checkpoint.exists() else ()
        process = subprocess.Popen(
            command(folder, out, *resume), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        before = checkpoint.read_bytes() if checkpoint.exists() else b""
        while process.poll() is None and (not checkpoint.exists() or checkpoint.read_bytes() == before):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.4))
        kills += process.poll() is None
        process.kill()
        process.wait()
        if out.exists():
            load_network(out, ConvolutionalNetwork)  # never half-written
        if out.with_suffix(".json").exists():
            break
        assert not checkpoint.exists() or checkpointed(checkpoint)["step"] % 10 == 0
    print(f"{kills} kills")
    assert kills >= 2
    assert leg(out)["weights_sha256"] == leg(whole)["weights_sha256"]
    assert out.read_bytes()[-1000:] == whole.read_bytes()[-1000:]


def test_control_c_says_one_line_and_keeps_the_checkpoint(folder, whole, tmp_path):
    out = tmp_path / "weights.safetensors"
    process = subprocess.Popen(
        command(folder, out, "--steps", 100_000),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not out.with_suffix(".checkpoint.safetensors").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, complaints = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaints.splitlines() == ["interrupted; what was finished is kept"]
    assert not out.exists() and checkpointed(out.with_suffix(".checkpoint.safetensors"))["step"] >= 10
    assert "a training was interrupted here" in error(run_here(folder, out, "--steps", 100_000))
    assert "was made with steps 100000, not 60" in error(run_here(folder, out, "--resume", None))
    process = run_here(folder, out, "--resume", None, "--steps", 100_000, "--threads", 2)
    assert "was made with threads 1, not 2" in error(process)


@pytest.mark.slow
def test_a_full_disk_says_one_line_and_keeps_the_last_checkpoint(folder, tmp_path):
    """A limit on file sizes stands for the disk: the first checkpoint fits, later ones do not."""
    out = tmp_path / "weights.safetensors"
    code = (
        "import resource, signal, sys\n"
        "from helpers.training import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "real = checkpoint.Checkpoints.save\n"
        "def save(self, parts, state):\n"
        "    if state['step'] > 20: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, -1))\n"
        "    real(self, parts, state)\n"
        "checkpoint.Checkpoints.save = save\n"
        "from helpers.__main__ import main\n"
        "sys.exit(main(sys.argv[2:]))\n"
    )
    process = run(folder, out, interpreter=(sys.executable, "-c", code))
    line = error(process)
    assert (
        "can't be written (File too large); training stopped, the checkpoint" in line and "is whole" in line
    )
    (path,) = tmp_path.iterdir()
    assert path.name == "weights.checkpoint.safetensors" and checkpointed(path)["step"] == 20
    arrays, texts = read_tensors(path, "about", "state")
    about = json.loads(texts["about"])
    del about["network"]["dilation"]  # as if written before there was one
    write_tensors(path, arrays, {"about": json.dumps(about), "state": texts["state"]})
    assert run_here(folder, out, "--resume", None).returncode == 0


@pytest.mark.slow
def test_init_starts_from_weights_and_lists_every_leg(folder, whole, tmp_path):
    out = tmp_path / "more.safetensors"
    process = run_here(folder, out, "--init", whole, "--network", None, "--qualities", "5", "--steps", 20)
    assert process.returncode == 2  # one quality is missing
    process = from_weights(folder, out, whole, 20, "--qualities", "5", "95")
    assert process.returncode == 0, process.stderr
    _, card = load_network(out, ConvolutionalNetwork)
    assert [leg["training"]["qualities"] for leg in card["legs"]] == [[10, 10], [5, 95]]
    assert card["legs"][0] == leg(whole)


@pytest.mark.slow
def test_a_resumed_leg_keeps_the_legs_it_stands_on(folder, whole, tmp_path):
    out = tmp_path / "more.safetensors"
    words = [w for w in command(folder, out, "--steps", 100_000) if w not in ("--network", "unet")]
    process = subprocess.Popen([*words, "--init", str(whole)], cwd=ROOT, stdout=subprocess.DEVNULL)
    while not out.with_suffix(".checkpoint.safetensors").exists():
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert checkpointed(out.with_suffix(".checkpoint.safetensors"), "about")["legs"] == [leg(whole)]


def test_bad_pictures_are_named_and_the_rest_is_trained_on(folder, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in folder.iterdir():
        os.link(path, pictures / path.name)
    Image.new("L", (20, 20)).save(pictures / "small.png")
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0nothing")
    process = run_here(pictures, tmp_path / "weights.safetensors", "--steps", 10)
    assert process.returncode == 2
    lines = sorted(process.stderr.splitlines())
    assert len(lines) == 2 and "broken.jpg: " in lines[0] and "small.png: is 20x20, smaller" in lines[1]
    assert (tmp_path / "weights.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--out", "weights.pt"), "a weights file must end in .safetensors"),
        (("--out", "/no/such/folder/w.safetensors"), "is not a folder"),
        (("--images", "/no/such/folder"), "does not exist"),
        (("--network", "transformer"), "there is no network 'transformer'; known are plain"),
        (("--schedule", "zigzag"), "schedule is 'zigzag'; known are constant"),
        (("--patch", 36), "must be a multiple of 8"),
        (("--resume", None), "there is no checkpoint to resume from"),
        (("--network", "dense", "--patch", 8), "patches that are multiples of 32"),
        (("--network", "rounding"), "the rounding network imitates luma"),
        (("--threads", -1), "--threads is -1; it must be at least 1"),
        (("--seed", -1), "seed is -1"),
        (("--minutes", "nan"), "--minutes is nan; it must be a positive number"),
        (("--minutes", 1), "give --minutes or --steps, not both"),
        (
            ("--learning-rate", "1e30", "--warm-up", 0, "--steps", 200),
            "the loss or its gradient is not finite by step",
        ),
    ],
)
def test_what_cannot_be_trained_is_one_line(folder, tmp_path, arguments, reason):
    out = tmp_path / "weights.safetensors"
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    images = given.pop("--images", folder)
    out = given.pop("--out", out)
    process = run_here(images, out, *[word for pair in given.items() for word in pair])
    assert reason in error(process)
    assert not (tmp_path / "weights.safetensors").exists()


@pytest.mark.slow
def test_minutes_fix_the_steps_and_record_them(folder, tmp_path):
    words = command(folder, tmp_path / "w.safetensors", "--minutes", "0.05", interpreter=())
    process = in_process.run(*[word for word in words[1:] if word not in ("--steps", "60")])
    assert process.returncode == 0, process.stderr
    steps = int(process.stdout.split(" steps fit into 0.05 minutes")[0])
    found = leg(tmp_path / "w.safetensors")
    assert found["training"]["steps"] == steps >= 10 and 0.5 < found["seconds"] < 20


@pytest.mark.slow
def test_two_processes_train_one_network_on_twice_the_patches(folder, tmp_path):
    out = tmp_path / "weights.safetensors"
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    process = run(folder, out, "--steps", 20, interpreter=launcher)
    assert process.returncode == 0, process.stderr
    assert len([line for line in process.stdout.splitlines() if line.startswith("step ")]) == 2
    found = leg(out)
    assert found["processes"] == 2 and found["pixels"] == 2 * 20 * 4 * 32 * 32
    once = tmp_path / "again.safetensors"
    assert run(folder, once, "--steps", 20, interpreter=launcher).returncode == 0
    assert leg(once)["weights_sha256"] == found["weights_sha256"]


@pytest.mark.slow
def test_training_needs_five_packages_alone(folder, tmp_path):
    """Run where every other package of the requirements is hidden."""
    hidden = [
        "skimage", "scipy", "pandas", "matplotlib", "pytorch_msssim", "bjontegaard", "requests", "IPython",
        "ipywidgets", "nbconvert", "nbformat", "bs4", "constriction",
    ]  # fmt: skip
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
        "from helpers.__main__ import main\nsys.exit(main(sys.argv[2:]))"
    )
    process = run(folder, tmp_path / "w.safetensors", "--steps", 10, interpreter=(sys.executable, "-c", code))
    assert process.returncode == 0, process.stderr


def test_the_samples_show_the_command_working(tmp_path):
    process = run_here(
        "samples", tmp_path / "w.safetensors", "--steps", 10, "--space", "rgb", "--network", "plain"
    )
    assert process.returncode == 0 and process.stderr == "", process.stderr
    assert (
        load_network(tmp_path / "w.safetensors", ConvolutionalNetwork, "restore", "rgb")[
            0
        ].config.image_channels
        == 3
    )
    assert np.isfinite(leg(tmp_path / "w.safetensors")["seconds"])


CODEC = ("--network", "codec", "--batch", 2, "--steps", 30)


@pytest.fixture(scope="module")
def whole_codec(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole codec") / "weights.safetensors"
    process = run_here(folder, out, *CODEC, task="compress")
    assert process.returncode == 0 and process.stderr == "", process.stderr
    return out


@pytest.mark.slow
def test_compress_is_trained_and_goes_on_from_its_weights(folder, whole_codec, tmp_path):
    network, card = load_network(whole_codec, CompressionNetwork, "compress", "rgb")
    parts = card["macs_of_parts"]
    assert card["macs_per_pixel"] == parts["context"] + parts["synthesis"] < 40_000
    tables = network.prior.tables
    assert tables.dtype == torch.int32 and not torch.equal(tables, gaussian_tables())  # counted
    further = tmp_path / "further.safetensors"
    assert from_weights(folder, further, whole_codec, 10, "--batch", 2, task="compress").returncode == 0
    assert len(load_network(further, CompressionNetwork)[1]["legs"]) == 2


@pytest.mark.slow
def test_compress_is_killed_and_resumed_to_the_same_weights(folder, whole_codec, tmp_path):
    out = tmp_path / "weights.safetensors"
    checkpoint = out.with_suffix(".checkpoint.safetensors")
    process = subprocess.Popen(
        command(folder, out, *CODEC, task="compress"), cwd=ROOT, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert checkpoint.exists() and not out.exists()
    assert run(folder, out, *CODEC, "--resume", None, task="compress").returncode == 0
    assert leg(out)["weights_sha256"] == leg(whole_codec)["weights_sha256"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--space", "y"), "task compress has space rgb and loss mse"),
        (("--network", "unet"), "there is no network 'unet'; known are codec, factorised"),
        (("--network", "codec", "--patch", 36), "patch is 36; in space rgb it must be a multiple of 16"),
    ],
)
def test_what_cannot_be_a_codec_is_one_line(folder, tmp_path, arguments, reason):
    assert reason in error(run_here(folder, tmp_path / "w.safetensors", *arguments, task="compress"))
