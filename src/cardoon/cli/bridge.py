"""`cardoon bridge`."""

from __future__ import annotations

import dataclasses
import logging
import signal
import sys
from typing import Any

import click

from cardoon.cli.access import find_app, print_json
from cardoon.cli.main import Invocation
from cardoon.contrib.celery import Bridge, Fence
from cardoon.log import LEVELS, log_formats, setup_logging

logger = logging.getLogger(__name__)


@click.command()
@click.option("--from", "broker_url", metavar="URL", help="Celery's broker.  [celery_broker_url]")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="A queue of Celery's.")
@click.option("--to", metavar="NAME", help="The queue here; without it, of the same name.")
@click.option("--task", "tasks", multiple=True, metavar="GLOB", help="Tasks that may be sent.")
@click.option(
    "--auth-certificates",
    "certificates",
    multiple=True,
    metavar="GLOB",
    help="Take only messages that these have signed (Celery's auth), and no plain JSON.",
)
@click.option("--digest", help="Celery's security_digest.  [sha256]")
@click.option(
    "--result-backend",
    metavar="URL",
    help="Tell results there: redis://..., or rpc://.  [celery_result_backend]",
)
@click.option(
    "--remember", type=float, help="Seconds for which a copy is known.  [security_max_age]"
)
@click.option("--key", help="The bridge's own key, where it is not the project's.")
@click.option("--certificate", help="The certificate of that key.")
@click.option(
    "-l",
    "--loglevel",
    default="info",
    show_default=True,
    type=click.Choice(list(LEVELS), case_sensitive=False),
    help="The least level that is logged.",
)
@click.option("-f", "--logfile", help="Log there instead of the terminal.")
@click.option("--json", "as_json", is_flag=True, help="Say at the end what was done, in JSON.")
@click.pass_obj
def bridge(invocation: Invocation, /, **options: Any) -> None:
    """Take messages from Celery's queues, sign those that the fence lets pass, and send them here.

    Whoever writes Celery's broker can have the named tasks run. What is refused goes to the quarantine.
    Stop it with Ctrl-C or SIGTERM: it finishes its batch, gives back what it holds, and exits with 0.
    """
    app = find_app(invocation)
    if options["key"] or options["certificate"]:
        given = {"security_key": options["key"], "security_certificate": options["certificate"]}
        app.conf.update({name: value for name, value in given.items() if value})
    settings = app.settings
    formats = log_formats(dataclasses.asdict(settings))
    setup_logging(level=options["loglevel"], logfile=options["logfile"], **formats)
    for name in ("broker_url", "result_backend"):
        if "@" in (options[name] or ""):
            logger.warning("a URL was given on the command line, where every user can read it")
    to = options["to"]
    fence = Fence.of(
        settings,
        queues={name: to or name for name in options["queues"]},
        tasks=options["tasks"],
        certificates=options["certificates"],
        digest=options["digest"],
    )
    made = Bridge(
        app,
        fence,
        broker_url=options["broker_url"] or "",
        result_backend=options["result_backend"] or "",
        remember=options["remember"],
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: made.request_stop())
    if not invocation.quiet and not options["as_json"]:
        click.echo(f"bridge {made.identity}: {', '.join(fence.tasks)}")
        sys.stdout.flush()
    counts = made.run()
    if options["as_json"]:
        print_json(dataclasses.asdict(counts))
