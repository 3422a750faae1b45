"""Give the book a new address after a fork.

    python tools/set_repository.py https://github.com/you/gptbook

Changes the one home of the address, `_config.yml`, and everything stamped from it: the install
cell of every notebook, the pages and the README.
"""

import argparse
import re
import sys
from pathlib import Path

if __name__ == "__main__":  # run as a script, Python looks for modules beside it, not in the root
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nbformat
import yaml

from tools.run_notebooks import normalize

ROOT = Path(__file__).resolve().parent.parent
INSTALL_TAGS = ["hide-input", "remove-output", "nbval-ignore-output"]


def install_cell(url: str) -> str:
    """Write the first code cell of every notebook."""
    return (
        "import importlib.util\n\n"
        'if importlib.util.find_spec("gptbook") is None:\n'
        f'    %pip install -q "git+{url}"'
    )


def set_repository(root: Path, url: str) -> list[Path]:
    """Replace the address everywhere below `root`; return the files that changed.

    Raises:
        ValueError: If `url` is not the address of a repository on the web.
    """
    url = url.removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https://[\w.-]+(:\d+)?/[\w.-]+/[\w.-]+", url):
        raise ValueError(
            f"{url!r} is not an address like https://github.com/you/gptbook; "
            "give the page of your fork"
        )
    config = (root / "_config.yml").read_text(encoding="utf-8")
    old = yaml.safe_load(config)["repository"]["url"]
    changed = []
    pages = [root / "_config.yml", root / "README.md", *sorted((root / "book").rglob("*.md"))]
    for path in [*pages, *sorted((root / "notebooks").glob("*.ipynb"))]:
        before = path.read_text(encoding="utf-8")
        after = re.sub(re.escape(old) + r"(?![\w-])", url, before)
        if path.suffix == ".ipynb" and after != before:
            notebook = nbformat.reads(after, as_version=4)
            normalize(notebook)
            after = nbformat.writes(notebook) + "\n"
        if after != before:
            path.write_text(after, encoding="utf-8", newline="\n")
            changed.append(path)
    return changed


def main() -> int:
    """Change the address to the one on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url", help="such as https://github.com/you/gptbook")
    try:
        changed = set_repository(ROOT, parser.parse_args().url)
    except ValueError as error:
        parser.error(str(error))
    print("\n".join(str(path.relative_to(ROOT)) for path in changed) or "nothing to change")
    return 0


if __name__ == "__main__":
    sys.exit(main())
