"""What a training is; read by the command line without loading torch."""

from dataclasses import dataclass

from helpers.config import check_known, check_range, check_types

TASKS = ("imitate", "restore", "compress")


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
        check_known(self, task=TASKS, space=("y", "rgb"), loss=("mse", "l1", "ssim"))
        check_known(self, optimizer=("adam", "sgd"), precision=("float32", "bfloat16"))
        check_known(self, schedule=("constant", "step", "plateau", "cosine"))
        check_range(self, ("steps", "batch", "patch"), 1)
        check_range(self, ("warm_up", "learning_rate", "gradient_clip"), 0)
        check_range(self, ("seed",), 0, 2**32 - 1)
        if self.task == "compress" and (self.space, self.loss) != ("rgb", "mse"):
            raise ValueError("task compress has space rgb and loss mse")
        if not 0 <= self.average < 1:
            raise ValueError(f"average is {self.average}; it must lie in [0, 1)")
        if type(self.qualities) not in (tuple, list) or [*map(type, self.qualities)] != [int, int]:
            raise ValueError(f"qualities are {self.qualities}; they must be two integers")
        if not 1 <= self.qualities[0] <= self.qualities[1] <= 100:
            raise ValueError(f"qualities are {self.qualities}; they must rise within 1..100")
        grid = 8 if self.space == "y" else 16  # subsampled chroma has blocks of 16 pixels
        if self.patch < grid or self.patch % grid:
            raise ValueError(f"patch is {self.patch}; in space {self.space} it must be a multiple of {grid}")
