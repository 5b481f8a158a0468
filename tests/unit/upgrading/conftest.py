"""A file of a Celery project, and what becomes of it."""

from __future__ import annotations

import textwrap

import pytest

from cardoon.upgrading.project import upgrade
from cardoon.upgrading.source import Kind


class Upgraded:
    """What became of files."""

    def __init__(self, folder, report):
        self.folder = folder
        self.report = report

    @property
    def text(self):
        return self.read("module.py")

    def read(self, name):
        return (self.folder / name).read_text()

    def said(self, kind):
        """Findings of a kind with their lines; 0 is the project."""
        return [(one.line, one.text) for one in self.report.of(kind)]

    @property
    def decisions(self):
        return self.said(Kind.DECIDE)

    @property
    def notes(self):
        return [one for one in self.said(Kind.NOTE) if one[0]]


@pytest.fixture
def upgraded(tmp_path):
    """Upgrades a module, or files by their names."""

    def make(text="", /, *, files=None, **options):
        for name, content in {**({"module.py": text} if text else {}), **(files or {})}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(content))
        return Upgraded(tmp_path, upgrade([tmp_path], **options))

    return make
