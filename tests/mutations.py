"""Files as accidents and strangers leave them: seeded mutants of bytes, and what a reader says to them."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from helpers import StudyError


def mutant(rng: np.random.Generator, data: bytes, others: Sequence[bytes] = (), head: int = 16) -> bytes:
    """The bytes after one to three accidents; `others` are files to splice with, `head` a header's size."""
    for _ in range(rng.integers(1, 4)):
        other = others[rng.integers(len(others))] if others else data
        data = ACCIDENTS[rng.integers(len(ACCIDENTS))](rng, data, other, head)
    return data


def bits_flipped(rng, data, other, head):
    changed = bytearray(data)
    for place in rng.integers(0, len(data), rng.integers(1, 9)) if data else ():
        changed[place] ^= 1 << rng.integers(8)
    return bytes(changed)


def header_flipped(rng, data, other, head):
    return bits_flipped(rng, data[:head], other, head) + data[head:]


def cut(rng, data, other, head):
    return data[: rng.integers(len(data) + 1)]


def taken_out(rng, data, other, head):
    start, stop = _range(rng, data)
    return data[:start] + data[stop:]


def repeated(rng, data, other, head):
    start, stop = _range(rng, data)
    return data[:stop] + data[start:]


def zeroed(rng, data, other, head):
    start, stop = _range(rng, data)
    return data[:start] + bytes([rng.choice([0, 255])]) * (stop - start) + data[stop:]


def spliced(rng, data, other, head):
    return data[: rng.integers(len(data) + 1)] + other[rng.integers(len(other) + 1) :]


def header_swapped(rng, data, other, head):
    return other[:head] + data[head:]


def appended(rng, data, other, head):
    more = [rng.bytes(rng.integers(1, 40)), other, bytes(4)][rng.integers(3)]
    return data + more


def _range(rng, data) -> tuple[int, int]:
    start, stop = sorted(rng.integers(0, len(data) + 1, 2))
    return int(start), int(min(stop, start + 64))


ACCIDENTS = (
    bits_flipped, header_flipped, cut, taken_out, repeated, zeroed, spliced, header_swapped, appended,
)  # fmt: skip


class Judge:
    """Calls a reader on mutants; keeps how many it took, how many it refused, and how long a refusal took."""

    def __init__(self):
        self.taken, self.refused, self.seconds = 0, 0, []

    def hear(self, number: int, function: Callable, *arguments):
        """(True, what the reader returned), or (False, its one line); any other way out is a failure."""
        start = time.perf_counter()
        try:
            found = function(*arguments)
        except StudyError as error:
            self.seconds.append(time.perf_counter() - start)
            self.refused += 1
            line = str(error)
            assert line and len(line.splitlines()) == 1 and len(line) < 1000, (number, line)
            return False, str(error)
        except BaseException as error:  # a panic of the range coder's is no Exception
            raise AssertionError(f"mutant {number}: {type(error).__name__}: {error}") from error
        self.taken += 1
        return True, found

    def tell(self, what: str) -> None:
        middle, most = np.percentile(self.seconds or [0], [50, 100])
        print(
            f"{what}: {self.taken + self.refused} mutants, {self.refused} refused, {self.taken} taken; "
            f"a refusal takes {1e3 * middle:.2f} ms, at most {1e3 * most:.0f} ms"
        )
