"""`cardoon completion`."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, get_completion_class

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_CARDOON_COMPLETE"
"""As click calls it, for a command of this name."""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what completes commands, options, tasks and queues in SHELL.

    \b
    bash: echo 'eval "$(cardoon completion bash)"' >> ~/.bashrc       (bash 4.4 or newer)
    zsh:  echo 'eval "$(cardoon completion zsh)"' >> ~/.zshrc
    fish: cardoon completion fish > ~/.config/fish/completions/cardoon.fish

    Names of tasks are those of the app of -A, which is imported for it; queues are those that its settings
    declare, and those in the project's own file.
    """  # noqa: D301  # \b keeps click from filling the lines
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(ctx.find_root().command, {}, "cardoon", _VARIABLE)
    # Bash's own `source` would start bash to ask for its version; whoever reads this is in one.
    text = made.source_template % made.source_vars() if kind is BashComplete else made.source()
    click.echo(text)
