"""A start for every fit: networks learnt once, on many photographs together.

`python -c "from helpers.training.fitted_start import learn; learn(['DIR', ...])"` makes it, in about a
quarter of an hour of one core.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch

from helpers.codec.fitted.fitting import SOFT, Fit, lagrangian
from helpers.codec.fitted.payload import START_RATES
from helpers.records import environment
from helpers.training.pairs import read_photographs
from helpers.weights import default_weights, write_tensors

PICTURES, SIDE, STEPS, SEED = 24, 512, 4000, 0


def learn(sets: list[str]) -> None:
    """Writes the shipped start: for each of START_RATES, networks fitted to PICTURES photographs at once.

    Corners of SIDE pixels of colour pictures; the validation photographs are left out.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    found = read_photographs(sets, SIDE, lambda line: None)
    names = sorted(name for name, image in found.items() if image.ndim == 3)
    chosen = [names[number] for number in sorted(rng.choice(len(names), PICTURES, replace=False))]
    tensors, start = {}, time.process_time()
    for rate in START_RATES:
        cost = lagrangian(rate)
        fits = [Fit(found[name][:SIDE, :SIDE], cost, n, learnt=False) for n, name in enumerate(chosen)]
        for fit in fits[1:]:
            fit.weights = fits[0].weights  # one set of networks
        for step in range(STEPS):
            fit = fits[rng.integers(PICTURES)]
            fit.steps = step
            fit.step(SOFT * step / STEPS)
        tensors |= {f"{rate} {name}": adam.value.contiguous() for name, adam in fits[0].weights.items()}
        print(f"rate {rate}: {time.process_time() - start:.0f} s", flush=True)
    pictures = ["/".join(Path(name).parts[-2:]) for name in chosen]
    card = {"what": "networks that a fit starts from", "pictures": pictures, "side": SIDE, "steps": STEPS}
    card |= {"seed": SEED, "seconds": round(time.process_time() - start), **environment()}
    write_tensors(default_weights("fit", "rgb"), tensors, {"card": json.dumps(card)})
