"""`cardoon keys`: the keysets that tasks and results are sealed to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click

from cardoon.cli.access import (
    answer,
    answer_option,
    find_app,
    json_option,
    print_json,
    print_table,
    when,
)
from cardoon.cli.main import Invocation
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.encrypting import find_folder, seen_file
from cardoon.security import keymaking
from cardoon.security.keyholding import KeysetFolder
from cardoon.security.keyset import CLIENTS, WORKERS, Keyset, PublicKey
from cardoon.security.signing import WAITING_AGES, Signer

DAY = 86_400.0


class _Place(NamedTuple):
    """A keyset, and who signs it."""

    name: str
    held: KeysetFolder
    deployment: Deployment
    signer: Signer
    now: float

    def say(self, event: str, **details: object) -> None:
        """Tell the audit trail."""
        self.deployment.audit().record(f"keyset.{event}", folder=self.held.folder, **details)


def _open(invocation: Invocation, name: str, folder: str | None, role: str) -> _Place:
    clock = SystemClock()
    deployment = Deployment(find_app(invocation).settings, clock=clock, role=role)
    state = deployment.state_directory
    path = Path(folder) if folder else find_folder(deployment.settings, state, name)
    held = KeysetFolder(
        path,
        name,
        # So that one that has expired can be renewed.
        open_record=partial(deployment.open_keyset, at_any_age=True),
        seen=seen_file(state, name, path),
        clock=clock,
        on_event=lambda _event, _detail: None,
    )
    return _Place(name, held, deployment, deployment.make_record_signer(), clock.now())


def _open_to_sign(invocation: Invocation, name: str, folder: str | None, role: str) -> _Place:
    place = _open(invocation, name, folder, role)
    place.deployment.check_may_sign_keyset(name)
    return place


_GROUP = click.option(
    "--for",
    "name",
    type=click.Choice([WORKERS, CLIENTS]),
    default=WORKERS,
    show_default=True,
    help="Whose keys: tasks are sealed to workers, results to clients.",
)
_FOLDER = click.option(
    "--folder",
    type=click.Path(file_okay=False),
    help="Instead of `security_keyset` or `security_reply_keyset`.",
)
_ROLE = click.option(
    "--role",
    default="client",
    show_default=True,
    help="Whose identity signs, where the settings name none.",
)
_DAYS = click.option(
    "--days",
    type=click.IntRange(1, 3660),
    default=365,
    show_default=True,
    help="For how long the record is good.",
)


@click.group()
def keys() -> None:
    """The keys that bodies are sealed to: make, rotate and retire them."""


@keys.command()
@_GROUP
@_FOLDER
@_ROLE
@_DAYS
@answer_option
@click.pass_obj
def init(invocation: Invocation, name: str, folder: str | None, role: str, days: int) -> None:
    """Make a keyset with a first key. What exists is kept."""
    place = _open_to_sign(invocation, name, folder, role)
    made = keymaking.create(
        place.held.folder, name, place.signer, now=place.now, lifetime=days * DAY
    )
    if made:
        place.say("created", name=name)
    _tell(place, "made" if made else "kept")


@keys.command()
@_GROUP
@_FOLDER
@_ROLE
@json_option
@click.pass_obj
def show(
    invocation: Invocation,
    name: str,
    folder: str | None,
    role: str,
    as_json: bool,  # noqa: FBT001  # click passes flags so
) -> None:
    """Show the record, and which private keys are here. Never a private key."""
    place = _open(invocation, name, folder, role)
    keyset = place.held.keyset()
    rows = [_describe(place, keyset, key) for key in keyset.keys]
    if as_json:
        told = {"name": keyset.name, "version": keyset.version, "signer": keyset.signer}
        print_json({**told, "valid_until": keyset.valid_until, "keys": rows})
        return
    expired = " (EXPIRED; run `cardoon keys renew`)" if keyset.valid_until < place.now else ""
    click.echo(f"{place.held.folder}: {keyset.name}, version {keyset.version}")
    click.echo(f"signed by {keyset.signer}, good until {when(keyset.valid_until)} UTC{expired}")
    print_table(
        ("key", "since (UTC)", "", "private key"),
        [
            (row["id"], when(row["since"]), row["state"], "here" if row["private"] else "not here")
            for row in rows
        ],
    )


@keys.command()
@_GROUP
@_FOLDER
@_ROLE
@_DAYS
@click.option(
    "--overlap",
    type=click.FloatRange(0, 90 * DAY),
    default=300.0,
    show_default=True,
    help="Seconds until the new key takes over: in that time every host must have the folder's files.",
)
@answer_option
@click.pass_obj
def rotate(
    invocation: Invocation, name: str, folder: str | None, role: str, days: int, overlap: float
) -> None:
    """Make a further key, which takes over from the present one after the overlap."""
    place = _open_to_sign(invocation, name, folder, role)
    key = keymaking.rotate(
        place.held, place.signer, now=place.now, overlap=overlap, lifetime=days * DAY
    )
    place.say("rotated", name=name, key=key.id.hex(), since=key.since)
    _tell(place, f"key {key.id.hex()} takes over at {when(key.since)} UTC")


@keys.command()
@_GROUP
@_FOLDER
@_ROLE
@_DAYS
@answer_option
@click.pass_obj
def renew(invocation: Invocation, name: str, folder: str | None, role: str, days: int) -> None:
    """Sign the same keys for longer."""
    place = _open_to_sign(invocation, name, folder, role)
    keymaking.renew(place.held, place.signer, lifetime=days * DAY)
    place.say("renewed", name=name)
    _tell(place, "renewed")


@keys.command()
@_GROUP
@_FOLDER
@_ROLE
@_DAYS
@click.option(
    "--longest-eta",
    type=click.FloatRange(0, 3660),
    default=30.0,
    show_default=True,
    help="Days ahead for which tasks are scheduled at most.",
)
@click.option(
    "--at-once",
    is_flag=True,
    help="Delete all but the present key now, as when one was stolen; what is sealed to them is lost.",
)
@answer_option
@click.pass_obj
def retire(
    invocation: Invocation,
    name: str,
    folder: str | None,
    role: str,
    days: int,
    longest_eta: float,
    at_once: bool,  # noqa: FBT001
) -> None:
    """Delete the private keys that no message can be sealed to any more that may still be carried out."""
    place = _open_to_sign(invocation, name, folder, role)
    # A message that waits for others may be carried out for so long (`security.signing`).
    age = place.deployment.settings.security_max_age * WAITING_AGES
    keep = 0.0 if at_once else longest_eta * DAY + age
    gone = keymaking.retire(place.held, place.signer, now=place.now, keep=keep, lifetime=days * DAY)
    for key in gone:
        place.say("retired", name=name, key=key.id.hex(), at_once=at_once)
    nothing = f"nothing to delete: keys are kept for {keep / DAY:g} days after the next took over"
    told = "\n".join(f"deleted key {key.id.hex()}" for key in gone) or nothing
    answer({"deleted": [key.id.hex() for key in gone]}, told)


def _describe(place: _Place, keyset: Keyset, key: PublicKey) -> dict[str, Any]:
    primary = keyset.primary(place.now)
    state = "superseded"
    if key == primary:
        state = "sealed to now"
    elif key.since > place.now:
        state = "takes over then"
    found = place.held.find(key.id) is not None
    return {"id": key.id.hex(), "since": key.since, "state": state, "private": found}


def _tell(place: _Place, what: str) -> None:
    answer(
        {"folder": str(place.held.folder), "name": place.name, "done": what},
        f"{place.held.folder}: {what}",
    )
