"""What the project promises as a whole: pins, licenses, commands, and nothing foreign."""

import re
import subprocess
import sys
import tomllib

import pytest

from tests.notebooks import ROOT, repository_url

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def pins() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pinned)
    return {line.partition("==")[0].lower(): line.partition("==")[2] for line in pinned}


def test_the_reproducible_environment_has_everything_the_package_and_its_tests_need():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    names = {re.match(r"[\w.-]+", requirement).group().lower() for requirement in wanted}
    assert names <= set(pins())
    assert {"jupyter-book", "jupyterlab", "torch", "matplotlib", "nbval", "tiktoken"} <= set(pins())


def test_the_package_replaces_nobodys_torch():
    assert "torch>=2.4" in PROJECT["dependencies"]
    for requirement in PROJECT["dependencies"]:
        assert re.fullmatch(r"[\w.-]+>=[\d.]+", requirement), requirement


def test_importing_the_package_is_quick_and_quiet():
    """No module of the package may pull in what only the tests need."""
    modules = [path.stem for path in (ROOT / "gptbook").glob("*.py") if path.stem != "__init__"]
    modules += ["articles", "exercises"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(f'gptbook.{name}')\n"
        "print(sorted({'transformers', 'hypothesis', 'pytest', 'beartype'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("said", ["make book", "make test", "tools/dev.py book", "CC BY 4.0"])
def test_the_readme_says_how_to_begin(said):
    assert said in README


def test_the_readme_names_only_files_that_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_address_of_the_repository_is_the_same_everywhere():
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    text = [ROOT / file for file in files if file.endswith((".md", ".yml", ".ipynb"))]
    known = repository_url()
    for path in text:
        if "tests" in path.parts or not path.exists():
            continue
        for url in re.findall(r"https://github\.com/[\w-]+/gptbook[\w-]*", path.read_text("utf-8")):
            assert url == known, path
