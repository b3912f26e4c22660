"""The benchmark: what it measures is there, and the ratio is that of the faster PyTorch."""

import json

import pytest

from helpers import bench
from helpers.__main__ import main


def test_a_row_holds_the_three_times_and_their_ratio():
    for threads in (1, 2):
        forward, step = bench.numpy_against_torch((2, 4, 8, 8), threads, repeats=4)
        assert (forward["pass"], step["pass"]) == ("forward", "step")
        for row in (forward, step):
            assert row["size"] == "2x4x8x8" and row["threads"] == threads
            assert row["ratio"] == pytest.approx(row["numpy"] / min(row["torch"], row["channels_last"]))
        # two convolutions forwards, five in a step, half of their multiplications
        products = 2 * 8 * 8 * 9 * 4 * 4 / 2
        assert forward["floor"] == pytest.approx(2 * products / (threads * forward["gmac_per_second"] * 1e6))
        assert step["floor"] == pytest.approx(2.5 * forward["floor"])


def test_the_command_prints_a_table_and_writes_the_record(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "SIZES", ((1, 2, 4, 4),))
    for library in ("OPENBLAS", "MKL", "VECLIB", "OMP"):
        monkeypatch.setenv(f"{library}_NUM_THREADS", "1")  # the command sets them; restored afterwards
    assert main(["bench", "numpy", "--json", str(tmp_path / "bench.json")]) == 0
    shown = capsys.readouterr().out
    assert "ratio" in shown and shown.count("1x2x4x4") == 4
    record = json.loads((tmp_path / "bench.json").read_text())
    assert len(record["rows"]) == 4 and record["processor"]
