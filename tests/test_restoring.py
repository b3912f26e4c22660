"""Restoring files: any size and orientation, tiles that don't show, metadata kept, one line for bad files."""

import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import odd_jpeg
import pytest
import torch
from in_process import run
from PIL import Image, ImageCms, ImageOps

from helpers import ROOT, cells, jpeg, metrics, restoring
from helpers.data import load_image, open_set
from helpers.models import ConvolutionalNetwork, NetworkConfig
from helpers.restoring import HALO, reconstruct
from helpers.weights import WEIGHTS, load_network

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SHIPPED = sorted(WEIGHTS.glob("restore_*.safetensors"))


@pytest.fixture(scope="module")
def colour():
    return open_set("samples")["coffee"].load()[:123, :165]


def restore(*arguments):
    return run("restore", *arguments)


def write_jpeg(path: Path, image: np.ndarray, orientation: int | None = None, **options) -> Path:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
        exif[0x010F] = "a camera"
    Image.fromarray(image).save(path, "JPEG", **{"quality": 20, "exif": exif, **options})
    return path


def restless(config: NetworkConfig) -> ConvolutionalNetwork:
    """A network whose every weight counts and whose output depends on all that it sees."""
    torch.manual_seed(0)
    network = ConvolutionalNetwork(config)
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.02)
    return network


@pytest.mark.parametrize("shape", [(8, 8), (17, 30), (1, 1), (9, 8), (1, 50)])
def test_any_size_comes_back(shape):
    for channels, extra in ((1, ()), (3, (3,))):
        config = NetworkConfig("unet", image_channels=channels, width=8, depth=2)
        image = np.random.default_rng(0).integers(0, 256, (*shape, *extra), dtype=np.uint8)
        assert np.array_equal(reconstruct(ConvolutionalNetwork(config), image), image)


def test_tiles_do_not_show(monkeypatch):
    network = restless(NetworkConfig("unet", image_channels=3, width=16, depth=3))
    image = open_set("samples")["astronaut"].load()[:437, :365]
    whole = reconstruct(network, image)
    monkeypatch.setattr(restoring, "TILE", 128)
    through, sizes = restoring._through, []
    monkeypatch.setattr(restoring, "_through", lambda *x: sizes.append(x[1].shape) or through(*x))
    tiled = reconstruct(network, image)
    assert len(sizes) == 4 * 3
    assert np.abs(whole.astype(int) - image).max() > 3  # it does something
    assert np.abs(tiled.astype(int) - whole).max() <= 1 and np.mean(tiled != whole) < 1e-4


def test_without_the_halo_tiles_would_show(monkeypatch):
    network = restless(NetworkConfig("unet", image_channels=3, width=16, depth=3))
    image = open_set("samples")["astronaut"].load()[:437, :365]
    whole = reconstruct(network, image)
    monkeypatch.setattr(restoring, "TILE", 128)
    monkeypatch.setattr(restoring, "HALO", 8)
    assert np.mean(reconstruct(network, image) != whole) > 1e-3


@pytest.mark.parametrize(
    "path",
    [*SHIPPED[:1], *(pytest.param(p, marks=pytest.mark.slow) for p in SHIPPED[1:])],
    ids=lambda path: path.stem,
)
@pytest.mark.slow
def test_shipped_restorers_see_no_further_than_the_halo(path):
    network, _ = load_network(path, ConvolutionalNetwork)
    side = 4 * HALO
    image = torch.rand(1, network.config.image_channels, side, side, requires_grad=True)
    restored, middle = network.double()(image.double())[0, 0], side // 2
    for place in (middle, middle + 7):  # a block's first and last pixel
        (gradient,) = torch.autograd.grad(restored[place, place], image, retain_graph=True)
        rows = gradient[0].abs().sum(0).sum(1).nonzero()
        assert place - rows.min() <= HALO and rows.max() - place <= HALO


def test_a_network_of_other_channels_is_named():
    with pytest.raises(ValueError, match="takes 1 channels, the image has 3"):
        reconstruct(ConvolutionalNetwork(NetworkConfig()), np.zeros((8, 8, 3), np.uint8))


def test_tiles_do_not_show_within_cells(monkeypatch, photograph):
    network = restless(NetworkConfig("unet", image_channels=3, width=8, depth=1))
    for sampling in ("4:2:0", "4:1:1"):
        image, known = cells.decode(odd_jpeg.coded(photograph, sampling, quality=60))
        for coding in (known, known._replace(grid=(4, 4))):
            whole = reconstruct(network, image, coding).astype(int)
            with monkeypatch.context() as patch:
                patch.setattr(restoring, "TILE", 64)
                tiled = reconstruct(network, image, coding)
            assert np.abs(tiled - whole).max() <= 1 and np.mean(tiled != whole) < 1e-3


@pytest.mark.parametrize("ending", [".png", ".webp"])
def test_a_restored_file_is_better_than_the_jpeg(tmp_path, colour, ending):
    for original in (colour, jpeg.full_range_grey(colour)):
        source = write_jpeg(tmp_path / "in.jpg", original, quality=10)
        process = restore(source, tmp_path / f"out{ending}")
        assert process.returncode == 0 and process.stderr == ""
        restored = load_image(tmp_path / f"out{ending}")
        restored = (
            restored if original.ndim == 3 or restored.ndim == 2 else restored[..., 0]
        )  # WebP has no grey
        assert metrics.psnr(original, restored) > metrics.psnr(original, load_image(source)) + 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_are_restored_as_coded_and_turned_afterwards(tmp_path, colour, orientation):
    source = write_jpeg(tmp_path / "in.jpg", colour, orientation, icc_profile=PROFILE)
    restoring.restore_file(source, tmp_path / "out.png")
    plain = write_jpeg(tmp_path / "plain.jpg", colour)
    restoring.restore_file(plain, tmp_path / "plain.png")
    with Image.open(tmp_path / "out.png") as picture, Image.open(source) as coded:
        assert picture.getexif()[0x0112] == 1 and picture.getexif()[0x010F] == "a camera"
        assert picture.info["icc_profile"] == PROFILE
        assert picture.size == ImageOps.exif_transpose(coded).size
        reference = Image.open(tmp_path / "plain.png")
        reference.getexif()[0x0112] = orientation
        turned = np.array(ImageOps.exif_transpose(reference))
        assert np.array_equal(np.array(picture), turned)


def test_the_grid_is_that_of_the_file_not_of_the_turned_picture(tmp_path, colour):
    """Turned first, sides of 123 and 165 put the blocks off the grid, and less would be gained."""
    turned_first = np.rot90(jpeg.decode(jpeg.encode(colour, 10)))
    network = load_network(WEIGHTS / "restore_rgb.safetensors", ConvolutionalNetwork)[0]
    wrong = metrics.psnr(np.rot90(colour), reconstruct(network, np.ascontiguousarray(turned_first)))
    source = write_jpeg(tmp_path / "in.jpg", colour, orientation=8, quality=10)
    restoring.restore_file(source, tmp_path / "out.png")
    assert metrics.psnr(np.rot90(colour).copy(), load_image(tmp_path / "out.png")) > wrong + 0.05


def test_a_jpeg_without_metadata_gets_none(tmp_path, colour):
    restoring.restore_file(write_jpeg(tmp_path / "in.jpg", colour, exif=b""), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as picture:
        assert not picture.getexif() and "icc_profile" not in picture.info
        assert picture.size == (165, 123)


def test_a_folder_is_restored_and_what_cannot_be_is_named(tmp_path, colour):
    folder = tmp_path / "in"
    folder.mkdir()
    write_jpeg(folder / "a b.jpg", colour)
    write_jpeg(folder / "grey.jpeg", colour[..., 0])
    (folder / "cut.jpg").write_bytes((folder / "a b.jpg").read_bytes()[:900])
    (folder / "empty.jpg").touch()
    (folder / "notes.txt").write_text("not a picture")
    Image.fromarray(colour).save(folder / "lossless.png")
    Image.fromarray(colour).convert("CMYK").save(folder / "print.jpg")
    process = restore(folder, tmp_path / "out")
    assert process.returncode == 2 and process.stdout.endswith("\n2 of 6 files done\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a b.png", "grey.png"]
    lines = sorted(process.stderr.splitlines())
    assert [Path(line.split(": ")[0]).name for line in lines] == [
        "cut.jpg", "empty.jpg", "lossless.png", "print.jpg",
    ]  # fmt: skip
    assert "restore takes grey and RGB JPEG files" in lines[2] and "CMYK" in lines[3]


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("out.gif", "the ending must be one of"),
        ("no/out.png", "can't be written"),
        (".", "the ending must be"),
    ],
)
def test_a_target_that_cannot_be_written_is_named(tmp_path, colour, target, reason):
    source = write_jpeg(tmp_path / "in.jpg", colour)
    process = restore(source, tmp_path / target)
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1 and reason in process.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jpg"]


def test_a_file_is_not_written_over_itself_nor_larger_than_its_format_holds(tmp_path, colour):
    source = write_jpeg(tmp_path / "in.jpg", colour)
    before = source.read_bytes()
    assert "is the file to restore" in restore(source, source).stderr and source.read_bytes() == before
    wide = write_jpeg(tmp_path / "wide.jpg", np.zeros((8, 16400), np.uint8))
    process = restore(wide, tmp_path / "wide.webp")
    assert process.returncode == 2 and len(process.stderr.splitlines()) == 1
    assert "can't be written" in process.stderr and not (tmp_path / "wide.webp").exists()


def test_a_source_that_is_none_is_named(tmp_path):
    process = restore(tmp_path / "nowhere.jpg", tmp_path / "out.png")
    assert process.returncode == 2 and process.stderr.endswith("nowhere.jpg: does not exist\n")


@pytest.mark.long
def test_24_megapixels_take_less_than_2_gigabytes(tmp_path):
    image = np.tile(open_set("samples")["coffee"].load(), (10, 10, 1))[:4000, :6000]
    source = write_jpeg(tmp_path / "large.jpg", image)
    words = [sys.executable, "-m", "helpers", "restore", source, tmp_path / "large.png"]
    subprocess.run(words, cwd=ROOT, check=True)
    assert load_image(tmp_path / "large.png").shape == (4000, 6000, 3)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2e6  # kilobytes


@pytest.fixture(scope="module")
def photograph():
    return open_set("samples")["motorcycle_left"].load()[:256, :256]


@pytest.mark.parametrize("quality", [75, 90, 95, 98, 100])
def test_a_photograph_is_no_worse_as_png_and_as_jpeg(tmp_path, photograph, quality):
    for original in (photograph, photograph[..., 1]):
        source = write_jpeg(tmp_path / "in.jpg", original, quality=quality)
        for target in (tmp_path / "out.png", tmp_path / "out.jpg"):
            process = restore(source, target)
            assert process.returncode == 0 and process.stderr == ""
            before, after = (metrics.psnr(original, load_image(path)) for path in (source, target))
            assert after > before - 0.02 and (quality > 90 or after > before + 0.1)


def test_what_cannot_gain_is_handed_on(tmp_path, photograph):
    source = write_jpeg(tmp_path / "in.jpg", photograph, 6, quality=100, icc_profile=PROFILE)
    process = restore(source, tmp_path / "out.jpg")
    assert process.stdout.startswith(
        "out.jpg: was quality about 100, 4:2:0, 256x256; copied, nothing to gain"
    )
    assert (tmp_path / "out.jpg").read_bytes() == source.read_bytes()
    assert "nothing to gain" in restore(source, tmp_path / "out.png").stdout
    assert np.array_equal(load_image(tmp_path / "out.png"), load_image(source))


def test_a_gain_that_a_new_coding_would_lose_is_left(tmp_path, photograph):
    """At quality 98 pixels move by less than a JPEG can say."""
    source = write_jpeg(tmp_path / "in.jpg", photograph, quality=98)
    assert "copied, a new coding would lose the gain" in restore(source, tmp_path / "out.jpg").stdout
    assert (tmp_path / "out.jpg").read_bytes() == source.read_bytes()


def test_the_line_says_what_the_file_was_and_what_changed(tmp_path, photograph):
    source = write_jpeg(tmp_path / "in.jpg", photograph, quality=30, subsampling="4:4:4")
    line = restore(source, tmp_path / "out.png").stdout
    size = (tmp_path / "out.png").stat().st_size
    moved = np.square(load_image(tmp_path / "out.png").astype(float) - load_image(source)).mean() ** 0.5
    what = f"restored (pixels moved by {moved:.2f} levels, root mean square), {size:,} bytes"
    assert line == f"out.png: was quality about 30, 4:4:4, 256x256; {what}\n"


def test_strength_scales_the_change(tmp_path, photograph):
    source = write_jpeg(tmp_path / "in.jpg", photograph, quality=10)
    pictures = {}
    for strength in ("0", "0.5", "1"):
        restore(source, tmp_path / "out.png", "--strength", strength)
        pictures[strength] = load_image(tmp_path / "out.png").astype(float)
    assert np.array_equal(pictures["0"], load_image(source))
    half = (pictures["0"] + pictures["1"]) / 2
    clipped = (pictures["1"] == 0) | (pictures["1"] == 255)
    assert np.abs(pictures["0.5"] - half)[~clipped].max() <= 1
    assert restore(source, tmp_path / "out.png", "--strength", "2").returncode == 2


def test_what_an_earlier_coding_lost_comes_back(tmp_path, photograph):
    once = jpeg.decode(jpeg.encode(photograph, 30))
    for cut in (0, 4):
        source = write_jpeg(tmp_path / "in.jpg", once[cut:, cut:], quality=90)
        assert "coded before" in restore(source, tmp_path / "out.png").stdout
        gain = metrics.psnr(photograph[cut:, cut:], load_image(tmp_path / "out.png"))
        assert gain > metrics.psnr(photograph[cut:, cut:], load_image(source)) + 0.8


@pytest.mark.parametrize("sampling", odd_jpeg.SAMPLINGS)
@pytest.mark.parametrize("quality", [20, 95])
def test_every_sampling_gains(tmp_path, photograph, sampling, quality):
    source = tmp_path / "in.jpg"
    source.write_bytes(odd_jpeg.coded(photograph, sampling, quality=quality))
    assert f", {sampling}, 256x256; restored" in restore(source, tmp_path / "out.png").stdout
    gain = metrics.psnr(photograph, load_image(tmp_path / "out.png"))
    assert gain > metrics.psnr(photograph, load_image(source)) + (0.5 if quality == 20 else 0.05)


def test_rare_files_are_restored_or_named(tmp_path, photograph):
    usual = odd_jpeg.coded(photograph, "4:2:0", quality=30)
    for name, data, said in (
        ("progressive", odd_jpeg.coded(photograph, "4:2:0", quality=30, progressive=True), "4:2:0"),
        ("rgb", odd_jpeg.coded(photograph, "4:4:4", quality=30, keep_rgb=True), "RGB"),
        ("wide tables", odd_jpeg.with_wide_tables(usual), "4:2:0"),
        ("a zero", odd_jpeg.with_wide_tables(usual, zero=True), "a quantisation table holds a zero"),
        ("12 bits", odd_jpeg.of_12_bits(usual), "is a JPEG of 12 bits a sample"),
        ("one pixel", jpeg.encode(photograph[:1, :1], 30), "1x1; restored"),
    ):
        (tmp_path / f"{name}.jpg").write_bytes(data)
        process = restore(tmp_path / f"{name}.jpg", tmp_path / f"{name}.png")
        done = name not in ("a zero", "12 bits")
        assert process.returncode == (0 if done else 2), process.stderr
        assert said in (process.stdout if done else process.stderr)
        assert len((process.stdout + process.stderr).splitlines()) == 1


def test_an_arithmetic_coded_file_is_one_line_whatever_it_holds(tmp_path, photograph):
    source = tmp_path / "in.jpg"
    source.write_bytes(odd_jpeg.arithmetic(odd_jpeg.coded(photograph, "4:2:0", quality=30)))
    process = restore(source, tmp_path / "out.png")
    assert process.returncode in (0, 2) and len((process.stdout + process.stderr).splitlines()) == 1


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.long)])
def test_hardly_a_file_of_odd_tables_and_samplings_is_made_worse(count):
    """Tables are standard ones times a number for each entry; pictures are of every sample but grass,
    whose pixels are those of a JPEG of quality 90 already."""
    rng = np.random.default_rng(18)
    scenes = [scene.load() for scene in open_set("samples").scenes if scene.name != "grass"]
    lost = []
    for number in range(count):
        image = scenes[rng.integers(len(scenes))]
        top, left = (rng.integers(0, side - 160) for side in image.shape[:2])
        image = image[top : top + rng.integers(100, 160), left : left + rng.integers(100, 160)]
        quality, unevenness = int(rng.integers(5, 101)), rng.uniform(0, 1.5)
        tables = [
            (cells.standard_steps(quality)[k].ravel() * np.exp(unevenness * rng.standard_normal(64)))
            .round().clip(1, 255).astype(int).tolist()
            for k in (0, 1)
        ]  # fmt: skip
        if image.ndim == 3:
            sampling = list(odd_jpeg.SAMPLINGS)[rng.integers(5)]
            height, width = (side // 32 * 32 for side in image.shape[:2])
            image = np.ascontiguousarray(image[:height, :width])
            data = odd_jpeg.coded(image, sampling, qtables=tables)
        else:
            sampling, data = "grey", odd_jpeg.coded_grey(image, qtables=tables)
        coded, coding = cells.decode(data)
        change = metrics.psnr(image, restoring.restored(coded, coding)) - metrics.psnr(image, coded)
        if change < -0.02:
            lost.append((number, sampling, quality, round(unevenness, 2), round(change, 3)))
    assert len(lost) <= count / 200 and all(change > -0.3 for *_, change in lost), lost
