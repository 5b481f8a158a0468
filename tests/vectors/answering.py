"""Vectors of messages that are no tasks: results, commands and what answers them, events."""

from __future__ import annotations

import hashlib
import json

from cardoon.message.claims import encode_claims
from cardoon.message.protocol import Kind
from tests.vectors import generate as base


def compact(value):
    return json.dumps(value, separators=(",", ":")).encode()


def message(what, kind, body, **changes):
    """One message, its claims and its body."""
    claims = base.task(
        **{
            "kind": kind,
            "audience": (),
            "root": None,
            "retries": None,
            "max_retries": None,
            "digest": hashlib.sha256(body).digest(),
            "length": len(body),
            **changes,
        }
    )
    encoded = encode_claims(claims)
    return {
        "what": what,
        "kind": int(kind),
        "claims": encoded.hex(),
        "claims_map": base.claims_map(claims),
        "body": body.decode(),
        "frame": base.signed_frame(encoded, body).hex(),
    }


def told(state, **more):
    return compact({"state": state, "worker": "w@host", **more})


def result():
    request = encode_claims(base.task())
    digest = hashlib.sha256(request).digest()
    answers = {"id": base.ID.format(0), "request": digest}
    named = b"cardoon/1/request\x00" + base.task().task.encode() + digest
    failure = {
        "error": {"type": "ValueError", "module": "builtins", "message": "no"},
        "traceback": "Traceback ...",
    }
    many = {
        "result": None,
        "children": [base.ID.format(5), {"group": "group-1", "of": [base.ID.format(6)]}],
    }
    done = base.NOW + 1.5
    return {
        "about": "Results. Each names, in 21, the SHA-256 of the claims that it answers; who has sent those holds it "
        "against the request digest, which has the name of the task in it as well.",
        "domain": base.DOMAIN.decode(),
        "public_key": base.public_pem(base.ED25519),
        "request": request.hex(),
        "request_sha256": digest.hex(),
        "request_digest": hashlib.sha256(named).hexdigest(),
        "messages": [
            message(
                "a result",
                Kind.RESULT,
                compact({"result": 3}),
                headers=told("SUCCESS", done=done),
                **answers,
            ),
            message(
                "a failure, at the second retry",
                Kind.RESULT,
                compact(failure),
                headers=told("FAILURE", done=done),
                retries=2,
                **answers,
            ),
            message(
                "with children",
                Kind.RESULT,
                compact(many),
                headers=told("SUCCESS", done=done),
                **answers,
            ),
            message(
                "a state on the way, for ever",
                Kind.RESULT,
                compact({"result": {"done": 1, "of": 2}}),
                headers=told("PROGRESS"),
                valid_until=253_402_300_799,
                **answers,
            ),
        ],
    }


def control():
    revoke = {"ids": [base.ID.format(0)], "terminate": True, "signal": "SIGTERM"}
    stamps = {"headers": {"order": ["4711"]}, "terminate": False, "signal": "SIGTERM"}
    asked = message("revoke by id", Kind.CONTROL, compact(revoke), task="revoke", audience=("*",))
    return {
        "about": "Commands to all workers, and the form of an answer to one.",
        "domain": base.DOMAIN.decode(),
        "public_key": base.public_pem(base.ED25519),
        "messages": [
            asked,
            message(
                "revoke by stamps",
                Kind.CONTROL,
                compact(stamps),
                task="revoke_by_stamped_headers",
                audience=("*",),
                sequence=1,
            ),
            message(
                "an answer",
                Kind.CONTROL_REPLY,
                compact({"ok": 1}),
                task="",
                request=hashlib.sha256(bytes.fromhex(asked["claims"])).digest(),
                sequence=2,
                valid_until=base.NOW + 300,
            ),
        ],
    }


def event():
    body = compact([{"type": "task-started", "uuid": base.ID.format(0)}])
    return {
        "about": "The form of a frame of events, as the gate reads it; what the headers and the body say is for whoever receives it.",
        "domain": base.DOMAIN.decode(),
        "public_key": base.public_pem(base.ED25519),
        "messages": [
            message("an event of a worker", Kind.EVENT, body, task="", sequence=3),
            message("of a task", Kind.EVENT, body, task="tests.add", sequence=4),
        ],
    }
