"""A start for every fit: networks learnt once, on many photographs together.

    python -c "from helpers.fitted.learning import learn; learn(['DIR', ...])"

takes about a quarter of an hour of one core.
"""

import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from helpers.fitted.fitting import SOFT, Fit
from helpers.fitted.payload import LEARNT, RATES
from helpers.fitted.starting import lagrangian
from helpers.records import environment, write_file
from helpers.training.pairs import read_photographs
from helpers.weights import digest

PICTURES, SIDE, STEPS, SEED = 24, 512, 4000, 0


def learn(sets: list[str]) -> None:
    """Writes LEARNT: for each of RATES, networks fitted to PICTURES photographs of image sets at once.

    Corners of SIDE pixels of colour pictures; the validation photographs are left out.
    """
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    found = read_photographs(sets, SIDE, lambda line: None)
    names = sorted(name for name, image in found.items() if image.ndim == 3)
    chosen = [names[place] for place in sorted(rng.choice(len(names), PICTURES, replace=False))]
    tensors, start = {}, time.process_time()
    for rate in RATES:
        cost = lagrangian(rate)
        fits = [Fit(found[name][:SIDE, :SIDE], cost, n, learnt=False) for n, name in enumerate(chosen)]
        for fit in fits[1:]:
            fit.weights = fits[0].weights  # one set of networks
        for step in range(STEPS):
            fit = fits[rng.integers(PICTURES)]
            fit.steps = step
            fit.step(SOFT * step / STEPS)
        for name, adam in fits[0].weights.items():
            tensors[f"{rate} {name}"] = adam.value.contiguous()
        print(f"rate {rate}: {time.process_time() - start:.0f} s", flush=True)
    card = {
        "what": "networks that a fit starts from",
        "pictures": ["/".join(Path(name).parts[-2:]) for name in chosen],
        "side": SIDE,
        "steps": STEPS,
        "seed": SEED,
        "seconds": round(time.process_time() - start),
        **environment(),
    }
    texts = {"card": json.dumps(card)}
    write_file(LEARNT, save(tensors, {**texts, "sha256": digest(tensors, texts)}))
