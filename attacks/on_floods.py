"""Floods: so much of it that somebody who keeps everything would drown."""

from __future__ import annotations

import os

from attacks.makers import arguments, seal, task_claims
from attacks.matrix import attack
from attacks.raid import Raid

JUNK = 2000
FORGED = 300
LARGE = 30
MEGABYTE = 1024 * 1024
MEMORY_PATIENCE = 120.0


def _flood(raid: Raid, frames: list[bytes], *reasons: str) -> None:
    ids = [raid.id() for _ in frames]
    good = [raid.send() for _ in range(3)]
    for number, (id, frame) in enumerate(zip(ids, frames, strict=True)):
        raid.offer(frame, *reasons, id=id)
        if number % (len(frames) // 3) == 0:
            good.append(raid.send())
    assert len(good) > 3


@attack("floods", alone=True)
def flood_of_junk(raid: Raid) -> None:
    """Two thousand messages of random bytes, with honest ones in between."""
    _flood(raid, [os.urandom(200) for _ in range(JUNK)], "malformed")


@attack("floods", alone=True)
def flood_of_forged_signatures(raid: Raid) -> None:
    """Three hundred messages under the client's key id, each of which costs a verification."""
    body = arguments(raid.token())
    client = raid.people.client
    frames = [
        seal(client, task_claims(raid.id(), body), body, signature=os.urandom(32) + bytes(32))
        for _ in range(FORGED)
    ]
    _flood(raid, frames, "bad-signature")


@attack("floods", alone=True)
def flood_of_strangers(raid: Raid) -> None:
    """Three hundred messages by as many unknown signers."""
    body = arguments(raid.token())
    stranger = raid.people.stranger
    frames = [
        seal(stranger, task_claims(raid.id(), body), body, key_id=os.urandom(32))
        for _ in range(FORGED)
    ]
    _flood(raid, frames, "unknown-signer")


@attack("floods", alone=True)
def flood_of_large_messages(raid: Raid) -> None:
    """Thirty messages of four megabytes."""
    frames = [os.urandom(16) + bytes(4 * MEGABYTE) for _ in range(LARGE)]
    _flood(raid, frames, "malformed", "too-large")


@attack("floods", alone=True)
def flood_of_commands(raid: Raid) -> None:
    """Five hundred forged commands to all workers."""
    for _ in range(500):
        frame = os.urandom(100)
        raid.store.command(frame)
    raid.refused_command(frame, "malformed")


@attack("floods", alone=True)
def flood_of_one_id(raid: Raid) -> None:
    """The same id again and again, as fast as it goes; the store may take only one at a time."""
    id = raid.id()
    frame = os.urandom(100)
    for _ in range(30):
        raid.site.comes_true(lambda: raid.store.waiting(id) is None, 20)
        raid.store.offer(id, frame, queue="celery")
    raid.refused("malformed", id=id, frame=frame)
