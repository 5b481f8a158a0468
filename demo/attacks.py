"""The attacker: writes into the queue file, and what became of it.

Plain SQL reads and changes messages and results of the file, and Cardoon's own modules serve as tools
to make frames. For some attacks the key of a trusted client has been stolen, too.

Left alone is what no signature can bring back: messages and results could be deleted, and so could
the marks of what was carried out before, which lie in the same file.
"""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cardoon.audit import REFUSAL_EVENTS
from cardoon.clock import SystemClock
from cardoon.exceptions import Refusal
from cardoon.message import envelope
from cardoon.message.claims import encode_claims, parse_claims
from cardoon.message.envelope import SignedFrame
from cardoon.message.protocol import Kind
from cardoon.message.serializers import JSON, JSON_ZLIB
from cardoon.security.authority import create_authority, ensure_identity, issue
from cardoon.security.identity import load_identity
from cardoon.security.signing import Draft, MessageSigner

QUEUE = "celery"
DOMAIN = "default"
"""The security domain of an app whose settings name none."""
TARGET = "tasks.erase"
"""What the attacker would like to be carried out."""
TEN_YEARS = 10 * 366 * 86_400
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One thing that was tried, and what must come of it."""

    what: str
    id: str
    """Under which it lies in the queue file, and so in the quarantine."""
    expected: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of an attack; empty texts and None for what is not there."""

    attack: Attack
    reason: str
    number: int | None
    """In the quarantine."""
    event: str
    """In the audit trail."""

    @property
    def repelled(self) -> bool:
        """Whether it was refused for its own reason, kept, and audited."""
        expected = self.attack.expected
        return (
            self.reason == expected.value
            and self.number is not None
            and self.event == REFUSAL_EVENTS[expected]
        )


class QueueFile:
    """The database of the queue, as anybody sees it who may write the file."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None)

    def read_message(self, id: str) -> bytes:
        """Copy a message that waits."""
        return self._read(
            "SELECT frame FROM frame JOIN message USING (number) WHERE message.id = ?", id
        )

    def read_result(self, task_id: str) -> bytes:
        """Copy a result."""
        return self._read("SELECT frame FROM result WHERE task_id = ?", task_id)

    def insert_message(self, frame: bytes, id: str = "") -> str:
        """Put a message before all others in the queue; return the id that it has there."""
        own_id = id or str(uuid.uuid4())
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            [(number,)] = self._database.execute(
                "UPDATE counter SET value = value + 1 RETURNING value"
            ).fetchall()
            self._database.execute(
                "INSERT INTO message (number, id, queue, priority, state, due, size)"
                " VALUES (?, ?, ?, 9, 1, ?, ?)",
                (number, own_id, QUEUE, time.time(), len(frame)),
            )
            self._database.execute("INSERT INTO frame VALUES (?, ?)", (number, frame))
        return own_id

    def move_message(self, id: str, queue: str) -> None:
        """Move a message to another queue."""
        self._database.execute("UPDATE message SET queue = ? WHERE id = ?", (queue, id))

    def insert_result(self, task_id: str, frame: bytes) -> None:
        """Store a task's final result before its worker does."""
        self._database.execute(
            "INSERT INTO result (task_id, final, frame) VALUES (?, 1, ?)", (task_id, frame)
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _read(self, statement: str, id: str) -> bytes:
        rows = self._database.execute(statement, (id,)).fetchall()
        if not rows:
            raise LookupError(f"the queue file has nothing for task {id} (any more)")
        return bytes(rows[0][0])


class Attacker:
    """Makes messages in each of the ways that a writer of the queue file has."""

    def __init__(self, queue_file: QueueFile, *, folder: Path, trust_domain: str) -> None:
        self._file = queue_file
        clock = SystemClock()
        own = ensure_identity(folder, "nobody", clock=clock)
        self._own = MessageSigner(load_identity(*own), domain=DOMAIN, clock=clock)
        create_authority(folder, trust_domain, clock=clock)
        namesake = load_identity(*issue(folder, "client", clock=clock))
        self._namesake = MessageSigner(namesake, domain=DOMAIN, clock=clock, send_chain=True)

    def tamper(self, genuine: bytes) -> list[Attack]:
        """Change a captured message of a client."""
        frame = envelope.parse_frame(genuine)
        assert isinstance(frame, SignedFrame)
        claims = parse_claims(frame.claims)
        flipped = bytes([*frame.body[:-1], frame.body[-1] ^ 1])
        longer = claims._replace(valid_until=claims.valid_until + TEN_YEARS)
        swapped = claims._replace(task=TARGET)
        renamed = claims._replace(id=str(uuid.uuid4()))
        return [
            self._insert(
                "one bit of the arguments flipped",
                _rebuild(frame, frame.claims, flipped),
                Refusal.WRONG_DIGEST,
            ),
            self._insert(
                "claims changed: valid for ten more years",
                _rebuild(frame, encode_claims(longer), frame.body),
                Refusal.BAD_SIGNATURE,
            ),
            self._insert(
                f"claims changed: the task is {TARGET} now",
                _rebuild(frame, encode_claims(swapped), frame.body),
                Refusal.BAD_SIGNATURE,
            ),
            self._insert(
                "the signature taken off",
                envelope.build_plain(encode_claims(renamed), frame.body),
                Refusal.UNSIGNED,
                renamed.id,
            ),
        ]

    def sign_as_stranger(self) -> list[Attack]:
        """Sign with keys that nobody trusts."""
        return [
            self._sign(self._own, "signed with an unknown key", _draft(), Refusal.UNKNOWN_SIGNER),
            self._sign(
                self._namesake,
                "signed as `client` of the attacker's authority",
                _draft(),
                Refusal.UNKNOWN_SIGNER,
            ),
        ]

    def replay(self, genuine: bytes) -> Attack:
        """Put a message back that was carried out."""
        own = parse_claims(envelope.parse_frame(genuine).claims).id
        return self._insert(
            "a completed task put back in the queue", genuine, Refusal.REPLAYED, own
        )

    def misdirect(self, id: str) -> Attack:
        """Move a genuine message to another queue than its sender meant."""
        self._file.move_message(id, QUEUE)
        what = "a task for queue `archive` moved to this one"
        return Attack(what=what, id=id, expected=Refusal.WRONG_AUDIENCE)

    def confuse(self, task_id: str) -> Attack:
        """Offer what a trusted worker has signed as a result as if it were a task."""
        frame = self._file.read_result(task_id)
        return self._insert("a worker's signed result as a task", frame, Refusal.WRONG_KIND)

    def insert_garbage(self) -> list[Attack]:
        """Offer what is no message at all."""
        return [
            self._insert("4 KiB of random bytes", os.urandom(4096), Refusal.MALFORMED),
            self._insert("an empty message", b"", Refusal.MALFORMED),
            self._insert("9 MiB of zeros", bytes(9 * MIB), Refusal.TOO_LARGE),
        ]

    def misuse(self, key: Path, certificate: Path) -> list[Attack]:
        """Sign what is poison to read with the stolen key of a trusted client."""
        stolen = MessageSigner(load_identity(key, certificate), domain=DOMAIN, clock=SystemClock())
        bomb = zlib.compress(bytes(64 * MIB), level=9)
        nested = b"[" * 100_000 + b"]" * 100_000
        return [
            self._sign(
                stolen,
                "stolen key: a small body that inflates to 64 MiB",
                _draft(body=bomb, codec=JSON_ZLIB),
                Refusal.BOMB,
            ),
            self._sign(
                stolen,
                "stolen key: JSON nested 100,000 deep",
                _draft(body=nested),
                Refusal.UNDECODABLE,
            ),
        ]

    def forge_result(self, task_id: str, request: bytes) -> Attack:
        """Answer a pending task in the worker's place, with an unknown key."""
        lie = Draft(
            kind=Kind.RESULT,
            task="tasks.note",
            id=task_id,
            audience=(),
            codec=JSON,
            body=b'{"result":"forged"}',
            headers=b'{"state":"SUCCESS"}',
            request=request,
        )
        [signed] = self._own.sign([lie])
        self._file.insert_result(task_id, signed.frame)
        what = "a forged result for a task that waits"
        return Attack(what=what, id=task_id, expected=Refusal.UNKNOWN_SIGNER)

    def swap_result(self, task_id: str, other: str) -> Attack:
        """Answer a pending task with the genuine result of another."""
        self._file.insert_result(task_id, self._file.read_result(other))
        what = "another task's genuine result for this one"
        return Attack(what=what, id=task_id, expected=Refusal.WRONG_REQUEST)

    def _sign(self, signer: MessageSigner, what: str, draft: Draft, expected: Refusal) -> Attack:
        [signed] = signer.sign([draft])
        return self._insert(what, signed.frame, expected, id=draft.id)

    def _insert(self, what: str, frame: bytes, expected: Refusal, id: str = "") -> Attack:
        return Attack(what=what, id=self._file.insert_message(frame, id), expected=expected)


def judge(
    attacks: Sequence[Attack],
    quarantine: Sequence[Mapping[str, Any]],
    audit: Sequence[Mapping[str, Any]],
) -> list[Verdict]:
    """What became of each attack, by `cardoon quarantine list --json` and the audit trail."""
    kept = {entry["id"]: entry for entry in quarantine}
    events = {
        record.get("message") or record.get("task_id"): record["event"]
        for record in audit
        if "reason" in record
    }
    return [
        Verdict(
            attack=attack,
            reason=kept.get(attack.id, {}).get("reason", ""),
            number=kept.get(attack.id, {}).get("number"),
            event=events.get(attack.id, ""),
        )
        for attack in attacks
    ]


def _draft(*, body: bytes = b"[[],{},{}]", codec: str = JSON) -> Draft:
    return Draft(
        kind=Kind.TASK,
        task=TARGET,
        id=str(uuid.uuid4()),
        audience=("q:" + QUEUE,),
        codec=codec,
        body=body,
    )


def _rebuild(frame: SignedFrame, claims: bytes, body: bytes) -> bytes:
    """A frame with other claims or another body under the old signature."""
    start = envelope.begin_single(frame.protected)
    return envelope.build_signed(start, claims, frame.signature, body)
