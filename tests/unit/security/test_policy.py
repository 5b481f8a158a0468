"""A policy file: what it says, what it refuses to say, and what is decided by it."""

from __future__ import annotations

import json
import re
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import Refusal, RefusedError, SecurityError
from cardoon.security.identity import Identity
from cardoon.security.origins import describe_parties
from cardoon.security.patterns import Pattern
from cardoon.security.policing import FilePolicy, PolicyEvent
from cardoon.security.policy import Action, Request
from cardoon.security.policyfile import parse_rules
from cardoon.security.sessions import MAX_SIGNERS, SessionMeter
from cardoon.testing import FakeClock

POLICY = """
    version = 1

    [role.web]
    ids = ["spiffe://acme.example/ns/prod/sa/web-*"]
    [role.worker]
    ids = ["spiffe://acme.example/ns/prod/sa/worker"]
    [role.ops]
    ids = ["sha256:{ops}", "subject:CN=ops-1,OU=ops"]

    [[allow]]
    role = "web"
    action = "send"
    task = ["shop.orders.*", "mail.receipt"]
    queue = ["default", "mail"]
    max_eta = "7d"
    max_body = "256KiB"

    [[allow]]
    role = ["worker"]
    action = ["result", "event"]

    [[allow]]
    role = ["worker"]
    action = "send"
    task = "**"

    [[allow]]
    role = "ops"
    action = "control"
    command = ["**"]
"""


def identity(name, fingerprint=bytes(32)):
    return Identity(fingerprint=fingerprint, name=name, not_before=0, not_after=1)


WEB = identity("spiffe://acme.example/ns/prod/sa/web-1", b"w" * 32)
WORKER = identity("spiffe://acme.example/ns/prod/sa/worker", b"k" * 32)
OPS = identity("CN=other", b"o" * 32)


def rules(text=POLICY):
    return parse_rules(
        textwrap.dedent(text).replace("{ops}", (b"o" * 32).hex()).encode(), source="p"
    )


def allows(signer, action, name, queue="", **more):
    try:
        rules().check(Request(Action(action), signer, name, queue, **more))
    except RefusedError as error:
        return error.reason is not Refusal.DENIED
    return True


@pytest.mark.parametrize(
    ("signer", "action", "name", "queue"),
    [
        (WEB, "send", "shop.orders.pay", "default"),
        (WEB, "send", "mail.receipt", "mail"),
        (WORKER, "result", "shop.orders.pay", ""),
        (WORKER, "result", "cardoon.starmap", ""),
        (WORKER, "event", "", ""),
        (WORKER, "send", "anything.at.all", "elsewhere"),
        (OPS, "control", "revoke", ""),
        (identity("CN=ops-1,OU=ops", b"x" * 32), "control", "revoke", ""),
    ],
)
def test_what_a_rule_names_is_allowed(signer, action, name, queue):
    assert allows(signer, action, name, queue)


@pytest.mark.parametrize(
    ("signer", "action", "name", "queue"),
    [
        (WEB, "send", "shop.orders.pay.now", "default"),
        (WEB, "send", "shop.ordersXpay", "default"),
        (WEB, "send", "shop.orders.pay", "other"),
        (WEB, "send", "shop.orders.pay", ""),
        (WEB, "result", "shop.orders.pay", ""),
        (WEB, "control", "revoke", ""),
        (identity("spiffe://acme.example/ns/prod/sa/web-1/x"), "send", "mail.receipt", "mail"),
        (identity("spiffe://evil.example/ns/prod/sa/web-1"), "send", "mail.receipt", "mail"),
        (WORKER, "send", "cardoon.map", "default"),
        (WORKER, "send", "celery.starmap", "default"),
        (OPS, "control", "shutdown", ""),
        (identity("CN=ops-1,OU=ops,O=more"), "control", "revoke", ""),
        (None, "send", "mail.receipt", "mail"),
        (identity("unsigned"), "send", "mail.receipt", "mail"),
    ],
)
def test_all_else_is_denied(signer, action, name, queue):
    assert not allows(signer, action, name, queue)


def test_bounds_of_a_rule_are_held():
    ask = (WEB, "send", "mail.receipt", "mail")

    assert allows(*ask, ahead=7 * 86_400.0, length=256 << 10)
    assert not allows(*ask, ahead=7 * 86_400.0 + 1)
    assert not allows(*ask, length=(256 << 10) + 1)


def test_a_rule_for_sealed_bodies_alone_lets_no_other_pass():
    held = rules(POLICY.replace('max_eta = "7d"', "encrypted = true"))
    pay = Request(Action.SEND, WEB, "shop.orders.pay", "default")

    held.check(pay._replace(encrypted=True))
    with pytest.raises(RefusedError, match="a body in the clear; rule 1 allows sealed ones"):
        held.check(pay)
    assert "sealed bodies alone" in held.rules[0].describe_bounds()


def test_the_widest_of_several_rules_holds():
    more = (
        POLICY
        + '\n    [[allow]]\n    role = "web"\n    action = "send"\n    task = "mail.receipt"\n'
    )

    rules(more).check(Request(Action.SEND, WEB, "mail.receipt", "mail", length=1 << 30))


def test_who_is_not_named_is_denied_by_an_empty_file():
    with pytest.raises(RefusedError, match="no rule lets"):
        rules("version = 1").check(Request(Action.SEND, WEB, "a", "q"))


def test_messages_without_signature_need_a_role_of_their_own():
    text = 'version = 1\n[role.any]\nids = ["unsigned"]\n[[allow]]\nrole = "any"\naction = "send"\ntask = "a"\n'

    rules(text).check(Request(Action.SEND, None, "a", "q"))
    with pytest.raises(RefusedError):
        rules(text).check(Request(Action.SEND, identity("unsigned"), "a", "q"))


ROLE = '[role.web]\nids = ["spiffe://a.example/web"]\n'
RULE = "version = 1\n" + ROLE + '[[allow]]\nrole = "web"\naction = "send"\ntask = "a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "version is None; write version = 1"),
        ("version = 2", "version is 2; write version = 1"),
        ("version = 1\nalow = []", "unknown key 'alow'; did you mean 'allow'?"),
        ("version = ", "not TOML"),
        ("version = " + "[" * 5000, "not TOML"),
        ("version = " + "9" * 5000, "not TOML"),
        ("version = 1\n[role.web]\nids = []", "role web: it has no ids"),
        ('version = 1\n[role.web]\nid = ["x"]', "unknown key 'id'; did you mean 'ids'?"),
        ('version = 1\n[role.web]\nids = ["web"]', "id 'web'; use spiffe://"),
        ('version = 1\n[role.web]\nids = ["spiffe://*/web"]', "is named, never matched"),
        ('version = 1\n[role.web]\nids = ["sha256:12"]', "id 'sha256:12'; use"),
        ("version = 1\n[role]\nweb = 1", "role web: write [role.NAME]"),
        (RULE + 'quue = "q"', "rule 1: unknown key 'quue'; did you mean 'queue'?"),
        (RULE + "queue = []", "rule 1: queue is empty"),
        (RULE + "queue = 7", "rule 1: queue must be a text"),
        (RULE + 'max_eta = "soon"', "max_eta = 'soon'; write a number and d, h, m, s"),
        (RULE + 'max_body = "1 MB"', "max_body = '1 MB'; write a number and"),
        (RULE + 'encrypted = "yes"', "encrypted = 'yes'; write true or false"),
        (RULE + 'command = "ping"', "rule 1: command does not fit send; use task"),
        (RULE.replace('"web"\naction', '"wob"\naction'), "rule 1: no role 'wob'; use web"),
        (RULE.replace('"send"', '"sent"'), "rule 1: unknown action 'sent'; use control"),
        (RULE.replace('task = "a"\n', ""), 'rule 1: it names no task; write task = ["**"]'),
        (RULE.replace('action = "send"\n', ""), "rule 1: it names no action"),
        (RULE.replace('"send"', '["send", "result"]') + 'queue = "q"', "queue is for rules"),
        (RULE.replace('"a"', '"*a*b*c*d*"'), "5 wildcards; at most 4"),
        (RULE.replace('"a"', '"a***"'), "the wildcards are `*` and `**`"),
        (RULE + 'origin = "wob"', "rule 1: no role 'wob'; use web"),
        (RULE + "origin = []", "rule 1: origin is empty"),
        (RULE.replace('"send"', '["send", "result"]') + 'origin = "web"', "origin is for rules"),
        (RULE.replace('"a"', '["a", "cardoon.map"]'), "cardoon.map is judged by the task that it"),
        (RULE.replace("[[allow]]", "max_sessions = 0\n[[allow]]"), "max_sessions = 0; write a"),
        (RULE.replace("[[allow]]", 'max_sessions = "9"\n[[allow]]'), "max_sessions = '9'; write"),
        (RULE.replace('"a"', '[""]'), "use 1 to 2048 printable characters"),
    ],
)
def test_a_file_that_is_not_understood_is_refused_as_a_whole(text, said):
    with pytest.raises(SecurityError) as raised:
        parse_rules(text.encode(), source="policy.toml")

    assert str(raised.value).startswith("policy.toml: ")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.*", "a.", True),
        ("a.*", "a.b.c", False),
        ("a.**", "a.b.c", True),
        ("**", "", True),
        ("*", "a/b", False),
        ("*.c", "a.b.c", False),
        ("**.c", "a.b.c", True),
        ("a*c", "abcabc", True),
        ("a*c", "abcab", False),
        ("*a*a*a*a", "a" * 300, True),
        ("*a*a*a*b", "a" * 300, False),
    ],
)
def test_wildcards_stay_within_segments_unless_doubled(pattern, name, fits):
    assert Pattern(pattern).matches(name) is fits


@given(
    st.lists(st.sampled_from(["a", "b", ".", "*", "**"]), max_size=9),
    st.text(alphabet="ab.", max_size=9),
)
def test_patterns_fit_what_a_regular_expression_would(parts, name):
    text = "".join(parts)
    if not text or "***" in text or len(re.findall(r"\*+", text)) > 4:
        return
    wanted = re.escape(text).replace(r"\*\*", ".*").replace(r"\*", r"[^./:]*")

    assert Pattern(text).matches(name) is (re.fullmatch(wanted, name) is not None)


def test_a_changed_file_holds_within_five_seconds_and_a_broken_one_does_not(tmp_path):
    path, clock, told = tmp_path / "policy.toml", FakeClock(), []
    write(path, RULE)
    policy = FilePolicy(path, clock=clock, on_event=lambda *event: told.append(event))
    signer = identity("spiffe://a.example/web")
    policy.check(Request(Action.SEND, signer, "a", "q"))

    write(path, "version = 1")
    policy.check(Request(Action.SEND, signer, "a", "q"))
    clock.advance(5)
    with pytest.raises(RefusedError):
        policy.check(Request(Action.SEND, signer, "a", "q"))
    write(path, "broken")
    clock.advance(5)
    with pytest.raises(RefusedError):
        policy.check(Request(Action.SEND, signer, "a", "q"))
    path.unlink()
    clock.advance(5)
    with pytest.raises(RefusedError):
        policy.check(Request(Action.SEND, signer, "a", "q"))

    events = [event for event, _ in told]
    assert events == [PolicyEvent.RELOADED, *[PolicyEvent.RELOAD_REFUSED] * 2]


def test_sandboxes_that_have_changed_are_told_to_need_a_restart(tmp_path):
    path, clock, told = tmp_path / "policy.toml", FakeClock(), []
    write(path, RULE)
    policy = FilePolicy(path, clock=clock, on_event=lambda *event: told.append(event))
    signer = identity("spiffe://a.example/web")

    for row in ('level = "strict"', 'level = "strict"', 'level = "process"'):
        write(path, f'{RULE}\n# {len(told)}\n[[sandbox]]\ntask = "a"\n{row}')
        clock.advance(5)
        policy.check(Request(Action.SEND, signer, "a", "q"))

    assert ["restart the workers" in detail for _, detail in told] == [True, False, True]


def test_a_file_that_others_may_write_is_refused(tmp_path):
    path = tmp_path / "policy.toml"
    write(path, RULE)
    path.chmod(0o622)

    with pytest.raises(SecurityError, match="chmod"):
        FilePolicy(path, clock=FakeClock(), on_event=lambda *_: None)


def write(path, text):
    new = path.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o600)
    new.replace(path)


# On whose behalf

ORIGINS = """
    version = 1
    [role.web]
    ids = ["spiffe://acme.example/ns/prod/sa/web-*"]
    [role.worker]
    ids = ["spiffe://acme.example/ns/prod/sa/worker"]
    [role.anonymous]
    ids = ["unsigned"]

    [[allow]]
    role = "web"
    action = "send"
    task = "shop.**"
    [[allow]]
    role = "worker"
    action = "send"
    task = "shop.internal.*"
    origin = "web"
    [[allow]]
    role = "worker"
    action = "send"
    task = "mail.*"
    origin = ["web", "anonymous"]
    [[allow]]
    role = "worker"
    action = "send"
    task = "open.*"
"""


def from_worker(*parties, task="shop.internal.book", signer=WORKER, **more):
    told = {"origin": describe_parties(parties)} if parties else {}
    headers = json.dumps({**told, **more}).encode()
    return Request(Action.SEND, signer, task, "q", headers=headers)


def test_a_worker_sends_on_behalf_of_those_whom_the_rule_names():
    asked = from_worker(WEB)

    assert [one.name for one in rules(ORIGINS).check(asked)] == [WEB.name]
    assert rules(ORIGINS).check(from_worker(None, task="mail.thanks")) == (None,)


@pytest.mark.parametrize(
    "parties",
    [(), (OPS,), (WORKER,), (None,), (WEB, OPS), (WEB, None), (identity("unsigned"),)],
    ids=["nobody", "another", "itself", "unsigned", "both", "one-unsigned", "called-unsigned"],
)
def test_on_behalf_of_anybody_else_it_does_not(parties):
    with pytest.raises(RefusedError, match="not sent while running a request of web"):
        rules(ORIGINS).check(from_worker(*parties))


def test_a_rule_without_origin_asks_for_none():
    assert rules(ORIGINS).check(from_worker(task="open.x")) == ()


def test_a_client_cannot_say_on_whose_behalf_it_sends():
    other = identity("spiffe://acme.example/ns/prod/sa/other", b"x" * 32)
    text = ORIGINS + '    [role.other]\n    ids = ["spiffe://acme.example/ns/prod/sa/other"]\n'
    text += '    [[allow]]\n    role = "other"\n    action = "send"\n    task = "shop.internal.*"\n'

    assert rules(text).check(from_worker(WEB, signer=other)) == (other,)
    with pytest.raises(RefusedError):
        rules(ORIGINS).check(from_worker(WEB, signer=other))


@pytest.mark.parametrize(
    "origin",
    [
        *("web", [1], [["a"]], [["a", 1]], {"a": 1}, [["a", "00" * 32]] * 9),
        *([["a", "00" * 31]], [["a", "xy" * 32]], [["a", "\u0660" * 64]], [["a", "00" * 33]]),
        *([["a\nb", "00" * 32]], [["a" * 2049, "00" * 32]]),
    ],
)
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(RefusedError) as refused:
        rules(ORIGINS).check(from_worker(origin=origin))

    assert refused.value.reason is Refusal.BAD_CLAIMS


def test_the_name_of_an_origin_is_matched_and_its_fingerprint_compared():
    text = ORIGINS.replace(
        '"spiffe://acme.example/ns/prod/sa/web-*"', f'"sha256:{WEB.fingerprint.hex()}"'
    )

    rules(text).check(from_worker(WEB))
    with pytest.raises(RefusedError):
        rules(text).check(from_worker(identity(WEB.name, b"v" * 32)))


# Maps


@pytest.mark.parametrize("name", ["cardoon.map", "cardoon.starmap"])
def test_a_map_is_judged_by_the_task_that_it_maps(name):
    def ask(headers):
        rules().check(Request(Action.SEND, WEB, name, "mail", headers=headers))

    ask(b'{"inner":"mail.receipt"}')
    for headers in (
        b'{"inner":"mail.other"}',
        b'{"inner":"cardoon.map"}',
        b'{"inner":"cardoon.starmap"}',
        b'{"inner":["mail.receipt"]}',
        b'{"inner":null}',
        b'{"inner":"mail.receipt\\n"}',
        b'{"inner":"' + b"m" * 257 + b'"}',
        b"{}",
        b"",
    ):
        with pytest.raises(RefusedError) as refused:
            ask(headers)
        assert refused.value.reason is Refusal.DENIED


@pytest.mark.parametrize("inner", ["a\nb", "\x1b[31m", "m" * 257])
def test_the_task_of_a_map_is_named_as_any_other_or_it_is_denied(inner):
    """Even where any task may be sent: the name is remembered, and told to people."""
    headers = json.dumps({"inner": inner}).encode()

    with pytest.raises(RefusedError) as refused:
        rules().check(Request(Action.SEND, WORKER, "cardoon.map", "q", headers=headers))

    assert refused.value.reason is Refusal.DENIED
    assert inner not in refused.value.detail


def test_only_a_map_has_a_task_within():
    with pytest.raises(RefusedError):
        rules().check(Request(Action.SEND, WEB, "x", "mail", headers=b'{"inner":"mail.receipt"}'))


def test_a_rule_for_results_may_name_maps_and_one_for_sends_may_not():
    text = RULE.replace('"send"', '"result"').replace('"a"', '["a", "cardoon.map"]')
    signer = identity("spiffe://a.example/web")

    parse_rules(text.encode(), source="p").check(Request(Action.RESULT, signer, "cardoon.map", ""))


# Sessions

LIMITED = RULE.replace("[[allow]]", "max_sessions = 2\n[[allow]]")


def ask_in(policy, session, signer=None):
    signer = signer or identity("spiffe://a.example/web", b"w" * 32)
    policy.check(Request(Action.SEND, signer, "a", "q", session=session))


def test_a_role_begins_no_more_sessions_an_hour_than_it_may(tmp_path):
    path, clock = tmp_path / "policy.toml", FakeClock()
    write(path, LIMITED)
    policy = FilePolicy(path, clock=clock, on_event=lambda *_: None)

    ask_in(policy, b"1")
    clock.advance(1800)
    ask_in(policy, b"2")
    for _ in range(3):
        ask_in(policy, b"1")
        with pytest.raises(RefusedError) as refused:
            ask_in(policy, b"3")
        assert refused.value.reason is Refusal.TOO_MANY_SESSIONS
    ask_in(policy, b"3", identity("spiffe://a.example/web", b"v" * 32))
    write(path, LIMITED + "# changed")
    clock.advance(1799)
    with pytest.raises(RefusedError):
        ask_in(policy, b"3")  # what was counted outlasts a change of the file
    clock.advance(1)
    ask_in(policy, b"3")


def test_signers_are_not_counted_without_bound():
    meter = SessionMeter(clock=FakeClock())
    for number in range(MAX_SIGNERS + 1):
        meter.check(number.to_bytes(4, "big"), b"s", 1)

    meter.check(bytes(4), b"t", 1)  # the first was forgotten
    with pytest.raises(RefusedError):
        meter.check(MAX_SIGNERS.to_bytes(4, "big"), b"t", 1)
