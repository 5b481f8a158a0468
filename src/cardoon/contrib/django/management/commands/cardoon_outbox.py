"""`manage.py cardoon_outbox`: publish what `atomic_send` has committed and nobody has published yet."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections
from django.db import Error as DatabaseError

from cardoon.app import Cardoon, current_application
from cardoon.contrib.django.outbox import outbox_model, relay_outbox
from cardoon.exceptions import CardoonError
from cardoon.loading import load_app

YOUNG_SECONDS = 1.0
"""How old a row must be for a watcher: younger ones are being published by who wrote them."""


class Command(BaseCommand):
    """Publish what lies in the outbox."""

    help = "Publish the messages that atomic_send has committed and nobody has published yet."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        parser.add_argument("--watch", action="store_true", help="Go on until it is stopped.")
        parser.add_argument(
            "--interval", type=float, default=1.0, help="Seconds between two looks.  [1]"
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, help="The database.  [default]")
        parser.add_argument(
            "--app", help="The Cardoon app, as for `cardoon -A`.  [the project's own]"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Only say how many rows there are."
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Publish once, or again and again."""
        alias = options["database"]
        if alias not in connections.databases:
            known = ", ".join(sorted(connections.databases))
            raise CommandError(f"--database {alias!r}: there is none of that name; use {known}")
        if options["interval"] < 0.01:
            raise CommandError(f"--interval {options['interval']}: at least 0.01 seconds")
        try:
            app = load_app(options["app"]) if options["app"] else current_application()
            if options["dry_run"]:
                self._count(alias)
            elif options["watch"]:
                self._watch(app, alias, options["interval"])
            else:
                self.stdout.write(f"rows published: {relay_outbox(app, using=alias)}")
        except CardoonError as error:
            raise CommandError(str(error)) from error

    def _count(self, alias: str) -> None:
        rows = outbox_model().objects.using(alias)
        oldest = rows.order_by("written_at").first()
        self.stdout.write(f"rows waiting: {rows.count()}")
        if oldest is not None:
            self.stdout.write(f"oldest: {oldest}")

    def _watch(self, app: Cardoon, alias: str, interval: float) -> None:
        stopped = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
        self.stdout.write("watching the outbox")
        self.stdout.flush()
        while not stopped.is_set():
            try:
                published = relay_outbox(app, using=alias, older_than=YOUNG_SECONDS)
                if published:
                    self.stdout.write(f"rows published: {published}")
                    self.stdout.flush()
            except (CardoonError, DatabaseError) as error:
                self.stderr.write(f"not now: {error}")
            close_old_connections()
            stopped.wait(interval)
