"""`cardoon verify`: what the gate says of a captured message."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from cardoon.cli.advice import Facts, advise
from cardoon.cli.verify import read_frame
from cardoon.exceptions import Refusal
from cardoon.message import envelope
from tests.security.actors import DAY, DOMAIN, draft, make_person
from tests.unit.hands import QUEUE

ROOT = Path(__file__).parents[3]
RULES = """
version = 1
[role.nobody]
ids = ["subject:CN=nobody"]
[[allow]]
role = "nobody"
action = "send"
task = "tasks.*"
"""


@pytest.fixture
def frame(project):
    """A true message of this project's client."""
    project.send(1, "two")
    [delivery] = project.hands.take()
    return delivery.frame


@pytest.fixture
def write(project):
    """Puts bytes into a file; returns its name."""

    def write(content):
        path = project.folder / "message"
        path.write_bytes(content)
        return str(path)

    return write


def stranger(project, **options):
    """A message that somebody else has signed."""
    person = make_person("stranger", ends=36500 * DAY)
    [signed] = person.signer(project.hands.clock, **options).sign([draft()])
    return signed.frame, person.fingerprint.hex()


def checks(told, verdict):
    return [step["check"] for step in told["steps"] if step["verdict"] == verdict]


def test_a_true_message_is_accepted_and_every_check_is_listed(project, frame, write):
    done = project.run("verify", write(frame))

    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[-1] == "accepted"
    assert [line.split()[1] for line in lines[:-1]] == [
        *("size", "form", "signer", "signature", "claims", "kind", "time", "audience", "body"),
        *("codec", "request", "policy", "id", "replay", "content"),
    ]
    assert "CN=client" in done.stdout
    assert "tasks.add" in done.stdout


def test_it_is_explained_for_programs(project, frame, write):
    told = project.json("verify", write(frame), "--json")

    assert (told["accepted"], told["reason"], told["advice"]) == (True, None, [])
    assert told["signer"]["name"] == "CN=client"
    assert told["claims"]["task"] == "tasks.add"
    assert told["claims"]["audience"] == ["q:celery"]
    assert told["certificate"] == told["signer"]["fingerprint"]
    assert checks(told, "unknown") == ["id", "replay"]
    assert "body" not in told


@pytest.mark.parametrize(
    "write_as",
    [
        bytes,
        lambda frame: frame.hex().encode(),
        lambda frame: frame.hex().upper().encode() + b"\n",
        lambda frame: b"\\x" + frame.hex().encode(),
        lambda frame: b"0x" + frame.hex().encode(),
        base64.b64encode,
        base64.encodebytes,
        lambda frame: json.dumps({"number": 1, "frame": frame.hex()}, indent=2).encode(),
    ],
)
def test_a_frame_is_read_in_every_form_that_stands_for_it(frame, write_as):
    assert read_frame(write_as(frame)) == frame


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"{}", b'{"frame": 7}', b"[" * 100_000, b'{"frame": "xyz"}', b"abc", b"=" * 8),
        *(b"0x", b"\\x", b"AAAA=A", b"\xff\x00", b'{"a":' * 50_000, b"QUJD" * 3 + b"="),
    ],
)
def test_what_stands_for_nothing_is_no_message(project, write, content):
    done = project.run("verify", write(content))

    assert done.exit_code == 2
    assert "refused: malformed" in done.stdout


def test_it_reads_what_is_piped_to_it(project, frame):
    done = project.run("verify", "-", input=frame.hex())

    assert done.exit_code == 0


def test_it_reads_what_quarantine_show_prints(project, write):
    project.refused()
    [one] = project.json("quarantine", "list", "--json")
    shown = project.answer("quarantine", "show", str(one["number"]), "--json")

    assert project.run("verify", write(shown.encode())).exit_code == 0


def test_of_an_unknown_signer_the_certificate_is_named_and_nothing_it_claims(project, write):
    frame, fingerprint = stranger(project)

    done = project.run("verify", write(frame), "--body")

    assert done.exit_code == 1
    assert "refused: unknown-signer" in done.stdout
    assert f"sha256:{fingerprint}" in done.stdout
    assert f"put it into {project.state / 'trusted'}" in done.stdout
    assert "shop.orders.pay" not in done.stdout
    assert "body: not shown: the message was not verified" in done.stdout


def test_a_changed_message_is_no_more_than_refused(project, frame, write):
    parsed = envelope.parse_frame(frame)
    start = envelope.begin_single(parsed.protected)
    claims = parsed.claims.replace(b"tasks.add", b"tasks.bad")
    changed = envelope.build_signed(start, claims, parsed.signature, parsed.body)

    told = json.loads(project.run("verify", write(changed), "--json").stdout)

    assert (told["reason"], told["claims"], told["signer"]) == ("bad-signature", None, None)
    assert "changed on its way" in told["advice"][0]["cause"]


def test_another_security_domain_is_named_where_it_is_proven(project, frame, write):
    """The message is of the default domain, which a project that has set none signs for."""
    project.write_tasks()
    with (project.folder / "tasks.py").open("a") as file:
        file.write('\napp.conf.security_domain = "acme/prod"\n')

    told = json.loads(project.run("-A", "tasks", "verify", write(frame), "--json").stdout)

    assert told["reason"] == "bad-signature"
    assert told["advice"][0]["cause"] == (
        "it was signed for security domain 'default', and here it is 'acme/prod'"
    )


def test_a_domain_is_tried_that_is_asked_for(project, write):
    person = make_person("friend", ends=36500 * DAY)
    project.hands  # noqa: B018  # makes the folder
    (project.state / "trusted" / "friend.pem").write_bytes(person.pem)
    [signed] = person.signer(project.hands.clock, domain=DOMAIN).sign([draft()])

    asked = project.run("verify", write(signed.frame), "--domain", DOMAIN)
    alone = project.run("verify", write(signed.frame))

    assert f"signed for security domain '{DOMAIN}'" in asked.stdout
    assert f"signed for security domain '{DOMAIN}'" not in alone.stdout
    assert (asked.exit_code, alone.exit_code) == (1, 1)


def test_the_queue_and_the_id_are_judged_if_they_are_given(project, frame, write):
    here = project.json("verify", write(frame), "--queue", QUEUE, "--json")
    elsewhere = project.run("verify", write(frame), "--queue", "other", "--id", "x", "--json")

    assert here["accepted"]
    told = json.loads(elsewhere.stdout)
    assert (elsewhere.exit_code, checks(told, "failed")) == (1, ["audience", "id"])
    assert [one["reason"] for one in told["advice"]] == ["wrong-audience", "wrong-id"]
    assert "-Q celery,other" in told["advice"][0]["remedy"]


def test_the_kind_is_judged(project, frame, write):
    done = project.run("verify", write(frame), "--kind", "result")

    assert done.exit_code == 1
    assert "refused: wrong-kind" in done.stdout


def test_a_result_is_judged_as_a_reader_would(project, frame, write):
    project.send(1)
    [delivery] = project.hands.take()
    sealed = project.hands.seal_for(delivery, {"result": 3})

    done = project.run("verify", write(sealed.frame), "--kind", "result")

    assert done.exit_code == 0, done.output
    assert "CN=worker" in done.stdout


def test_what_each_rule_of_the_policy_lacks_is_told(project, frame, write):
    path = project.folder / "policy.toml"
    path.write_text(RULES)
    path.chmod(0o600)
    project.write_tasks()
    with (project.folder / "tasks.py").open("a") as file:
        file.write(f"\napp.conf.security_policy = {str(path)!r}\n")
    name = write(frame)

    denied = project.run("-A", "tasks", "verify", name)
    aside = project.run("-A", "tasks", "verify", name, "--no-policy")

    assert (denied.exit_code, aside.exit_code) == (1, 0)
    assert "rule 1: it is for nobody" in denied.stdout
    assert "cardoon policy explain sha256:" in denied.stdout
    assert "send tasks.add" in denied.stdout
    assert "rule 1" not in aside.stdout


def test_the_body_is_shown_only_if_asked_for(project, frame, write):
    without = project.answer("verify", write(frame))
    shown = project.answer("verify", write(frame), "--body")

    assert "two" not in without
    assert 'body: [[1, "two"], {}' in shown


def test_a_long_body_is_cut(project, write):
    project.send("x" * 100_000)
    [delivery] = project.hands.take()

    told = project.json("verify", write(delivery.frame), "--body", "--json")

    assert len(told["body"]) < 5000
    assert "characters)" in told["body"]


def test_nothing_in_a_body_moves_the_cursor(project, write):
    project.send("\x1b[2J\n\u202e")
    [delivery] = project.hands.take()

    shown = project.answer("verify", write(delivery.frame), "--body")

    assert "\x1b" not in shown
    assert "\u202e" not in shown


@pytest.mark.parametrize("reason", list(Refusal))
def test_for_every_reason_there_are_a_cause_and_a_remedy(reason):
    again = "cardoon quarantine release 7"
    told = advise(reason, Facts(fingerprint="ab" * 32, domain="d", again=again))

    assert len(told.cause) > 20
    assert len(told.remedy) > 20
    assert not told.cause.endswith(".")
    assert (again in told.remedy) != ("do not release" in told.remedy) or again not in told.remedy


def test_what_stays_refused_is_not_to_be_released():
    for reason in (Refusal.BAD_SIGNATURE, Refusal.WRONG_DIGEST, Refusal.EXPIRED, Refusal.REPLAYED):
        assert "release 7" not in advise(reason, Facts(again="cardoon quarantine release 7")).remedy


def test_every_reason_is_in_the_documents():
    written = (ROOT / "docs" / "refusals.md").read_text("utf-8")

    assert [one.value for one in Refusal if f"`{one.value}`" not in written] == []
