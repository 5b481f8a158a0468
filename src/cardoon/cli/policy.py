"""`cardoon policy`: what the policy file says, before and while it is in force."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from cardoon.cli.access import answer_option, find_app, json_option, print_json, wants_json
from cardoon.cli.main import Invocation
from cardoon.exceptions import ImproperlyConfigured, RefusedError
from cardoon.message.headers import ORIGIN
from cardoon.security.identity import Identity, identify, load_certificate
from cardoon.security.origins import describe_parties
from cardoon.security.policing import load_rules
from cardoon.security.policy import Action, Request
from cardoon.security.rules import UNSIGNED, Rules

_FILE = click.option(
    "--file", "path", type=click.Path(dir_okay=False), help="Instead of `security_policy`."
)


@click.group()
def policy() -> None:
    """Who may do what: check the policy file, and ask it."""


@policy.command()
@_FILE
@answer_option
@click.pass_obj
def check(invocation: Invocation, path: str | None) -> None:
    """Read the file as a worker would, and say what it holds."""
    rules = _load(invocation, path)
    if wants_json():
        print_json(
            {
                "roles": len(rules.roles),
                "rules": len(rules.rules),
                "sandboxes": len(rules.sandboxes),
                "shadowed": [list(pair) for pair in rules.find_shadowed()],
                "unused": list(rules.find_unused()),
            }
        )
        return
    told = f"{len(rules.roles)} roles, {len(rules.rules)} rules"
    click.echo(f"{told}, {len(rules.sandboxes)} sandboxes" if rules.sandboxes else told)
    for shadowed, row in rules.find_shadowed():
        click.secho(f"sandbox {shadowed}: {row} comes first for whatever it fits", fg="yellow")
    for name in rules.find_unused():
        click.secho(f"role {name}: no rule names it, so it may do nothing", fg="yellow")


@policy.command()
@click.argument("identity")
@click.argument("action", type=click.Choice([one.value for one in Action]))
@click.argument("task")
@click.argument("queue", default="")
@click.option("--origin", help="Whose request the sender, a worker, is running; as IDENTITY.")
@_FILE
@json_option
@click.pass_obj
def explain(
    invocation: Invocation,
    identity: str,
    action: str,
    task: str,
    queue: str,
    origin: str | None,
    path: str | None,
    as_json: bool,  # noqa: FBT001  # click passes flags so
) -> None:
    """Say whether IDENTITY may do ACTION with TASK on QUEUE, and what each rule has to do with it.

    IDENTITY is a certificate's file, a SPIFFE id, sha256:FINGERPRINT, a subject, or `unsigned`. TASK is
    the command for the action `control`; of a map it is the task that is mapped. Exits with 1 if it is denied.
    """
    rules = _load(invocation, path)
    signer = _find_signer(identity)
    told = {} if origin is None else {ORIGIN: describe_parties((_find_signer(origin),))}
    headers = json.dumps(told).encode()
    request = Request(Action(action), signer, task, queue, headers=headers)
    roles = rules.roles_of(signer)
    objections = {rule.number: rule.find_objection(request, roles) for rule in rules.rules}
    try:
        rules.check(request)
    except RefusedError:
        allowed = False
    else:
        allowed = True
    row = next((one for one in rules.sandboxes if one.fits(task, queue)), None)
    if as_json:
        print_json(
            {
                "allowed": allowed,
                "roles": sorted(roles),
                "rules": objections,
                "sandbox": None if row is None else {"row": row.number, **row.profile.to_mapping()},
            }
        )
    else:
        click.secho("allowed" if allowed else "denied", fg="green" if allowed else "red")
        click.echo(f"roles: {', '.join(sorted(roles)) or 'none; no role has this id'}")
        for rule in rules.rules:
            objection = objections[rule.number]
            bounds = f" ({rule.describe_bounds()})" if objection is None and rule.bounded else ""
            click.echo(f"rule {rule.number}: {objection or 'allows it'}{bounds}")
        if row is not None and request.action is Action.SEND:
            click.echo(f"sandbox {row.number}: it runs at the level {row.profile.level.text!r}")
    sys.exit(not allowed)


def _load(invocation: Invocation, path: str | None) -> Rules:
    found = path or find_app(invocation).settings.security_policy
    if not found:
        raise ImproperlyConfigured(
            "security_policy is not set: whoever is trusted may do anything; name a file with --file"
        )
    return load_rules(Path(found).expanduser())


def _find_signer(text: str) -> Identity | None:
    """Somebody who is called that; times do not matter to a policy."""
    if text == UNSIGNED:
        return None
    if Path(text).is_file():
        return identify(load_certificate(Path(text)))
    name, fingerprint = text.removeprefix("subject:"), bytes(32)
    if text.startswith("sha256:"):
        try:
            fingerprint = bytes.fromhex(text.removeprefix("sha256:"))
        except ValueError:
            raise click.BadParameter(f"{text!r}: a fingerprint has 64 hexadecimal digits") from None
    return Identity(fingerprint=fingerprint, name=name, not_before=0.0, not_after=0.0)
