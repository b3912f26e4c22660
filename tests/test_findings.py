"""The findings: read from records, the same in the README, and moved when a record moves."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import RESULTS, ROOT
from helpers.study import findings, readme


def test_the_readme_holds_the_findings_of_the_records():
    text = (ROOT / "README.md").read_text()
    shown = text.partition("<!-- findings -->\n")[2].partition("<!-- /findings -->")[0]
    command = 'python -c "from helpers.study import readme; readme.write_all()"'
    assert shown == readme.findings_table(), f"the findings in README.md are stale: run {command}"


def test_the_readme_shows_a_photograph_as_the_shipped_weights_make_it(tmp_path, monkeypatch):
    shutil.copyfile(ROOT / "README.md", tmp_path / "README.md")
    for name in ("ROOT", "FIGURES"):
        monkeypatch.setattr(readme, name, tmp_path)
    readme.write_picture()
    command = 'run python -c "from helpers.study import readme; readme.write_picture()"'
    told, images = [], []
    for folder, figures in ((ROOT, ROOT / "figures"), (tmp_path, tmp_path)):
        caption = (folder / "README.md").read_text().partition("<!-- picture -->")[2].partition("]")[0]
        told.append(
            [float(found.replace(",", "")) for found in re.findall(r"([\d.,]+) (?:bytes|dB)", caption)]
        )
        images.append(np.asarray(Image.open(figures / "picture.png").convert("L"), float))
    assert told[0] == pytest.approx(told[1], abs=0.11, rel=0.003), command  # machines round differently
    assert images[0].shape == images[1].shape and np.abs(images[0] - images[1]).mean() < 1, command


def test_each_finding_leads_to_a_notebook_and_holds_numbers():
    found = findings.findings()
    assert len(found) >= 5
    for finding in found:
        assert (ROOT / "notebooks" / f"{finding.notebook}.ipynb").is_file()
        assert any(letter.isdigit() for letter in finding.answer) and "nan" not in finding.answer
    for name in findings.STORY:
        assert (ROOT / "figures" / f"{name}.svg").is_file()


@pytest.mark.parametrize(
    ("record", "question", "value"),
    [
        ("imitate_y_q10_live1", "Can a network imitate JPEG?", "11.1 dB"),
        ("restore_y_q10_live1", "Can it undo JPEG?", "11.10 dB"),
    ],
)
def test_another_record_makes_another_finding(monkeypatch, record, question, value):
    changed = json.loads((RESULTS / f"{record}.json").read_text())
    for row in changed["rows"]:
        if row["method"] != "identity":
            row["psnr"] = 11.1
    real = findings.read_record
    monkeypatch.setattr(findings, "read_record", lambda name: changed if name == record else real(name))
    answers = {finding.question: finding.answer for finding in findings.findings()}
    assert value in answers[question]


def test_the_codec_is_said_to_be_past_what_it_is_past(monkeypatch):
    rates = pd.DataFrame(
        {"codec": ["jpeg", "webp", "avif", "ours"], "psnr": [0.0, -30.0, -50.0, -40.0]}
    ).assign(ssim=0.0, ms_ssim=0.0)
    rates = pd.concat([rates, pd.DataFrame({"codec": ["jpeg444"], "psnr": [5.0]})])
    rates = pd.concat([rates, pd.DataFrame({"codec": ["fitted"], "psnr": [-60.0]})])
    monkeypatch.setattr(
        findings.rd, "bd_rates", lambda table, *window: rates if window else rates[rates.codec != "fitted"]
    )
    answer = next(f.answer for f in findings.findings() if f.notebook == "05_learned_codec")
    assert answer.startswith("-40.0 % bytes") and "past WebP, behind AVIF 4:4:4;" in answer
    assert "one core -60.0 % (" in answer and answer.endswith("where AVIF has -50.0 %)")
