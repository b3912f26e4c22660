"""Weights and checkpoints damaged, forged or hostile: the right ones or one line; nothing is unpickled."""

import io
import json
import os
import pickle
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from mutations import Judge, mutant
from safetensors.torch import load as tensors_of
from safetensors.torch import save as bytes_of

from helpers import StudyError, numpy_net
from helpers.codec import files
from helpers.codec.trained import pictures
from helpers.models import ConvolutionalNetwork, NetworkConfig
from helpers.training.checkpoint import Checkpoints
from helpers.weights import digest, load_network, read_tensors, save_network, write_tensors

JUNK = [None, True, -1, 0, 10**9, 10**30, 1e308, "", "x" * 300, [], [10**9], {}, {"a": 1}, [[[]]], "\n"]


# Weights


NETWORK = NetworkConfig(unshuffle=2, width=8, depth=3, norm="batch")
CARD = {"task": "restore", "space": "y", "parameters": 1, "macs_per_pixel": 1.0, "legs": []}


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    network = ConvolutionalNetwork(NETWORK)
    path = tmp_path_factory.mktemp("weights") / "whole.safetensors"
    save_network(network, path, CARD)
    return path


def test_damaged_weights_are_the_right_ones_or_refused(weights, tenths, tmp_path):
    judge, path = Judge(), tmp_path / "mutant.safetensors"
    network, card = load_network(weights, ConvolutionalNetwork)
    data = weights.read_bytes()
    head = 8 + int.from_bytes(data[:8], "little")
    for number in range(500 * tenths):
        rng = np.random.default_rng([3, number])
        path.write_bytes(mutant(rng, data, head=head if rng.random() < 0.5 else 8))
        taken, found = judge.hear(number, load_network, path, ConvolutionalNetwork, "restore", "y")
        if taken:
            assert digest(found[0].state_dict()) == digest(network.state_dict()) and found[1] == card, number
    judge.tell("damaged weights")
    assert judge.refused > 400 * tenths


def test_forged_weights_make_a_network_or_are_refused(weights, tenths, tmp_path):
    """Their SHA-256 fits: configurations, cards and tensors that nobody here would write."""
    judge, path = Judge(), tmp_path / "forged.safetensors"
    original = {name: tensor.clone() for name, tensor in tensors_of(weights.read_bytes()).items()}
    for number in range(200 * tenths):
        rng, tensors = np.random.default_rng([4, number]), dict(original)
        texts = {"network": json.dumps(_spoilt(rng, asdict(NETWORK))), "card": json.dumps(_spoilt(rng, CARD))}
        if rng.random() < 0.3:
            which = ("network", "card")[rng.integers(2)]
            texts[which] = mutant(rng, texts[which].encode()).decode(errors="ignore").replace("\0", "")
        if rng.random() < 0.5:
            name = sorted(tensors)[rng.integers(len(tensors))]
            tensor = tensors.pop(name)
            spoilt = [None, tensor.flatten()[:1], tensor.float() * torch.nan, torch.zeros(10**5, 0)][
                rng.integers(4)
            ]
            if spoilt is not None:
                tensors[name if rng.random() < 0.5 else name + "x"] = spoilt.contiguous()
        path.write_bytes(bytes_of(tensors, {**texts, "sha256": digest(tensors, texts)}))
        judge.hear(number, load_network, path, ConvolutionalNetwork, "restore", "y")
    judge.tell("forged weights")
    assert judge.taken > 10 * tenths and judge.refused > 100 * tenths


@pytest.mark.parametrize(
    "numbers", [{"width": 10**6}, {"depth": 10**9}, {"unshuffle": 10**5}, {"kernel": 9999}]
)
def test_weights_that_ask_for_a_network_beyond_all_memory_are_refused_at_once(weights, tmp_path, numbers):
    tensors = tensors_of(weights.read_bytes())
    texts = {"network": json.dumps(asdict(NETWORK) | numbers), "card": json.dumps(CARD)}
    (tmp_path / "x").write_bytes(bytes_of(tensors, {**texts, "sha256": digest(tensors, texts)}))
    judge = Judge()
    assert not judge.hear(0, load_network, tmp_path / "x", ConvolutionalNetwork)[0] and judge.seconds[0] < 5


def _spoilt(rng: np.random.Generator, content: dict) -> dict:
    """With a value in ten of another kind or missing."""
    return {
        key: value if rng.random() > 0.06 else JUNK[rng.integers(len(JUNK))]
        for key, value in content.items()
        if rng.random() > 0.02
    }


def test_a_damaged_file_of_the_network_from_scratch_is_the_right_one_or_refused(tenths, tmp_path):
    def network():
        return numpy_net.Sequential(
            numpy_net.Conv2d(1, 4, 3, np.random.default_rng(0)), numpy_net.BatchNorm2d(4)
        )

    before, judge, path = network(), Judge(), tmp_path / "x.npz"
    for values in before.parameters.values():
        values += 0.5
    numpy_net.save(before, path)
    data = path.read_bytes()
    for number in range(200 * tenths):
        path.write_bytes(mutant(np.random.default_rng([9, number]), data))
        found = network()
        if judge.hear(number, numpy_net.load, found, path)[0]:
            for name, value in before.parameters.items():
                assert np.array_equal(found.parameters[name], value), number
    judge.tell("damaged .npz files")
    assert judge.refused > 100 * tenths


# Checkpoints


def parts() -> dict:
    torch.manual_seed(0)
    network = ConvolutionalNetwork(NETWORK)
    return {"network": network, "optimizer": torch.optim.Adam(network.parameters())}


def trained() -> dict:
    """Parts with moments in the optimiser."""
    found = parts()
    found["network"](torch.rand(1, 1, 16, 16)).sum().backward()
    found["optimizer"].step()
    return found


STATE = {"step": 20, "seconds": 1.5, "rate_factor": 1.0, "best_loss": float("inf"), "curve": [{"step": 10}]}


def test_a_damaged_checkpoint_is_the_right_one_or_refused(tenths, tmp_path):
    checkpoints, judge, before = (
        Checkpoints(tmp_path / "run.safetensors", about={"seed": 0}),
        Judge(),
        trained(),
    )
    checkpoints.save(before, STATE)
    right, moments = digest(before["network"].state_dict()), _moments(before)
    path, data = checkpoints.path, checkpoints.path.read_bytes()
    assert [*tmp_path.iterdir()] == [path]
    for number in range(300 * tenths):
        rng = np.random.default_rng([5, number])
        path.write_bytes(mutant(rng, data))
        found = parts()
        taken, state = judge.hear(number, checkpoints.load, found)
        if taken:
            assert state == STATE and digest(found["network"].state_dict()) == right, number
            assert _moments(found) == moments, number
        path.write_bytes(data)
    judge.tell("damaged checkpoints")
    assert judge.refused > 250 * tenths
    assert checkpoints.load(parts()) == STATE


def _moments(found: dict) -> str:
    state = found["optimizer"].state_dict()["state"]
    return digest(
        {f"{n}/{key}": torch.as_tensor(v) for n, values in state.items() for key, v in values.items()}
    )


def test_a_forged_checkpoint_is_refused_on_one_line(tmp_path):
    checkpoints = Checkpoints(tmp_path / "run.safetensors", about={"seed": 0})
    checkpoints.save(trained(), STATE)
    arrays, texts = read_tensors(checkpoints.path, "about", "state")
    for key in ("optimizer/x/exp_avg", "network/more"):
        write_tensors(checkpoints.path, arrays | {key: np.zeros(3, np.float32)}, texts)
        taken, line = Judge().hear(0, checkpoints.load, parts())
        assert not taken and "can't be resumed from" in line, key


# Nothing is unpickled


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return os.system, (f"touch '{self.place}'",)


def disguises(payload: Payload) -> dict[str, bytes]:
    """A payload as a pickle, as torch writes it today and wrote it once, and as NumPy does."""
    found = {"pickle": pickle.dumps(payload)}
    for name, zipped in (("torch", True), ("old torch", False)):
        buffer = io.BytesIO()
        torch.save({"network": payload}, buffer, _use_new_zipfile_serialization=zipped)
        found[name] = buffer.getvalue()
    for name, write in (("npy", np.save), ("npz", lambda file, array: np.savez(file, layers=array))):
        buffer = io.BytesIO()
        write(buffer, np.array([payload], dtype=object))
        found[name] = buffer.getvalue()
    return found


@pytest.mark.parametrize("name", disguises(Payload(Path("x"))))
def test_a_payload_is_refused_on_one_line_and_does_not_run(tmp_path, name, weights):
    place = tmp_path / "it ran"
    data = disguises(Payload(place))[name]
    for reads in (pickle.loads,) if name == "pickle" else ():  # it would, if it were asked
        reads(data)
        assert place.exists()
        place.unlink()
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(data)
    checkpoints = Checkpoints(tmp_path / "run.safetensors")
    checkpoints.save(parts(), STATE)
    checkpoints.path.write_bytes(data)
    other = Checkpoints(tmp_path / "other.safetensors")
    other.path.write_bytes(data)
    network = numpy_net.Sequential(numpy_net.Conv2d(1, 2, 3, np.random.default_rng(0)))
    judge = Judge()
    for reader, arguments in (
        (load_network, (path, ConvolutionalNetwork)),
        (checkpoints.load, (parts(),)),
        (other.read_about, ()),
        (numpy_net.load, (network, path)),
        (files.decode_file, (path, tmp_path / "out.png")),
        (files.describe, (path,)),
        (lambda: files.encode_file(path, tmp_path / "out.npic", pictures.encode), ()),
    ):
        assert not judge.hear(0, reader, *arguments)[0], reader
    assert not place.exists() and judge.refused == 7
    with pytest.raises(StudyError):
        load_network(path, ConvolutionalNetwork)
