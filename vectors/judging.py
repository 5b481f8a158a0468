"""The order of receiving, the policy, and bodies."""

from __future__ import annotations

import bz2
import hashlib
import json
import lzma
import re
import tomllib
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Never

import wire
from trusting import SKEW, Trust, verify
from wire import Bad

JSON = ("application/json",)
CODECS = {codec + how for codec in JSON for how in ("", "+zlib", "+bzip2", "+lzma")}
TASK = 1
MAX_BODY = 8 * 1024 * 1024


class Message(NamedTuple):
    """A message that was accepted."""

    claims: dict[int, Any]
    session: bytes
    sequence: int
    request: bytes


def judge(said: Mapping[str, Any], trust: Trust) -> Message:
    """Judge a frame with all that stands beside it; `Bad` with the reason if it is refused."""
    frame = re.sub(r"\(zeros (\d+)\)", lambda found: "00" * int(found[1]), said["frame"])
    message = open_frame(bytes.fromhex(frame), said, trust)
    claims = message.claims
    inputs = said.get("inputs", [])
    if len(inputs) != (claims[22][1] if 22 in claims else 0):
        raise Bad("wrong-input")
    if inputs:
        requests = b"".join(bytes.fromhex(one["request"]) for one in inputs)
        if hashlib.sha256(requests).digest() != claims[22][2]:
            raise Bad("wrong-input")
    for one in inputs:
        if one["frame"] is not None:
            beside = {**said, "kind": 2, "id": one["id"], "request": one["request"]}
            beside |= {"audience": None, "refusal": "", "any_age": True}
            open_frame(bytes.fromhex(one["frame"]), beside, trust)
    lies_under = said.get("lies_under", claims[3])
    if lies_under != claims[3]:
        awaited = json.loads(claims.get(20, b"{}")).get("links")
        if awaited or not lies_under.startswith(claims[3] + ">"):
            raise Bad("wrong-id")
    return message


def open_frame(frame: bytes, said: Mapping[str, Any], trust: Trust) -> Message:
    """The checks (1) to (3) of docs/protocol.md."""
    if len(frame) > 64 * 1024 + 9 + MAX_BODY:
        raise Bad("too-large")
    parsed = wire.read_frame(frame)
    accepted = said.get("accept", ["auth"])
    fingerprint = b""
    if not parsed.protected:
        if "json" not in accepted:
            raise Bad("unsigned")
    elif "auth" not in accepted:
        raise Bad("content-not-accepted")
    else:
        fingerprint = check_signature(parsed, said, trust)
    claims = wire.read_claims(parsed.claims)
    check_context(claims, said)
    if claims[11] != len(parsed.body):
        raise Bad("wrong-length")
    if claims[9] != hashlib.sha256(parsed.body).digest():
        raise Bad("wrong-digest")
    if claims[10] not in CODECS:
        raise Bad("codec-not-accepted")
    bound = said["refusal"] is not None  # else it is what the vector tells of the message
    if "id" in said and claims[3] != said["id"]:
        raise Bad("wrong-request")
    answered = wire.request_digest(claims[1], claims.get(2, ""), claims.get(21, b""))
    if bound and "request" in said and answered.hex() != said["request"]:
        raise Bad("wrong-request")
    session = hashlib.sha256(b"cardoon/1/nonce\x00" + fingerprint + claims[7]).digest()[:16]
    return Message(claims, session, claims[8], request_of(claims, parsed.claims))


def request_of(claims: dict[int, Any], encoded: bytes) -> bytes:
    """What an answer is held against: of what takes another's place, as that one's."""
    if claims[1] != TASK or 21 not in claims:
        digest = hashlib.sha256(encoded).digest()
        return wire.request_digest(claims[1], claims.get(2, ""), digest)
    asked = json.loads(claims.get(20, b"{}")).get("asked", claims[2])
    if not isinstance(asked, str) or not asked.isprintable() or not 0 < len(asked.encode()) <= 256:
        raise Bad("bad-claims")
    return wire.request_digest(TASK, asked, claims[21])


def check_signature(parsed: wire.Frame, said: Mapping[str, Any], trust: Trust) -> bytes:
    """The fingerprint of who signed."""
    try:
        header = wire.decode(parsed.protected)
    except Bad as error:
        raise Bad("unknown-signer") from error
    if not isinstance(header, dict) or not header.keys() <= {1, 4, 395}:
        raise Bad("unknown-signer")
    key, algorithm, fingerprint = trust.find(parsed.protected, parsed.chain, said.get("now", 0))
    is_batch = header.get(395) == 1
    if is_batch != (parsed.proof is not None):
        raise Bad("malformed")
    payload, size = parsed.claims, 0
    if parsed.proof is not None:
        size, position, path = parsed.proof
        payload = wire.root_of(parsed.claims, size, position, path)
    context = wire.context_of(said["domain"], size)
    content = wire.sig_structure(parsed.protected, context, payload)
    verify(key, algorithm, parsed.signature, content)
    return fingerprint


def check_context(claims: dict[int, Any], said: Mapping[str, Any]) -> None:
    """Whether a message is what is read here, now and by us."""
    now = said["now"]
    if claims[1] != said["kind"]:
        raise Bad("wrong-kind")
    if claims[5] > now + SKEW:
        raise Bad("issued-in-future")
    if not said.get("any_age") and now >= claims[6] + SKEW:
        raise Bad("expired")
    if said["audience"] is not None and not set(said["audience"]) & set(claims.get(4, [])):
        raise Bad("wrong-audience")


def read_policy(text: str) -> dict[str, Any]:
    """A policy file; `Bad` if anything in it is not understood."""
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Bad("policy") from error
    roles, rules = found.get("role", {}), found.get("allow", [])
    fine = found.keys() <= {"version", "role", "allow"} and found.get("version") == 1
    fine = fine and all(map(_is_role, roles.values()))
    if not fine or not all(_is_rule(rule, roles) for rule in rules):
        raise Bad("policy")
    return {"roles": roles, "rules": rules}


ID = re.compile(
    r"unsigned|subject:.+|sha256:[0-9a-fA-F]{64}|spiffe://[a-z0-9._-]{1,255}(/[a-zA-Z0-9._*-]+)+"
)
ACTIONS = {"send", "result", "event", "control", "reply"}
KEYS = {"role", "action", "task", "command", "queue", "max_eta", "max_body"}
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SIZES = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def _is_role(role: Any) -> bool:
    ids = role.get("ids", [])
    return role.keys() == {"ids"} and bool(ids) and all(ID.fullmatch(one) for one in ids)


def _is_rule(rule: Any, roles: Any) -> bool:
    actions = texts(rule, "action")
    named = "command" if actions == ["control"] else "task"
    patterns = texts(rule, named)
    return (
        rule.keys() <= KEYS
        and set(texts(rule, "role")) <= roles.keys()
        and set(actions) <= ACTIONS
        and (bool(patterns) or not {"send", "control"} & set(actions))
        and not any("***" in one for one in patterns)
        and ("max_eta" not in rule or measure(rule["max_eta"], SECONDS) is not None)
        and ("max_body" not in rule or measure(rule["max_body"], SIZES) is not None)
    )


def texts(rule: Mapping[str, Any], key: str) -> list[str]:
    """One text, or several."""
    found = rule.get(key, [])
    return [found] if isinstance(found, str) else found


def measure(text: str, units: Mapping[str, int]) -> int | None:
    """A number with a unit."""
    found = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text)
    return None if found is None or found[2] not in units else int(found[1]) * units[found[2]]


def allows(policy: dict[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether any rule allows a request."""
    roles = {
        name
        for name, role in policy["roles"].items()
        if any(is_who(one, asked["signer"]) for one in role["ids"])
    }
    return any(_lets(rule, roles, asked) for rule in policy["rules"])


def is_who(one: str, signer: Mapping[str, str] | None) -> bool:
    """Whether an id of a role is a signer's."""
    if signer is None or one == "unsigned":
        return signer is None and one == "unsigned"
    if one.startswith("sha256:"):
        return one == "sha256:" + signer["fingerprint"]
    if one.startswith("subject:"):
        return one == "subject:" + signer["name"]
    return matches(one, signer["name"])


def matches(pattern: str, name: str) -> bool:
    """`*` is within a segment, `**` across."""
    parts = (
        {"*": "[^./:]*", "**": ".*"}.get(part, re.escape(part))
        for part in re.split(r"(\*+)", pattern)
    )
    return re.fullmatch("".join(parts), name) is not None


DESTRUCTIVE = {"shutdown", "pool_restart", "add_consumer", "cancel_consumer"}


def _lets(rule: Mapping[str, Any], roles: set[str], asked: Mapping[str, Any]) -> bool:
    action, task = asked["action"], asked["task"]
    names = texts(rule, "command" if texts(rule, "action") == ["control"] else "task")
    guarded = (
        task in DESTRUCTIVE if action == "control" else task.startswith(("celery.", "cardoon."))
    )
    covered = task in names
    if not guarded:
        covered = not names or any(matches(one, task) for one in names)
    queues = texts(rule, "queue")
    return (
        bool(roles & set(texts(rule, "role")))
        and action in texts(rule, "action")
        and covered
        and (not queues or any(matches(one, asked["queue"]) for one in queues))
        and asked["ahead"] <= (measure(rule.get("max_eta", "99999999d"), SECONDS) or 0)
        and asked["length"] <= (measure(rule.get("max_body", "99999999GiB"), SIZES) or 0)
    )


def read_body(codec: str, body: bytes, most: int) -> Any:
    """A body of JSON, compressed or not; `Bad` with the reason if it is not read."""
    _, _, how = codec.partition("+")
    try:
        if how:
            body = _unpack(how, body, most)
        if len(body) > most:
            raise Bad("decompression-bomb")
        value = json.loads(
            body.decode(),
            object_pairs_hook=_make_object,
            parse_constant=_refuse,
            parse_float=_make_float,
        )
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair has no UTF-8
    except (ValueError, TypeError, RecursionError, zlib.error, OSError, lzma.LZMAError) as error:
        raise Bad("undecodable") from error
    return value


def _unpack(how: str, body: bytes, most: int) -> bytes:
    makers = {
        "zlib": zlib.decompressobj,
        "bzip2": bz2.BZ2Decompressor,
        "lzma": lambda: lzma.LZMADecompressor(format=lzma.FORMAT_XZ),
    }
    unpacker: Any = makers[how]()
    content: bytes = unpacker.decompress(body, most + 1)
    if len(content) > most:
        raise Bad("decompression-bomb")
    if not unpacker.eof or unpacker.unused_data:
        raise Bad("undecodable")
    return content


TYPES = {"datetime", "date", "time", "timedelta", "decimal", "uuid", "bytes", "set", "frozenset"}
SPELLINGS = {"date": re.compile(r"\d{4}-\d\d-\d\d")}


def _make_object(pairs: list[tuple[str, Any]]) -> Any:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key twice")
    if "__type__" in members:
        kind, value = members["__type__"], members.get("__value__")
        if members.keys() != {"__type__", "__value__"} or kind not in TYPES:
            raise ValueError("no tagged object")
        if kind in SPELLINGS and not SPELLINGS[kind].fullmatch(value):
            raise ValueError("not as it is written")
        if kind in {"set", "frozenset"} and len({*value}) != len(value):
            raise ValueError("a member twice")
    return members


def _make_float(text: str) -> float:
    if abs(float(text)) == float("inf"):
        raise ValueError("beyond floats")
    return float(text)


def _refuse(name: str) -> Never:
    raise ValueError(name)
