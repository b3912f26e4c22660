"""Checkpoints: tensors as safetensors, the rest as JSON, written so that a kill leaves the last one whole."""

import contextlib
import glob
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from helpers import StudyError, one_line
from helpers.data.loading import ENDLESS, endless, shown
from helpers.records import write_file

UNFIT = (OSError, SafetensorError, AttributeError, LookupError, TypeError, ValueError, RuntimeError)
Parts = dict[str, nn.Module | torch.optim.Optimizer]


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often a training keeps its state: `path`, a JSON file, names the tensors beside it."""

    path: Path
    seconds: float = 60
    resume: bool = False  # start from what is there
    about: dict = field(default_factory=dict)  # what the training is, so that another one is not resumed

    def save(self, parts: Parts, state: dict) -> None:
        """Writes the tensors of all parts, then the JSON file, whose rename is the moment of change.

        Raises StudyError where that can't be done; the checkpoint before is whole then.
        """
        tensors = {
            f"{part}/{name}": tensor.detach().cpu().contiguous().clone()
            for part, holder in parts.items()
            for name, tensor in _tensors(holder).items()
        }
        target = self.path.with_name(f"{self.path.stem}-{state['step']}.safetensors")
        content, data = {"about": self.about, "tensors": target.name, "state": state}, save(tensors)
        content["sha256"] = _digest(content, data)
        try:
            write_file(target, data)
            write_file(self.path, (json.dumps(content) + "\n").encode())
        except StudyError as error:
            raise StudyError(f"{error}; training stopped, {self.kept()}") from None
        self._remove_tensors(but=target)

    def kept(self) -> str:
        """What there is to resume from, for a message that a training stopped."""
        return (
            f"the checkpoint {shown(self.path)} is whole" if self.path.exists() else "there is no checkpoint"
        )

    def load(self, parts: Parts) -> dict:
        """State of the checkpoint, after filling all parts. Raises StudyError where it doesn't fit them."""
        content = self.read()
        try:
            target = self.path.with_name(content["tensors"])
        except (TypeError, ValueError):
            raise StudyError(f"{shown(self.path)}: is no checkpoint (it names no tensors)") from None
        try:
            data = b"" if endless(target) else target.read_bytes()
            if content.get("sha256", _digest(content, data)) != _digest(content, data):
                raise ValueError("it or its tensors are damaged: the SHA-256 differs")
            tensors = load(data)
            for part, holder in parts.items():
                prefix = f"{part}/"
                own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
                _fill(holder, own)
        except UNFIT as error:
            reason = one_line(error)
            raise StudyError(f"{shown(target)}: can't be resumed from ({reason})") from None
        return content["state"]

    def read(self) -> dict:
        """The JSON file: about, tensors, state, sha256 of all. Raises StudyError where there is none.

        A checkpoint of a former version has no sha256, and nothing else in its place.
        """
        if endless(self.path):
            raise StudyError(f"{shown(self.path)}: {ENDLESS}")
        try:
            content = json.loads(self.path.read_text())
            if {*content} - {"sha256"} != {"about", "tensors", "state"}:
                raise ValueError("it has other entries")
            return content
        except FileNotFoundError:
            raise StudyError(f"{shown(self.path)}: there is no checkpoint to resume from") from None
        except (OSError, ValueError, TypeError, RecursionError) as error:
            reason = one_line(error)
            raise StudyError(f"{shown(self.path)}: is no checkpoint ({reason})") from None

    def remove(self) -> None:
        """Removes the checkpoint of a training that is finished."""
        self.path.unlink(missing_ok=True)
        self._remove_tensors()

    def _remove_tensors(self, but: Path | None = None) -> None:
        stem = glob.escape(self.path.stem)
        for pattern in (f"{stem}-*.safetensors", f".{stem}*.part"):  # parts are what a kill left behind
            for old in self.path.parent.glob(pattern):
                if old != but:
                    with contextlib.suppress(OSError):  # no harm is done if it stays
                        old.unlink()


def _digest(content: dict, tensors: bytes) -> str:
    """SHA-256 of a checkpoint but for the digest itself: other tensors or another state give another one."""
    said = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(said).encode() + tensors).hexdigest()


def _tensors(holder: nn.Module | torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    if isinstance(holder, nn.Module):
        return holder.state_dict()
    return {
        f"{number}/{key}": value
        for number, values in holder.state_dict()["state"].items()
        for key, value in values.items()
        if value is not None
    }


def _fill(holder: nn.Module | torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    if isinstance(holder, nn.Module):
        holder.load_state_dict(tensors)
        return
    state = holder.state_dict()
    for name, tensor in tensors.items():
        number, _, key = name.partition("/")
        state["state"].setdefault(int(number), {})[key] = tensor
    holder.load_state_dict(state)
    for parameter, values in holder.state.items():  # fused steps need moments laid out as their weights
        for key, value in values.items():
            if value.shape == parameter.shape:
                values[key] = torch.empty_like(parameter).copy_(value)
