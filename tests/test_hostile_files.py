"""Hundreds of bad and odd pictures through the commands: each is done by the rules or told on one line."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from commands_in_turn import MOST_MEMORY, Outcome, run
from hostile_pictures import BAD, EITHER, GOOD, Hostile, hostile_pictures, put_special

from helpers import jpeg, metrics
from helpers.codec.container import read
from helpers.codec.files import alpha_plane
from helpers.codec.trained import pictures
from helpers.data import load_image
from helpers.files import printable

QUALITY, PATCH = 40, 16


@dataclass(frozen=True)
class Afternoon:
    """A folder of hostile files, and what each command made of it."""

    folder: Path
    out: Path
    files: list[Hostile]
    special: dict[str, str]
    outcomes: dict[str, Outcome]

    def paths(self) -> list[Path]:
        """Those that must be done or named."""
        names = [file.name for file in self.files] + [name for name, fate in self.special.items() if fate]
        return [self.folder / name for name in names]

    def named(self, command: str) -> set[str]:
        """Names of the files of which there is a line; each line is of one file, each file has one."""
        beginnings = {f"{printable(path)}: ": path.name for path in self.paths()}
        found = []
        for line in self.outcomes[command].complaints:
            names = [name for beginning, name in beginnings.items() if line.startswith(beginning)]
            assert len(names) == 1 and line.isprintable() and len(line) < 1000, line
            found += names
        assert len(found) == len(set(found)), "a file has two lines"
        return set(found)


@pytest.fixture(scope="module", params=["a tenth", pytest.param("all", marks=pytest.mark.long)])
def afternoon(request, tmp_path_factory) -> Afternoon:
    where = tmp_path_factory.mktemp("hostile")
    folder, out, elsewhere = where / "in", where / "out", where / "elsewhere"
    for path in (folder, out, elsewhere):
        path.mkdir()
    files = hostile_pictures()[:: 1 if request.param == "all" else 10]
    for file in files:
        (folder / file.name).write_bytes(file.content)
    special = put_special(folder, elsewhere)
    commands = {
        "evaluate": ["evaluate", "jpeg", "--images", folder, "--quality", QUALITY, "--json",
                     out / "record.json"],
        "encode": ["encode", folder, out / "encoded", "--rate", 63],
        "restore": ["restore", folder, out / "restored"],
        "train": ["train", "restore", "--images", folder, "--out", out / "weights.safetensors", "--steps", 3,
                  "--batch", 2, "--patch", PATCH, "--network", "plain"],
    }  # fmt: skip
    found = Afternoon(folder, out, files, special, dict(zip(commands, run(*commands.values()), strict=True)))
    for command, outcome in found.outcomes.items():
        print(
            f"{command}: {len(found.paths())} files, {len(outcome.complaints)} named, "
            f"{outcome.seconds:.1f} s, at most {outcome.peak / 1e6:.0f} MB"
        )
    return found


def done(afternoon: Afternoon, command: str) -> set[str]:
    """Names of the files that have a result."""
    if command == "evaluate":
        record = json.loads((afternoon.out / "record.json").read_text())
        found = {image["name"] for image in record["rows"][0]["images"]}
    else:
        found = {path.stem for path in (afternoon.out / f"{command}d").iterdir()}
    return {path.name for path in afternoon.paths() if path.stem in found or path.name in found}


@pytest.mark.parametrize("command", ["evaluate", "encode", "restore"])
def test_each_file_is_done_or_named_on_one_line(afternoon, command):
    outcome, results, names = afternoon.outcomes[command], done(afternoon, command), afternoon.named(command)
    assert results | names == {path.name for path in afternoon.paths()} and not results & names
    assert outcome.status == 2 and outcome.peak < MOST_MEMORY
    if command != "evaluate":
        assert len(outcome.said) == len(results) + 1
        assert f"{len(results)} of {len(afternoon.paths())} " in outcome.said[-1]


def test_training_takes_what_can_be_read_and_names_the_rest(afternoon):
    names = afternoon.named("train")
    legs = json.loads((afternoon.out / "weights.json").read_text())["legs"]
    assert legs[-1]["pictures"]["count"] == len(afternoon.paths()) - len(names)
    small = {
        file.name for file in afternoon.files if file.image is not None and min(file.image.shape[:2]) < PATCH
    }
    refused = afternoon.named("encode") | small
    unknown = {file.name for file in afternoon.files if file.fate == EITHER and file.image is None}
    assert names - unknown == refused - unknown
    assert afternoon.outcomes["train"].peak < MOST_MEMORY


def test_the_commands_agree_with_what_the_rules_foretell(afternoon):
    fates = {file.name: file.fate for file in afternoon.files} | afternoon.special
    coded = done(afternoon, "encode")
    assert [name for name, fate in fates.items() if fate == GOOD and name not in coded] == []
    assert [name for name, fate in fates.items() if fate == BAD and name in coded] == []
    small = {
        file.name for file in afternoon.files if file.image is not None and min(file.image.shape[:2]) < 11
    }
    judged = done(afternoon, "evaluate")
    assert [
        name for name, fate in fates.items() if fate == GOOD and (name in judged) == (name in small)
    ] == []
    restored = done(afternoon, "restore")
    good = [file for file in afternoon.files if file.fate == GOOD]
    assert [file.name for file in good if (file.name in restored) != file.restorable] == []
    assert restored <= {file.name for file in afternoon.files if file.restorable}


def test_what_is_measured_is_the_picture_upright_and_by_the_rules(afternoon):
    record = json.loads((afternoon.out / "record.json").read_text())
    found = {image["name"]: image for image in record["rows"][0]["images"]}
    judged, count = done(afternoon, "evaluate"), 0
    for file in afternoon.files:
        if file.name in judged and file.image is not None:
            luma = jpeg.luma(file.image)
            expected = metrics.psnr(luma, jpeg.decode(jpeg.encode(luma, QUALITY)))
            image = found.get(Path(file.name).stem) or found[file.name]
            # transparency is rounded twice, so a level may differ
            assert image["psnr"] == pytest.approx(expected, abs=1e-9 if file.alpha is None else 0.2), (
                file.name
            )
            count += 1
    assert count > 5


def test_what_is_coded_and_restored_is_the_picture_upright(afternoon):
    coded, restored, count = done(afternoon, "encode"), done(afternoon, "restore"), 0
    for file in afternoon.files:
        if file.image is None:
            continue
        stem = Path(file.name).stem
        if file.name in coded:
            path = afternoon.out / "encoded" / f"{stem}.npic"
            content = (path if path.exists() else path.with_name(f"{file.name}.npic")).read_bytes()
            decoded, alpha = pictures.decode(content), read(content).alpha
            assert decoded.shape == file.image.shape, file.name
            if file.alpha is not None:
                assert np.array_equal(alpha_plane(alpha, *decoded.shape[:2]), file.alpha), file.name
            elif min(decoded.shape[:2]) > 10:
                assert not alpha and metrics.psnr(file.image, decoded) > 28, file.name
            count += 1
        if file.name in restored:
            path = afternoon.out / "restored" / f"{stem}.png"
            better = load_image(path if path.exists() else path.with_name(f"{file.name}.png"))
            assert better.shape == file.image.shape, file.name
            assert min(better.shape[:2]) < 8 or metrics.psnr(file.image, better) > 25, file.name
    assert count > 5


def test_there_are_500_of_them_and_one_seed_makes_the_same():
    first, second = hostile_pictures(), hostile_pictures()
    assert [(f.name, f.content) for f in first] == [(f.name, f.content) for f in second]
    assert len(first) >= 500 and len({file.name for file in first}) == len(first)
