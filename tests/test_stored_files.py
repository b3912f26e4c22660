"""Files that earlier versions of the program wrote are decoded to the same pixels."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.__main__ import main

STORED = Path(__file__).parent / "stored_files"
PIXELS = json.loads((STORED / "pixels.json").read_text())


@pytest.mark.parametrize("name", sorted(PIXELS))
def test_a_stored_file_decodes_to_the_same_pixels(name, tmp_path):
    """No sample of the trained codec's two pictures lies within 0.0001 levels of a tie of rounding, so that
    they are the same on any processor."""
    assert main(["decode", str(STORED / f"{name}.npic"), str(tmp_path / "back.png")]) == 0
    with Image.open(tmp_path / "back.png") as picture:
        pixels = np.array(picture)
        found = {"mode": picture.mode, "size": list(picture.size)}
    assert found | {"sha256": hashlib.sha256(pixels.tobytes()).hexdigest()} == PIXELS[name]


def test_every_stored_file_has_its_pixels_on_record():
    assert {path.stem for path in STORED.glob("*.npic")} == set(PIXELS) and len(PIXELS) == 4
