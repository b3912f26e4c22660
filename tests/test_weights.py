"""Weights as files: what is written is read, within float16; damaged and foreign files are named."""

import json

import pytest
import torch
from safetensors.torch import save_file

from helpers import StudyError
from helpers.models import ConvolutionalNetwork, NetworkConfig
from helpers.weights import digest, load_network, save_network

CONFIG = NetworkConfig(unshuffle=2, width=8, depth=3, norm="batch")
CARD = {"task": "restore", "space": "y", "legs": []}


@pytest.fixture
def network():
    torch.manual_seed(3)
    network = ConvolutionalNetwork(CONFIG)
    torch.nn.init.normal_(network.body[-1].weight, std=0.1)
    return network


@pytest.fixture
def path(network, tmp_path):
    save_network(network, tmp_path / "weights.safetensors", CARD)
    return tmp_path / "weights.safetensors"


def message(path, *wanted):
    with pytest.raises(StudyError) as caught:
        load_network(path, ConvolutionalNetwork, *wanted)
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and text.startswith(f"{path}: ")
    return text


def test_what_is_written_is_read_within_float16(network, path):
    read, card = load_network(path, ConvolutionalNetwork, "restore", "y")
    assert read.config == CONFIG and card == CARD
    for (name, value), other in zip(network.state_dict().items(), read.state_dict().values(), strict=True):
        assert other.dtype == value.dtype, name
        assert torch.allclose(other.float(), value.float(), rtol=1e-3, atol=1e-6), name
    size = sum(t.numel() * (2 if t.is_floating_point() else 8) for t in network.state_dict().values())
    assert path.stat().st_size < size + 4000


@pytest.mark.parametrize("where", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_flipped_bit_is_noticed(path, where):
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 4
    path.write_bytes(data)
    message(path)


def test_a_flipped_bit_in_the_header_is_noticed_wherever_it_is(path):
    data = path.read_bytes()
    for place in range(8 + int.from_bytes(data[:8], "little")):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        if data[place : place + 1] != b" ":  # the header is filled up with spaces that mean nothing
            message(path)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.99])
def test_a_cut_file_is_noticed(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "is no readable safetensors file" in message(path)


def test_what_is_no_weights_file_is_named(tmp_path):
    assert "does not exist" in message(tmp_path / "nowhere.safetensors")
    assert "is no readable safetensors file" in message(tmp_path)
    (tmp_path / "text").write_text("weights")
    assert "is no readable safetensors file" in message(tmp_path / "text")
    save_file({"w": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    assert "was not written by this project" in message(tmp_path / "foreign.safetensors")


def test_weights_of_another_task_or_space_are_refused(path):
    assert "is of task 'restore', not 'imitate'" in message(path, "imitate", "y")
    assert "is of space 'y', not 'rgb'" in message(path, "restore", "rgb")


@pytest.mark.parametrize("network_text", ['{"width": 9}', '{"colour": 1}', '{"arrangement": "spiral"}'])
def test_weights_that_do_not_fit_their_network_are_refused(network, tmp_path, network_text):
    tensors = {name: tensor.half() for name, tensor in network.state_dict().items()}
    metadata = {"network": network_text, "card": json.dumps(CARD)}
    metadata["sha256"] = digest(tensors, metadata)
    save_file(tensors, tmp_path / "odd.safetensors", metadata)
    assert "does not fit this version of the networks" in message(tmp_path / "odd.safetensors")


def test_the_digest_sees_names_shapes_types_and_values():
    base = {"a": torch.zeros(2, 3)}
    others = [{"b": torch.zeros(2, 3)}, {"a": torch.zeros(3, 2)}, {"a": torch.zeros(2, 3).half()}]
    others.append({"a": torch.tensor([[0.0, 0, 0], [0, 0, 1]])})
    assert digest(base) == digest({"a": torch.zeros(2, 3)})
    assert len({digest(base), *map(digest, others)}) == 5


def test_a_folder_that_is_not_there_is_named(network, tmp_path):
    with pytest.raises(StudyError, match="can't be written"):
        save_network(network, tmp_path / "no" / "weights.safetensors", CARD)
    assert not list(tmp_path.iterdir())
