"""Commands run one after another in a process of their own: what each said, and what it took."""

import json
import subprocess
import sys
from dataclasses import dataclass

from sandbox import quiet_environment

from helpers import ROOT

MOST_MEMORY = 1.5e9  # bytes; torch alone takes 0.4e9, a picture of 81 megapixels that is only claimed 0.3e9
PATIENCE = 300  # seconds, for all commands together; a pipe that is waited for would take for ever
CHILD = """
import json, resource, sys, time
from helpers.__main__ import main
for words in json.loads(sys.argv[1]):
    start = time.perf_counter()
    status = main(words)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1024 if sys.platform == "linux" else 1)
    print("=" * 9, status, time.perf_counter() - start, peak, flush=True)
    print("=" * 9, file=sys.stderr, flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    """What a command said and took."""

    status: int
    said: list[str]  # lines on stdout
    complaints: list[str]  # and on stderr
    seconds: float
    peak: float  # bytes, of the process so far


def run(*commands: list, first: list[str] = ()) -> list[Outcome]:
    """The commands one after another in a process of their own, which reads nothing from a terminal."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    process = subprocess.run(
        [*first, sys.executable, "-c", CHILD, words], cwd=ROOT, env=quiet_environment(), timeout=PATIENCE,
        capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said, complaints = (text.decode().split("=" * 9) for text in (process.stdout, process.stderr))
    assert len(said) == len(commands) + 1, process.stderr.decode()[-2000:]
    found = []
    for number, complained in enumerate(complaints[: len(commands)]):
        head, _, _ = said[number + 1].partition("\n")
        status, seconds, peak = head.split()
        spoken = said[number].partition("\n")[2] if number else said[number]
        lines = [line for line in complained.strip("\n").split("\n") if line]
        found.append(Outcome(int(status), spoken.splitlines(), lines, float(seconds), float(peak)))
    return found
