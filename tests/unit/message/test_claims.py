"""Claims: everything that encodes is read back, and nothing else is read."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import EncodeError, MessageError
from cardoon.message import cbor, protocol
from cardoon.message.claims import encode_claims, parse_claims
from cardoon.message.protocol import (
    Claims,
    Compose,
    Encryption,
    GroupMember,
    Kind,
    Label,
    Suite,
    Take,
)

TASK = Claims(
    kind=Kind.TASK,
    task="shop.orders.pay",
    id="00000000-0000-4000-8000-000000000000",
    audience=("q:celery",),
    issued_at=1_790_000_000,
    valid_until=1_790_086_400,
    session=bytes(range(16)),
    sequence=7,
    digest=bytes(range(32)),
    codec="application/json",
    length=71,
    retries=0,
)
SPOKEN = [
    *(Kind.TASK, Kind.RESULT, Kind.EVENT, Kind.CONTROL, Kind.CONTROL_REPLY, Kind.KEYSET),
    *(Kind.BEAT, Kind.AUDIT_CHECKPOINT),
]


def as_map(claims):
    """The map that claims stand for, to be encoded by the general codec."""
    fields = dict(zip(list(Label), claims, strict=True))
    if claims.group is not None:
        fields[Label.GROUP] = list(claims.group)
    if claims.compose is not None:
        fields[Label.COMPOSE] = [int(claims.compose.take), *claims.compose[1:]]
    if claims.encryption is not None:
        suite, recipients, reply = claims.encryption
        fields[Label.ENCRYPTION] = [int(suite), b"".join(recipients), reply]
    fields[Label.AUDIENCE] = list(claims.audience)
    return {
        int(label): int(value) if label == Label.KIND else value
        for label, value in fields.items()
        if value is not None and value not in ("", [], b"")
    }


# Long ones have tests of their own.
names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)


def counts(limit):
    return st.integers(0, limit) | st.sampled_from([0, 23, 24, 255, 256, 65535, 65536])


@st.composite
def any_claims(draw):
    size = draw(st.integers(1, protocol.MAX_COUNT))
    issued_at = draw(st.integers(0, protocol.MAX_SECONDS))
    max_retries = draw(st.none() | counts(protocol.MAX_COUNT))
    kind, task = draw(st.sampled_from(SPOKEN)), draw(names)
    latest = min(protocol.MAX_SECONDS, issued_at + protocol.longest_lifetime(kind, task))
    digests = st.binary(min_size=32, max_size=32)
    compose = st.builds(Compose, st.sampled_from(Take), st.just(1), digests) | st.builds(
        Compose, st.just(Take.RESULTS), st.integers(1, protocol.MAX_PREDECESSORS), digests
    )
    key_ids = st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=2)
    reply_keys = st.sampled_from([b"", bytes(range(32))] if kind is Kind.TASK else [b""])
    encryption = st.builds(Encryption, st.sampled_from(Suite), key_ids.map(tuple), reply_keys)
    return Claims(
        kind=kind,
        task=task,
        id=draw(names),
        audience=tuple(draw(st.lists(names, min_size=1, max_size=3))),
        issued_at=issued_at,
        valid_until=draw(st.integers(issued_at, latest)),
        session=draw(st.binary(min_size=16, max_size=16)),
        sequence=draw(st.integers(0, protocol.MAX_SEQUENCE - 1)),
        digest=draw(st.binary(min_size=32, max_size=32)),
        codec=draw(names),
        length=draw(counts(protocol.MAX_LENGTH)),
        root=draw(st.none() | names),
        parent=draw(st.none() | names),
        group=draw(
            st.none() | st.builds(GroupMember, names, st.integers(0, size - 1), st.just(size))
        ),
        eta=draw(st.none() | st.integers(0, protocol.MAX_MILLISECONDS)),
        expires=draw(st.none() | st.integers(0, protocol.MAX_MILLISECONDS)),
        retries=draw(st.integers(0, protocol.MAX_COUNT if max_retries is None else max_retries)),
        max_retries=max_retries,
        reply=draw(st.none() | names) if kind is Kind.TASK else None,
        headers=draw(st.binary(max_size=300)),
        request=draw(st.binary(min_size=32, max_size=32)),
        compose=draw(st.none() | compose) if kind is Kind.TASK else None,
        encryption=draw(st.none() | encryption) if kind in {Kind.TASK, Kind.RESULT} else None,
    )


@given(any_claims())
def test_claims_are_read_back(claims):
    assert parse_claims(encode_claims(claims)) == claims


@given(any_claims())
def test_the_fast_encoder_writes_what_the_general_one_writes(claims):
    assert encode_claims(claims) == cbor.encode(as_map(claims))


@given(any_claims(), st.data())
def test_whatever_is_read_after_a_change_is_written_the_same(claims, data):
    encoded = bytearray(encode_claims(claims))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))

    try:
        changed = parse_claims(bytes(encoded))
    except MessageError:
        return

    assert encode_claims(changed) == bytes(encoded)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_message_error(data):
    with contextlib.suppress(MessageError):
        parse_claims(data)


@given(
    st.dictionaries(
        st.integers(0, 30),
        st.integers(-5, 2**64 - 1)
        | st.binary(max_size=40)
        | st.text(max_size=20)
        | st.none()
        | st.booleans()
        | st.lists(st.integers(0, 9) | st.text(max_size=5), max_size=4),
        max_size=24,
    )
)
def test_no_types_raise_anything_but_message_error(fields):
    with contextlib.suppress(MessageError):
        parse_claims(cbor.encode({**as_map(TASK), **fields}))


@given(any_claims(), st.data())
def test_claims_cut_short_are_refused(claims, data):
    encoded = encode_claims(claims)
    kept = data.draw(st.integers(0, len(encoded) - 1))

    with pytest.raises(MessageError):
        parse_claims(encoded[:kept])


@pytest.mark.parametrize("label", list(as_map(TASK)))
def test_a_task_may_leave_out_none_of_these(label):
    fields = as_map(TASK)
    del fields[label]

    with pytest.raises(MessageError):
        parse_claims(cbor.encode(fields))


@pytest.mark.parametrize(
    ("kind", "left_out"),
    [
        (Kind.TASK, "task"),
        (Kind.TASK, "audience"),
        (Kind.TASK, "retries"),
        (Kind.RESULT, "task"),
        (Kind.RESULT, "request"),
        (Kind.CONTROL, "task"),
        (Kind.CONTROL, "audience"),
        (Kind.CONTROL_REPLY, "request"),
        (Kind.KEYSET, "task"),
    ],
)
def test_each_kind_has_claims_that_it_must_make(kind, left_out):
    valid_until = TASK.issued_at + 300
    complete = TASK._replace(kind=kind, request=bytes(32), valid_until=valid_until)
    assert parse_claims(encode_claims(complete)).kind is kind
    nothing = {"task": "", "audience": (), "retries": None, "request": None}
    incomplete = complete._replace(**{left_out: nothing[left_out]})

    with pytest.raises(EncodeError, match=kind.name):
        encode_claims(incomplete)
    with pytest.raises(MessageError, match=kind.name):
        parse_claims(cbor.encode(as_map(incomplete)))


@pytest.mark.parametrize(
    ("kind", "task", "longest"),
    [
        (Kind.CONTROL, "ping", 300),
        (Kind.CONTROL, "revoke2", 300),
        (Kind.CONTROL_REPLY, "revoke", 300),
        (Kind.EVENT, "", 86_400),
    ],
)
def test_what_is_for_the_moment_is_not_valid_for_long(kind, task, longest):
    said = TASK._replace(kind=kind, task=task, request=bytes(32))
    latest = said._replace(valid_until=said.issued_at + longest)
    too_late = said._replace(valid_until=said.issued_at + longest + 1)

    assert parse_claims(encode_claims(latest)) == latest
    with pytest.raises(EncodeError, match=f"valid for longer than a {kind.name}"):
        encode_claims(too_late)
    with pytest.raises(MessageError, match=f"valid for longer than a {kind.name}"):
        parse_claims(cbor.encode(as_map(too_late)))


@pytest.mark.parametrize("task", sorted(protocol.STANDING_COMMANDS))
def test_a_standing_command_holds_for_as_long_as_its_signer_says(task):
    said = TASK._replace(kind=Kind.CONTROL, task=task, valid_until=TASK.issued_at + 366 * 86_400)

    assert parse_claims(encode_claims(said)) == said


def test_an_event_needs_no_task_and_no_audience():
    event = TASK._replace(kind=Kind.EVENT, task="", audience=(), retries=None)

    assert parse_claims(encode_claims(event)) == event


@pytest.mark.parametrize("kind", sorted(set(Kind) - set(SPOKEN)))
def test_kinds_of_later_versions_are_refused(kind):
    with pytest.raises(EncodeError, match="does not speak"):
        encode_claims(TASK._replace(kind=kind))
    with pytest.raises(MessageError, match="does not speak"):
        parse_claims(cbor.encode({**as_map(TASK), Label.KIND.value: kind.value}))


@pytest.mark.parametrize("label", [0, Label.REPLY, 24, 400])
def test_labels_of_later_versions_are_refused(label):
    with pytest.raises(MessageError):
        parse_claims(cbor.encode({**as_map(TASK), int(label): 1}))


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (Label.KIND, 0),
        (Label.KIND, 12),
        (Label.KIND, "1"),
        (Label.TASK, ""),
        (Label.TASK, "a" * 257),
        (Label.TASK, b"a"),
        (Label.TASK, "a\nb"),
        (Label.TASK, "\x1b[31m"),
        (Label.TASK, "a\u2028b"),
        (Label.ID, ""),
        (Label.ID, "é" * 65),
        (Label.ID, 7),
        (Label.AUDIENCE, []),
        (Label.AUDIENCE, ["q"] * 65),
        (Label.AUDIENCE, ["q" * 321]),
        (Label.AUDIENCE, [""]),
        (Label.AUDIENCE, [1]),
        (Label.AUDIENCE, "q"),
        (Label.AUDIENCE, ["a\x00"]),
        (Label.ISSUED_AT, -1),
        (Label.ISSUED_AT, 253_402_300_800),
        (Label.ISSUED_AT, None),
        (Label.VALID_UNTIL, 253_402_300_800),
        (Label.SESSION, bytes(15)),
        (Label.SESSION, bytes(17)),
        (Label.SESSION, "s" * 16),
        (Label.SEQUENCE, 8192),
        (Label.SEQUENCE, True),
        (Label.DIGEST, bytes(31)),
        (Label.DIGEST, bytes(33)),
        (Label.CODEC, ""),
        (Label.CODEC, "c" * 65),
        (Label.LENGTH, 2**63),
        (Label.LENGTH, -1),
        (Label.ROOT, ""),
        (Label.ROOT, "r" * 129),
        (Label.ROOT, None),
        (Label.PARENT, "p" * 129),
        (Label.GROUP, []),
        (Label.GROUP, ["g", 0]),
        (Label.GROUP, ["g", 0, 1, 2]),
        (Label.GROUP, ["g", 1, 1]),
        (Label.GROUP, ["", 0, 1]),
        (Label.GROUP, [0, 0, 1]),
        (Label.GROUP, ["g", "0", 1]),
        (Label.GROUP, ["g", 0, 2**31]),
        (Label.GROUP, "g"),
        (Label.ETA, -1),
        (Label.ETA, 253_402_300_800_000),
        (Label.EXPIRES, 253_402_300_800_000),
        (Label.RETRIES, 2**31),
        (Label.MAX_RETRIES, 2**31),
        (Label.HEADERS, b""),
        (Label.HEADERS, bytes(32 * 1024 + 1)),
        (Label.HEADERS, "{}"),
        (Label.REQUEST, bytes(31)),
        (Label.REQUEST, bytes(33)),
    ],
)
def test_a_claim_of_another_type_or_size_is_refused(label, value):
    with pytest.raises(MessageError):
        parse_claims(cbor.encode({**as_map(TASK), int(label): value}))


@pytest.mark.parametrize(
    "changes",
    [
        {"task": "a" * 257},
        {"task": "a\nb"},
        {"id": ""},
        {"id": "\ud800"},
        {"id": "i" * 129},
        {"audience": ("q",) * 65},
        {"audience": ("",)},
        {"audience": ("q" * 321,)},
        {"issued_at": -1},
        {"valid_until": 253_402_300_800},
        {"session": bytes(15)},
        {"sequence": 8192},
        {"sequence": -1},
        {"digest": bytes(33)},
        {"codec": ""},
        {"length": 2**63},
        {"root": ""},
        {"parent": "p" * 129},
        {"group": GroupMember("g", 1, 1)},
        {"group": GroupMember("", 0, 1)},
        {"group": GroupMember("g", -1, 1)},
        {"eta": -1},
        {"expires": 253_402_300_800_000},
        {"retries": -1},
        {"retries": 4, "max_retries": 3},
        {"max_retries": 2**31},
        {"headers": bytes(32 * 1024 + 1)},
        {"request": b""},
        {"issued_at": 2, "valid_until": 1},
    ],
)
def test_nobody_signs_what_nobody_would_read(changes):
    with pytest.raises(EncodeError):
        encode_claims(TASK._replace(**changes))


def test_more_retries_than_the_signer_allows_are_refused():
    fields = {**as_map(TASK), int(Label.RETRIES): 4, int(Label.MAX_RETRIES): 3}

    with pytest.raises(MessageError, match="retry 4 of at most 3"):
        parse_claims(cbor.encode(fields))


def test_the_bounds_are_within_bounds():
    largest = TASK._replace(
        task="t" * 256,
        id="i" * 128,
        audience=("q" * 320,) * 64,
        issued_at=253_402_300_799,
        valid_until=253_402_300_799,
        sequence=8191,
        length=2**63 - 1,
        eta=253_402_300_799_999,
        group=GroupMember("g" * 128, 2**31 - 2, 2**31 - 1),
        headers=bytes(32 * 1024),
    )

    assert parse_claims(encode_claims(largest)) == largest


def test_labels_out_of_order_are_refused():
    encoded = encode_claims(TASK)
    swapped = bytes([encoded[0]]) + encoded[3:20] + encoded[1:3] + encoded[20:]
    assert sorted(swapped) == sorted(encoded)

    with pytest.raises(MessageError, match="unknown, or not above"):
        parse_claims(swapped)


def test_a_label_twice_is_refused():
    encoded = encode_claims(TASK)

    with pytest.raises(MessageError, match="unknown, or not above"):
        parse_claims(bytes([encoded[0] + 1]) + encoded[1:3] + encoded[1:])


def test_bytes_behind_the_claims_are_refused():
    with pytest.raises(MessageError, match="but the map has"):
        parse_claims(encode_claims(TASK) + b"\x00")


WAITS = Compose(Take.RESULTS, 3, bytes(32))


def test_only_a_task_waits():
    with pytest.raises(EncodeError, match="RESULT waits for nothing"):
        encode_claims(TASK._replace(kind=Kind.RESULT, request=bytes(32), compose=WAITS))


@pytest.mark.parametrize(
    ("take", "count"), [(Take.RESULT, 0), (Take.RESULT, 2), (Take.FAILURE, 2), (Take.RESULTS, 0)]
)
def test_who_takes_one_result_waits_for_one(take, count):
    with pytest.raises(EncodeError, match=f"waits for {count}"):
        encode_claims(TASK._replace(compose=WAITS._replace(take=take, size=count)))


@pytest.mark.parametrize(
    "value",
    [
        *(1, [], [1, 3], [1, 3, bytes(32), 0], [3, 3, bytes(32)], [1, 3, bytes(31)]),
        *([1, 3, "x" * 32], [-1, 3, bytes(32)], [1, protocol.MAX_PREDECESSORS + 1, bytes(32)]),
        [1, [], bytes(32)],
    ],
)
def test_what_a_task_waits_for_has_one_form(value):
    with pytest.raises(MessageError):
        parse_claims(cbor.encode({**as_map(TASK), int(Label.COMPOSE): value}))


SEALED = Encryption(Suite.X25519, (bytes(16),))


@pytest.mark.parametrize(
    "value",
    [
        *(1, [], [1, bytes(16)], [1, bytes(16), b"", 0], [0, bytes(16), b""], [2, bytes(16), b""]),
        *([1, b"", b""], [1, bytes(15), b""], [1, bytes(17), b""], [1, bytes(48), b""]),
        *([1, bytes(16), bytes(31)], [1, bytes(16), bytes(33)], [1, "x" * 16, b""], [1, [], b""]),
    ],
)
def test_what_is_said_of_encryption_has_one_form(value):
    with pytest.raises(MessageError):
        parse_claims(cbor.encode({**as_map(TASK), int(Label.ENCRYPTION): value}))


@pytest.mark.parametrize(
    "wrong",
    [
        *(SEALED._replace(recipients=ids) for ids in ((), (bytes(16),) * 3, (b"", bytes(16)))),
        SEALED._replace(recipients=(bytes(8), bytes(24))),
        SEALED._replace(reply=bytes(31)),
    ],
)
def test_nobody_says_of_encryption_what_nobody_would_read(wrong):
    with pytest.raises(EncodeError, match="encryption for"):
        encode_claims(TASK._replace(encryption=wrong))


@pytest.mark.parametrize("kind", [Kind.EVENT, Kind.CONTROL, Kind.CONTROL_REPLY, Kind.KEYSET])
def test_only_what_has_something_of_a_users_is_encrypted(kind):
    with pytest.raises(EncodeError, match="never encrypted"):
        encode_claims(
            TASK._replace(
                kind=kind, request=bytes(32), encryption=SEALED, valid_until=TASK.issued_at
            )
        )


def test_only_a_task_says_to_whom_its_result_is_sealed():
    sealed = SEALED._replace(reply=bytes(32))

    assert parse_claims(encode_claims(TASK._replace(encryption=sealed))).encryption == sealed
    with pytest.raises(EncodeError, match="no result to seal"):
        encode_claims(TASK._replace(kind=Kind.RESULT, request=bytes(32), encryption=sealed))
