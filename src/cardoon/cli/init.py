"""`cardoon init`: identities and a starter project."""

from __future__ import annotations

from pathlib import Path

import click

from cardoon.cli.access import answer_option, print_json, wants_json
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.security.authority import create_authority, ensure_identity, issue

ROLES = ("client", "worker")

_TASKS = '''"""Tasks of this project. Start a worker with: cardoon -A tasks worker"""

from cardoon import Cardoon

app = Cardoon("tasks")


@app.task
def add(x: int, y: int) -> int:
    """Add two numbers, somewhere else."""
    return x + y


if __name__ == "__main__":
    print(add.delay(2, 3).get(timeout=30))
'''


@click.command()
@click.argument("directory", default=".", type=click.Path(file_okay=False))
@click.option(
    "--domain",
    default="cardoon.local",
    show_default=True,
    help="Trust domain: the first part of every identity's name.",
)
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="NAME",
    help="A further identity, such as bridge; may be given several times.",
)
@answer_option
@click.pass_obj
def init(invocation: Invocation, directory: str, domain: str, roles: tuple[str, ...]) -> None:
    """Make an authority, identities for a client and a worker, and a starter tasks.py.

    What exists is kept. The authority's key signs new identities; keep it off hosts that run tasks.
    """
    project = Path(directory)
    project.mkdir(parents=True, exist_ok=True)
    state = project / ".cardoon"
    clock = SystemClock()
    authority = create_authority(state, domain, clock=clock)
    made = [("authority", authority.key, authority.certificate)]
    for role in dict.fromkeys((*ROLES, *roles)):
        issue(state, role, clock=clock)
        paths = ensure_identity(state, role, clock=clock)  # trusts it in this project
        made.append((role, paths.key, paths.certificate))
    tasks = project / "tasks.py"
    is_new = not tasks.exists()
    if is_new:
        tasks.write_text(_TASKS, encoding="utf-8")
    (state / ".gitignore").write_text("*\n", encoding="utf-8")
    if wants_json():
        print_json(
            {
                "identities": [
                    {"name": name, "certificate": str(certificate), "key": str(key)}
                    for name, key, certificate in made
                ],
                "tasks": str(tasks),
                "new": is_new,
            }
        )
    if invocation.quiet or wants_json():
        return
    for name, key, certificate in made:
        click.echo(f"{name:<10} {certificate}  (key: {key})")
    click.echo(f"{'tasks':<10} {tasks}{'' if is_new else '  (kept)'}")
    here = "" if directory == "." else f"cd {directory}\n  "
    click.echo(f"\nnext:\n  {here}cardoon -A tasks worker\n  python tasks.py      # elsewhere")
