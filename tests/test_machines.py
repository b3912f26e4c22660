"""What a file of the codec is on other machines, played here; and a machine without a network."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import study_copy
import torch
from PIL import Image
from sandbox import helpers_command, needs, offline, quiet_environment
from skimage import data as photographs
from test_codec import latent_of, shipped
from test_faults import small_study

from helpers import ROOT
from helpers.codec.trained import pictures
from helpers.codec.trained.stream import decode_latent, encode_latent

# Older processors, played by the switches of the libraries that choose instructions by processor.
MACHINES = {
    "SSE 4.1": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default"},
    "AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"},
    "two threads": {"OMP_NUM_THREADS": "2"},
    "another OpenBLAS kernel": {"OPENBLAS_CORETYPE": "Nehalem"},
}
USUAL = ("SSE 4.1",)  # in every run
DECODE = """
import hashlib, sys
import numpy as np
import torch
from helpers.codec.trained import pictures
from helpers.codec.container import read
from helpers.codec.trained.network import STRIDE
from helpers.codec.trained.stream import decode_latent
for name in sys.argv[2:]:
    data = open(name, "rb").read()
    file, (network, _) = read(data), pictures.shipped_codec()
    shape = (1, network.config.latent, -(-file.height // STRIDE), -(-file.width // STRIDE))
    latent = decode_latent(network, file.latent, file.rate, shape)
    print(hashlib.sha256(latent.contiguous().numpy().tobytes()).hexdigest())
    np.save(name + sys.argv[1], pictures.decode(data))
"""


@pytest.fixture(scope="module")
def coded(tmp_path_factory) -> dict:
    """Files of four pictures, by their path, with latent and picture as they are here."""
    folder, found = tmp_path_factory.mktemp("coded"), {}
    network, _ = pictures.shipped_codec()
    crops = {
        "colour": photographs.astronaut()[:200, 100:360],
        "grey": photographs.camera()[:144, :200],
        "fine": photographs.coffee()[:128, :160],
        "small": photographs.chelsea()[:9, :13],
    }
    for (name, image), rate in zip(crops.items(), (32, 20, 63, 0), strict=True):
        image = np.ascontiguousarray(image)
        data, picture = pictures.encode(image, rate)
        path = folder / f"{name}.npic"
        path.write_bytes(data)
        colour = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
        _, latent = encode_latent(network, latent_of(network, colour, rate), rate)
        found[path] = hashlib.sha256(latent.contiguous().numpy().tobytes()).hexdigest(), picture
    return found


@shipped
@pytest.mark.parametrize(
    "machine", [n if n in USUAL else pytest.param(n, marks=pytest.mark.slow) for n in MACHINES]
)
def test_a_file_is_the_same_latent_on_other_processors_and_the_same_picture_as_promised(coded, machine):
    process = subprocess.run(
        [sys.executable, "-c", DECODE, machine, *map(str, coded)],
        cwd=ROOT, env=quiet_environment(**MACHINES[machine]), capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    different = samples = 0
    for found, (path, (latent, picture)) in zip(process.stdout.split(), coded.items(), strict=True):
        assert found == latent, path.name
        apart = np.abs(np.load(f"{path}{machine}.npy").astype(int) - picture)
        assert apart.shape == picture.shape and apart.max() <= 1
        different, samples = different + (apart > 0).sum(), samples + apart.size
    print(f"{machine}: {different} of {samples} samples one level off")
    assert different <= (0 if machine == "two threads" else 1e-4 * samples)


@shipped
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_the_precision_of_products_that_a_notebook_may_ask_for_changes_no_latent(coded, precision):
    network, model = pictures.shipped_codec()
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        for path, (_, picture) in coded.items():
            decoded = pictures.decode(path.read_bytes(), (network, model))
            apart = np.abs(decoded.astype(int) - picture)
            assert apart.max() <= 1 and (apart > 0).mean() <= 1e-4
        scaled = latent_of(network, np.ascontiguousarray(photographs.astronaut()[:64, :80]), 40)
        data, latent = encode_latent(network, scaled, 40)
        assert torch.equal(decode_latent(network, data, 40, tuple(scaled.shape)), latent)
    finally:
        torch.set_float32_matmul_precision(before)
    assert encode_latent(network, scaled, 40)[0] == data


@pytest.mark.slow
@shipped
def test_without_a_network_the_commands_work(tmp_path):
    """Report, evaluation, encoding and decoding, on a machine that reaches only itself."""
    needs("n")
    study, photograph, file = small_study(tmp_path / "study"), tmp_path / "x.png", tmp_path / "x.npic"
    Image.fromarray(photographs.astronaut()[:96, 100:228]).save(photograph)
    commands = [
        ("evaluate", "jpeg", "--images", "samples", "--quality", 10, "--json", tmp_path / "record.json"),
        ("encode", photograph, file),
        ("decode", file, tmp_path / "back.png"),
        ("report",),
    ]
    done = [offline(helpers_command(*words), study) for words in commands]
    assert [process.returncode for process in done] == [0, 0, 0, 0], [process.stderr for process in done]
    assert len(json.loads((tmp_path / "record.json").read_text())["rows"][0]["images"]) == 9
    assert Image.open(tmp_path / "back.png").size == (128, 96)
    assert (study / "figures" / "report" / "index.html").is_file()


def test_without_git_a_copy_of_the_project_is_whole(tmp_path, monkeypatch):
    """As from an unpacked archive: what is made here is left out, by its place and not by its name."""
    failed = subprocess.CompletedProcess([], 128, "", "")
    monkeypatch.setattr(study_copy.subprocess, "run", lambda *arguments, **options: failed)
    copy = study_copy.copy_study(tmp_path / "study")
    for part in ("helpers", "tests", "notebooks"):
        wanted = {
            path.relative_to(ROOT)
            for path in (ROOT / part).rglob("*.[pi]*")
            if "__pycache__" not in str(path)
        }
        wanted = {path for path in wanted if ".ipynb_checkpoints" not in str(path)}
        assert wanted == {path.relative_to(copy) for path in (copy / part).rglob("*.[pi]*")}
    assert not [name for name in (".venv", ".git", "figures/report", "data/runs") if (copy / name).exists()]
