"""Checkpoints: tensors as safetensors, the rest as JSON, written so that a kill leaves the last one whole."""

import contextlib
import glob
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from helpers import StudyError
from helpers.data.loading import shown
from helpers.records import write_file

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
        content = {"about": self.about, "tensors": target.name, "state": state}
        try:
            write_file(target, save(tensors))
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
        target = self.path.with_name(content["tensors"])
        try:
            tensors = load_file(target)
            for part, holder in parts.items():
                prefix = f"{part}/"
                own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
                _fill(holder, own)
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise StudyError(f"{shown(target)}: can't be resumed from ({reason})") from None
        return content["state"]

    def read(self) -> dict:
        """The JSON file: about, tensors, state. Raises StudyError where there is none."""
        try:
            content = json.loads(self.path.read_text())
            return {key: content[key] for key in ("about", "tensors", "state")}
        except FileNotFoundError:
            raise StudyError(f"{shown(self.path)}: there is no checkpoint to resume from") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(f"{shown(self.path)}: is no checkpoint ({error})") from None

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
