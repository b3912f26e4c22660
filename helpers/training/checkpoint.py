"""Checkpoints: the state of a training in one file, written so that a kill leaves the last one whole."""

import contextlib
import glob
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from helpers.files import StudyError, one_line, printable
from helpers.weights import read_tensors, write_tensors

Parts = dict[str, nn.Module | torch.optim.Optimizer]


@dataclass(frozen=True)
class Checkpoints:
    """Where and how often a training keeps its state."""

    path: Path
    seconds: float = 60
    resume: bool = False  # start from what is there
    about: dict = field(default_factory=dict)  # what the training is, so that another one is not resumed

    def save(self, parts: Parts, state: dict) -> None:
        """Writes parts and, as JSON, state into one file. Raises StudyError; the one before is whole then."""
        tensors = {f"{part}/{name}": x for part in parts for name, x in _tensors(parts[part]).items()}
        try:
            write_tensors(self.path, tensors, {"about": json.dumps(self.about), "state": json.dumps(state)})
        except StudyError as error:
            raise StudyError(f"{error}; training stopped, {self.kept()}") from None

    def kept(self) -> str:
        """What there is to resume from, for a message that a training stopped."""
        found = self.path.exists()
        return f"the checkpoint {printable(self.path)} is whole" if found else "there is no checkpoint"

    def load(self, parts: Parts) -> dict:
        """State of the checkpoint, after filling all parts. Raises StudyError where it doesn't fit them."""
        arrays, texts = self._read()
        try:
            for part, holder in parts.items():
                own = {name: torch.from_numpy(x) for name, x in arrays.items() if name.startswith(f"{part}/")}
                _fill(holder, {name.removeprefix(f"{part}/"): x for name, x in own.items()})
            return json.loads(texts["state"])
        except (AttributeError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise StudyError(f"{printable(self.path)}: can't be resumed from ({one_line(error)})") from None

    def read_about(self) -> dict:
        """What the training of the checkpoint is. Raises StudyError where there is none."""
        return json.loads(self._read()[1]["about"])

    def _read(self) -> tuple[dict, dict]:
        if not self.path.exists():
            raise StudyError(f"{printable(self.path)}: there is no checkpoint to resume from")
        return read_tensors(self.path, "about", "state")

    def remove(self) -> None:
        """Removes the checkpoint of a training that is finished, and what a kill left of another."""
        for old in [self.path, *self.path.parent.glob(f".{glob.escape(self.path.name)}*.part")]:
            with contextlib.suppress(OSError):  # no harm is done if it stays
                old.unlink()


def _tensors(holder: nn.Module | torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    state = holder.state_dict()
    if isinstance(holder, nn.Module):
        return state
    return {f"{number}/{key}": x for number, moments in state["state"].items() for key, x in moments.items()}


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
