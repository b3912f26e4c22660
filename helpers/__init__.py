"""Helpers of the study: data, measures, networks, experiments, report.

The modules, in the order in which a picture travels, are listed in the README.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
RESULTS = DATA / "results"
FIGURES = ROOT / "figures"


class StudyError(Exception):
    """A mistake a person can mend: its text is one line that names the file and what is wrong."""


def one_line(error: Exception) -> str:
    """What an error says, on one line, cut where it is long."""
    return " ".join(str(error).split())[:200]


def mode() -> str:
    """ "quick" (networks train for seconds) or "full" (as recorded), from $STUDY_MODE.

    Raises StudyError for any other value.
    """
    value = os.environ.get("STUDY_MODE", "quick")
    if value not in ("quick", "full"):
        raise StudyError(f"STUDY_MODE is {value!r}; it must be 'quick' or 'full'")
    return value
