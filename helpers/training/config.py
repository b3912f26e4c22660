"""What a training is; read by the command line without loading torch."""

import math
from dataclasses import dataclass, fields

TASKS = ("imitate", "restore", "compress")
KINDS = {int: "a whole number", float: "a finite number", bool: "True or False", str: "text"}


def check_types(config: object) -> None:
    """Raises ValueError for the first field of a configuration, a dataclass, that is not of its type."""
    for field in fields(config):
        value, kind = getattr(config, field.name), field.type
        right = type(value) in ((int, float) if kind is float else (kind,))  # True is no whole number here
        if kind in KINDS and not (right and (kind is not float or math.isfinite(value))):
            raise ValueError(f"{field.name} is {value!r}; it must be {KINDS[kind]}")


@dataclass(frozen=True)
class TrainingConfig:
    """What a training is, apart from the network and the pictures: with them it fixes every weight."""

    task: str = "restore"  # or imitate, compress
    space: str = "y"  # or rgb
    qualities: tuple[int, int] = (10, 10)  # lowest and highest JPEG quality; compress codes no JPEG
    steps: int = 600
    batch: int = 16  # patches a step
    patch: int = 64  # pixels a side
    loss: str = "mse"  # or l1, ssim (1 - SSIM); of compress: bits a pixel + lambda mse
    optimizer: str = "adam"
    learning_rate: float = 3e-3  # at its highest
    schedule: str = "cosine"
    warm_up: int = 50  # steps of linear rise, before any schedule
    gradient_clip: float = 0.5  # norm
    average: float = 0.0  # decay of the running mean of the weights that is kept in the end; 0: none
    precision: str = "float32"  # or bfloat16, inside the network
    seed: int = 0

    def __post_init__(self):
        check_types(self)
        for name, known in (
            ("task", TASKS),
            ("space", ("y", "rgb")),
            ("loss", ("mse", "l1", "ssim")),
            ("optimizer", ("adam", "sgd")),
            ("schedule", ("constant", "step", "plateau", "cosine")),
            ("precision", ("float32", "bfloat16")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; known are {', '.join(known)}")
        for name in ("steps", "batch", "patch", "warm_up", "learning_rate", "gradient_clip"):
            least = 1 if name in ("steps", "batch", "patch") else 0
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.task == "compress" and (self.space, self.loss) != ("rgb", "mse"):
            raise ValueError("task compress has space rgb and loss mse")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed is {self.seed}; it must lie in 0..2^32 - 1")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must lie in [0, 1)")
        if type(self.qualities) not in (tuple, list) or [*map(type, self.qualities)] != [int, int]:
            raise ValueError(f"qualities are {self.qualities}; they must be two whole numbers")
        if not 1 <= self.qualities[0] <= self.qualities[1] <= 95:
            raise ValueError(f"qualities are {self.qualities}; they must rise within 1..95")
        grid = 8 if self.space == "y" else 16  # subsampled chroma has blocks of 16 pixels
        if self.patch < grid or self.patch % grid:
            raise ValueError(f"patch is {self.patch}; in space {self.space} it must be a multiple of {grid}")
