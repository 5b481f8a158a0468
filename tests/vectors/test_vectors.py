"""Our code against the vectors, and the vectors against the code that writes them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from cardoon.exceptions import MessageError, Refusal, RefusedError
from cardoon.message import cbor, envelope, merkle
from cardoon.message.claims import encode_claims, parse_claims
from cardoon.message.envelope import PlainFrame, SignedFrame, parse_frame
from cardoon.message.protocol import Kind
from cardoon.security.gate import Gate
from cardoon.security.keys import Algorithm, make_verify
from cardoon.security.trust import TrustStore
from cardoon.testing import FakeClock
from tests.security.actors import write
from tests.vectors import generate

HERE = Path(__file__).parent


def load(name):
    return json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", generate.VECTORS)
def test_the_files_are_what_the_generator_writes(name):
    assert (HERE / f"{name}.json").read_text(encoding="utf-8") == generate.render(name)


@pytest.mark.parametrize("case", load("cbor")["valid"], ids=lambda case: case["hex"])
def test_cbor_is_read_and_written(case):
    encoded = bytes.fromhex(case["hex"])

    assert cbor.decode(encoded) == case["value"]
    assert cbor.encode(case["value"]) == encoded


@pytest.mark.parametrize("case", load("cbor")["invalid"], ids=lambda case: case["what"])
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


def test_a_result_names_its_request():
    vector = load("result")

    frame = parse_frame(bytes.fromhex(vector["frame"]))

    assert parse_claims(frame.claims).request.hex() == vector["request_sha256"]
    assert hashlib.sha256(bytes.fromhex(vector["request"])).hexdigest() == vector["request_sha256"]


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
        accept=["auth"],
        clock=clock,
    )
    frame = bytes.fromhex(case["frame"].replace("(zeros 65536)", "00" * 65_536))
    request = case.get("request")
    refusal = None

    try:
        gate.open(
            frame,
            kind=Kind(case.get("kind", GATE["kind"])),
            audience=frozenset(case.get("audience", GATE["audience"])),
            id=case.get("id"),
            request=None if request is None else bytes.fromhex(request),
        )
    except RefusedError as error:
        refusal = error.reason

    assert refusal == case["refusal"]


def test_there_is_a_vector_for_every_word_of_the_gate():
    # The rest is said elsewhere: where nothing signed is accepted, by a policy, by the replay
    # guard, by what stands beside a message, or when a body is decoded.
    elsewhere = {
        Refusal.NOT_ACCEPTED,
        Refusal.DENIED,
        Refusal.TOO_MANY_SESSIONS,
        Refusal.REPLAYED,
        Refusal.WRONG_INPUT,
        Refusal.WRONG_ID,
        Refusal.UNDECODABLE,
        Refusal.BOMB,
    }

    assert {case["refusal"] for case in GATE["cases"]} == {None, *set(Refusal) - elsewhere}
