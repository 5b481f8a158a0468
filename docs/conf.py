"""How Sphinx builds the documentation: `make docs`. The pages are Markdown; the reference comes from docstrings."""

from __future__ import annotations

from typing import Any

import cardoon

project = "Cardoon"
author = "The Cardoon authors"
release = cardoon.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Cardoon {release}"

myst_heading_anchors = 3
# Links to files of the project that are no pages are for those who read it there.
suppress_warnings = ["myst.xref_missing"]

autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_preserve_defaults = True
default_role = "code"
"""Docstrings say `name` for what is code."""


def keep_layout(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Show what a docstring indents as it stands there: trees, tables, examples."""
    laid_out: list[str] = []
    is_within = False
    for line in lines:
        if line.startswith("  ") and not is_within:
            laid_out += ["", "::", ""]
            is_within = True
        elif line and not line.startswith("  ") and is_within:
            laid_out.append("")
            is_within = False
        laid_out.append(line)
    lines[:] = laid_out


def setup(app: Any) -> None:
    """Sphinx calls it."""
    app.connect("autodoc-process-docstring", keep_layout)
