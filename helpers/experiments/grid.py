"""What is asked: one stated baseline a task, and experiments that each change one thing of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from helpers.codec.trained.network import CompressionConfig
from helpers.config import check_types, to_stored
from helpers.data.sets import FOLDS
from helpers.models import NetworkConfig
from helpers.training.config import TrainingConfig

VERSION = 1  # of what a run does: raised whenever the same configuration would give another result
VERDICTS = ("helps", "no evidence", "hurts")


@dataclass(frozen=True)
class Run:
    """One training and its judgement: a configuration that fixes the result."""

    network: NetworkConfig | CompressionConfig
    training: TrainingConfig
    fold: int  # whose test scenes judge it; it trains on the others
    images: str = "live1"
    aligned: bool = True  # patches begin on JPEG's grid

    def __post_init__(self):
        check_types(self)

    def key(self) -> str:
        """The name of this run's record: 16 hex digits of the SHA-256 of all that fixes its result."""
        text = json.dumps({"version": VERSION, **to_stored(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def changed(self, changes: Mapping[str, object]) -> "Run":
        """This run with fields of network, training or itself replaced. Raises ValueError for a wrong one."""
        owners = {"aligned": "run", **{f.name: "training" for f in fields(self.training) if f.name != "task"}}
        owners |= {f.name: "network" for f in fields(self.network)}
        parts: dict[str, dict] = {"network": {}, "training": {}, "run": {}}
        for name, value in changes.items():
            if name not in owners:
                raise ValueError(f"factor {name!r} is not known; known are {', '.join(sorted(owners))}")
            parts[owners[name]][name] = value
        network = replace(self.network, **parts["network"])
        training = replace(self.training, **parts["training"])
        return replace(self, network=network, training=training, **parts["run"])


@dataclass(frozen=True)
class Experiment:
    """A question to the baseline of a task: what is changed, and what was expected before it was run."""

    factor: str
    name: str
    changes: Mapping[str, object] = field(hash=False)
    prediction: str = ""  # one of VERDICTS; empty where a trial had shown the answer

    def line(self) -> str:
        """The one line that was changed, as code."""
        return ", ".join(f"{name}={value!r}" for name, value in self.changes.items())


QUESTIONS = {
    "depth": "How many residual blocks?",
    "width": "How many channels?",
    "kernel": "How large a kernel, and does spreading its taps see as far for nothing?",
    "unshuffle": "At which resolution should the layers work?",
    "activation": "Which function between the layers, and is one needed?",
    "norm": "Does batch normalisation help a network that restores, and in which order?",
    "dropout": "Does dropout help?",
    "arrangement": "Chain, blocks, bottleneck or U-Net?",
    "latent": "How narrow may a dense bottleneck be?",
    "residual": "Learn the change, or the picture?",
    "learning_rate": "How large a step?",
    "schedule": "How should the step shrink?",
    "warm_up": "Does a slow start matter?",
    "optimizer": "Adam or gradient descent with momentum?",
    "loss": "Which error should be small?",
    "aligned": "Does it matter that patches begin on JPEG's grid?",
    "precision": "Are eight significant bits enough?",
    "steps": "How long?",
    "seed": "What does another seed change?",
    "prior": "Predicted from what, and how trained and rounded?",
    "groups": "How many channels of the latent?",
    "together": "Do two changes need each other?",
}

_BOTTLENECK = {"arrangement": "bottleneck", "depth": 2, "width": 32}
_SHALLOW = {"arrangement": "bottleneck", "depth": 1, "width": 32, "learning_rate": 1e-3}
_CHAIN = {"arrangement": "chain", "depth": 6}
_UNET = {"arrangement": "unet", "depth": 3, "width": 16}

# Predictions were written before the runs, by the authors of the course.
_ROWS = (  # factor, name, changes, prediction
    ("depth", "1 block", {"depth": 1}, "hurts"),
    ("depth", "4 blocks", {"depth": 4}),
    ("depth", "6 blocks", {"depth": 6}, "helps"),
    ("width", "8 maps", {"width": 8}, "hurts"),
    ("width", "12 maps", {"width": 12}, "hurts"),
    ("width", "16 maps", {"width": 16}, "hurts"),
    ("width", "32 maps", {"width": 32}, "helps"),
    ("width", "48 maps", {"width": 48}),
    ("width", "56 maps", {"width": 56}, "helps"),
    ("steps", "75 steps", {"steps": 75}, "hurts"),
    ("steps", "150 steps", {"steps": 150}, "hurts"),
    ("steps", "600 steps", {"steps": 600}, "helps"),
    ("steps", "1,000 steps", {"steps": 1000}, "helps"),
    ("activation", "LeakyReLU", {"activation": "leaky_relu"}, "no evidence"),
    ("activation", "Sigmoid", {"activation": "sigmoid"}, "hurts"),
    ("activation", "Tanh", {"activation": "tanh"}, "hurts"),
    ("activation", "GELU", {"activation": "gelu"}, "helps"),
    ("activation", "none", {"activation": "none"}, "hurts"),
    ("norm", "batch norm", {"norm": "batch"}, "hurts"),
    ("norm", "batch norm first", {"norm": "batch", "order": "norm, activation, convolution"}, "hurts"),
    ("norm", "batch norm last", {"norm": "batch", "order": "convolution, activation, norm"}, "hurts"),
    ("norm", "activation first", {"order": "norm, activation, convolution"}, "no evidence"),
    ("dropout", "dropout 5 %", {"dropout": 0.05}, "hurts"),
    ("dropout", "dropout 10 %", {"dropout": 0.1}, "hurts"),
    ("dropout", "dropout 30 %", {"dropout": 0.3}, "hurts"),
    ("arrangement", "chain of 6", _CHAIN, "hurts"),
    ("arrangement", "max pooling", _BOTTLENECK, "hurts"),
    ("arrangement", "strided", {**_BOTTLENECK, "pooling": "stride"}, "hurts"),
    ("arrangement", "U-Net", _UNET, "helps"),
    ("arrangement", "U-Net without skips", {**_UNET, "skips": False}, "hurts"),
    ("arrangement", "max pooling once, rate 0.001", _SHALLOW),
    ("arrangement", "strided once, rate 0.001", {**_SHALLOW, "pooling": "stride"}),
    ("latent", "dense, 16 numbers", {**_BOTTLENECK, "latent": 16}, "hurts"),
    ("latent", "dense, 64 numbers", {**_BOTTLENECK, "latent": 64}, "hurts"),
    ("latent", "dense, 256 numbers", {**_BOTTLENECK, "latent": 256}, "hurts"),
    ("residual", "learns the picture", {"residual": False}, "hurts"),
    ("learning_rate", "rate 0.0003", {"learning_rate": 3e-4}, "hurts"),
    ("learning_rate", "rate 0.001", {"learning_rate": 1e-3}),
    ("learning_rate", "rate 0.01", {"learning_rate": 1e-2}, "hurts"),
    ("schedule", "constant", {"schedule": "constant"}, "hurts"),
    ("schedule", "steps down", {"schedule": "step"}, "no evidence"),
    ("schedule", "plateau", {"schedule": "plateau"}, "hurts"),
    ("warm_up", "no warm-up", {"warm_up": 0}, "no evidence"),
    ("optimizer", "SGD, rate 0.1", {"optimizer": "sgd", "learning_rate": 0.1}, "hurts"),
    ("optimizer", "SGD, rate 1", {"optimizer": "sgd", "learning_rate": 1.0}, "hurts"),
    ("loss", "L1 loss", {"loss": "l1"}, "no evidence"),
    ("loss", "SSIM loss", {"loss": "ssim"}, "hurts"),
    ("aligned", "patches anywhere", {"aligned": False}, "hurts"),
    ("kernel", "kernel 1", {"kernel": 1}, "hurts"),
    ("kernel", "kernel 5", {"kernel": 5}, "helps"),
    ("kernel", "dilation 2", {"dilation": 2}, "helps"),
    ("unshuffle", "every pixel", {"unshuffle": 1}, "hurts"),
    ("unshuffle", "squares of 4", {"unshuffle": 4}, "hurts"),
    ("unshuffle", "squares of 8", {"unshuffle": 8}, "hurts"),
    ("unshuffle", "squares of 8, 128 maps", {"unshuffle": 8, "width": 128}, "helps"),
    ("precision", "bfloat16", {"precision": "bfloat16"}, "no evidence"),
    ("together", "Sigmoid, batch norm", {"activation": "sigmoid", "norm": "batch"}, "hurts"),
    ("together", "chain, picture", {**_CHAIN, "residual": False}, "hurts"),
    ("together", "chain, rate 0.001", {**_CHAIN, "learning_rate": 1e-3}, "hurts"),
    ("together", "kernel 5, rate 0.001", {"kernel": 5, "learning_rate": 1e-3}),
    ("together", "dilation 2, rate 0.001", {"dilation": 2, "learning_rate": 1e-3}, "hurts"),
    ("together", "U-Net, rate 0.001", {**_UNET, "learning_rate": 1e-3}, "hurts"),
    ("together", "rate 0.01, batch norm", {"learning_rate": 1e-2, "norm": "batch"}, "hurts"),
    ("together", "dropout, 56 maps", {"dropout": 0.1, "width": 56}, "no evidence"),
)
EXPERIMENTS = tuple(Experiment(*row) for row in _ROWS)
QUICK = ("baseline", "8 maps", "Sigmoid", "chain of 6")
REPLICAS = 7  # further seeds of the baseline in each fold: what a seed alone changes

# What is asked of imitation, too.
IMITATED = ("depth", "width", "steps", "activation", "norm", "dropout", "arrangement", "latent", "residual")
IMITATED += ("learning_rate", "schedule", "kernel", "unshuffle", "aligned")
# Where the same change was expected to do something else, or no trial had been made.
IMITATION_PREDICTED = {"rate 0.001": "hurts"}
IMITATION_PREDICTED |= dict.fromkeys(("squares of 4", "squares of 8", "4 blocks", "48 maps"), "helps")

_COMPRESS_ROWS = (
    ("prior", "factorised", {"prior": "factorised"}, "hurts"),
    ("prior", "hyperprior", {"prior": "hyperprior"}, "hurts"),
    ("prior", "noise", {"rounding": "noise"}, "hurts"),
    ("prior", "straight-through", {"rounding": "straight_through"}, "hurts"),
    ("prior", "nearest numbers", {"rdo_strength": 0.0}, "hurts"),
    ("groups", "30 channels", {"groups": 4}, "hurts"),
    ("groups", "48 channels", {"groups": 5}, "hurts"),
    ("groups", "80 channels", {"groups": 6}, "no evidence"),
    ("activation", "LeakyReLU", {"activation": "leaky_relu"}, "no evidence"),
    ("activation", "GDN", {"activation": "gdn"}, "no evidence"),
    ("steps", "100 steps", {"steps": 100}, "hurts"),
    ("steps", "150 steps", {"steps": 150}, "hurts"),
)
COMPRESS_EXPERIMENTS = tuple(Experiment(*row) for row in _COMPRESS_ROWS)
COST_FAMILIES = {"macs_per_pixel": "width", "seconds": "steps"}  # how the baseline itself buys with each cost

_SMALL = NetworkConfig("residual", depth=2, width=24)
BASELINES = {
    task: Run(_SMALL, TrainingConfig(task, steps=300, batch=8, learning_rate=3e-3), fold=0)
    for task in ("restore", "imitate")
}
BASELINES["compress"] = Run(
    CompressionConfig(fine=32, coarse=48, blocks=(1, 1), analysis_blocks=(1, 1), context=32),
    TrainingConfig("compress", "rgb", steps=200, batch=4, patch=96, learning_rate=2e-3, gradient_clip=1.0),
    fold=0,
)


def experiments_of(task: str) -> dict[str, Experiment]:
    """The experiments of a task by name, "baseline" and its replicas first."""
    seeds = [FOLDS * replica for replica in range(1, REPLICAS + 1)]
    base = [Experiment("seed", "baseline", {})]
    base += [Experiment("seed", f"seed + {seed}", {"seed": seed}, "no evidence") for seed in seeds]
    chosen = COMPRESS_EXPERIMENTS if task == "compress" else EXPERIMENTS
    if task == "imitate":
        asked = [one for one in EXPERIMENTS if one.factor in IMITATED]
        chosen = [replace(one, prediction=IMITATION_PREDICTED.get(one.name, one.prediction)) for one in asked]
    found = {}
    for one in (*base, *chosen):
        if one.factor not in QUESTIONS:
            raise ValueError(f"{one.name!r}: factor {one.factor!r} asks no question; see QUESTIONS")
        if one.name in found:
            raise ValueError(f"experiment {one.name!r}: the name is taken")
        found[one.name] = one
    return found


def runs_of(task: str, experiment: Experiment, folds: range = range(FOLDS)) -> list[Run]:
    """The five runs of an experiment: seed k trains on the rest of fold k and is judged on fold k."""
    shift, base = experiment.changes.get("seed", 0), BASELINES[task]
    return [replace(base.changed({**experiment.changes, "seed": k + shift}), fold=k) for k in folds]


def grid(mode: str) -> list[Run]:
    """All runs of a mode, the most wanted first: "full" as recorded; "quick" shows that it works.

    Quick runs have 40 steps on two folds of the samples, and judge nothing.
    """
    if mode == "full":
        asked = [(task, one) for task in BASELINES for one in experiments_of(task).values()]
        return [run for task, one in asked for run in runs_of(task, one)]
    experiments = experiments_of("restore")
    runs = [run for name in QUICK for run in runs_of("restore", experiments[name], range(2))]
    return [replace(run.changed({"steps": 40}), images="samples") for run in runs]
