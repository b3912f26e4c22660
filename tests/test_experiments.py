"""Ablations: the grid, a run as a function, sweeps that are killed, clusters that lose workers."""

import argparse
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from in_process import run
from study_copy import copy_study, run_helpers

from helpers import StudyError, processes
from helpers.codec.trained.network import macs_of
from helpers.experiments import grid as asking
from helpers.experiments import run as running
from helpers.experiments import sweep
from helpers.experiments.grid import (
    BASELINES,
    QUESTIONS,
    QUICK,
    VERDICTS,
    VERSION,
    Experiment,
    experiments_of,
    grid,
    runs_of,
)
from helpers.models import macs_per_pixel
from helpers.study import commands
from helpers.training.compression import start_codec

TINY = replace(BASELINES["restore"].changed({"steps": 10, "batch": 2, "width": 8}), images="samples")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Files and tables of runs in a folder of their own."""
    monkeypatch.setattr(sweep, "RUN_FILES", tmp_path / "runs")
    tables = {name: tmp_path / f"{name}.csv" for name in sweep.TABLES}
    monkeypatch.setattr(sweep, "TABLES", tables)
    return tmp_path


@pytest.fixture
def study(tmp_path):
    return copy_study(tmp_path / "study")


def forbidden(line):
    raise AssertionError(line)


def test_the_grid_asks_what_it_says():
    restore, imitate, compress = (experiments_of(task) for task in ("restore", "imitate", "compress"))
    assert len(restore) >= 31 and set(imitate) < set(restore)
    runs = grid("full")
    assert len({run.key() for run in runs}) == len(runs)
    assert len(runs) == 5 * (len(restore) + len(imitate) + len(compress))
    assert runs[: 5 * len(restore)] == [run for card in restore.values() for run in runs_of("restore", card)]
    for task in BASELINES:
        for card in experiments_of(task).values():
            assert card.factor in QUESTIONS and card.prediction in (*VERDICTS, "")
            assert [run.fold for run in runs_of(task, card)] == [0, 1, 2, 3, 4]
    assert all(run.training.seed == run.fold for run in runs_of("restore", restore["Sigmoid"]))
    assert [run.training.seed for run in runs_of("restore", restore["seed + 10"])] == [10, 11, 12, 13, 14]
    assert {run.training.steps for run in grid("quick")} == {40} and len(grid("quick")) == 2 * len(QUICK)


def test_a_card_is_one_line_that_makes_the_run():
    card = experiments_of("restore")["dense, 64 numbers"]
    assert card.line() == "arrangement='bottleneck', depth=2, width=32, latent=64"
    run = runs_of("restore", card)[2]
    assert (run.network.latent, run.network.depth, run.fold) == (64, 2, 2)
    assert not runs_of("restore", experiments_of("restore")["patches anywhere"])[0].aligned


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": 1}, "factor 'colour' is not known; known are activation, aligned"),
        ({"task": "imitate"}, "factor 'task' is not known"),
        ({"activation": "swish"}, "activation is 'swish'; known are relu"),
        ({"kernel": 2}, "kernel is 2; it must be odd"),
        ({"schedule": "hot"}, "schedule is 'hot'; known are constant"),
        ({"order": "any"}, "order is 'any'; known are"),
        ({"residual": "no"}, "residual is 'no'; it must be True or False"),
        ({"width": True}, "width is True; it must be an integer"),
        ({"steps": 10.5}, "steps is 10.5; it must be an integer"),
        ({"seed": "1"}, "seed is '1'; it must be an integer"),
        ({"activation": []}, "activation is []; it must be text"),
        ({"learning_rate": math.inf}, "learning_rate is inf; it must be a finite number"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'; it must be a finite number"),
        ({"dropout": 2.0}, "dropout is 2.0; it must lie in [0, 1)"),
        ({"latent": -1}, "latent is -1; it must be at least 0"),
        ({"warm_up": -1}, "warm_up is -1; it must be at least 0"),
        ({"qualities": 10}, "qualities are 10; they must be two integers"),
        ({"qualities": (10.0, 20)}, "qualities are (10.0, 20); they must be two integers"),
    ],
)
def test_unknown_factors_and_values_are_named(changes, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        TINY.changed(changes)


MISTYPED = {
    "factor 'widht' is not known": Experiment("width", "9 maps", {"widht": 9}),
    "width is 9.5; it must be an integer": Experiment("width", "9 maps", {"width": 9.5}),
    "'9 maps': factor 'breadth' asks no question": Experiment("breadth", "9 maps", {"width": 9}),
    "experiment '8 maps': the name is taken": Experiment("width", "8 maps", {"width": 9}),
}


@pytest.mark.parametrize("words", MISTYPED)
def test_a_mistyped_card_is_one_line_that_names_the_file(monkeypatch, words):
    monkeypatch.setattr(asking, "EXPERIMENTS", (*asking.EXPERIMENTS, MISTYPED[words]))
    with pytest.raises(StudyError, match="^helpers/experiments/grid.py: " + re.escape(words)):
        commands.ablate(argparse.Namespace(mode="full", cluster=None, workers=1))


def test_runs_that_diverged_are_counted(places, monkeypatch, capsys):
    wild = {"learning_rate": 1e30, "optimizer": "sgd", "gradient_clip": 1e30, "warm_up": 0}
    monkeypatch.setattr(asking, "grid", lambda mode: [TINY, TINY.changed(wild)])
    monkeypatch.setattr(processes, "processes", ThreadPoolExecutor)
    assert commands.ablate(argparse.Namespace(mode="quick", cluster=None, workers=1)) == 0
    assert re.search(r"2 runs done in \d+ s of training, 1 diverged, 0 failed", capsys.readouterr().out)


def test_a_key_holds_all_that_fixes_the_result():
    changes = [{"width": 9}, {"seed": 1}, {"aligned": False}, {"learning_rate": 1e-3}]
    keys = {TINY.key(), replace(TINY, fold=1).key(), replace(TINY, images="live1").key()}
    keys |= {TINY.changed(change).key() for change in changes}
    assert len(keys) == 7 and all(re.fullmatch("[0-9a-f]{16}", key) for key in keys)
    assert TINY.key() == replace(TINY).key()


@pytest.mark.parametrize("task", ["restore", "imitate"])
def test_a_run_is_a_function_of_its_configuration(task):
    run = replace(TINY, training=replace(TINY.training, task=task))
    first, second = running.measure_run(run), running.measure_run(run)
    assert first["scenes"] == second["scenes"] and first["curve"] == second["curve"]
    assert first["key"] == run.key() and first["version"] == VERSION and not first["diverged"]
    assert first["macs_per_pixel"] == macs_per_pixel(run.network)
    assert first["pixels"] == 10 * 2 * 64**2 and 0 < first["seconds"] < 60
    assert all(10 < scene["psnr"] < 60 and 0 < scene["ssim"] <= 1 for scene in first["scenes"])
    assert ("psnr_original" in first["scenes"][0]) == (task == "imitate")
    assert running.measure_run(run.changed({"seed": 1}))["scenes"] != first["scenes"]


@pytest.mark.slow
def test_a_codec_is_judged_by_what_it_would_pay():
    run = replace(BASELINES["compress"].changed({"steps": 20, "patch": 64}), images="samples")
    record = running.measure_run(run)
    assert record["macs_per_pixel"] == macs_of(run.network)["decoder"] and record["scenes"]
    network = running.untrained(run)
    name, picture = running.test_scenes("samples", 0, "rgb")[0]
    flat = np.full_like(picture, picture.mean())
    assert record["scenes"][0]["scene"] == name
    start_codec(network, running.training_photographs(run), run.training)
    assert running.score_of(network, flat) > running.score_of(network, picture)  # nothing to code


def test_training_and_test_scenes_are_disjoint():
    for fold in range(5):
        tests = {name for name, _ in running.test_scenes("samples", fold, "y")}
        assert tests and not tests & set(running.training_photographs(replace(TINY, fold=fold)).names)


def test_a_run_that_diverges_is_recorded_as_diverged(places):
    run = TINY.changed({"learning_rate": 1e30, "optimizer": "sgd", "gradient_clip": 1e30, "warm_up": 0})
    record = running.measure_run(run)
    assert record["diverged"] and record["scenes"] == []
    sweep.sweep([run], ThreadPoolExecutor(1), lambda record: None, forbidden)
    sweep.gather([run], forbidden)
    assert sweep.read_table("runs")["diverged"].tolist() == [True]
    assert not sweep.missing([run], forbidden)


def test_one_failing_run_does_not_stop_the_rest(places):
    runs, errors, done = [replace(TINY, fold=fold) for fold in range(3)], [], []

    def measure(run):
        if run.fold == 1:
            raise RuntimeError("two\nlines")
        return running.measure_run(run)

    sweep.sweep(runs, ThreadPoolExecutor(1), done.append, errors.append, measure)
    assert len(done) == 2 and errors == [f"{runs[1].key()}: failed (RuntimeError: two lines)"]
    assert sweep.missing(runs, forbidden) == [runs[1]]


def test_tables_hold_every_record_and_stand_for_the_files(places):
    runs = [replace(TINY, fold=fold) for fold in range(2)]
    sweep.sweep(runs, ThreadPoolExecutor(1), lambda record: None, forbidden)
    sweep.gather(runs, forbidden)
    records = [json.loads((sweep.RUN_FILES / f"{run.key()}.json").read_text()) for run in runs]
    scenes, table = sweep.read_table("scenes"), sweep.read_table("runs")
    assert table["key"].tolist() == [run.key() for run in runs]
    assert scenes["psnr"].tolist() == [scene["psnr"] for record in records for scene in record["scenes"]]
    assert json.loads(table["run"][0]) == records[0]["run"] and table["seconds"][0] == records[0]["seconds"]
    assert len(sweep.read_table("curves")) == 2
    before = {name: path.read_bytes() for name, path in sweep.TABLES.items()}
    for path in sweep.RUN_FILES.glob("*.json"):
        path.unlink()
    assert sweep.missing(runs, forbidden) == []  # as in a fresh clone
    sweep.gather(runs, forbidden)
    assert before == {name: path.read_bytes() for name, path in sweep.TABLES.items()}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": "other", "version": 1, "curve": []}'])
def test_a_damaged_file_is_named_and_its_run_missing(places, damage):
    sweep.RUN_FILES.mkdir()
    (sweep.RUN_FILES / f"{TINY.key()}.json").write_bytes(damage)
    said = []
    assert sweep.missing([TINY], said.append) == [TINY]
    assert len(said) == 1 and f"{TINY.key()}.json: is no record" in said[0]


def test_records_of_another_version_are_said_and_not_mixed(places):
    sweep.sweep([TINY], ThreadPoolExecutor(1), lambda record: None, forbidden)
    sweep.gather([TINY], forbidden)
    other = replace(TINY, fold=1)
    said = []
    sweep.gather([other], said.append)  # the grid has changed: what was recorded is kept
    assert said == [] and sweep.read_table("runs")["key"].tolist() == [TINY.key()]
    table = sweep.read_table("runs")
    table["version"] = VERSION + 1
    table.to_csv(sweep.TABLES["runs"], index=False)
    sweep.gather([other], said.append)
    assert said == ["1 records of other versions, settings or sets are not in the tables"]
    assert sweep.read_table("runs").empty
    path = sweep.RUN_FILES / f"{TINY.key()}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": VERSION + 1}))
    assert sweep.missing([TINY], said.append) == [TINY] and "is no record" in said[-1]


@pytest.mark.slow
def test_a_second_call_of_the_recorded_grid_costs_nothing(study):
    tables = {name: pd.read_csv(path, dtype=str) for name, path in sweep.TABLES.items()}
    assert len(tables["runs"]) == len(grid("full"))
    before = {path: path.read_bytes() for path in (study / "data" / "results").glob("ablation_*.csv")}
    assert len(before) == len(sweep.TABLES)
    process = run_helpers(study, "ablate", "--mode", "full")  # not even LIVE1 is needed
    assert process.returncode == 0 and f"{len(grid('full'))} runs in the grid, 0 to do" in process.stdout
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_still_does_all(study):
    pytest.importorskip("distributed", reason="distributed is not installed")
    port = _free_port()
    address = f"tcp://127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(study), "OMP_NUM_THREADS": "1"}
    dask = [sys.executable, "-m", "dask"]
    quiet = {"cwd": study, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options = f"scheduler --host 127.0.0.1 --port {port} --no-dashboard"
    started = [subprocess.Popen([*dask, *options.split()], **quiet)]
    try:
        options = f"worker {address} --nthreads 1 --no-nanny --no-dashboard --host 127.0.0.1"
        worker = [*dask, *options.split()]
        started += [subprocess.Popen(worker, **quiet) for _ in range(2)]
        _wait_for_workers(address, 2)
        command = [sys.executable, "-m", "helpers", "ablate", "--cluster", address]
        sweeping = subprocess.Popen(
            command, cwd=study, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(sweeping)
        files = study / "data" / "runs"
        deadline = time.monotonic() + 120
        while len(list(files.glob("*.json"))) < 2:
            assert sweeping.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        started[1].send_signal(signal.SIGKILL)
        out, errors = sweeping.communicate(timeout=180)
        assert sweeping.returncode == 0, errors
        assert "8 runs done" in out and "0 failed" in out
        assert len(list(files.glob("*.json"))) == 8
    finally:
        for process in reversed(started):
            process.kill()
            process.wait()


def test_a_cluster_that_is_not_there_is_one_line(places, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    address, client = f"tcp://127.0.0.1:{_free_port()}", distributed.Client
    monkeypatch.setattr("dask.distributed.Client", lambda address, timeout: client(address, timeout=1))
    process = run("ablate", "--cluster", address)
    assert process.returncode == 2
    lines = process.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"{address}: no Dask scheduler can be reached there")


@pytest.mark.slow
def test_a_recorded_run_comes_out_again(live1):
    run = runs_of("restore", experiments_of("restore")["16 maps"])[1]
    scenes = sweep.read_table("scenes")
    recorded = scenes[scenes["key"] == run.key()].set_index("scene")["psnr"]
    found = pd.DataFrame(running.measure_run(run)["scenes"]).set_index("scene")["psnr"]
    assert (found - recorded).abs().max() < 0.05, "raise VERSION in grid.py: a run now gives another result"


def test_cards_have_records():
    runs = sweep.read_table("runs")
    assert set(runs["version"]) == {VERSION}
    assert runs.loc[runs["key"].isin([run.key() for run in grid("full")]), "seconds"].max() < 25
    for task in BASELINES:
        for card in experiments_of(task).values():
            assert set(run.key() for run in runs_of(task, card)) <= set(runs["key"]), (task, card.name)


def test_without_dask_the_cluster_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(StudyError, match="--cluster needs `pip install distributed`"), processes.cluster("x"):
        pass


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for_workers(address: str, count: int) -> None:
    from distributed import Client

    with Client(address, timeout=60) as client:
        client.wait_for_workers(count, timeout=60)
