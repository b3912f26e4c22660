"""What is asked: one stated baseline a task, and cards that each change one thing of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace

from helpers.codec.network import CompressionConfig
from helpers.data.sets import FOLDS
from helpers.models import NetworkConfig
from helpers.training.config import TrainingConfig, check_types

VERSION = 1  # of what a run does: raised whenever the same configuration would give another result
VERDICTS = ("helps", "no evidence", "hurts")


@dataclass(frozen=True)
class Run:
    """One training and its judgement: a configuration that fixes the result.

    It trains on the scenes of an image set that are not in the test part of `fold`, and is judged on
    those that are. `aligned` patches begin on JPEG's grid.
    """

    network: NetworkConfig | CompressionConfig
    training: TrainingConfig
    fold: int
    images: str = "live1"
    aligned: bool = True

    def __post_init__(self):
        check_types(self)

    def key(self) -> str:
        """The name of this run's record: 16 hex digits of the SHA-256 of all that fixes its result."""
        text = json.dumps({"version": VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def changed(self, changes: Mapping[str, object]) -> "Run":
        """This run with fields of its network, its training or itself replaced.

        Raises ValueError for a field that none of them has, or a value that it can't take.
        """
        owned = {
            "network": {f.name for f in fields(self.network)},
            "training": {f.name for f in fields(TrainingConfig)} - {"task"},
            "run": {"aligned"},
        }
        parts: dict[str, dict] = {part: {} for part in owned}
        for name, value in changes.items():
            owners = [part for part, names in owned.items() if name in names]
            if not owners:
                known = ", ".join(sorted(set().union(*owned.values())))
                raise ValueError(f"factor {name!r} is not known; known are {known}")
            parts[owners[0]][name] = value
        return replace(
            self,
            network=replace(self.network, **parts["network"]),
            training=replace(self.training, **parts["training"]),
            **parts["run"],
        )


@dataclass(frozen=True)
class Card:
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
    "width": "How many feature maps?",
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
    "prior": "Foretold from what, and how trained and rounded?",
    "groups": "How many channels of the latent?",
    "together": "Do two changes need each other?",
}

_BOTTLENECK = {"arrangement": "bottleneck", "depth": 2, "width": 32}
_SHALLOW = {"arrangement": "bottleneck", "depth": 1, "width": 32, "learning_rate": 1e-3}
_CHAIN = {"arrangement": "chain", "depth": 6}
_UNET = {"arrangement": "unet", "depth": 3, "width": 16}
_SGD = {"optimizer": "sgd"}

# Predictions were written before the runs, by the authors of the course.
CARDS = (
    Card("depth", "1 block", {"depth": 1}, "hurts"),
    Card("depth", "4 blocks", {"depth": 4}),
    Card("depth", "6 blocks", {"depth": 6}, "helps"),
    Card("width", "8 maps", {"width": 8}, "hurts"),
    Card("width", "12 maps", {"width": 12}, "hurts"),
    Card("width", "16 maps", {"width": 16}, "hurts"),
    Card("width", "32 maps", {"width": 32}, "helps"),
    Card("width", "48 maps", {"width": 48}),
    Card("width", "56 maps", {"width": 56}, "helps"),
    Card("steps", "75 steps", {"steps": 75}, "hurts"),
    Card("steps", "150 steps", {"steps": 150}, "hurts"),
    Card("steps", "600 steps", {"steps": 600}, "helps"),
    Card("steps", "1,000 steps", {"steps": 1000}, "helps"),
    Card("activation", "LeakyReLU", {"activation": "leaky_relu"}, "no evidence"),
    Card("activation", "Sigmoid", {"activation": "sigmoid"}, "hurts"),
    Card("activation", "Tanh", {"activation": "tanh"}, "hurts"),
    Card("activation", "GELU", {"activation": "gelu"}, "helps"),
    Card("activation", "none", {"activation": "none"}, "hurts"),
    Card("norm", "batch norm", {"norm": "batch"}, "hurts"),
    Card("norm", "batch norm first", {"norm": "batch", "order": "norm, activation, convolution"}, "hurts"),
    Card("norm", "batch norm last", {"norm": "batch", "order": "convolution, activation, norm"}, "hurts"),
    Card("norm", "activation first", {"order": "norm, activation, convolution"}, "no evidence"),
    Card("dropout", "dropout 5 %", {"dropout": 0.05}, "hurts"),
    Card("dropout", "dropout 10 %", {"dropout": 0.1}, "hurts"),
    Card("dropout", "dropout 30 %", {"dropout": 0.3}, "hurts"),
    Card("arrangement", "chain of 6", _CHAIN, "hurts"),
    Card("arrangement", "max pooling", _BOTTLENECK, "hurts"),
    Card("arrangement", "strided", {**_BOTTLENECK, "pooling": "stride"}, "hurts"),
    Card("arrangement", "U-Net", _UNET, "helps"),
    Card("arrangement", "U-Net without skips", {**_UNET, "skips": False}, "hurts"),
    Card("arrangement", "max pooling once, rate 0.001", _SHALLOW),
    Card("arrangement", "strided once, rate 0.001", {**_SHALLOW, "pooling": "stride"}),
    Card("latent", "dense, 16 numbers", {**_BOTTLENECK, "latent": 16}, "hurts"),
    Card("latent", "dense, 64 numbers", {**_BOTTLENECK, "latent": 64}, "hurts"),
    Card("latent", "dense, 256 numbers", {**_BOTTLENECK, "latent": 256}, "hurts"),
    Card("residual", "learns the picture", {"residual": False}, "hurts"),
    Card("learning_rate", "rate 0.0003", {"learning_rate": 3e-4}, "hurts"),
    Card("learning_rate", "rate 0.001", {"learning_rate": 1e-3}),
    Card("learning_rate", "rate 0.01", {"learning_rate": 1e-2}, "hurts"),
    Card("schedule", "constant", {"schedule": "constant"}, "hurts"),
    Card("schedule", "steps down", {"schedule": "step"}, "no evidence"),
    Card("schedule", "plateau", {"schedule": "plateau"}, "hurts"),
    Card("warm_up", "no warm-up", {"warm_up": 0}, "no evidence"),
    Card("optimizer", "SGD, rate 0.1", {**_SGD, "learning_rate": 0.1}, "hurts"),
    Card("optimizer", "SGD, rate 1", {**_SGD, "learning_rate": 1.0}, "hurts"),
    Card("loss", "L1 loss", {"loss": "l1"}, "no evidence"),
    Card("loss", "SSIM loss", {"loss": "ssim"}, "hurts"),
    Card("aligned", "patches anywhere", {"aligned": False}, "hurts"),
    Card("kernel", "kernel 1", {"kernel": 1}, "hurts"),
    Card("kernel", "kernel 5", {"kernel": 5}, "helps"),
    Card("kernel", "dilation 2", {"dilation": 2}, "helps"),
    Card("unshuffle", "every pixel", {"unshuffle": 1}, "hurts"),
    Card("unshuffle", "squares of 4", {"unshuffle": 4}, "hurts"),
    Card("unshuffle", "squares of 8", {"unshuffle": 8}, "hurts"),
    Card("unshuffle", "squares of 8, 128 maps", {"unshuffle": 8, "width": 128}, "helps"),
    Card("precision", "bfloat16", {"precision": "bfloat16"}, "no evidence"),
    Card("together", "Sigmoid, batch norm", {"activation": "sigmoid", "norm": "batch"}, "hurts"),
    Card("together", "chain, picture", {**_CHAIN, "residual": False}, "hurts"),
    Card("together", "chain, rate 0.001", {**_CHAIN, "learning_rate": 1e-3}, "hurts"),
    Card("together", "kernel 5, rate 0.001", {"kernel": 5, "learning_rate": 1e-3}),
    Card("together", "dilation 2, rate 0.001", {"dilation": 2, "learning_rate": 1e-3}, "hurts"),
    Card("together", "U-Net, rate 0.001", {**_UNET, "learning_rate": 1e-3}, "hurts"),
    Card("together", "rate 0.01, batch norm", {"learning_rate": 1e-2, "norm": "batch"}, "hurts"),
    Card("together", "dropout, 56 maps", {"dropout": 0.1, "width": 56}, "no evidence"),
)
QUICK = ("baseline", "8 maps", "Sigmoid", "chain of 6")
REPLICAS = 7  # further seeds of the baseline in each fold: what a seed alone changes

# What is asked of imitation, too.
IMITATED = ("depth", "width", "steps", "activation", "norm", "dropout", "arrangement", "latent", "residual")
IMITATED += ("learning_rate", "schedule", "kernel", "unshuffle", "aligned")
IMITATION_PREDICTED = {  # where the same change was expected to do something else, or no trial had been made
    "squares of 4": "helps",
    "squares of 8": "helps",
    "4 blocks": "helps",
    "48 maps": "helps",
    "rate 0.001": "hurts",
}
COMPRESS_CARDS = (
    Card("prior", "factorised", {"prior": "factorised"}, "hurts"),
    Card("prior", "hyperprior", {"prior": "hyperprior"}, "hurts"),
    Card("prior", "noise", {"rounding": "noise"}, "hurts"),
    Card("prior", "straight-through", {"rounding": "straight_through"}, "hurts"),
    Card("prior", "nearest numbers", {"thrift": 0.0}, "hurts"),
    Card("groups", "30 channels", {"groups": 4}, "hurts"),
    Card("groups", "48 channels", {"groups": 5}, "hurts"),
    Card("groups", "80 channels", {"groups": 6}, "no evidence"),
    Card("activation", "LeakyReLU", {"activation": "leaky_relu"}, "no evidence"),
    Card("activation", "GDN", {"activation": "gdn"}, "no evidence"),
    Card("steps", "100 steps", {"steps": 100}, "hurts"),
    Card("steps", "150 steps", {"steps": 150}, "hurts"),
)
FAMILIES = {"macs_per_pixel": "width", "seconds": "steps"}  # how the baseline itself buys with each cost

BASELINES = {
    task: Run(
        NetworkConfig("residual", depth=2, width=24),
        TrainingConfig(task, steps=300, batch=8, learning_rate=3e-3),
        fold=0,
    )
    for task in ("restore", "imitate")
}
BASELINES["compress"] = Run(
    CompressionConfig(fine=32, coarse=48, blocks=(1, 1), analysis_blocks=(1, 1), context=32),
    TrainingConfig("compress", "rgb", steps=200, batch=4, patch=96, learning_rate=2e-3, gradient_clip=1.0),
    fold=0,
)


def cards_of(task: str) -> dict[str, Card]:
    """The cards of a task by name, "baseline" and its replicas first."""
    base = [Card("seed", "baseline", {})]
    base += [Card("seed", f"seed + {FOLDS * k}", {"seed": FOLDS * k}, "no evidence") for k in _replicas()]
    chosen = COMPRESS_CARDS if task == "compress" else CARDS
    if task == "imitate":
        chosen = [
            replace(card, prediction=IMITATION_PREDICTED.get(card.name, card.prediction))
            for card in CARDS
            if card.factor in IMITATED
        ]
    found = {}
    for card in (*base, *chosen):
        if card.factor not in QUESTIONS:
            raise ValueError(f"card {card.name!r}: factor {card.factor!r} asks no question; see QUESTIONS")
        if card.name in found:
            raise ValueError(f"card {card.name!r}: the name is taken")
        found[card.name] = card
    return found


def runs_of(task: str, card: Card, folds: range = range(FOLDS)) -> list[Run]:
    """The five runs of a card: seed k trains on the rest of fold k and is judged on fold k."""
    shift = card.changes.get("seed", 0)
    return [replace(BASELINES[task].changed({**card.changes, "seed": k + shift}), fold=k) for k in folds]


def grid(mode: str) -> list[Run]:
    """All runs of a mode, the most wanted first: "full" as recorded; "quick" shows that it works.

    Quick runs have 40 steps on two folds of the samples, and judge nothing.
    """
    if mode == "full":
        return [run for task in BASELINES for card in cards_of(task).values() for run in runs_of(task, card)]
    cards = cards_of("restore")
    return [
        replace(run.changed({"steps": 40}), images="samples")
        for name in QUICK
        for run in runs_of("restore", cards[name], range(2))
    ]


def _replicas() -> range:
    return range(1, REPLICAS + 1)
