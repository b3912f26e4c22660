"""`evaluate restore` and `evaluate imitate`: rows, references, costs, and the recorded numbers again."""

import json
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from in_process import run
from PIL import Image

from helpers import DATA, RESULTS, jpeg, metrics
from helpers.data import Scene, open_set
from helpers.data.sets import ImageSet
from helpers.models import ConvolutionalNetwork, NetworkConfig
from helpers.restoring import reconstruct
from helpers.study.evaluation import evaluate
from helpers.study.readme import model_table
from helpers.weights import WEIGHTS, default_weights, load_network, read_tensors, save_network

ALL = sorted(WEIGHTS.glob("*.safetensors"))
CARDS = {path: json.loads(read_tensors(path, "card")[1]["card"]) for path in ALL}
SHIPPED = [path for path in ALL if CARDS[path]["task"] != "compress"]
LARGE = ("restore_rgb", "restore_rgb_q10", "restore_y")
FOUR = ("bikes", "caps", "flowersonih35", "womanhat")  # with and without sides that are multiples of 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("chelsea", "coffee"):
        Image.fromarray(open_set("samples")[name].load()[:100, :140]).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def nothing(tmp_path):
    """Weights of a restorer and an imitator that return what they are given."""
    for task in ("restore", "imitate"):
        card = {"task": task, "space": "y", "parameters": 1, "macs_per_pixel": 2.0, "legs": []}
        save_network(ConvolutionalNetwork(NetworkConfig(width=4)), tmp_path / f"{task}.safetensors", card)
    return tmp_path


def test_restore_stands_beside_doing_nothing(folder, nothing, tmp_path):
    process = run(
        "evaluate", "restore", "--images", folder, "--weights", nothing / "restore.safetensors",
        "--quality", 10, 40, "--json", tmp_path / "record.json",
    )  # fmt: skip
    assert process.returncode == 0 and process.stderr == "", process.stderr
    assert "restore.safetensors: 1 parameters, 2 MAC a pixel" in process.stdout
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["weights"] == "restore.safetensors" and record["macs_per_pixel"] == 2
    rows = {(row["method"], row["reference"], row["quality"]): row for row in record["rows"]}
    assert set(rows) == {(m, "original", q) for m in ("identity", "restore") for q in (10, 40)}
    for quality in (10, 40):
        same, network = rows["identity", "original", quality], rows["restore", "original", quality]
        assert [same[k] for k in ("psnr", "ssim", "psnr_b")] == [
            network[k] for k in ("psnr", "ssim", "psnr_b")
        ]
        assert network["seconds"] > 0 and [image["name"] for image in network["images"]] == [
            "chelsea",
            "coffee",
        ]


def test_pictures_made_worse_are_counted_and_the_worst_change_is_told(folder, nothing, tmp_path):
    def rows(weights):
        command = ("evaluate", "restore", "--images", folder, "--weights", weights, "--quality", 10, 98)
        process = run(*command, "--json", tmp_path / "record.json")
        assert process.stdout.splitlines()[-1].split()[-1] == str(rows_of()[-1]["made_worse"])
        return [row for row in rows_of() if row["method"] != "identity"]

    def rows_of():
        return json.loads((tmp_path / "record.json").read_text())["rows"]

    for row in rows(nothing / "restore.safetensors"):
        assert (row["worst_change"], row["made_worse"], row["blocks_kept"]) == (0, 0, 1)
    torch.manual_seed(0)
    network = ConvolutionalNetwork(NetworkConfig(width=4))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    card = {"task": "restore", "space": "y", "parameters": 1, "macs_per_pixel": 2.0, "legs": []}
    save_network(network, tmp_path / "harm.safetensors", card)
    coarse, fine = rows(tmp_path / "harm.safetensors")
    assert coarse["made_worse"] == 2 and coarse["worst_change"] < -0.1
    losses = [image["psnr"] for image in coarse["images"]]
    assert min(losses) < 30 and fine["worst_change"] > coarse["worst_change"]


def test_a_grey_picture_is_its_own_luma_and_goes_through_the_luma_network(tmp_path):
    image = open_set("samples")["camera"].load()[100:300, 100:300]
    Image.fromarray(image).save(tmp_path / "grey.png")
    process = run("evaluate", "jpeg", "--images", tmp_path, "--json", tmp_path / "record.json")
    assert "1 of them grey, taken as they are" in process.stdout
    record = json.loads((tmp_path / "record.json").read_text())
    coded = jpeg.decode(jpeg.encode(image, 10))
    assert record["grey_pictures"] == ["grey"]
    assert record["rows"][0]["psnr"] == pytest.approx(metrics.psnr(image, coded))
    process = run("evaluate", "restore", "--images", tmp_path, "--space", "grey", "--quality", "10")
    assert process.returncode == 0 and "restore_y.safetensors" in process.stdout


def test_chroma_and_an_earlier_coding_are_as_asked(folder, nothing):
    image = open_set(folder)["coffee"].load()
    code = partial(jpeg.encode, subsampling="4:4:4")
    record = evaluate(
        "jpeg", open_set(folder), [90], "rgb", pytest.fail, subsampling="4:4:4", earlier=(30, 4)
    )
    before = jpeg.decode(code(image, 30))[4:, 4:]
    (found,) = [i["psnr"] for i in record["rows"][0]["images"] if i["name"] == "coffee"]
    assert found == pytest.approx(metrics.psnr(image[4:, 4:], jpeg.decode(code(before, 90))))
    assert record["earlier"] == (30, 4) and record["subsampling"] == "4:4:4"


def test_imitate_is_compared_with_the_jpeg_and_with_the_original(folder, nothing):
    record = evaluate(
        "imitate", open_set(folder), [10], "y", pytest.fail, weights=nothing / "imitate.safetensors"
    )
    rows = {(row["method"], row["reference"]): row for row in record["rows"]}
    assert list(rows) == [
        ("identity", "jpeg"), ("imitate", "jpeg"), ("jpeg", "original"), ("imitate", "original"),
    ]  # fmt: skip
    image = jpeg.luma(open_set(folder)["coffee"].load())
    coded = jpeg.decode(jpeg.encode(image, 10))
    values = {key: row["images"][1]["psnr"] for key, row in rows.items()}
    assert values["identity", "jpeg"] == values["imitate", "jpeg"] == metrics.psnr(coded, image)
    assert values["jpeg", "original"] == metrics.psnr(image, coded)
    assert math.isinf(values["imitate", "original"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("imitate", "--weights", "restore.safetensors"), "is of task 'restore', not 'imitate'"),
        (("restore", "--weights", "restore.safetensors", "--space", "rgb"), "is of space 'y', not 'rgb'"),
        (("restore", "--weights", "nowhere.safetensors"), "does not exist"),
        (("jpeg", "--weights", "restore.safetensors"), "jpeg: takes no weights"),
        (("imitate", "--space", "rgb"), "no weights are shipped for space rgb"),
    ],
)
def test_weights_that_cannot_be_used_are_one_line(folder, nothing, arguments, reason):
    words = [nothing / word if word.endswith(".safetensors") else word for word in arguments]
    process = run("evaluate", *words, "--images", folder)
    assert process.returncode == 2 and process.stdout == ""
    (line,) = process.stderr.splitlines()
    assert reason in line


def test_a_grey_picture_is_named_where_the_network_takes_colour(tmp_path, folder):
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "grey.png")
    Image.open(folder / "coffee.png").save(tmp_path / "colour.png")
    lines = []
    record = evaluate(
        "restore", open_set(tmp_path), [10], "rgb", lines.append, weights=default_weights("restore", "rgb")
    )
    assert (
        len(lines) == 1 and "grey.png: the network takes 3 channels, the image has 1; --space y" in lines[0]
    )
    assert [image["name"] for image in record["rows"][0]["images"]] == ["colour"]


def test_weights_are_small_and_have_their_cards_and_records():
    restorers = {"restore_y", "restore_y_q10", "restore_rgb", "restore_rgb_q10"}
    assert {path.stem for path in SHIPPED} >= {*restorers, "imitate_y_q10"}
    assert sum(path.stat().st_size for path in ALL) < 40e6
    for path in SHIPPED:
        assert path.stat().st_size < 10e6
        network, card = load_network(path, ConvolutionalNetwork)
        assert card["macs_per_pixel"] <= 100_000
        for leg in card["legs"]:
            assert leg["seconds"] > 0 and leg["pixels"] > 0 and leg["pictures"]["sha256"] and leg["processor"]
        record = json.loads((RESULTS / f"{path.stem}_live1.json").read_text())
        assert record["set"] == "live1" and {len(row["images"]) for row in record["rows"]} == {29}
        assert record["weights"] == path.name


@pytest.mark.parametrize(
    "path", [pytest.param(p, marks=pytest.mark.slow if p.stem in LARGE else [], id=p.stem) for p in SHIPPED]
)
def test_shipped_weights_give_their_recorded_numbers_again(live1, path):
    record = json.loads((RESULTS / f"{path.stem}_live1.json").read_text())
    qualities = sorted({row["quality"] for row in record["rows"]})
    few = ImageSet("live1", tuple(Scene(n, live1[n].path) for n in FOUR), "flat")
    found = evaluate(record["task"], few, qualities[:2], record["space"], pytest.fail, weights=path)
    for row in found["rows"]:
        key = ("method", "reference", "quality")
        (recorded,) = [r for r in record["rows"] if all(r[k] == row[k] for k in key)]
        known = {image["name"]: image for image in recorded["images"]}
        for image in row["images"]:
            assert image["psnr"] == pytest.approx(known[image["name"]]["psnr"], abs=0.01)
            assert image["ssim"] == pytest.approx(known[image["name"]]["ssim"], abs=0.0005)


@pytest.mark.parametrize("space", ["y", "rgb"])
def test_float16_costs_less_than_a_hundredth_of_a_decibel(tmp_path, space):
    """What is shipped, nudged to values that float16 does not hold, saved and read again."""
    network, card = load_network(WEIGHTS / f"restore_{space}.safetensors", ConvolutionalNetwork)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1 + 4e-4 * (torch.rand_like(parameter) - 0.5))  # about one float16 spacing
    save_network(network, tmp_path / "w.safetensors", card)
    image = open_set("samples")["coffee"].load()[:160, :240]
    image = image if space == "rgb" else jpeg.luma(image)
    coded = jpeg.decode(jpeg.encode(image, 10))
    before, after = (
        metrics.psnr(image, reconstruct(n, coded))
        for n in (network, load_network(tmp_path / "w.safetensors", ConvolutionalNetwork)[0])
    )
    assert before > metrics.psnr(image, coded) + 1 and abs(before - after) < 0.01


def mean_psnr(name: str, method: str, reference: str = "original") -> float:
    rows = json.loads((RESULTS / f"{name}_live1.json").read_text())["rows"]
    (row,) = [r for r in rows if (r["method"], r["reference"], r["quality"]) == (method, reference, 10)]
    return row["psnr"]


def test_the_records_hold_what_the_study_says_of_them():
    """Doing nothing is the literature's JPEG row; the networks stand where the bars are."""
    assert mean_psnr("restore_y_q10", "identity") == pytest.approx(27.77, abs=0.005)
    assert mean_psnr("restore_y_q10", "restore_y_q10") >= 29.20
    assert (
        mean_psnr("restore_rgb_q10", "restore_rgb_q10")
        >= 27.20
        > mean_psnr("restore_rgb", "restore_rgb")
        > 26.9
    )
    nothing = mean_psnr("imitate_y_q10", "identity", "jpeg")
    plain = mean_psnr("imitate_y_q10_plain", "imitate_y_q10_plain", "jpeg")
    grid = mean_psnr("imitate_y_q10_grid", "imitate_y_q10_grid", "jpeg")
    rounding = mean_psnr("imitate_y_q10", "imitate_y_q10", "jpeg")
    assert nothing < plain < grid < rounding and rounding > 52


def test_the_table_of_models_is_drawn_from_files_and_records():
    assert model_table() in (DATA / "README.md").read_text(), "run readme.write_all(), see data/README.md"


def test_every_training_picture_is_listed_with_its_source():
    table = pd.read_csv(DATA / "training_pictures.csv")
    legs = [leg for path in ALL for leg in CARDS[path]["legs"]]
    held_out = json.loads((DATA / "splits.json").read_text())["validation"]
    stems = table.file.str.rsplit(".", n=1).str[0]
    trained = table[~(stems.isin(held_out) | stems.str.rpartition("_")[0].isin(held_out))]
    assert {leg["pictures"]["count"] for leg in legs} == {len(trained), (trained.pack == "crops").sum()}
    assert table.repository.str.fullmatch(r"[\w.-]+/[\w.-]+").all()
    assert table.commit.str.fullmatch("[0-9a-f]{40}").all()
    assert table[["width", "height"]].min().min() >= 160
