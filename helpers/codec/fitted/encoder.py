"""A picture fitted within a budget of time: whole files on the way, the best so far, a state to resume."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from helpers import jpeg
from helpers.codec.container import CodecError, Container, read
from helpers.codec.fitted import payload
from helpers.codec.fitted.fitting import Fit, TensorAdam, lagrangian
from helpers.files import StudyError, printable
from helpers.weights import read_tensors, write_tensors

SHIFTS = {"context": 6, "context bias": 6, "upsampling": 9, "mixing": 8, "filters": 8, "synthesis bias": 8}
SHARE = 0.05  # of the time, for whole files on the way
SOONEST = 0.1  # of the time budget, between two of them
OVERTIME = 0.5  # of the time budget, for a picture that is not within its bytes yet
LATE = 0.75  # progress that overtime is spent at: numbers still move
TARGET_FILL = 0.98  # of a budget of bytes
EARLY = 0.25  # of the time budget: before, the bits of a fit say little
STEER_EVERY = 25  # steps between two looks at them
STEER_POWER = 0.5  # power of too many bytes by which a bit gets more expensive, each time
NETWORK_BYTES = 700  # bytes of the networks and the header, about
POSITION = ("cost", "steps", "visits")  # of a fit, in its state


class Candidate:
    """A whole file, the picture that it decodes to, and its mean squared error (peak 1)."""

    def __init__(self, data: bytes, picture: np.ndarray, image: np.ndarray):
        self.data, self.picture = data, picture
        self.error = float(np.square((picture.astype(np.float64) - image) / 255).mean())
        self.psnr = -10 * math.log10(self.error) if self.error else math.inf  # dB


class FitBudget(NamedTuple):
    """Seconds; rate 0 (smallest files) to 63; with a budget, the least error within it."""

    seconds: float
    rate: int
    most_bytes: int | None = None
    bits_per_pixel: float | None = None


class FittedEncoder:
    """Fits pictures; `interrupted` says whether Ctrl-C ended one before its time.

    on_step(progress 0..1, PSNR in dB and bits a pixel, as training sees them), on_candidate(Candidate).
    `state` is where to go on from, with `resume`: written now and then, to be removed by who has written the
    result. `clock` counts the budget's seconds: time.process_time leaves out what other programs take.
    """

    def __init__(
        self,
        budget: FitBudget,
        state: Path | None = None,
        resume: bool = False,
        on_step: Callable[[float, float, float], None] = lambda progress, psnr, bits: None,
        on_candidate: Callable[[Candidate], None] = lambda candidate: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.budget, self.state, self.resume, self.clock, self.most = budget, state, resume, clock, None
        self.on_step, self.on_candidate, self.interrupted = on_step, on_candidate, False
        self.best: Candidate | None = None  # so far
        self.spent, self.visits = 0.0, 0.0  # seconds; how often each pixel was seen

    def __call__(self, image: np.ndarray, **metadata: bytes) -> tuple[bytes, np.ndarray]:
        """(file, what it decodes to) of a uint8 image (H, W) or (H, W, 3); metadata: icc, exif, alpha.

        Ctrl-C ends the fit: the best file so far is the result. Raises TypeError or ValueError for other
        images, CodecError where a picture is too large or the bytes can't be reached, StudyError for a
        state that is missing, damaged or another picture's.
        """
        jpeg.check_image(image, "fit")
        height, width = image.shape[:2]
        if height * width > payload.MOST_FITTED_PIXELS or max(height, width) > 2**16:
            most = f"{payload.MOST_FITTED_PIXELS:,}"
            raise CodecError(f"is {width}x{height}; at most {most} pixels can be fitted")
        bits = self.budget.bits_per_pixel
        self.most = self.budget.most_bytes if bits is None else int(bits * (height * width) / 8)
        fit, self.best, self.spent = Fit(image, lagrangian(self.budget.rate)), None, 0.0
        name = hashlib.sha256(image.tobytes() + repr((image.shape, self.budget.rate)).encode()).hexdigest()
        if self.resume:
            self._load(fit, name, image)
        try:
            self._fit(fit, name, metadata, image)
        except KeyboardInterrupt:
            self.interrupted = True
            self._try(fit, image, metadata, searched=False)
            self._save(fit, name)
        if not self._within(self.best):
            size = f"{len(self.best.data):,} bytes"
            raise CodecError(f"takes {size} after this time; {self.most:,} were not reached")
        return self.best.data, self.best.picture

    def _fit(self, fit: Fit, name: str, metadata: dict, image: np.ndarray) -> None:
        seconds, start = self.budget.seconds, self.clock() - self.spent
        checkpoint_seconds, last = 0.0, self.spent
        mean = None  # of error and bits, over the last windows
        while (spent := self.clock() - start) < seconds:
            self.spent = spent
            found, self.visits = np.array(fit.step(spent / seconds)), fit.visits
            mean = found if mean is None else 0.98 * mean + 0.02 * found
            if self.most is not None and spent > EARLY * seconds and fit.steps % STEER_EVERY == 0:
                bits = fit.estimate(windows=4)[1] * fit.pixels  # what the latents take
                wanted = max(TARGET_FILL * self.most - NETWORK_BYTES, 100) * 8
                fit.cost *= min(max(bits / wanted, 0.5), 2) ** STEER_POWER
            self.on_step(spent / seconds, -10 * math.log10(max(mean[0], 1e-9)), mean[1])
            if spent - last > max(SOONEST * seconds, checkpoint_seconds / SHARE):
                last, before = spent, self.clock()
                self._try(fit, image, metadata, searched=False)
                self._save(fit, name)
                checkpoint_seconds = self.clock() - before
        self._try(fit, image, metadata, searched=True)
        while not self._within(self.best) and self.clock() - start < (1 + OVERTIME) * seconds:
            fit.cost *= max(1.1, (len(self.best.data) / (TARGET_FILL * self.most)) ** 2)
            until = self.clock() + SHARE * seconds
            while self.clock() < until:
                fit.step(LATE)
            self._try(fit, image, metadata, searched=True)

    def _try(self, fit: Fit, image: np.ndarray, metadata: dict, searched: bool) -> None:
        """Makes a whole file of the fit now, and keeps the better one."""
        values = {name: adam.value.cpu() for name, adam in fit.weights.items()}
        shifts = best_shifts(fit, values) if searched else SHIFTS
        numpy_values = {name: value.numpy() for name, value in values.items()}
        weights = payload.rounded_weights(numpy_values, shifts, fit.start)
        latents = [adam.value.round().cpu().numpy().astype(np.float64) for adam in fit.latents]
        data, decoded = payload.to_bytes(weights, latents, fit.start)
        (height, width), grey, model = image.shape[:2], image.ndim == 2, payload.starts()[1]
        file = Container(width, height, self.budget.rate, model, data, grey, fitted=True, **metadata)
        candidate = Candidate(file.to_bytes(), payload.picture_of(weights, decoded, grey), image)
        self.best = min(self.best or candidate, candidate, key=lambda one: self._cost(one, fit))
        self.on_candidate(candidate)

    def _cost(self, candidate: Candidate, fit: Fit) -> tuple[bool, float]:
        """What the best candidate has least of: within a budget of bytes only the error counts."""
        if not self._within(candidate):
            return True, len(candidate.data)
        bits = fit.cost * 8 / fit.pixels * len(candidate.data) if self.most is None else 0
        return False, candidate.error + bits

    def _within(self, candidate: Candidate) -> bool:
        return self.most is None or len(candidate.data) <= self.most

    def _save(self, fit: Fit, name: str) -> None:
        if self.state is None:
            return
        tensors = {"random": fit.generator.get_state(), "file": np.frombuffer(self.best.data, np.uint8)}
        tensors |= {key: getattr(adam, part) for key, adam, part in _tensors(fit)}
        position = {"spent": self.spent} | {part: getattr(fit, part) for part in POSITION} | {"of": name}
        write_tensors(self.state, tensors, {"fit": json.dumps(position)})

    def _load(self, fit: Fit, name: str, image: np.ndarray) -> None:
        """Takes over the state: tensors, seconds, the best file so far."""
        if not self.state.exists():
            raise StudyError(f"{printable(self.state)}: does not exist; there is nothing to go on from")
        tensors, texts = read_tensors(self.state, "fit")
        position = json.loads(texts["fit"])
        if position["of"] != name:
            raise StudyError(f"{printable(self.state)}: belongs to another picture or rate")
        for key, adam, part in _tensors(fit):
            getattr(adam, part).copy_(torch.from_numpy(tensors[key]))
        fit.generator.set_state(torch.from_numpy(tensors["random"]))
        for part in POSITION:
            setattr(fit, part, position[part])
        self.spent, data = position["spent"], tensors["file"].tobytes()
        self.best = Candidate(data, payload.decode(read(data)), image)


def _tensors(fit: Fit) -> list[tuple[str, TensorAdam, str]]:
    """(name in a state, where it belongs, its attribute there) of all that a fit has learnt."""
    learnt = fit.weights | {f"latent {number}": adam for number, adam in enumerate(fit.latents)}
    parts = ("value", "first", "second")
    return [(f"{key} {part}", adam, part) for key, adam in learnt.items() for part in parts]


def best_shifts(fit: Fit, values: dict[str, torch.Tensor]) -> dict[str, int]:
    """The step of each group of weights that costs least, in error and bits, group after group."""
    shifts, numpy_values = dict(SHIFTS), {name: value.numpy() for name, value in values.items()}

    def cost() -> float:
        weights = payload.rounded_weights(numpy_values, shifts, fit.start)
        rounded = {}
        for name, found in weights.items():
            rounded[name] = torch.from_numpy(found.numbers * 2.0**-found.shift).float().to(fit.device)
        error, bits = fit.estimate(rounded, windows=4)
        return error + fit.cost * (bits + payload.weights_bits(weights, fit.start) / fit.pixels)

    for group in payload.WEIGHT_GROUPS:
        tried = {}
        for shift in (shifts[group], shifts[group] - 1, shifts[group] + 1, shifts[group] + 2):
            shifts[group] = shift
            tried[shift] = cost()
        shifts[group] = min(tried, key=tried.get)
    return shifts
