"""Our own identity, which whoever renews it replaces while we run."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from cardoon.exceptions import IdentityError, SecurityError
from cardoon.message.claims import parse_claims
from cardoon.message.envelope import parse_frame
from cardoon.security.identity import identify, load_identity
from cardoon.security.renewal import OwnIdentity, RenewingSigner
from cardoon.security.signing import MessageSigner
from cardoon.testing import FakeClock
from tests.security.actors import DOMAIN, draft
from tests.security.spiffe import HOUR, Helper, Server

SERVER = Server()
FIRST, SECOND, THIRD = (SERVER.issue("web", at=at, lasts=10 * HOUR) for at in (0, 1, 2))


class Setting:
    """Files, whoever reads them, and what an operator hears."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.heard = []
        self.helper = Helper(folder)
        self.helper.write(SERVER, FIRST)
        self.own = OwnIdentity(
            lambda: load_identity(self.helper.key, self.helper.certificate),
            (self.helper.key, self.helper.certificate),
            clock=self.clock,
            on_event=lambda event, detail: self.heard.append((event.value, detail)),
        )
        self.signer = RenewingSigner(
            self.own, lambda private: MessageSigner(private, domain=DOMAIN, clock=self.clock)
        )

    def look(self, seconds=5.0):
        self.clock.advance(seconds)
        return self.own.current().identity

    @property
    def events(self):
        return [event for event, _ in self.heard]


@pytest.fixture
def files(tmp_path):
    return Setting(tmp_path)


def who(person):
    return identify(person.certificate)


def signed_by(files):
    """Whose certificate the next message names, and the session of its nonce."""
    [signed] = files.signer.sign([draft()])
    frame = parse_frame(signed.frame)
    [person] = [one for one in (FIRST, SECOND, THIRD) if one.fingerprint in frame.protected]
    return person, parse_claims(frame.claims).session


def test_a_new_pair_is_taken_within_five_seconds(files):
    files.helper.write(SERVER, SECOND)

    assert files.look(4.9) == who(FIRST)
    assert files.look(0.1) == who(SECOND)

    [(event, detail)] = files.heard
    assert event == "reloaded"
    assert str(who(SECOND)) in detail
    assert str(who(FIRST)) in detail


def test_messages_are_signed_by_the_new_one_in_a_session_of_its_own(files):
    first, session = signed_by(files)
    files.helper.write(SERVER, SECOND)
    files.clock.advance(5)

    second, other = signed_by(files)

    assert (first, second) == (FIRST, SECOND)
    assert session != other
    assert files.signer.identity == who(SECOND)


def test_files_that_stay_as_they_are_are_not_read_again(files):
    before = files.own.current()

    files.look()

    assert files.own.current() is before
    assert files.heard == []


def test_the_same_pair_written_again_changes_nothing(files):
    before = files.own.current()
    files.helper.write(SERVER, FIRST)

    files.look()

    assert files.own.current() is before
    assert files.heard == []


def test_other_intermediates_for_the_same_certificate_are_taken(files):
    other = Server("root")
    files.helper.write_certificate(other, FIRST)

    files.look()

    assert files.own.current().chain == (other.below.der,)
    assert files.events == ["reloaded"]


def test_between_two_writes_the_old_pair_goes_on_and_nobody_is_alarmed(files):
    files.helper.write_certificate(SERVER, SECOND)
    assert files.look() == who(FIRST)
    assert signed_by(files)[0] is FIRST

    files.helper.write_key(SECOND)

    assert files.look(1.0) == who(SECOND)  # sooner than the next usual look
    assert files.events == ["reloaded"]


def test_a_pair_that_goes_on_not_to_fit_is_told_once(files):
    files.helper.write_certificate(SERVER, SECOND)

    for _ in range(5):
        assert files.look() == who(FIRST)

    [(event, detail)] = files.heard
    assert event == "reload_refused"
    assert "give a matching pair" in detail
    files.helper.write_key(SECOND)
    assert files.look() == who(SECOND)
    assert files.events == ["reload_refused", "reloaded"]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda helper: helper.key.chmod(0o644), "chmod 600"),
        (lambda helper: helper.key.write_bytes(b"garbage"), "no private key in PEM form"),
        (lambda helper: helper.certificate.write_bytes(b""), "no certificate in PEM form"),
        (lambda helper: helper.certificate.unlink(), "cannot be read"),
        (
            lambda helper: helper.write(SERVER, SERVER.issue("web", at=-2 * HOUR)),
            "not valid now",
        ),
        (lambda helper: helper.write(SERVER, SERVER.issue("web", at=2 * HOUR)), "not valid now"),
    ],
    ids=["open", "no key", "no certificate", "gone", "expired", "early"],
)
def test_what_cannot_sign_is_refused_and_the_last_one_goes_on(files, spoil, why):
    spoil(files.helper)

    files.look()
    files.look()

    assert signed_by(files)[0] is FIRST
    [(event, detail)] = files.heard
    assert event == "reload_refused"
    assert why in detail


def test_a_certificate_that_came_early_is_taken_when_its_time_has_come(files):
    early = SERVER.issue("web", at=2 * HOUR)
    files.helper.write(SERVER, early)
    assert files.look() == who(FIRST)

    assert files.look(2 * HOUR) == who(early)


def test_an_expired_certificate_is_an_error_that_says_so_until_a_new_one_is_there(files):
    files.clock.advance(10 * HOUR + 1)

    with pytest.raises(IdentityError, match="the certificate has expired; issue a new one"):
        files.signer.sign([draft()])

    late = SERVER.issue("web", at=10 * HOUR)
    files.helper.write(SERVER, late)
    files.clock.advance(1.0)  # an expired one is not worth the five seconds
    files.signer.sign([draft()])
    assert files.own.current().identity == who(late)


def test_a_wrong_pair_at_the_start_is_an_error(files):
    files.helper.write_certificate(SERVER, SECOND)

    with pytest.raises(SecurityError, match="give a matching pair"):
        OwnIdentity(
            lambda: load_identity(files.helper.key, files.helper.certificate),
            (),
            clock=files.clock,
            on_event=lambda *_: None,
        )


def test_a_forked_process_finds_the_new_pair_by_itself(files):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            files.helper.write(SERVER, SECOND)
            os.write(writing, bytes([files.look() == who(SECOND)]))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)

    assert os.read(reading, 1) == b"\x01"
    os.close(reading)
    assert files.look() == who(SECOND)


def test_threads_that_sign_through_a_change_each_sign_as_one_of_the_two(files):
    with ThreadPoolExecutor(4) as threads:
        signing = [threads.submit(signed_by, files) for _ in range(200)]
        for person in (SECOND, THIRD):
            files.helper.write(SERVER, person)
            files.clock.advance(5)

    sessions = {}
    for one in signing:
        person, session = one.result()
        assert sessions.setdefault(session, person) is person
    assert signed_by(files)[0] is THIRD
