"""Stores: rows and fields that no driver of ours would write. One such must not stop what serves the others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from attacks.makers import arguments, seal, task_claims
from attacks.matrix import attack
from attacks.raid import Raid

MEGABYTE = 1024 * 1024
TABLES = ("sqlite", "postgres", "rabbitmq")
"""Where a message is a row: beside RabbitMQ, in the companion's file."""
_LARGEST = {"sqlite": 2**63 - 1, "rabbitmq": 2**63 - 1, "postgres": 2**31 - 1}


def _insider(raid: Raid, *, token: str = "", **changes: Any) -> tuple[str, bytes, str]:
    """An id, a message under it that may run, and what it writes into the diary."""
    id = raid.id()
    token = token or raid.token("either")
    body = arguments(token)
    return id, seal(raid.people.insider, task_claims(id, body, **changes), body), token


def _pollute(raid: Raid, write: Callable[[], object]) -> None:
    """Write something odd, or see the store refuse it; and see that everything else goes on."""
    try:
        write()
    except Exception as error:  # a store's own, of one of four drivers
        raid.outcome = f"the store takes no such thing: {type(error).__name__}"
        return
    raid.outcome = "went on"
    for _ in range(3):
        raid.send()


def _enter_columns() -> None:
    for name, columns in {
        "priority_huge": {"priority": "LARGEST"},
        "priority_negative": {"priority": -5},
        "attempt_huge": {"attempt": "LARGEST"},
        "attempt_negative": {"attempt": -7},
        "crashes_huge": {"crashes": "LARGEST"},
        "crashes_negative": {"crashes": -7},
        "retries_huge": {"retries": "LARGEST"},
        "retries_negative": {"retries": -7},
        "size_huge": {"size": "LARGEST"},
        "size_negative": {"size": -1},
        "inputs_that_are_not_there": {"inputs": 3},
        "limit_that_is_not_there": {"limit_key": "nobody's"},
        "due_for_ever": {"due": float("inf"), "state": 0},
        "due_never_was": {"due": float("-inf"), "state": 0},
        "state_unknown": {"state": 99},
        "leased_to_nobody": {"state": 2, "lease_until": -1.0},
        "dormant_without_reason": {"state": 3},
    }.items():

        def act(raid: Raid, columns: dict[str, Any] = columns) -> None:
            largest = _LARGEST[raid.site.broker]
            given = {
                key: largest if value == "LARGEST" else value for key, value in columns.items()
            }
            id, frame, token = _insider(raid)
            raid.tolerate(id, token)
            _pollute(raid, lambda: raid.store.offer_row(id=id, frame=frame, **given))

        text = f"A row of a message with {columns}."
        attack("rows", name=f"row_{name}", text=text, brokers=TABLES, alone=True)(act)

    for name, columns in {
        "id_blob": {"id": b"\xff\xfe\x00junk"},
        "id_number": {"id": 7.5},
        "priority_text": {"priority": "high"},
        "priority_blob": {"priority": b"\xff"},
        "attempt_text": {"attempt": "first"},
        "crashes_text": {"crashes": "none"},
        "retries_text": {"retries": "none"},
        "retries_real": {"retries": 1.5},
        "size_text": {"size": "small"},
        "inputs_text": {"inputs": "some"},
        "state_text": {"state": "1"},
        "due_text": {"due": "now", "state": 0},
        "queue_blob": {"queue": b"celery"},
        "limit_blob": {"limit_key": b"\xff\xfe"},
    }.items():

        def act_on_types(raid: Raid, columns: dict[str, Any] = columns) -> None:
            id, frame, token = _insider(raid)
            raid.tolerate(columns.get("id", id), token)
            given = {"id": id} | columns
            _pollute(raid, lambda: raid.store.offer_row(frame=frame, **given))

        text = f"A row of a message with {columns}, since SQLite's columns take any type."
        attack("rows", name=f"row_{name}", text=text, brokers=("sqlite", "rabbitmq"), alone=True)(
            act_on_types
        )


_enter_columns()


@attack("rows", brokers=TABLES, alone=True)
def row_without_a_frame(raid: Raid) -> None:
    """A row of a message whose frame is not there."""
    id = raid.id()
    raid.tolerate(id)
    _pollute(raid, lambda: raid.store.offer_row(id=id, frame=None))


@attack("rows", brokers=("sqlite", "rabbitmq"), alone=True)
def row_with_a_frame_that_is_text(raid: Raid) -> None:
    """A frame that is text, and one that is a number, where bytes should be."""
    for frame in ("text", 7):
        id = raid.id()
        raid.tolerate(id)
        _pollute(raid, lambda id=id, frame=frame: raid.store.offer_row(id=id, frame=frame))


@attack("rows", brokers=("sqlite", "rabbitmq"), alone=True)
def row_with_an_id_that_is_no_text(raid: Raid) -> None:
    """An id whose type is text, and whose bytes are not UTF-8."""
    junk = os.urandom(4).hex()
    id = f"(CAST(x'fffe{junk}' AS TEXT))"
    _pollute(
        raid,
        lambda: raid.store.script(
            ("UPDATE counter SET value = value + 1",),
            (
                f"INSERT INTO message (number, id, queue, priority, state, due, size) SELECT value, {id}, 'celery', 0, 1, 0, 9 FROM counter",
            ),
            ("INSERT INTO frame SELECT value, x'00' FROM counter",),
        ),
    )
    raid.clean(lambda: raid.store.sql(f"DELETE FROM message WHERE id = {id}"))


def _enter_ids() -> None:
    for name, id in {
        "megabyte": "i" * MEGABYTE,
        "empty": "",
        "controls": "\x1b[2J\n\r\t\u202e",
        "quotes": "'; DROP TABLE message; -- \"${x}`",
        "path": "../../../etc/passwd",
        "arrow": "x>celery>celery",
        "like_a_key": "{cardoon}:ids",
    }.items():

        def act(raid: Raid, id: str = id) -> None:
            _, frame, _ = _insider(raid, token=raid.token())
            if id == "i" * MEGABYTE and raid.site.broker == "rabbitmq":
                id = id[:100_000]  # more than its frames take in a header
            raid.clean(lambda: raid.store.remove(id))
            _pollute(raid, lambda: raid.store.offer(id, frame, queue="celery"))

        text = f"A message lies under the id {id[:24]!r}, for which it was not signed."
        attack("rows", name=f"id_{name}", text=text, alone=True)(act)


_enter_ids()


@attack("rows", brokers=TABLES)
def offered_early_as_a_retry(raid: Raid) -> None:
    """A message that the client has scheduled for later is offered now, as if it had been tried before."""
    sent = raid.send(countdown=3600)
    raid.lose(sent)
    frame = raid.frame_of(sent.id)
    raid.store.remove(sent.id)
    raid.store.offer_row(id=sent.id, frame=frame, retries=1, attempt=1)
    raid.outcome = "held back"
    raid.clean(lambda: raid.store.remove(sent.id))


@attack("rows", name="offered_early_as_a_retry_redis", brokers=("redis",))
def offered_early_as_a_retry_in_redis(raid: Raid) -> None:
    """A message that the client has scheduled for later is offered now, as if it had been tried before."""
    sent = raid.send(countdown=3600)
    raid.lose(sent)
    frame = raid.frame_of(sent.id)
    raid.store.remove(sent.id)
    raid.store.offer_fields(sent.id, frame, retries=1, attempt=1)
    raid.outcome = "held back"
    raid.clean(lambda: raid.store.remove(sent.id))


def _enter_fields() -> None:
    for name, fields in {
        "priority_text": {"priority": "high"},
        "priority_huge": {"priority": "1e308"},
        "attempt_text": {"attempt": "first"},
        "attempt_huge": {"attempt": str(2**63)},
        "crashes_text": {"crashes": "none"},
        "crashes_negative": {"crashes": -7},
        "retries_text": {"retries": "none"},
        "retries_huge": {"retries": str(2**63)},
        "due_text": {"due": "now"},
        "waits_for_nothing": {"waits": 3},
        "limit_unknown": {"limit": "nobody's"},
        "state_odd": {"state": "zzz"},
        "id_not_text": {"id": b"\xff\xfe"},
        "queue_elsewhere": {"queue_field": b"\xff\xfe"},
        "fields_many": {f"field{number}": number for number in range(1000)},
    }.items():

        def act(raid: Raid, fields: dict[str, Any] = fields) -> None:
            id, frame, token = _insider(raid)
            raid.tolerate(id, token)
            _pollute(raid, lambda: raid.store.offer_fields(id, frame, **fields))

        text = f"A message's hash with {str(fields)[:40]}."
        attack("fields", name=f"field_{name}", text=text, brokers=("redis",), alone=True)(act)


_enter_fields()


@attack("fields", brokers=("redis",), alone=True)
def field_frame_missing(raid: Raid) -> None:
    """A message whose frame is not there, and one that is in the queue only."""
    id = raid.id()
    raid.tolerate(id)
    _pollute(raid, lambda: raid.store.offer_fields(id, None))
    raid.store.ask("ZADD", ".ready:celery", "1", "999999999")
    raid.store.ask("ZADD", ".ready:celery", "2", "not a number")


@attack("fields", brokers=("redis",), alone=True)
def field_message_of_another_type(raid: Raid) -> None:
    """A list where the hash of a message should be."""

    def write() -> None:
        number = int(raid.store.ask("INCR", ".last"))
        raid.store.ask("RPUSH", f".m:{number}", "junk")
        raid.store.ask("ZADD", ".ready:celery", str(number), number)
        raid.clean(lambda: raid.store.ask("DEL", f".m:{number}"))
        raid.clean(lambda: raid.store.ask("ZREM", ".ready:celery", number))

    _pollute(raid, write)


@attack("fields", brokers=("redis",))
def field_bells_and_channels(raid: Raid) -> None:
    """Ten thousand false tokens in the bell, and junk on the channels on which clients wait."""
    raid.store.ask("LPUSH", ".bell:celery", *(["x"] * 10_000))
    for junk in (b"\xff" * 100, b"1nan\njunk", b"", b"1\n" + b"x" * 100_000):
        raid.store.ask("PUBLISH", ".done", junk)
        sent = raid.send(countdown=0.5)
        raid.store.ask("PUBLISH", f".done:{sent.id}", junk)
    raid.outcome = "went on"


@attack("fields", brokers=("postgres",))
def notices_that_are_junk(raid: Raid) -> None:
    """Junk on every channel of the database that anybody may listen to."""
    [channels] = [
        raid.store.sql("SELECT array_agg(relname::text) FROM pg_class WHERE relname LIKE 'm%'")
    ]
    assert channels
    for name in ("cardoon", "cardoon_q", "cardoon_r", "cardoon.q", "messages", "results"):
        raid.store.sql(f"NOTIFY \"{name}\", '{'x' * 7000}'")
    raid.outcome = "went on"


@attack("fields", brokers=("sqlite",))
def wakeups_that_are_junk(raid: Raid) -> None:
    """Bytes to every socket by which processes wake each other, and files among them that are none."""
    import socket  # noqa: PLC0415

    folder = raid.site.folder / "store" / "cardoon.db-wake"
    (folder / "junk.sock").write_bytes(b"junk")
    (folder / "q0.lock").write_bytes(b"junk")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.setblocking(False)
        for path in folder.glob("*.sock"):
            for _ in range(200):
                try:
                    mouth.sendto(os.urandom(500), str(path))
                except OSError:
                    break
    raid.outcome = "went on"


_ODD_HEADERS: dict[str, dict[str, Any]] = {
    "no_id": {"headers": {}},
    "id_number": {"headers": {"id": 7}},
    "id_list": {"headers": {"id": ["a", "b"]}},
    "id_not_utf8": {"headers": {"id": b"\xff\xfe\xff"}},
    "id_twice_nested": {"headers": {"id": {"id": {"id": "x"}}}},
    "headers_many": {"headers": {f"header{number}": "x" * 20 for number in range(3000)}},
    "headers_deep": {"headers": {"x": [[[[[[[[[[["deep"]]]]]]]]]]]}},
    "content_type": {
        "content_type": "application/x-python-serialize",
        "content_encoding": "binary",
    },
    "content_type_long": {"content_type": "x" * 255, "headers": {"id": "y" * 255}},
    "reply_to": {"reply_to": "amq.rabbitmq.reply-to.x", "correlation_id": "x"},
    "priority_255": {"headers": {"id": "p"}},
    "celery_headers": {
        "headers": {"task": "canary.note", "id": "celery", "lang": "py", "argsrepr": "()"},
        "content_type": "application/json",
        "content_encoding": "utf-8",
    },
    "dead_letters": {
        "headers": {"id": "d", "x-death": [{"count": 2**62}], "x-delivery-count": 2**62}
    },
}


def _enter_headers() -> None:
    for name, properties in _ODD_HEADERS.items():

        def act(raid: Raid, properties: dict[str, Any] = properties) -> None:
            _, frame, _ = _insider(raid, token=raid.token())
            _pollute(raid, lambda: raid.store.publish(frame, **properties))
            raid.refused("wrong-id", frame=frame)

        text = f"A message whose AMQP properties are {str(properties)[:60]}."
        attack("headers", name=f"amqp_{name}", text=text, brokers=("rabbitmq",))(act)


_enter_headers()


@attack("headers", brokers=("rabbitmq",))
def amqp_levels_that_are_none(raid: Raid) -> None:
    """Junk on the exchange over which it is told which priorities are used."""
    for told in (b"junk", b"[]", b'["celery", 99]', b"[" * 20_000, b'["celery", true]', b"\xff"):
        raid.store.exchange("cardoon.levels", told)
    for number in range(500):
        raid.store.exchange("cardoon.levels", f'["{"q" * 300}{number}", 3]'.encode())
    raid.outcome = "went on"


@attack("rows", brokers=TABLES)
def dormant_that_waits_for_itself(raid: Raid) -> None:
    """A chord's body is made to wait for itself: it may be lost, and nothing else."""
    from attacks.on_chords import begin_chord  # noqa: PLC0415

    made = begin_chord(raid, wait=4.0)
    raid.lose(made.body)
    raid.store.set_inputs(made.body.id, [(made.body.id, bytes(32))])
    raid.outcome = "went on"
    raid.clean(lambda: raid.store.remove(made.body.id))


@attack("rows", brokers=TABLES)
def dormant_ring(raid: Raid) -> None:
    """The bodies of two chords are made to wait for each other."""
    from attacks.on_chords import begin_chord  # noqa: PLC0415

    bodies = [begin_chord(raid, wait=4.0).body for _ in range(2)]
    for one, other in (bodies, bodies[::-1]):
        raid.lose(one)
        raid.store.set_inputs(one.id, [(other.id, bytes(32))])
        raid.clean(lambda one=one: raid.store.remove(one.id))
    raid.outcome = "went on"


@attack("rows", brokers=("sqlite", "postgres"))
def results_that_are_odd(raid: Raid) -> None:
    """Rows of results with odd times, which readers and upkeep come by."""
    for expires in (None, float("inf"), -1.0, 0.0):
        raid.store.sql(
            "INSERT INTO result (task_id, final, expires_at, frame"
            + (", written_by) " if raid.site.broker == "postgres" else ") ")
            + (
                "VALUES (%s, true, %s, %s, 0)"
                if raid.site.broker == "postgres"
                else "VALUES (?, 1, ?, ?)"
            ),
            *(f"odd-{time.time()}", expires, b"junk"),
        )
    raid.outcome = "went on"
