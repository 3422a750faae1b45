"""Build the book, test it, run its notebooks: each in one command, on any system.

    python tools/dev.py book        # same as `make book`
    python tools/dev.py test        # same as `make test`

Needs Python 3.11 or newer and the package registry, nothing else. The first call makes a virtual
environment in `.venv` and installs the pinned requirements; later calls start at once.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
BOOK = ROOT / "_build" / "html" / "index.html"

LINT = ["ruff", "check", "."]
FORMAT = ["ruff", "format", "--check", "."]
TYPES = ["mypy"]
UNIT = ["pytest", "-m", "not browser"]
NOTEBOOKS = ["pytest", "--nbval", "--nbval-current-env", "--nbval-cell-timeout", "300", "notebooks"]
BUILD = ["jupyter", "book", "build", ".", "-W", "-n", "--keep-going"]
BROWSER = ["pytest", "-m", "browser", "-rs", "tests"]


def install() -> None:
    """Make the virtual environment if there is none, or if what it was made from has changed."""
    sources = [ROOT / "requirements.txt", ROOT / "pyproject.toml"]
    digest = hashlib.sha256(sys.version.encode())
    for source in sources:
        digest.update(source.read_bytes())
    stamp = VENV / "installed.sha256"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    print(f"Installing into {VENV} (once; 1.5 GB, a few minutes)", flush=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True, clear=True)
    stamp.unlink(missing_ok=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", "requirements.txt"], cwd=ROOT, check=True)
    subprocess.run([*pip, "--no-deps", "--editable", "."], cwd=ROOT, check=True)
    stamp.write_text(digest.hexdigest())


def run(module: list[str], output: IO[str] | None = None, **environment: str) -> int:
    """Run one of the environment's modules from the root; return its exit status."""
    settings = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONUTF8": "1", **environment}
    path = os.pathsep.join([str(BIN), settings.get("PATH", "")])
    command = [str(PYTHON), "-m", *module]
    done = subprocess.run(
        command, cwd=ROOT, env={**settings, "PATH": path}, stdout=output, stderr=output
    )
    return done.returncode


def book(*options: str) -> int:
    """Build the book and say where it is."""
    status = run([*BUILD, *options])
    if status == 0:
        print(f"\nThe book: {BOOK}\nOpen {BOOK.as_uri()}")
    return status


Step = tuple[str, Callable[[], int]]
Outcome = tuple[str, bool, float]  # which step, whether it failed, seconds


def test() -> int:
    """Run everything that must pass, to the end; then say what took how long and what failed.

    The notebooks take one processor, and everything else takes another. What the notebooks print is
    kept until the other lane is through, so that it stands in one piece.
    """
    others: list[Step] = [
        ("lint", lambda: run(LINT)),
        ("format", lambda: run(FORMAT)),
        ("types", lambda: run(TYPES)),
        ("unit tests and doctests", lambda: run(UNIT)),
        ("book", lambda: book("--all")),
        ("browser", lambda: run(BROWSER)),
    ]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as kept, ThreadPoolExecutor(1) as lane:
        waiting = lane.submit(take, ("notebooks", lambda: run(NOTEBOOKS, kept)))
        outcomes = []
        for step in others:
            print(f"\n== {step[0]} ==", flush=True)
            outcomes.append(take(step))
        outcomes.append(waiting.result())
        kept.seek(0)
        print(f"\n== notebooks ==\n{kept.read()}", flush=True)
    lines = [
        f"{'FAILED' if failed else 'passed'}  {seconds:6.1f} s  {name}"
        for name, failed, seconds in outcomes
    ]
    num_failed = sum(failed for _, failed, _ in outcomes)
    print("\n" + "\n".join(lines))
    print(f"steps: {len(outcomes) - num_failed} passed, {num_failed} failed")
    return 1 if num_failed else 0


def take(step: Step) -> Outcome:
    """Take one step, and its time."""
    name, go = step
    start = time.perf_counter()
    failed = go() != 0
    return name, failed, time.perf_counter() - start


def notebooks() -> int:
    """Run every notebook again and store its outputs."""
    return run(["tools.run_notebooks"])


def screenshots() -> int:
    """Build the book and photograph every page, whole."""
    return book() or run(BROWSER, SCREENSHOTS="all")


def lab() -> int:
    """Open the notebooks in JupyterLab."""
    return run(["jupyter", "lab", "notebooks"])


def bench() -> int:
    """Run every benchmark, for a quiet machine, and write benchmarks/RESULTS.md."""
    return run(["benchmarks"])


def model() -> int:
    """Train the models of the book anew: under 40 minutes on two cores."""
    return run(["tools.make_models"])


def assistant() -> int:
    """Fine-tune the assistant of the book anew: about an hour on two cores."""
    return run(["tools.make_assistant"])


def eyes() -> int:
    """Teach the model of the book to see pictures anew: about half an hour on one core."""
    return run(["tools.make_multimodal"])


def scaling() -> int:
    """Train the models of the scaling law anew: under an hour on two cores."""
    return run(["tools.make_scaling"])


def clean() -> int:
    """Remove what was built; the virtual environment stays."""
    shutil.rmtree(ROOT / "_build", ignore_errors=True)
    return 0


COMMANDS = {
    "book": (book, "build the book into _build/html"),
    "test": (test, "run everything that must pass"),
    "notebooks": (notebooks, "run all notebooks again and store their outputs"),
    "screenshots": (screenshots, "photograph every page into _build/screenshots"),
    "lab": (lab, "open the notebooks in JupyterLab"),
    "model": (model, "train the models of the book (under 40 minutes on two cores)"),
    "assistant": (assistant, "fine-tune the assistant of the book (about an hour on two cores)"),
    "eyes": (eyes, "teach the model of the book to see anew (about half an hour on one core)"),
    "scaling": (scaling, "train the models of the scaling law (under an hour on two cores)"),
    "bench": (bench, "measure speed (on a quiet machine)"),
    "clean": (clean, "remove what was built"),
}


def main() -> int:
    """Install what is missing, then carry out one command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("help", help="show this")
    for name, (_, says) in COMMANDS.items():
        commands.add_parser(name, help=says)
    command = parser.parse_args().command
    if command in (None, "help"):
        parser.print_help()
        return 0
    if sys.version_info < (3, 11):  # noqa: UP036 (it is the reader who may have an older one)
        print(f"gptbook needs Python 3.11 or newer; this is {sys.version.split()[0]}")
        return 1
    if command != "clean":
        install()
    return COMMANDS[command][0]()


if __name__ == "__main__":
    sys.exit(main())
