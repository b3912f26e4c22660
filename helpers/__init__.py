"""Helpers of the study: data, measures, networks, codecs, experiments, report."""

import os

# Threads of PyTorch wait for each other by spinning. On a machine whose cores are taken, that takes the time
# of the very threads that are waited for; after so many turns a thread sleeps instead. Read when torch is
# imported: by GNU's OpenMP (Linux), and in milliseconds by LLVM's (macOS).
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ.setdefault("KMP_BLOCKTIME", "1")

from helpers.files import DATA, FIGURES, RESULTS, ROOT, StudyError, mode  # noqa: E402
