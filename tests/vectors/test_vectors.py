"""Our code against the vectors, and the vectors against the code that writes them."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cardoon import brokers
from cardoon.broker import Ack, Completion, Delivery, Outgoing, Requeue
from cardoon.exceptions import MessageError, Refusal, RefusedError, SecurityError
from cardoon.message import cbor, envelope, merkle
from cardoon.message.claims import encode_claims, parse_claims
from cardoon.message.envelope import PlainFrame, SignedFrame, parse_frame
from cardoon.message.protocol import Kind
from cardoon.message.requests import bind_name
from cardoon.message.serializers import decode_body, encode_body
from cardoon.producer import parse_headers
from cardoon.security.gate import Gate, Input
from cardoon.security.identity import Identity
from cardoon.security.keys import Algorithm, make_verify
from cardoon.security.policy import Action, Request
from cardoon.security.policyfile import parse_rules
from cardoon.security.replay import Nonce, NonceClaim
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock
from cardoon.worker.opening import check_id
from tests.security.actors import write
from tests.vectors import generate

FOLDER = generate.FOLDER


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", generate.VECTORS)
def test_the_files_are_what_the_generator_writes(name):
    assert (FOLDER / f"{name}.json").read_text(encoding="utf-8") == generate.render(name)


def test_every_file_has_a_generator():
    assert {path.stem for path in FOLDER.iterdir()} == set(generate.VECTORS)


@pytest.mark.parametrize("case", load("cbor-valid")["cases"], ids=lambda case: case["hex"])
def test_cbor_is_read_and_written(case):
    encoded = bytes.fromhex(case["hex"])

    assert cbor.decode(encoded) == case["value"]
    assert cbor.encode(case["value"]) == encoded


@pytest.mark.parametrize("case", load("cbor-invalid")["cases"], ids=lambda case: case["what"])
def test_other_cbor_is_refused(case):
    with pytest.raises(MessageError):
        cbor.decode(bytes.fromhex(case["hex"]))


@pytest.mark.parametrize("case", load("claims")["valid"], ids=lambda case: case["what"])
def test_claims_are_read_and_written(case):
    encoded = bytes.fromhex(case["hex"])

    assert encode_claims(parse_claims(encoded)) == encoded


@pytest.mark.parametrize("case", load("claims")["invalid"], ids=lambda case: case["what"])
def test_other_claims_are_refused(case):
    with pytest.raises(MessageError):
        parse_claims(bytes.fromhex(case["hex"]))


@pytest.mark.parametrize("case", load("sign1")["vectors"], ids=lambda case: case["name"])
def test_signatures_are_verified(case):
    frame = parse_frame(bytes.fromhex(case["envelope"]) + b"\x40")
    verify = make_verify(
        load_pem_public_key(case["public_key"].encode()), Algorithm(case["algorithm"])
    )
    to_sign = envelope.bytes_to_sign(frame.protected, case["domain"].encode(), frame.claims)

    verify(frame.signature, to_sign)

    assert hashlib.sha256(to_sign).hexdigest() == case["sig_structure_sha256"]
    other = envelope.bytes_to_sign(frame.protected, b"prod", frame.claims)
    with pytest.raises(RefusedError, match="bad-signature"):
        verify(frame.signature, other)


def test_the_first_vector_is_the_one_of_the_design():
    """Published first; if these change, no earlier message can be read any more."""
    first = load("sign1")["vectors"][0]
    batch = load("batch")["signed"]
    member = bytes.fromhex(batch["envelopes"][2])

    assert first["sig_structure_sha256"] == (
        "5c43cd62bcc4760e1e4a46693c9025fec92693471cd0fe64ff4852cf9ecd5aae"
    )
    assert first["signature"] == (
        "01b40a43b8e1bc048034f1fb4da3c03d53678a3de217474e9c1269dfe2aa9ccb"
        "f6a055a4bc6f4e08f2c0ca9841f5f7db21700d18d0c5ae4e74bb018ffcec6d06"
    )
    assert hashlib.sha256(bytes.fromhex(first["envelope"])).hexdigest() == (
        "e701e188fcf39b01c438db470cc25491a4568579c4874a06c2b4edc8546e4a77"
    )
    assert batch["root"] == "d380068cd5804ae955352fc8541a503f2fd5a08668d24c9524f416d9885bc0b0"
    assert batch["signature"] == (
        "e65092d47f76f52828057fdab503178a18fcf12c596165588831cd77172bf184"
        "d9a2fc7d30c903ad30f8964fa8c7ccddc17b595a2e3070e04ae17525116a7b08"
    )
    assert (len(member), hashlib.sha256(member).hexdigest()) == (
        350,
        "d7dab493977971de80705d5051d5ef5a2b834afb7e90f62d5794909e5783d4b3",
    )


@pytest.mark.parametrize("case", load("batch")["trees"], ids=lambda case: str(case["size"]))
def test_trees_are_built_and_proofs_followed(case):
    size = case["size"]
    leaves = [f"leaf {number}".encode() for number in range(size)]
    root = bytes.fromhex(case["root"])

    tree = merkle.build_tree(leaves)

    assert tree.root == root
    assert hashlib.sha256(b"".join(tree.proofs)).hexdigest() == case["all_proofs_sha256"]
    for number, proof in case["proofs"].items():
        found = merkle.find_root(
            leaves[int(number)], size=size, position=int(number), proof=bytes.fromhex(proof)
        )
        assert found == root


@pytest.mark.parametrize("case", load("frame")["frames"], ids=lambda case: case["what"])
def test_frames_are_taken_apart(case):
    frame = parse_frame(bytes.fromhex(case["hex"]))

    assert isinstance(frame, PlainFrame if case["what"] == "plain" else SignedFrame)
    assert frame.body.hex() == load("frame")["body"]


@pytest.mark.parametrize(
    "case",
    [each for name in ("result", "control", "event") for each in load(name)["messages"]],
    ids=lambda case: case["what"],
)
def test_other_kinds_of_messages(case):
    frame = parse_frame(bytes.fromhex(case["frame"]))
    claims = parse_claims(frame.claims)

    assert frame.claims.hex() == case["claims"]
    assert claims.kind == case["kind"]
    assert frame.body.decode() == case["body"]
    assert decode_body(claims.codec, frame.body, max_bytes=4096) == json.loads(case["body"])


def test_a_result_names_its_request():
    vector = load("result")

    for case in vector["messages"]:
        claims = parse_claims(bytes.fromhex(case["claims"]))
        assert claims.request.hex() == vector["request_sha256"]
    request = bytes.fromhex(vector["request"])
    assert hashlib.sha256(request).hexdigest() == vector["request_sha256"]
    digest = hashlib.sha256(request).digest()
    bound = bind_name(Kind.TASK, parse_claims(request).task, digest)
    assert bound.hex() == vector["request_digest"]


GATE = load("gate")


@pytest.mark.parametrize("case", GATE["cases"], ids=lambda case: case["what"])
def test_the_gate_says_why(tmp_path, case):
    pins = tmp_path / "pins"
    pins.mkdir()
    for name, pem in GATE["pins"].items():
        write(pins, f"{name}.pem", pem.encode())
    denied = write(tmp_path, "revoked.txt", "\n".join(GATE["revoked"]).encode())
    clock = FakeClock(float(case.get("now", GATE["now"])))
    gate = Gate(
        domain=GATE["domain"],
        trust=TrustStore(pins=[pins], revoked=[denied], clock=clock),
        accept=case.get("accept", ["auth"]),
        clock=clock,
    )
    refusal = None

    try:
        message = open_case(gate, case)
    except RefusedError as error:
        refusal = error.reason
    else:
        assert message.request.hex() == case["request"]
        assert [message.nonce.session.hex(), message.nonce.sequence] == case["nonce"]

    assert refusal == case["refusal"]


def open_case(gate, case):
    """All that is checked of a message before it is carried out."""
    request = case.get("request") if case["refusal"] else None
    message = gate.open(
        bytes.fromhex(case["frame"].replace("(zeros 65536)", "00" * 65_536)),
        kind=Kind(case.get("kind", GATE["kind"])),
        audience=frozenset(case.get("audience", GATE["audience"])),
        id=case.get("id"),
        request=None if request is None else bytes.fromhex(request),
    )
    inputs = [
        Input(
            one["id"],
            bytes.fromhex(one["request"]),
            None if one["frame"] is None else bytes.fromhex(one["frame"]),
        )
        for one in case.get("inputs", ())
    ]
    gate.open_inputs(message, inputs)
    delivery = Delivery(1, case.get("lies_under", message.claims.id), "celery", b"", 1)
    check_id(delivery, message.claims, parse_headers(message.claims.headers))
    return message


TRUST = load("trust")


@pytest.mark.parametrize("case", TRUST["cases"], ids=lambda case: case["what"])
def test_whom_the_gate_trusts(tmp_path, case):
    clock = FakeClock(float(TRUST["now"]))
    pins = tmp_path / "pins"
    pins.mkdir()
    for name in case["pins"]:
        write(pins, f"{name}.pem", TRUST["certificates"][name].encode())
    anchors, revoked = (
        [write(tmp_path, f"{part}{number}", text.encode()) for number, text in enumerate(texts)]
        for part, texts in (
            ("anchor", [TRUST["certificates"][name] for name in case["anchors"]]),
            ("revoked", case["revoked"]),
        )
    )
    trust = TrustStore(pins=[pins], anchors=anchors, revoked=revoked, clock=clock)
    gate = Gate(domain=TRUST["domain"], trust=trust, accept=["auth"], clock=clock)
    refusal = None

    try:
        gate.open(bytes.fromhex(case["frame"]), kind=Kind.TASK, audience=frozenset({"q:celery"}))
    except RefusedError as error:
        refusal = error.reason

    assert refusal == case["refusal"]


POLICY = load("policy")


def test_the_policy_decides():
    rules = parse_rules(POLICY["policy"].encode(), source="policy.toml")
    wrong = []

    for case in POLICY["cases"]:
        signer = case["signer"]
        who = signer and Identity(
            name=signer["name"],
            fingerprint=bytes.fromhex(signer["fingerprint"]),
            not_before=0,
            not_after=0,
        )
        asked = (case[name] for name in ("task", "queue", "length", "ahead"))
        try:
            rules.check(Request(Action(case["action"]), who, *asked))
            allowed = True
        except RefusedError as error:
            allowed = error.reason is not Refusal.DENIED
        if allowed is not case["allowed"]:
            wrong.append(case)

    assert wrong == []


@pytest.mark.parametrize("case", POLICY["refused"], ids=lambda case: case["what"])
def test_a_policy_that_is_not_understood_is_refused(case):
    with pytest.raises(SecurityError, match=r"policy\.toml: "):
        parse_rules(case["policy"].encode(), source="policy.toml")


@pytest.mark.parametrize("driver", ["memory", "sqlite"])
@pytest.mark.parametrize("trace", load("replay-trace")["traces"], ids=lambda trace: trace["what"])
def test_nonces_are_claimed_as_the_trace_says(tmp_path, driver, trace):
    clock = FakeClock()
    url = "memory://" if driver == "memory" else f"sqlite:///{tmp_path}/cardoon.db"
    broker = brokers.connect(url, clock=clock)
    follow(broker, clock, trace["steps"])
    broker.close()


def follow(broker, clock, steps):
    """Do what a trace says, with a real broker."""
    lent = {}
    for step in steps:
        name, number = step["message"], step.get("nonce")
        nonce = number if number is None else Nonce(bytes(16), number, clock.now() + 3600)
        match step["do"]:
            case "deliver":
                if name not in lent:
                    broker.publish([Outgoing("celery", name, b"frame")], timeout=1.0)
                [lent[name]] = broker.receive(["celery"], limit=1, lease=60.0, timeout=0.0)
                assert lent[name].id == name
            case "claim":
                one = lent[name]
                [state] = broker.claim([NonceClaim(nonce, one.receipt, one.attempt)])
                assert state.value == step["state"], step
            case "return":
                assert broker.settle([Requeue(lent[name])]) == [True]
            case "lose":
                clock.advance(61.0)
                broker.maintain()
                clock.advance(1.0)  # behind the delay after a crash
            case "delete":
                assert broker.settle([Ack(lent[name])]) == [True]
            case "done":
                broker.complete([Completion(Ack(lent[name]), nonce=nonce)])


BODY = load("body")


@pytest.mark.parametrize("case", BODY["valid"], ids=lambda case: case["codec"])
def test_bodies_are_read(case):
    content = bytes.fromhex(case["hex"])
    value = decode_body(case["codec"], content, max_bytes=BODY["max_bytes"])

    assert (
        decode_body("application/json", encode_body(value, "application/json"), max_bytes=4096)
        == value
    )


@pytest.mark.parametrize("case", BODY["invalid"], ids=lambda case: case["what"])
def test_other_bodies_are_refused(case):
    with pytest.raises(RefusedError) as refused:
        decode_body(case["codec"], bytes.fromhex(case["hex"]), max_bytes=BODY["max_bytes"])

    assert refused.value.reason == case["refusal"]


def test_there_is_a_vector_for_every_refusal():
    said = {case["refusal"] for case in (*GATE["cases"], *TRUST["cases"], *BODY["invalid"])}

    # What a policy denies, what a store of nonces calls done and what is sealed have files of their own;
    # since when a store remembers is its own, and how many sessions a signer may begin each worker's.
    elsewhere = {
        Refusal.DENIED,
        Refusal.NOT_ENCRYPTED,
        Refusal.REPLAYED,
        Refusal.BEFORE_EPOCH,
        Refusal.TOO_MANY_SESSIONS,
        Refusal.UNKNOWN_KEY,
        Refusal.UNDECRYPTABLE,
    }
    assert said == {None, *Refusal} - elsewhere
    assert {case["allowed"] for case in POLICY["cases"]} == {True, False}


def test_other_tools_come_to_the_same():
    """`vectors/check.py` has none of our code."""
    scripts = list(FOLDER.parent.glob("*.py"))

    finished = subprocess.run(
        [sys.executable, "-I", FOLDER.parent / "check.py"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert finished.returncode == 0, finished.stdout + finished.stderr
    for script in scripts:
        assert "cardoon" not in re.findall(
            r"^(?:import|from) (\w+)", script.read_text(), re.MULTILINE
        )
    for name in generate.VECTORS:
        assert f"{name}: " in finished.stdout


@pytest.mark.parametrize(
    ("name", "true", "false"),
    [
        ("gate", '"refusal": "wrong-kind"', '"refusal": "expired"'),
        ("trust", '"refusal": "unknown-signer"', '"refusal": null'),
        ("cbor-invalid", '"hex": "1817"', '"hex": "17"'),
        ("policy", '"allowed": false', '"allowed": true'),
        ("replay-trace", '"state": "held"', '"state": "claimed"'),
        ("batch", '"root": "', '"root": "00'),
    ],
)
def test_other_tools_would_see_a_false_answer(tmp_path, name, true, false):
    folder = tmp_path / "vectors"
    shutil.copytree(FOLDER.parent, folder)
    path = folder / "v1" / f"{name}.json"
    path.write_text(path.read_text(encoding="utf-8").replace(true, false, 1), encoding="utf-8")

    finished = subprocess.run(
        [sys.executable, "-I", folder / "check.py", name],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert f"{name}: FAILED" in finished.stdout
