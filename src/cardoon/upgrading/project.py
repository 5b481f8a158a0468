"""A whole project: which files are looked at, what is true of all of them, and writing them."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cardoon.exceptions import ImproperlyConfigured
from cardoon.upgrading.imports import rewrite_imports
from cardoon.upgrading.settings import (
    Setting,
    is_django,
    looks_like_settings,
    rewrite_settings,
)
from cardoon.upgrading.source import Finding, Kind, Source, UnreadableError, dotted, literal
from cardoon.upgrading.usage import report_usage

BACKUP = ".orig"
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "build"})
_UNSIGNED = (
    "task_serializer and accept_content are json alone: messages are not signed; leave both out to "
    "have them signed"
)
_LATE = (
    "tasks are acknowledged after they have run, unless task_acks_late or acks_late is False: one whose "
    "worker dies runs again"
)


@dataclass
class Report:
    """What was found in a project."""

    findings: list[Finding] = field(default_factory=list)
    changed: list[Path] = field(default_factory=list)
    """Files that were rewritten, or would be."""
    unreadable: dict[Path, str] = field(default_factory=dict)
    """Files that were left alone, with the reason."""

    def of(self, kind: Kind) -> list[Finding]:
        """The findings of one kind."""
        return [one for one in self.findings if one.kind is kind]


def upgrade(
    paths: Sequence[Path], *, django: bool = False, write: bool = True, backup: bool = True
) -> Report:
    """Rewrite the Python files at `paths`, which are files or folders; with `write=False`, only look.

    A rewritten file's former text stays beside it as `NAME.orig`, unless there is one already, which is
    older and kept. A file that cannot be read or parsed is left alone and named in the report.
    """
    report = Report()
    sources = list(_read(paths, report))
    named = _named_settings(sources)
    django = django or any(map(is_django, sources)) or "django.conf" in named
    settings: list[Setting] = []
    for source in sources:
        module = source.path.stem
        settings += rewrite_settings(
            source,
            is_settings=looks_like_settings(source) or module in named or is_django(source),
            django=django,
        )
        rewrite_imports(source)
        report_usage(source)
        report.findings += sorted(source.findings, key=lambda one: (one.line, one.kind, one.text))
    if sources:
        report.findings += _overall(Path(paths[0]), settings)
    for source in sources:
        if source.is_changed:
            report.changed.append(source.path)
            if write:
                _write(source, backup=backup)
    return report


def _read(paths: Sequence[Path], report: Report) -> Iterator[Source]:
    for path in _files(paths):
        try:
            yield Source(path)
        except (UnreadableError, OSError) as error:
            report.unreadable[path] = str(error)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        if not path.exists():
            raise ImproperlyConfigured(f"upgrade: there is no file or folder {str(path)!r}")
        found = _below(path) if path.is_dir() else [path]
        for one in found:
            if one.resolve() not in seen:
                seen.add(one.resolve())
                yield one


def _below(folder: Path) -> Iterator[Path]:
    """The Python files of a project: without hidden folders and those of other projects."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED and not name.startswith(".")
        )
        yield from (Path(root, name) for name in sorted(files) if name.endswith(".py"))


def _named_settings(sources: Iterable[Source]) -> set[str]:
    """The last parts of the modules that `config_from_object` is called with; and where they are."""
    found: set[str] = set()
    for source in sources:
        for node in source.nodes:
            if not isinstance(node, ast.Call):
                continue
            if dotted(node.func).rpartition(".")[2] != "config_from_object" or not node.args:
                continue
            is_plain, value = literal(node.args[0])
            name = str(value).partition(":")[0] if is_plain else dotted(node.args[0])
            found |= {name} if name == "django.conf" else {name, name.rpartition(".")[2]}
            if name == "django.conf" and all(one.arg != "namespace" for one in node.keywords):
                said = "config_from_object: add namespace='CELERY'; all settings are read without"
                source.note(node, Kind.DECIDE, said)
    return found - {""}


def _overall(path: Path, settings: Sequence[Setting]) -> Iterator[Finding]:
    """What no single line says."""
    values = {
        setting.name: literal(setting.value)[1] for setting in settings if setting.value is not None
    }
    if values.get("task_serializer") == "json" and values.get("accept_content") in (
        ["json"],
        ("json",),
    ):
        yield Finding(path=path, line=0, kind=Kind.DECIDE, text=_UNSIGNED)
    if "task_acks_late" not in values:
        yield Finding(path=path, line=0, kind=Kind.NOTE, text=_LATE)


def _write(source: Source, *, backup: bool) -> None:
    """Replace a file's text at once, or not at all."""
    path = source.path.resolve()
    kept = path.with_name(path.name + BACKUP)
    if backup and not kept.exists():
        shutil.copy2(path, kept)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(source.rewritten())
        shutil.copymode(path, name)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
