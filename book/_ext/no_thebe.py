"""Sphinx extension: leave out the scripts of thebe, which this book does not use.

Jupyter Book puts them on every page. They name another origin, and stand there twice, at which
every browser complains.
"""

from typing import Any

from sphinx.application import Sphinx


def drop_scripts(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: Any
) -> None:
    """Take thebe's scripts off a page."""
    context["script_files"] = [
        script for script in context["script_files"] if "thebe" not in _text(script).lower()
    ]


def _text(script: Any) -> str:
    """Give a script's file name and body."""
    return f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {})}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Come after all who add scripts."""
    app.connect("html-page-context", drop_scripts, priority=900)
    return {"parallel_read_safe": True}
