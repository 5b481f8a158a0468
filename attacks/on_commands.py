"""Commands: what workers are told by those who may not tell them anything."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from attacks.makers import Person, arguments, control_claims, encode, seal, task_claims
from attacks.matrix import attack
from attacks.raid import Raid
from cardoon.message import envelope


def _revoke(ids: Sequence[str], *, terminate: bool = False) -> bytes:
    told = {"ids": list(ids), "terminate": terminate, "signal": "SIGKILL"}
    return json.dumps(told).encode()


def _forbid(raid: Raid, person: Person, *reasons: str, **changes: object) -> None:
    """Revoke a task that the client wants run."""
    sent, _ = raid.send_later()
    body = _revoke([sent.id])
    frame = seal(person, control_claims(body, **changes), body)
    raid.store.command(frame)
    raid.refused_command(frame, *reasons)


@attack("commands")
def revoke_by_a_stranger(raid: Raid) -> None:
    """A stranger revokes the client's task."""
    _forbid(raid, raid.people.stranger, "unknown-signer")


@attack("commands")
def revoke_by_another_client(raid: Raid) -> None:
    """A trusted client that may send tasks, and no commands."""
    _forbid(raid, raid.people.insider, "denied")


@attack("commands")
def revoke_by_somebody_revoked(raid: Raid) -> None:
    """A key that was revoked itself."""
    _forbid(raid, raid.people.revoked, "certificate-revoked")


@attack("commands")
def revoke_in_another_deployment(raid: Raid) -> None:
    """A command by the client for staging."""
    sent, _ = raid.send_later()
    body = _revoke([sent.id])
    frame = seal(raid.people.client, control_claims(body), body, domain="attacks/staging")
    raid.store.command(frame)
    raid.refused_command(frame, "bad-signature")


@attack("commands")
def revoke_for_another_worker(raid: Raid) -> None:
    """A command by the client that is meant for a worker elsewhere: nothing to put on record, nor to obey."""
    sent, _ = raid.send_later()
    body = _revoke([sent.id])
    claims = control_claims(body, audience=["other@host"])
    raid.store.command(seal(raid.people.client, claims, body))
    raid.outcome = "passed over"


@attack("commands")
def revoke_of_long_ago(raid: Raid) -> None:
    """A command by the client whose time is over."""
    _forbid(raid, raid.people.client, "expired", issued_at=1_000_000, valid_until=1_000_100)


@attack("commands")
def revoke_without_signature(raid: Raid) -> None:
    """A command that nobody has signed."""
    sent, _ = raid.send_later()
    body = _revoke([sent.id])
    frame = envelope.build_plain(encode(control_claims(body)), body)
    raid.store.command(frame)
    raid.refused_command(frame, "unsigned")


@attack("commands")
def terminate_by_another_client(raid: Raid) -> None:
    """A trusted client has a running task of others killed."""
    sent = raid.send(task="canary.slow", value=3.0)
    body = _revoke([sent.id], terminate=True)
    frame = seal(raid.people.insider, control_claims(body), body)
    raid.store.command(frame)
    raid.refused_command(frame, "denied")


@attack("commands")
def command_nobody_knows(raid: Raid) -> None:
    """A stop command of Celery's, by a trusted client."""
    for command in ("shutdown", "pool_restart", "add_consumer", "rate_limit"):
        body = json.dumps({"arguments": {}}).encode()
        frame = seal(raid.people.client, control_claims(body, command=command), body)
        raid.store.command(frame)
        raid.refused_command(frame, "denied", "bad-claims")


@attack("commands")
def command_with_odd_arguments(raid: Raid) -> None:
    """The client itself commands nonsense."""
    for told in (b"[]", b'{"ids":7,"terminate":1,"signal":2}', b"\xff", b"[" * 50_000):
        frame = seal(raid.people.client, control_claims(told), told)
        raid.store.command(frame)
        raid.refused_command(frame, "bad-claims", "undecodable")


@attack("commands")
def junk_for_all_workers(raid: Raid) -> None:
    """Random bytes, and Celery's own JSON for remote control."""
    celery = json.dumps({"method": "shutdown", "arguments": {}, "destination": None}).encode()
    for frame in (os.urandom(300), celery, b"\x00"):
        raid.store.command(frame)
        raid.refused_command(frame, "malformed")


@attack("commands")
def command_in_a_task_queue(raid: Raid) -> None:
    """A genuine command is put into a task queue."""
    body = _revoke(["nobody"])
    frame = seal(raid.people.client, control_claims(body), body)
    raid.offer(frame, "wrong-kind", "bad-claims")


@attack("commands")
def task_as_a_command(raid: Raid) -> None:
    """A genuine task is said to all workers."""
    _, frame = raid.send_later()
    raid.store.command(frame)
    raid.refused_command(frame, "wrong-kind")


@attack("commands")
def event_in_a_task_queue(raid: Raid) -> None:
    """A message of another kind by a trusted key is put into a task queue, for each kind that there is."""
    for kind in range(2, 12):
        id = raid.id()
        body = arguments(raid.token())
        request = bytes(32) if kind in {2, 5} else None
        claims = task_claims(id, body, kind=kind, request=request)
        frame = seal(raid.people.insider, claims, body)
        raid.offer(frame, "wrong-kind", "bad-claims", id=id)
