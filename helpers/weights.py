"""Tensors as files under a checksum, and networks with a model card: safetensors, checked when read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from helpers.config import from_stored, to_stored
from helpers.files import DATA, SPECIAL_FILE, StudyError, is_special_file, one_line, printable, write_file

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = DATA / "weights"
SHIPPED = {  # by task and space
    ("restore", "y"): "restore_y", ("restore", "rgb"): "restore_rgb", ("imitate", "y"): "imitate_y_q10",
    ("compress", "rgb"): "codec", ("fit", "rgb"): "fitted/start",
}  # fmt: skip


def default_weights(task: str, space: str) -> Path:
    """The shipped weights file of a task and space. Raises StudyError where there is none."""
    if (key := (task, network_space(space))) not in SHIPPED:
        raise StudyError(f"{task}: no weights are shipped for space {space}; name a file with --weights")
    return WEIGHTS / f"{SHIPPED[key]}.safetensors"


def network_space(space: str) -> str:
    """The space whose networks serve another: full-range grey goes through those of luma."""
    return "y" if space == "grey" else space


def save_network(network: "nn.Module", path: Path, card: dict) -> None:
    """Writes the network as float16 safetensors: half the bytes, within 0.01 dB of float32.

    The metadata hold its configuration and the model card. Raises StudyError where it can't be written.
    """
    tensors = network.state_dict()
    if getattr(network.config, "arrangement", None) != "rounding":  # its decisions hang on the last digits
        tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
    write_tensors(path, tensors, {"network": json.dumps(to_stored(network.config)), "card": json.dumps(card)})


def load_network(
    path: Path, network_class: type, task: str | None = None, space: str | None = None
) -> tuple["nn.Module", dict]:
    """(network in float32 on the CPU, model card) of a weights file.

    The network is of `network_class`, built from its `Config`. Raises StudyError, one line, where the file
    is missing, damaged, not this project's, or of another task or space than asked for.
    """
    import torch

    tensors, texts = read_tensors(path, "network", "card")
    try:
        card = json.loads(texts["card"])
        for what, wanted in (("task", task), ("space", space)):
            if wanted is not None and card[what] != wanted:
                raise StudyError(f"{printable(path)}: is of {what} {card[what]!r}, not {wanted!r}")
        config = network_class.Config(**from_stored(json.loads(texts["network"])))
        with torch.device("meta"):  # tensors without values: shapes are checked before memory is allocated
            shapes = {name: tensor.shape for name, tensor in network_class(config).state_dict().items()}
        if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
            raise ValueError("its tensors have other names or shapes than its network")
        network = network_class(config)
        network.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
        reason = one_line(error)
        raise StudyError(f"{printable(path)}: does not fit this version of the networks ({reason})") from None
    return network, card


def write_tensors(path: Path, tensors: Mapping, texts: dict[str, str]) -> None:
    """Writes arrays or tensors, with texts and a SHA-256 of all as metadata. StudyError where it can't."""
    arrays = {name: _array(tensor) for name, tensor in tensors.items()}
    write_file(path, save(arrays, {**texts, "sha256": digest(arrays, texts)}))


def read_tensors(path: Path, *names: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(arrays, texts) of a file that `write_tensors` wrote with at least the texts of these names.

    Raises StudyError, one line, where it is missing, unreadable, damaged, or lacks one of the texts.
    """
    if is_special_file(path):
        raise StudyError(f"{printable(path)}: {SPECIAL_FILE}")
    try:
        with safe_open(path, "np") as file:
            texts = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}
    except FileNotFoundError:
        raise StudyError(f"{printable(path)}: does not exist") from None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = one_line(error)  # of a header that is no longer one, too
        raise StudyError(f"{printable(path)}: is no readable safetensors file ({reason})") from None
    if not {*names, "sha256"} <= texts.keys():
        listed = f"{', '.join(names)} and sha256"
        raise StudyError(f"{printable(path)}: was not written by this project (no {listed} inside)")
    sha256 = texts.pop("sha256")
    if digest(arrays, texts) != sha256:
        raise StudyError(f"{printable(path)}: is damaged (its SHA-256 differs from the one written into it)")
    return arrays, texts


def digest(tensors: Mapping, texts: dict[str, str] | None = None) -> str:
    """SHA-256 of texts, and of the names, shapes, types and values of arrays or torch tensors."""
    found = hashlib.sha256(json.dumps(texts or {}, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        array = _array(tensor)
        found.update(f"{name} {array.shape} torch.{array.dtype}".encode() + array.tobytes())
    return found.hexdigest()


def _array(tensor) -> np.ndarray:
    array = tensor if isinstance(tensor, np.ndarray) else tensor.detach().cpu().numpy()
    return np.ascontiguousarray(array) if array.ndim else array
