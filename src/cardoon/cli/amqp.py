"""`cardoon amqp`: Celery has a shell under this name."""

from __future__ import annotations

import click

_INSTEAD = {
    "queue.declare": "queues are declared by workers and clients from task_queues; `cardoon list bindings`",
    "queue.delete": "with a broker's own tool, such as rabbitmqadmin, once `cardoon queues` shows it empty",
    "queue.purge": "`cardoon purge -Q NAME`",
    "exchange": "exchanges are settings here; `cardoon list bindings`, `cardoon routes NAME`",
    "basic.publish": "`cardoon call NAME`, which signs; unsigned messages go to the quarantine",
    "basic.get": "`cardoon queues`, and `cardoon why ID` for one message",
    "basic.ack": "only workers settle messages; `cardoon purge` deletes those that wait",
}


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="Example: `cardoon queues` in place of `celery amqp queue.declare`.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def amqp(words: tuple[str, ...]) -> None:
    """Celery's shell for AMQP. It is not here; this says which command does what it was used for.

    Messages are signed, so a shell that writes them by hand would write what every worker refuses.
    """
    word = words[0] if words else ""
    found = next((text for name, text in _INSTEAD.items() if word and word.startswith(name)), None)
    if found is not None:
        raise click.UsageError(f"amqp {word}: there is no shell for AMQP here; use {found}")
    told = "\n".join(f"  {name:<15}{text}" for name, text in _INSTEAD.items())
    raise click.UsageError(f"amqp: there is no shell for AMQP here. Instead of\n{told}")
