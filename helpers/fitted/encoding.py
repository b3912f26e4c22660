"""A picture fitted within a budget of time: whole files on the way, the best so far, a state to resume."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from helpers import StudyError, jpeg, one_line
from helpers.codec.container import CodecError, Container, read
from helpers.data.loading import ENDLESS, endless, shown
from helpers.fitted.fitting import Fit
from helpers.fitted.payload import (
    GROUPS,
    MOST_PIXELS,
    decode,
    picture_of,
    starts,
    to_bytes,
    weights_bits,
    whole_weights,
)
from helpers.fitted.starting import lagrangian
from helpers.records import write_file
from helpers.weights import digest

SHIFTS = {"context": 6, "context bias": 6, "upsampling": 9, "mixing": 8, "filters": 8, "synthesis bias": 8}
SHARE = 0.05  # of the time, for whole files on the way
SOONEST = 0.1  # of the budget, between two of them
OVERTIME = 0.5  # of the budget, for a picture that is not within its bytes yet
LATE = 0.75  # progress that overtime is spent at: numbers still move
AIM = 0.98  # of a budget of bytes
EARLY = 0.25  # of the budget: before, the bits of a fit say little
LOOK = 25  # steps between two looks at them
STEER = 0.5  # power of too many bytes by which a bit gets dearer, at each look
NETWORKS = 700  # bytes of the networks and the header, about


@dataclass(frozen=True)
class Attempt:
    """A whole file, the picture that it decodes to, and its squared error (peak 1)."""

    data: bytes
    picture: np.ndarray
    error: float

    @property
    def psnr(self) -> float:
        """dB, peak 255, inf if equal."""
        return -10 * math.log10(self.error) if self.error else math.inf


@dataclass(frozen=True)
class Wish:
    """Seconds; rate 0 (smallest files) to 63; with a budget, the least error within it."""

    seconds: float
    rate: int
    most_bytes: int | None = None
    bits_per_pixel: float | None = None

    def bytes_of(self, pixels: int) -> int | None:
        """The budget of a picture of so many pixels."""
        if self.bits_per_pixel is not None:
            return int(self.bits_per_pixel * pixels / 8)
        return self.most_bytes


class Encoder:
    """Fits pictures; `interrupted` says whether Ctrl-C ended one before its time.

    on_step(progress 0..1, PSNR in dB and bits a pixel, as training sees them), on_attempt(Attempt).
    `state` is where to go on from, with `resume`: written now and then, to be removed by who has written the
    result. `clock` counts the wish's seconds: time.process_time leaves out what other programs take.
    """

    def __init__(
        self,
        wish: Wish,
        state: Path | None = None,
        resume: bool = False,
        on_step: Callable[[float, float, float], None] = lambda progress, psnr, bits: None,
        on_attempt: Callable[[Attempt], None] = lambda attempt: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.wish, self.state, self.resume, self.clock, self.most = wish, state, resume, clock, None
        self.on_step, self.on_attempt, self.interrupted = on_step, on_attempt, False
        self.best: Attempt | None = None  # so far
        self.spent, self.visits = 0.0, 0.0  # seconds; how often each pixel was seen

    def __call__(self, image: np.ndarray, **metadata: bytes) -> tuple[bytes, np.ndarray]:
        """(file, what it decodes to) of a uint8 image (H, W) or (H, W, 3); metadata: icc, exif, alpha.

        Ctrl-C ends the fit: the best file so far is the result. Raises TypeError or
        ValueError for other images, CodecError where a picture is too large or the bytes can't be
        reached, StudyError for a state that is missing, damaged or another picture's.
        """
        jpeg.check_image(image, "fit")
        height, width = image.shape[:2]
        if height * width > MOST_PIXELS or max(height, width) > 2**16:
            raise CodecError(f"is {width}x{height}; at most {MOST_PIXELS:,} pixels can be fitted")
        self.most = self.wish.bytes_of(height * width)
        fit, self.best, self.spent = Fit(image, lagrangian(self.wish.rate)), None, 0.0
        name = hashlib.sha256(image.tobytes() + repr((image.shape, self.wish.rate)).encode()).hexdigest()
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
        seconds, start, dear, last = self.wish.seconds, self.clock() - self.spent, 0.0, self.spent
        mean = None  # of error and bits, over the last windows
        while (spent := self.clock() - start) < seconds:
            self.spent = spent
            found, self.visits = np.array(fit.step(spent / seconds)), fit.visits
            mean = found if mean is None else 0.98 * mean + 0.02 * found
            if spent > EARLY * seconds:
                self._steer(fit)
            self.on_step(spent / seconds, -10 * math.log10(max(mean[0], 1e-9)), mean[1])
            if spent - last > max(SOONEST * seconds, dear / SHARE):
                last, before = spent, self.clock()
                self._try(fit, image, metadata, searched=False)
                self._save(fit, name)
                dear = self.clock() - before
        self._try(fit, image, metadata, searched=True)
        while not self._within(self.best) and self.clock() - start < (1 + OVERTIME) * seconds:
            fit.cost *= max(1.1, (len(self.best.data) / (AIM * self.most)) ** 2)
            until = self.clock() + SHARE * seconds
            while self.clock() < until:
                fit.step(LATE)
            self._try(fit, image, metadata, searched=True)

    def _try(self, fit: Fit, image: np.ndarray, metadata: dict, searched: bool) -> None:
        """Makes a whole file of the fit now, and keeps the better one."""
        values = {name: adam.value.cpu() for name, adam in fit.weights.items()}
        shifts = best_shifts(fit, values) if searched else SHIFTS
        weights = whole_weights({name: value.numpy() for name, value in values.items()}, shifts, fit.start)
        latents = [adam.value.round().cpu().numpy().astype(np.float64) for adam in fit.latents]
        data, decoded = to_bytes(weights, latents, fit.start)
        height, width = image.shape[:2]
        file = Container(
            width, height, self.wish.rate, starts()[1], data, image.ndim == 2, fitted=True, **metadata
        )
        picture = picture_of(weights, decoded, image.ndim == 2)
        error = float(np.square((picture.astype(np.float64) - image) / 255).mean())
        attempt = Attempt(file.to_bytes(), picture, error)
        self.best = attempt if self.best is None else self._better(self.best, attempt, fit)
        self.on_attempt(attempt)

    def _better(self, one: Attempt, other: Attempt, fit: Fit) -> Attempt:
        bit = fit.cost * 8 / fit.pixels

        def cost(attempt: Attempt) -> tuple[bool, float]:
            if not self._within(attempt):
                return True, len(attempt.data)
            return False, attempt.error + (bit * len(attempt.data) if self.most is None else 0)

        return min(one, other, key=cost)

    def _within(self, attempt: Attempt) -> bool:
        return self.most is None or len(attempt.data) <= self.most

    def _steer(self, fit: Fit) -> None:
        """Where there is a budget of bytes, makes a bit dearer or cheaper, by what the latents take now."""
        if self.most is None or fit.steps % LOOK:
            return
        bits = fit.estimate(windows=4)[1] * fit.pixels
        wanted = max(AIM * self.most - NETWORKS, 100) * 8
        fit.cost *= min(max(bits / wanted, 0.5), 2) ** STEER

    def _save(self, fit: Fit, name: str) -> None:
        if self.state is None:
            return
        tensors = {
            "random": fit.generator.get_state(),
            "file": torch.frombuffer(bytearray(self.best.data), dtype=torch.uint8),
        }
        for key, adam in _tensors(fit):
            tensors |= {f"{key} {part}": getattr(adam, part).cpu() for part in ("value", "first", "second")}
        place = {"spent": self.spent, "cost": fit.cost, "steps": fit.steps, "visits": fit.visits, "of": name}
        texts = {"fit": json.dumps(place)}
        write_file(self.state, save(tensors, {**texts, "sha256": digest(tensors, texts)}))

    def _load(self, fit: Fit, name: str, image: np.ndarray) -> None:
        """Takes over the state: tensors, seconds, the best file so far."""
        if endless(self.state):
            raise StudyError(f"{shown(self.state)}: {ENDLESS}")
        try:
            with safe_open(self.state, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {key: file.get_tensor(key) for key in file.keys()}
            if digest(tensors, {"fit": metadata["fit"]}) != metadata["sha256"]:
                raise ValueError("it is damaged: the SHA-256 differs")
            place = json.loads(metadata["fit"])
        except FileNotFoundError:
            raise StudyError(f"{shown(self.state)}: does not exist; there is nothing to go on from") from None
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise StudyError(f"{shown(self.state)}: is no state of a fit ({one_line(error)})") from None
        if place["of"] != name:
            raise StudyError(f"{shown(self.state)}: belongs to another picture or rate")
        for key, adam in _tensors(fit):
            for part in ("value", "first", "second"):
                getattr(adam, part).copy_(tensors[f"{key} {part}"])
        fit.generator.set_state(tensors["random"])
        data = tensors["file"].numpy().tobytes()
        fit.cost, fit.steps, fit.visits = place["cost"], place["steps"], place["visits"]
        self.spent = place["spent"]
        picture = decode(read(data))
        error = float(np.square((picture.astype(np.float64) - image) / 255).mean())
        self.best = Attempt(data, picture, error)


def _tensors(fit: Fit) -> list:
    return [*fit.weights.items(), *((f"latent {number}", adam) for number, adam in enumerate(fit.latents))]


def best_shifts(fit: Fit, values: dict[str, torch.Tensor]) -> dict[str, int]:
    """The step of each group of weights that costs least, in error and bits, group after group."""
    shifts = dict(SHIFTS)
    numpy_values = {name: value.numpy() for name, value in values.items()}

    def cost() -> float:
        weights = whole_weights(numpy_values, shifts, fit.start)
        rounded = {
            name: torch.from_numpy(whole.numbers * 2.0**-whole.shift).float().to(fit.device)
            for name, whole in weights.items()
        }
        error, bits = fit.estimate(rounded, windows=4)
        return error + fit.cost * (bits + weights_bits(weights, fit.start) / fit.pixels)

    for group in GROUPS:
        tried = {}
        for shift in (shifts[group], shifts[group] - 1, shifts[group] + 1, shifts[group] + 2):
            shifts[group] = shift
            tried[shift] = cost()
        shifts[group] = min(tried, key=tried.get)
    return shifts
