"""How a worker that imports no code of the app comes to its settings and tasks: the zygote tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cardoon.config import Conf, Settings
from cardoon.contents import add_content
from cardoon.worker.beating import Told, read_entries
from cardoon.worker.catalogue import Catalogue
from cardoon.worker.nursery import Nursery
from cardoon.worker.options import WorkerOptions
from cardoon.worker.own_commands import OwnCommands


class Imported(NamedTuple):
    """An app that another process has imported."""

    nursery: Nursery
    settings: Settings
    catalogue: Catalogue
    entries: Mapping[str, Told]
    """Its periodic tasks, where the worker is to send them."""
    own_commands: OwnCommands


def import_app(options: WorkerOptions, born: Mapping[str, Any]) -> Imported:
    """Start the zygote, which imports the app. `born` is what receivers of signals are told of the worker.

    Raises `AppImportError`, and leaves no process behind.
    """
    asked = Conf()
    asked.update(options.settings)
    draft = asked.draft()
    nursery = Nursery(
        options.app,
        logging_setup=options.logging_setup,
        include=draft.include,
        worker=born,
        beat=options.beat,
        imports=options.imports,
    )
    report = nursery.start(passed=draft.worker_pass_environment)
    try:
        for name, media_type in report.serializers.items():
            add_content(name, media_type)
        entries = read_entries(report.entries)
        settings = read_settings({**report.settings, **options.settings})
    except BaseException:
        nursery.stop()
        raise
    own = OwnCommands(report.commands)
    return Imported(nursery, settings, report.catalogue, entries, own)


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from what was given, checked together."""
    conf = Conf()
    conf.update(values)
    return conf.settings()
