"""The loop: learning itself, seeds, schedules, checkpoints that resume bit for bit, and what stops it."""

import dataclasses

import numpy as np
import pytest
import torch
from sandbox import checkpointed

from helpers import StudyError, jpeg, metrics
from helpers.data import center_crop, open_set
from helpers.models import NETWORKS, ConvolutionalNetwork, NetworkConfig
from helpers.restoring import reconstruct
from helpers.training.checkpoint import Checkpoints
from helpers.training.config import TrainingConfig
from helpers.training.loop import LOSSES, Progress, learning_rate_factor, train
from helpers.training.pairs import Photographs
from helpers.training.rounding import start_from_pixels
from helpers.weights import digest

SMALL = NetworkConfig(unshuffle=2, width=8, depth=3)
UNET = NetworkConfig("unet", width=8, depth=2)
QUICK = TrainingConfig(steps=60, warm_up=10, batch=8)


@pytest.fixture(scope="module")
def originals():
    names = ("camera", "coffee")
    return {n: center_crop(jpeg.luma(open_set("samples")[n].load()), (160, 160)) for n in names}


@pytest.fixture(scope="module")
def photographs(originals):
    return Photographs(originals, "y", 64)


def trained(photographs, network=SMALL, checkpoints=None, **changes):
    torch.manual_seed(0)
    network = ConvolutionalNetwork(network)
    curve = train(network, photographs, dataclasses.replace(QUICK, **changes), checkpoints=checkpoints)
    return network, curve


def test_a_short_training_restores_better_than_doing_nothing(photographs, originals):
    network, curve = trained(photographs, steps=150)
    for original in originals.values():
        coded = jpeg.decode(jpeg.encode(original, 10))
        assert metrics.psnr(original, reconstruct(network, coded)) > metrics.psnr(original, coded) + 0.1
    assert [point["step"] for point in curve] == list(range(10, 151, 10))
    assert curve[-1]["psnr"] > curve[0]["psnr"] and curve[-1]["seconds"] > curve[0]["seconds"] > 0


@pytest.mark.slow
def test_a_rounding_network_learns_to_be_jpeg_in_seconds(tmp_path):
    """From the statistics of training pixels, past the 34 dB of a network that only drops coefficients."""
    images = dict(open_set("samples").images(pytest.fail))
    judged = {name: jpeg.luma(images.pop(name)) for name in ("astronaut", "camera")}
    photographs = Photographs(images, "y", 64)
    torch.manual_seed(0)
    network = ConvolutionalNetwork(NETWORKS["rounding"])
    start_from_pixels(network, photographs, (10, 10), seed=0)
    config = TrainingConfig("imitate", steps=300, batch=64, learning_rate=1e-3, gradient_clip=10, warm_up=10)
    train(network, photographs, config)
    for original in judged.values():
        coded = jpeg.decode(jpeg.encode(original, 10))
        assert metrics.psnr(coded, reconstruct(network, original)) > 38
        assert metrics.psnr(coded, original) < 34


@pytest.mark.parametrize("network", ["plain", "batch_norm", "dropout", "dense", "residual", "unet", "grid"])
def test_every_rung_of_the_ladder_trains(photographs, network):
    shape = dataclasses.replace(NETWORKS[network], width=8)
    network, curve = trained(photographs, shape, steps=40, task="imitate")
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_the_ssim_loss_is_one_minus_the_measure_and_is_learnt(photographs):
    inputs, targets = photographs.draw("restore", 2, (10, 10), np.random.default_rng(0))
    loss = LOSSES["ssim"](inputs, targets).item()
    pairs = [[(255 * x[k, 0]).round().byte().numpy() for x in (targets, inputs)] for k in range(2)]
    assert 1 - loss == pytest.approx(np.mean([metrics.ssim(*pair) for pair in pairs]), abs=0.02)
    network, curve = trained(photographs, SMALL, steps=60, loss="ssim")
    assert curve[-1]["loss"] < curve[0]["loss"]


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(photographs):
    dropout = dataclasses.replace(SMALL, dropout=0.2)
    first, second, other = (trained(photographs, dropout, seed=seed)[0].state_dict() for seed in (0, 0, 1))
    assert digest(first) == digest(second) != digest(other)


@pytest.mark.parametrize(
    ("network", "changes"),
    [
        (SMALL, {"average": 0.9}),
        (dataclasses.replace(SMALL, norm="batch", dropout=0.2), {}),
        (SMALL, {"optimizer": "sgd", "learning_rate": 0.1, "schedule": "plateau"}),
        pytest.param(UNET, {"precision": "bfloat16", "loss": "l1"}, marks=pytest.mark.slow),
    ],
    ids=["average", "norm and dropout", "sgd and plateau", "bfloat16"],
)
@pytest.mark.parametrize(
    "stop", [pytest.param(10, marks=pytest.mark.slow), 30, pytest.param(50, marks=pytest.mark.slow)]
)
def test_a_resumed_training_equals_an_uninterrupted_one(photographs, tmp_path, network, changes, stop):
    whole, curve = trained(photographs, network, **changes)

    class Interrupted(Exception):
        pass

    @dataclasses.dataclass(frozen=True)
    class Stopping(Checkpoints):
        def save(self, parts, state):
            super().save(parts, state)
            if state["step"] == stop:
                raise Interrupted

    with pytest.raises(Interrupted):
        trained(photographs, network, Stopping(tmp_path / "run.safetensors", seconds=0), **changes)
    again = Checkpoints(tmp_path / "run.safetensors", resume=True)
    resumed, rest = trained(photographs, network, again, **changes)
    assert digest(resumed.state_dict()) == digest(whole.state_dict())
    assert [(p["step"], p["loss"], p["psnr"]) for p in rest] == [
        (p["step"], p["loss"], p["psnr"]) for p in curve
    ]
    assert all(a["seconds"] < b["seconds"] for a, b in zip(rest[:-1], rest[1:], strict=True))


def test_the_average_of_weights_is_what_remains(photographs):
    plain, average = trained(photographs)[0], trained(photographs, average=0.98)[0]
    assert digest(plain.state_dict()) != digest(average.state_dict())


def test_progress_is_told_in_tenths(photographs):
    lines = []
    train(ConvolutionalNetwork(SMALL), photographs, dataclasses.replace(QUICK, steps=100), lines.append)
    assert len(lines) == 10 and lines[-1].startswith("step   100 of 100:") and "0 s left" in lines[-1]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.1, 1.0, 1.0, 1.0, 1.0]),
        ("step", [0.1, 1.0, 0.1, 0.1, 0.001]),
        ("plateau", [0.1, 0.25, 0.25, 0.25, 0.25]),
        ("cosine", [0.1, 1.0, 0.75, 0.5, 0.0]),
    ],
)
def test_the_rate_rises_and_then_follows_its_schedule(schedule, expected):
    config = TrainingConfig(steps=100, warm_up=10, schedule=schedule)
    found = [
        learning_rate_factor(Progress(step=step, rate_factor=0.25), config) for step in (0, 10, 40, 55, 100)
    ]
    assert found == pytest.approx(expected, abs=1e-12)


def test_a_plateau_lowers_the_rate(photographs):
    """With a rate of nearly nothing no loss gets better for long, and the rate falls."""
    saved = {}

    class Witness(Checkpoints):
        def save(self, parts, state):
            saved.update(state)

    trained(photographs, SMALL, Witness(None, seconds=0), steps=400, schedule="plateau",
            learning_rate=1e-9, batch=1)  # fmt: skip
    assert saved["rate_factor"] < 0.1


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(photographs, tmp_path):
    checkpoints = Checkpoints(tmp_path / "run.safetensors", seconds=0)
    trained(photographs, checkpoints=checkpoints, steps=20)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(
        StudyError, match="is not finite by step 30: lower the learning rate; the checkpoint .* is whole"
    ):
        torch.manual_seed(0)
        network = ConvolutionalNetwork(SMALL)
        poisoned = dataclasses.replace(checkpoints, resume=True)
        config = dataclasses.replace(QUICK, steps=60, learning_rate=1e30, warm_up=0, schedule="constant")
        train(network, photographs, config, checkpoints=poisoned)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert checkpointed(checkpoints.path)["step"] == 20


def test_a_checkpoint_of_another_network_is_refused(photographs, tmp_path):
    trained(photographs, checkpoints=Checkpoints(tmp_path / "run.safetensors", seconds=0), steps=20)
    other = dataclasses.replace(SMALL, width=16)
    with pytest.raises(StudyError, match="can't be resumed from"):
        trained(photographs, other, Checkpoints(tmp_path / "run.safetensors", resume=True))


def test_only_the_last_checkpoint_stays(photographs, tmp_path):
    checkpoints = Checkpoints(tmp_path / "run.safetensors", seconds=0)
    trained(photographs, checkpoints=checkpoints)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.safetensors"]
    checkpoints.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "paint"}, "task is 'paint'; known are imitate, restore, compress"),
        ({"task": "compress"}, "task compress has space rgb and loss mse"),
        ({"schedule": "zigzag"}, "schedule is 'zigzag'; known are constant, step, plateau, cosine"),
        ({"qualities": (40, 10)}, "must rise within 1..100"),
        ({"patch": 60}, "in space y it must be a multiple of 8"),
        ({"patch": 72, "space": "rgb"}, "in space rgb it must be a multiple of 16"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
    ],
)
def test_a_configuration_that_means_nothing_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**change)


def test_numpy_is_not_asked_for_chance(photographs):
    """The global generators play no part: what ran before changes nothing."""
    np.random.seed(1)
    torch.rand(5)
    first = digest(trained(photographs, steps=10)[0].state_dict())
    np.random.seed(2)
    torch.rand(50)
    assert digest(trained(photographs, steps=10)[0].state_dict()) == first
