"""Weights as files: safetensors with a model card inside, checked when read."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from helpers import DATA, StudyError, one_line
from helpers.codec.network import CompressionConfig, CompressionNetwork
from helpers.data.loading import ENDLESS, endless, shown
from helpers.models import ConvolutionalNetwork, NetworkConfig
from helpers.records import write_file

WEIGHTS = DATA / "weights"


def save_network(network: ConvolutionalNetwork | CompressionNetwork, path: Path, card: dict) -> None:
    """The network as float16 safetensors: half the bytes, within 0.01 dB of float32.

    Rounding networks stay in float32: their decisions hang on the last digits. The file's metadata
    hold the network's configuration, the model card and a SHA-256 of all three.
    Raises StudyError where it can't be written.
    """
    half = getattr(network.config, "arrangement", None) != "rounding"
    tensors = {
        name: (tensor.half() if half and tensor.is_floating_point() else tensor).cpu().contiguous()
        for name, tensor in network.state_dict().items()
    }
    texts = {"network": json.dumps(asdict(network.config)), "card": json.dumps(card)}
    write_file(path, save(tensors, {**texts, "sha256": digest(tensors, texts)}))


def load_network(
    path: Path, task: str | None = None, space: str | None = None
) -> tuple[ConvolutionalNetwork | CompressionNetwork, dict]:
    """(network in float32 on the CPU, model card) of a weights file.

    Raises StudyError, one line, where the file is missing, damaged, not this project's, or of another
    task or space than asked for.
    """
    name = shown(path)
    if endless(path):
        raise StudyError(f"{name}: {ENDLESS}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except FileNotFoundError:
        raise StudyError(f"{name}: does not exist") from None
    except (OSError, SafetensorError, ValueError, KeyError) as error:  # a header that is no longer one
        raise StudyError(f"{name}: is no readable safetensors file ({one_line(error)})") from None
    if not {"network", "card", "sha256"} <= metadata.keys():
        raise StudyError(f"{name}: was not written by this project (no network, card and sha256 inside)")
    texts = {key: metadata[key] for key in ("network", "card")}
    if digest(tensors, texts) != metadata["sha256"]:
        raise StudyError(f"{name}: is damaged (its SHA-256 differs from the one written into it)")
    try:
        card, config = json.loads(metadata["card"]), json.loads(metadata["network"])
        for what, wanted in (("task", task), ("space", space)):
            if wanted is not None and card[what] != wanted:
                raise StudyError(f"{name}: is of {what} {card[what]!r}, not {wanted!r}")
        _check_shapes(config, card["task"], tensors)
        network = build(config, card["task"])
        network.load_state_dict(tensors)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise StudyError(f"{name}: does not fit this version of the networks ({one_line(error)})") from None
    return network, card


def _check_shapes(config: dict, task: str, tensors: dict[str, torch.Tensor]) -> None:
    """Raises ValueError where a configuration asks for other tensors: told before room is made for them."""
    counts = [config.get(key, 0) for key in ("depth", "blocks", "analysis_blocks")]
    layers = max(n for count in counts for n in (count if isinstance(count, list) else [count]))
    if layers > max(64, len(tensors)):  # not every network has as many as its configuration says
        raise ValueError(f"{layers} layers in {len(tensors)} tensors")
    sizes = [config.get(key, 0) for key in ("fine", "coarse", "context")]
    if task == "compress" and max(sizes) <= 256:  # small whatever else it says; to find out takes a second
        return
    with torch.device("meta"):  # where tensors have shapes and no values
        shapes = {name: tensor.shape for name, tensor in build(config, task).state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise ValueError("its tensors have other names or shapes than its network")


def build(config: dict, task: str) -> ConvolutionalNetwork | CompressionNetwork:
    """The untrained network of a configuration as read from a file."""
    if task == "compress":
        return CompressionNetwork(CompressionConfig(**config))
    return ConvolutionalNetwork(NetworkConfig(**config))


def digest(tensors: dict[str, torch.Tensor], texts: dict[str, str] | None = None) -> str:
    """SHA-256 of texts, and of the names, shapes, dtypes and values of tensors."""
    found = hashlib.sha256(json.dumps(texts or {}, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
