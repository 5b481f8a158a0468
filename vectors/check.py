"""Recomputes the vectors in `v1` with cbor2 and cryptography, and none of Cardoon's code.

    python vectors/check.py            # or the names of some files

A second, smaller reading of docs/protocol.md: what the vectors accept must be accepted here with the
same bytes in between, and what they refuse must be refused here for the same reason. Prints a line for
each file and exits with 1 if any answer differs.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

sys.path.insert(0, str(Path(__file__).parent))

import judging
import sealing
import trusting
import wire
from wire import Bad

FOLDER = Path(__file__).parent / "v1"


def load(name: str) -> Any:
    """One file of vectors."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def expect(ok: object, what: object) -> None:
    """Count one answer; `AssertionError` if it is another one."""
    global answers  # noqa: PLW0603  # one number for a script that runs once
    answers += 1
    if not ok:
        raise AssertionError(str(what)[:300])


answers = 0


def refusal_of(judge: Any, *given: Any) -> str | None:
    """Why something is refused; None if it is not."""
    try:
        judge(*given)
    except Bad as error:
        return error.reason
    return None


def check_cbor_valid() -> None:
    """Each value has that encoding."""
    for case in load("cbor-valid")["cases"]:
        encoded = bytes.fromhex(case["hex"])
        expect(cbor2.loads(encoded) == case["value"], case)
        expect(wire.encode(case["value"]) == encoded, case)
        expect(wire.decode(encoded) == case["value"], case)


def check_cbor_invalid() -> None:
    """Each is refused."""
    for case in load("cbor-invalid")["cases"]:
        expect(refusal_of(wire.decode, bytes.fromhex(case["hex"])), case)


def check_claims() -> None:
    """Each map has those bytes and keeps the rules, or breaks one."""
    vectors = load("claims")
    for case in vectors["valid"]:
        encoded = bytes.fromhex(case["hex"])
        shown = {int(label): from_json(value) for label, value in case["claims"].items()}
        expect(wire.read_claims(encoded) == shown, case)
        expect(cbor2.dumps(shown, canonical=True) == encoded, case)
    for case in vectors["invalid"]:
        expect(refusal_of(wire.read_claims, bytes.fromhex(case["hex"])) == "bad-claims", case)


def from_json(value: Any) -> Any:
    """The value that a vector shows, its bytes in hexadecimal."""
    if isinstance(value, list):
        return [from_json(one) for one in value]
    return bytes.fromhex(value["hex"]) if isinstance(value, dict) else value


def check_sign1() -> None:
    """Each signature fits what is signed, and nothing else."""
    vectors = load("sign1")
    for case in vectors["vectors"]:
        key = load_pem_public_key(case["public_key"].encode())
        protected, claims, signature, context = (
            bytes.fromhex(case[name])
            for name in ("protected", "claims", "signature", "external_aad")
        )
        content = wire.sig_structure(protected, context, claims)
        trusting.verify(key, case["algorithm"], signature, content)
        expect(context == b"cardoon/1\x00" + case["domain"].encode(), case)
        header = {1: case["algorithm"], 4: bytes.fromhex(case["key_id"])}
        expect(protected == cbor2.dumps(header), case)
        expect(hashlib.sha256(content).hexdigest() == case["sig_structure_sha256"], case)
        whole = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, claims, signature]))
        expect(whole.hex() == case["envelope"], case)
        other = wire.sig_structure(protected, b"cardoon/1\x00prod", claims)
        found = refusal_of(trusting.verify, key, case["algorithm"], signature, other)
        expect(found == "bad-signature", case)
        if case["algorithm"] == -19:
            secret = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vectors["seed"]))
            expect(secret.sign(content) == signature, case)


def check_batch() -> None:
    """Trees by their definition, and three messages under one signature."""
    vectors = load("batch")
    for case in vectors["trees"]:
        leaves = [f"leaf {number}".encode() for number in range(case["size"])]
        expect(wire.tree_hash(leaves).hex() == case["root"], case["size"])
        for number, proof in case["proofs"].items():
            expect(wire.audit_path(int(number), leaves).hex() == proof, case["size"])
        every = b"".join(wire.audit_path(number, leaves) for number in range(case["size"]))
        expect(hashlib.sha256(every).hexdigest() == case["all_proofs_sha256"], case["size"])
    signed = vectors["signed"]
    claims = [bytes.fromhex(each) for each in signed["claims"]]
    root = wire.tree_hash(claims)
    expect(root.hex() == signed["root"], "root")
    key = load_pem_public_key(signed["public_key"].encode())
    for number, encoded in enumerate(signed["envelopes"]):
        frame = wire.read_frame(bytes.fromhex(encoded) + b"\x40")
        path = wire.audit_path(number, claims)
        expect(frame.proof == [3, number, path], number)
        expect(frame.claims == claims[number], number)
        expect(frame.signature.hex() == signed["signature"], number)
        context = wire.context_of(signed["domain"], 3)
        expect(context.hex() == signed["external_aad"], number)
        content = wire.sig_structure(frame.protected, context, root)
        trusting.verify(key, -19, frame.signature, content)


def check_frame() -> None:
    """Each comes apart, and its claims fit its body."""
    vectors = load("frame")
    for case in vectors["frames"]:
        frame = wire.read_frame(bytes.fromhex(case["hex"]))
        claims = wire.read_claims(frame.claims)
        expect(frame.body.hex() == vectors["body"], case)
        expect(claims[9] == hashlib.sha256(frame.body).digest(), case)
        expect(claims[11] == len(frame.body), case)


def check_messages(name: str) -> None:
    """Each is signed, and its body is the one that was signed."""
    vectors = load(name)
    key = load_pem_public_key(vectors["public_key"].encode())
    for case in vectors["messages"]:
        frame = wire.read_frame(bytes.fromhex(case["frame"]))
        claims = wire.read_claims(frame.claims)
        content = wire.sig_structure(
            frame.protected, wire.context_of(vectors["domain"]), frame.claims
        )
        trusting.verify(key, -19, frame.signature, content)
        expect(frame.claims.hex() == case["claims"], case)
        expect(claims[1] == case["kind"], case)
        expect(claims[9] == hashlib.sha256(case["body"].encode()).digest(), case)
        shown = {int(label): from_json(value) for label, value in case["claims_map"].items()}
        expect(claims == shown, case)
        if name == "result":
            request = bytes.fromhex(vectors["request"])
            digest = hashlib.sha256(request).hexdigest()
            expect(claims[21].hex() == digest == vectors["request_sha256"], case)
            bound = wire.request_digest(claims[1], claims[2], claims[21])
            expect(bound.hex() == vectors["request_digest"], case)


def check_gate() -> None:
    """Each frame, and what stands beside it, is accepted or refused for that reason."""
    vectors = load("gate")
    trust = trusting.Trust(vectors["pins"].values(), (), vectors["revoked"])
    for case in vectors["cases"]:
        said = {**vectors, **case}
        expect(refusal_of(judging.judge, said, trust) == case["refusal"], case["what"])
        if case["refusal"] is None:
            message = judging.judge(said, trust)
            expect([message.session.hex(), message.sequence] == case["nonce"], case["what"])
            expect(message.request.hex() == case["request"], case["what"])


def check_trust() -> None:
    """Each certificate is trusted, or not, for that reason."""
    vectors = load("trust")
    known = vectors["certificates"]
    for case in vectors["cases"]:
        pins, anchors = ([known[name] for name in case[part]] for part in ("pins", "anchors"))
        trust = trusting.Trust(pins, anchors, case["revoked"])
        said = {**vectors, "kind": 1, **case}
        expect(refusal_of(judging.judge, said, trust) == case["refusal"], case["what"])


def check_policy() -> None:
    """Each decision is the one of the rules, and each bad file is refused."""
    vectors = load("policy")
    policy = judging.read_policy(vectors["policy"])
    for case in vectors["cases"]:
        expect(judging.allows(policy, case) is case["allowed"], case)
    for case in vectors["refused"]:
        expect(refusal_of(judging.read_policy, case["policy"]), case["what"])


def check_replay_trace() -> None:
    """Each claim is answered as by this model: a mark for each number, and who has a loan."""
    for trace in load("replay-trace")["traces"]:
        for step, state in follow(trace["steps"]):
            expect(step["state"] == state, (trace["what"], step))


def follow(steps: list[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The claims of a trace, each with its answer."""
    attempts: dict[str, int] = {}
    on_loan: dict[str, int] = {}
    done: set[int] = set()
    holders: dict[int, tuple[str, int]] = {}
    for step in steps:
        name, number = step["message"], step.get("nonce", -1)
        match step["do"]:
            case "deliver":
                attempts[name] = on_loan[name] = attempts.get(name, 0) + 1
            case "return" | "lose" | "delete":
                del on_loan[name]
            case "done":
                done.add(number)
                on_loan.pop(name, None)
            case "claim":
                ours = (name, on_loan.get(name, 0))
                holder, attempt = holders.setdefault(number, ours)
                if number in done:
                    yield step, "done"
                elif holder != name and on_loan.get(holder) == attempt:
                    yield step, "held"
                else:
                    holders[number] = ours
                    yield step, "claimed"


def check_body() -> None:
    """Each is read, or refused for that reason."""
    vectors = load("body")
    for case in (*vectors["valid"], *vectors["invalid"]):
        content = bytes.fromhex(case["hex"])
        found = refusal_of(judging.read_body, case["codec"], content, vectors["max_bytes"])
        expect(found == case.get("refusal"), case)


def check_seal() -> None:
    """Each is opened to what was sealed, or refused for that reason."""
    vectors = load("seal")
    for case in vectors["cases"]:
        found = refusal_of(sealing.open_body, vectors, case)
        expect(found == case.get("refusal"), case)
        if found is None:
            expect(sealing.open_body(vectors, case).hex() == case["clear"], case)


CHECKS = {
    "cbor-valid": check_cbor_valid,
    "cbor-invalid": check_cbor_invalid,
    "claims": check_claims,
    "sign1": check_sign1,
    "batch": check_batch,
    "frame": check_frame,
    "result": lambda: check_messages("result"),
    "control": lambda: check_messages("control"),
    "event": lambda: check_messages("event"),
    "gate": check_gate,
    "trust": check_trust,
    "policy": check_policy,
    "replay-trace": check_replay_trace,
    "body": check_body,
    "seal": check_seal,
}


def main() -> int:
    """Check every file; return the exit status."""
    failed = False
    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.json")):
        before = answers
        try:
            CHECKS[name]()
        except (AssertionError, Bad, KeyError) as error:
            failed = True
            print(f"{name}: FAILED: {error!r}")
        else:
            print(f"{name}: {answers - before} answers are the same")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
