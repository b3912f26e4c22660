"""What a command loads: nothing heavy before it is needed, so that help and refusals come at once."""

import subprocess
import sys

import pytest
from sandbox import quiet_environment

from helpers import ROOT
from helpers.data import open_set
from helpers.study.report import build

MAIN = "import sys\nfrom helpers.__main__ import main\nmain(sys.argv[1:])\n"


def loaded(code: str, *arguments: object) -> set[str]:
    """Modules that a fresh Python holds after the code."""
    words = [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n=', *sys.modules)", *map(str, arguments)]
    process = subprocess.run(
        words, cwd=ROOT, env=quiet_environment(), capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert process.returncode == 0, process.stderr
    return set(process.stdout.rpartition("\n=")[2].split())


def test_measures_load_no_matplotlib_and_no_torch():
    modules = loaded("import helpers.metrics")
    assert "skimage.metrics" in modules and not {"matplotlib", "torch", "pandas"} & modules


def test_encoding_loads_no_matplotlib_and_no_pandas(tmp_path):
    path = open_set("samples")["camera"].path
    modules = loaded(MAIN, "encode", path, tmp_path / "out.npic", "--rate", 0)
    assert (tmp_path / "out.npic").exists() and "torch" in modules and not {"matplotlib", "pandas"} & modules


@pytest.mark.parametrize("command", ["encode", "decode", "info", "restore"])
def test_a_refused_file_loads_no_torch(tmp_path, command):
    (tmp_path / "bad.jpg").write_bytes(b"no picture at all")
    target = [] if command == "info" else [tmp_path / ("out.npic" if command == "encode" else "out.png")]
    modules = loaded(MAIN, command, tmp_path / "bad.jpg", *target)
    assert "helpers.files" in modules and not {"torch", "pandas", "matplotlib"} & modules


def test_a_report_loads_no_torch_before_a_notebook_runs():
    assert build.__module__ == "helpers.study.report"
    code = (
        "import sys, helpers.study.report as report\n"
        "def execute(path):\n"
        "    print('\\n=', *sys.modules, flush=True)\n"
        "    import os\n"
        "    os._exit(0)\n"
        "report.execute = execute\n"
        "report.build(only=['01'])\n"
    )
    assert "torch" not in loaded(code)
