"""A command in this process: its status and what it printed, without the seconds of a new Python."""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import torch

from helpers import ROOT
from helpers.__main__ import main


def run(*words: object) -> subprocess.CompletedProcess:
    """`python -m helpers WORDS`, run here; folder, environment, threads and chance are as before after it."""
    arguments = [str(word) for word in words]
    said, complaints = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    with _as_before(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaints):
        try:
            status = main(arguments)
        except SystemExit as end:  # of argparse
            status = end.code
    texts = []
    for stream in (said, complaints):
        stream.flush()
        texts.append(stream.buffer.getvalue().decode("utf-8"))
    return subprocess.CompletedProcess(arguments, status, *texts)


def report(study: Path, *words: object) -> subprocess.CompletedProcess:
    """`python -m helpers report WORDS` of the notebooks of a copy, run here and without LIVE1."""
    places = {"NOTEBOOKS": study / "notebooks", "REPORT": study / "figures" / "report"}
    with mock.patch.multiple("helpers.study.report", **places), mock.patch.dict(os.environ):
        for name in ("LIVE1_DIR", "STUDY_MODE"):
            os.environ.pop(name, None)
        return run("report", *words)


@contextlib.contextmanager
def _as_before():
    environment, threads = dict(os.environ), torch.get_num_threads()
    try:
        with contextlib.chdir(ROOT), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.resetwarnings()  # as Python itself has them: they are printed
            for unseen in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
                warnings.simplefilter("ignore", unseen)
            warnings.showwarning = _printed
            yield
    finally:
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(environment)


def _printed(message, category, filename, lineno, file=None, line=None) -> None:
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))
