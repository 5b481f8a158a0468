"""`cardoon cert`: what is made, signed, renewed, revoked and said, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PublicFormat,
    pkcs12,
)

from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.exceptions import Refusal, RefusedError
from cardoon.message.protocol import Kind
from cardoon.security.authority import ensure_identity, load_authority
from cardoon.security.identity import load_certificate, load_identity, load_key
from cardoon.security.issuing import encode_certificate, encode_key, parse_subject
from cardoon.security.signing import MessageSigner
from tests.security.actors import draft, ed25519_key, write


@pytest.fixture
def shop(project):
    """A project as `cardoon init` makes it."""
    project.answer("-q", "init", "--domain", "shop.example")
    return project


def facts(text):
    """What a command told, by name."""
    pairs = [line.split("  ", 1) for line in text.splitlines() if "  " in line]
    return {name.strip(): value.strip() for name, value in pairs if name.strip()}


def events(project, folder=None):
    lines = ((folder or project.state) / "audit.jsonl").read_text().splitlines()
    return [json.loads(line)["event"] for line in lines]


def sign(project, private):
    deployment = Deployment(project.app.settings, clock=SystemClock())
    signer = MessageSigner(
        private, domain=project.app.settings.security_domain, clock=deployment.clock
    )
    [signed] = signer.sign([draft()])
    return deployment.make_gate(("auth",)).open(signed.frame, kind=Kind.TASK).signer


# Authorities and identities


def test_an_authority_with_a_password_from_a_file_or_the_environment(project, monkeypatch):
    write(project.folder, "pw", b"secret\n", mode=0o600)
    monkeypatch.setenv("CA_PASSWORD", "secret")

    told = facts(
        project.answer(
            "cert", "init", "-d", "ca", "--domain", "corp", "--password-from", "file:pw",
            "--lifetime", "3y", "--name", "Corp CA",
        )
    )  # fmt: skip
    again = project.answer(
        "cert", "init", "-d", "ca", "--domain", "corp", "--password-from", "env:CA_PASSWORD"
    )

    assert told["authority"] == "spiffe://corp"
    assert told["key"] == "ca/ca.key"
    assert "spiffe://corp (kept)" in again
    assert facts(again)["fingerprint"] == told["fingerprint"]
    assert load_key(project.folder / "ca" / "ca.key", "secret")
    assert events(project, project.folder / "ca") == ["certificate.authority_made"]


def test_a_password_can_be_typed_and_is_asked_for_twice_when_new(project):
    words = ("cert", "init", "-d", "ca", "--domain", "corp", "--password-from", "prompt")

    made = project.run(*words, input="secret\nsecret\n")

    assert made.exit_code == 0
    assert "secret" not in made.stdout + made.stderr
    assert load_key(project.folder / "ca" / "ca.key", "secret")


def test_a_password_on_the_command_line_is_refused_and_not_repeated(project):
    said = project.usage(
        "cert", "init", "-d", "ca", "--domain", "corp", "--password-from", "hunter2"
    )

    assert "prompt, env:NAME or file:PATH" in said
    assert "hunter2" not in said


def test_a_password_file_that_others_read_or_that_is_empty_is_refused(project, monkeypatch):
    write(project.folder, "pw", b"secret\n", mode=0o644)
    words = ("cert", "init", "-d", "ca", "--domain", "corp", "--password-from")

    assert "chmod 600" in project.error(*words, "file:pw")
    assert "env:NO_SUCH is empty" in project.error(*words, "env:NO_SUCH")
    assert not (project.folder / "ca").exists()


def test_an_encrypted_authority_says_which_option_opens_it(project, monkeypatch):
    monkeypatch.setenv("CA_PASSWORD", "secret")
    project.answer(
        "cert", "init", "-d", "ca", "--domain", "corp", "--password-from", "env:CA_PASSWORD"
    )

    assert "ca/ca.key: is encrypted; add --ca-password-from" in project.error(
        "cert", "issue", "web", "--ca", "ca"
    )
    project.answer("cert", "issue", "web", "--ca", "ca", "--ca-password-from", "env:CA_PASSWORD")


def test_an_identity_is_issued_for_a_role_a_spiffe_id_or_a_common_name(shop):
    role = facts(shop.answer("cert", "issue", "bridge", "--lifetime", "90d", "--trust"))
    name = facts(shop.answer("cert", "issue", "spiffe://shop.example/ns/prod/sa/api", "-o", "api"))
    plain = facts(
        shop.answer("cert", "issue", "old", "--no-spiffe-id", "--key-type", "p256", "-o", "old")
    )

    assert role["name"] == "spiffe://shop.example/bridge"
    assert sign(shop, load_identity(shop.state / "bridge.key", shop.state / "bridge.pem"))
    assert (name["certificate"], name["key"]) == ("api/api.pem", "api/api.key")
    assert plain["name"] == "CN=old"
    assert load_identity("old/old.key", "old/old.pem").algorithm.name == "ESP256"
    assert events(shop) == ["certificate.issued"] * 3


def test_what_is_there_is_not_issued_again(shop):
    before = (shop.state / "client.pem").read_bytes()

    assert "exists; renew it with `cardoon cert renew`" in shop.error("cert", "issue", "client")
    assert (shop.state / "client.pem").read_bytes() == before


def test_a_private_key_need_not_travel(shop):
    """The host makes key and request, the authority answers, and the host takes that in."""
    asked = facts(shop.answer("cert", "request", "web", "-d", "host", "--domain", "shop.example"))
    signed = facts(shop.answer("cert", "issue", "web", "--csr", asked["request"], "-o", "answer"))
    taken = facts(shop.answer("cert", "import", "answer/web.pem", "--name", "web", "-d", "host"))

    assert not (shop.folder / "answer" / "web.key").exists()
    assert taken["fingerprint"] == signed["fingerprint"]
    assert (
        load_identity("host/web.key", "host/web.pem").identity.name == "spiffe://shop.example/web"
    )

    before = (shop.folder / "host" / "web.key").read_bytes()
    shop.answer("cert", "request", "web", "-d", "host", "--domain", "shop.example")
    assert (shop.folder / "host" / "web.key").read_bytes() == before, "still in use"
    shop.answer("cert", "issue", "web", "--csr", "host/web.csr", "-o", "answer2")
    shop.answer("cert", "import", "answer2/web.pem", "--name", "web", "-d", "host")
    assert (shop.folder / "host" / "web.key").read_bytes() != before
    assert load_identity("host/web.key", "host/web.pem")


def test_a_public_key_alone_is_certified_with_a_word_about_it(shop):
    public = ed25519_key(5).public_key()
    write(
        shop.folder, "web.pub", public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )

    told = facts(shop.answer("cert", "issue", "web", "--public-key", "web.pub", "-o", "answer"))

    assert "nobody has proven to hold this key" in told["note"]
    assert load_certificate(shop.folder / "answer" / "web.pem").public_key() == public
    assert '"proven":false' in (shop.state / "audit.jsonl").read_text()


def test_options_that_contradict_each_other_are_refused(shop):
    issue = ("cert", "issue", "web", "--csr", "a")

    assert "not both" in shop.usage(*issue, "--public-key", "b")
    assert "for a key that is made here" in shop.usage(*issue, "--key-type", "p256")
    assert "write a number with s, m, h" in shop.usage("cert", "issue", "web", "--lifetime", "1")
    assert "write a number with s, m, h" in shop.usage("cert", "issue", "web", "--lifetime", "101y")
    assert "--prepare goes neither" in shop.usage(
        "cert", "renew", "client", "--prepare", "--activate"
    )
    assert "not a role" in shop.usage("cert", "renew", "client", "--key", "a")


def test_a_pkcs12_store_is_imported_and_keeps_its_password(shop, monkeypatch):
    monkeypatch.setenv("PW", "secret")
    shop.answer("cert", "issue", "web", "-o", "made")
    made = load_identity("made/web.key", "made/web.pem")
    content = pkcs12.serialize_key_and_certificates(
        b"web",
        made.key,
        load_certificate(shop.folder / "made" / "web.pem"),
        [load_certificate(shop.state / "ca.pem")],
        BestAvailableEncryption(b"secret"),
    )
    write(shop.folder, "web.p12", content, mode=0o600)
    words = ("cert", "import", "web.p12", "--name", "web", "--password-from", "env:PW")

    shop.answer(*words, "-d", "kept")
    shop.answer(*words, "-d", "open", "--decrypt")

    assert (
        load_identity("kept/web.key", "kept/web.pem", password="secret").identity == made.identity
    )
    assert load_identity("open/web.key", "open/web.pem").identity == made.identity
    assert "wrong password; say where" in shop.error("cert", "import", "web.p12", "--name", "web")
    assert "that is the authority itself" in shop.error(*words[:3], "--name", "ca")


# Renewing


def test_a_renewed_identity_and_the_old_one_are_both_trusted(shop):
    old = load_identity(shop.state / "client.key", shop.state / "client.pem")

    told = shop.answer("cert", "renew", "client")

    new = load_identity(shop.state / "client.key", shop.state / "client.pem")
    assert new.identity.fingerprint != old.identity.fingerprint
    assert {sign(shop, one).name for one in (old, new)} == {"spiffe://shop.example/client"}
    assert new.identity.fingerprint.hex() in told
    assert "on other hosts:" in told
    assert events(shop) == ["certificate.renewed"]


def test_two_steps_for_hosts_that_pin(shop):
    before = (shop.state / "client.pem").read_bytes()

    prepared = shop.answer("cert", "renew", "client", "--prepare")

    assert (shop.state / "client.pem").read_bytes() == before
    assert "before --activate" in prepared
    assert "cardoon cert renew client --activate" in prepared
    pinned = facts(prepared)["pinned"]
    shop.answer("cert", "renew", "client", "--activate")
    assert (shop.state / "client.pem").read_text() == Path(pinned).read_text()
    assert "nothing to put in place" in shop.error("cert", "renew", "client", "--activate")
    assert events(shop) == ["certificate.renewed"]


def test_an_overlap_ends(shop):
    old = load_identity(shop.state / "client.key", shop.state / "client.pem")
    shop.answer("cert", "renew", "client", "--overlap", "0s")
    new = load_identity(shop.state / "client.key", shop.state / "client.pem")

    with pytest.raises(RefusedError) as refused:
        sign(shop, old)

    assert refused.value.reason is Refusal.REVOKED
    assert sign(shop, new) == new.identity


def test_a_self_made_identity_is_renewed_by_its_file(project):
    paths = ensure_identity(project.folder / "own", "web", clock=SystemClock())

    project.answer("-q", "cert", "renew", str(paths.certificate), "--overlap", "7d")

    assert len(list((project.folder / "own" / "trusted").iterdir())) == 2
    assert " from " in (project.folder / "own" / "revoked.txt").read_text()
    assert events(project, project.folder / "own") == [
        "certificate.renewed", "certificate.revoked",
    ]  # fmt: skip


# Revoking


def test_who_is_revoked_is_refused_and_may_be_let_in_again(shop):
    client = load_identity(shop.state / "client.key", shop.state / "client.pem")

    told = shop.answer("cert", "revoke", "client", "--reason", "stolen laptop")
    again = shop.answer("cert", "revoke", "client", "--reason", "stolen laptop")

    assert "(spiffe://shop.example/client): revoked, in" in told
    assert "was revoked already" in again
    with pytest.raises(RefusedError) as refused:
        sign(shop, client)
    assert refused.value.reason is Refusal.REVOKED

    shop.answer("cert", "restore", "client", "--reason", "found again")

    assert sign(shop, client) == client.identity
    assert "nothing was changed" in shop.error("cert", "restore", "client", "--reason", "x")
    assert events(shop) == ["certificate.revoked", "certificate.restored"]


@pytest.mark.parametrize("how", ["file", "fingerprint", "name"])
def test_who_is_revoked_can_be_named_in_several_ways(shop, how):
    client = load_identity(shop.state / "client.key", shop.state / "client.pem")
    named = {
        "file": str(shop.state / "client.pem"),
        "fingerprint": f"sha256:{client.identity.fingerprint.hex()}",
        "name": "spiffe://shop.example/client",
    }[how]

    shop.answer("cert", "revoke", named, "--reason", "gone", "--crl")

    with pytest.raises(RefusedError):
        sign(shop, client)
    (shop.state / "revoked.txt").write_text("")
    with pytest.raises(RefusedError):
        sign(shop, client)


def test_an_authority_is_not_revoked_by_a_list(shop):
    assert "take it out of security_ca_certificates" in shop.error(
        "cert", "revoke", "client", "ca", "--reason", "x"
    )
    assert not (shop.state / "revoked.txt").exists()
    assert "neither a role here" in shop.error("cert", "revoke", "nobody", "--reason", "x")


def test_who_was_not_issued_here_is_in_no_list_of_this_authority(shop):
    fingerprint = "sha256:" + "0" * 64

    said = shop.error("cert", "revoke", fingerprint, "--reason", "x", "--crl")

    assert "leave --crl out" in said
    assert not (shop.state / "revoked.txt").exists(), "nothing is done by half"


def test_a_list_that_no_setting_names_is_pointed_out(shop):
    done = shop.run("cert", "revoke", "client", "--reason", "x", "--file", "other.txt")

    assert done.exit_code == 0
    assert "must have it in security_revoked" in " ".join(done.stderr.split())


def test_the_list_of_the_settings_is_the_one_that_is_edited(shop, monkeypatch):
    shop.answer("cert", "crl")
    write(shop.folder, "denied.txt", b"")
    lists = [str(shop.state / "ca.crl"), str(shop.folder / "denied.txt")]
    monkeypatch.setenv("CARDOON_SECURITY_REVOKED", ",".join(lists))

    shop.answer("cert", "revoke", "client", "--reason", "x")

    assert "sha256:" in (shop.folder / "denied.txt").read_text()
    assert not (shop.state / "revoked.txt").exists()


def test_a_revocation_list_is_signed_before_it_runs_out(shop):
    first = facts(shop.answer("cert", "crl", "--lifetime", "1s"))
    second = facts(shop.answer("cert", "crl", "--lifetime", "9d"))

    assert first["entries"] == second["entries"] == "0, 0 new"
    assert second["until"] > first["until"]
    assert events(shop) == ["certificate.list_signed"] * 2


# Looking


def test_what_a_project_trusts_is_listed(shop):
    shop.answer("cert", "crl")

    listed = shop.json("cert", "list", "--json")

    assert [(one["part"], Path(one["path"]).name, one["state"]) for one in listed] == [
        ("identity", "client.pem", "ok"),
        ("identity", "worker.pem", "ok"),
        ("pin", "client.pem", "ok"),
        ("pin", "worker.pem", "ok"),
        ("anchor", "ca.pem", "ok"),
        ("revocation-list", "ca.crl", "ok"),
    ]
    assert "spiffe://shop.example/client" in shop.answer("cert", "list")


def test_a_check_fails_before_anything_expires(shop, monkeypatch):
    assert shop.answer("cert", "check") == ""

    monkeypatch.setenv("CARDOON_SECURITY_EXPIRY_WARNING", str(366 * 86_400))
    shop.answer("cert", "issue", "brief", "--lifetime", "2m")
    write(shop.state, "brief.pem", short_lived(shop, seconds=20))
    done = shop.run("cert", "check")
    machine = shop.run("cert", "check", "--json")

    assert done.exit_code == machine.exit_code == 1
    assert done.stdout.startswith("identity spiffe://shop.example/brief")
    [one] = json.loads(machine.stdout)
    assert (one["state"], one["needs_attention"]) == ("expires-soon", True)
    assert 0 < one["seconds_left"] <= 20


def test_a_check_of_the_wrong_folder_fails(project):
    assert "no certificate in" in project.error("cert", "check")
    assert "name the app with -A" in project.error("cert", "list", "--json")


def test_a_check_looks_at_what_the_settings_name(shop, monkeypatch):
    paths = ensure_identity(shop.folder / "own", "web", clock=SystemClock(), lifetime=20)
    monkeypatch.setenv("CARDOON_SECURITY_CERTIFICATE", str(paths.certificate))
    monkeypatch.setenv("CARDOON_SECURITY_CERT_STORE", str(shop.folder / "own" / "trusted"))
    monkeypatch.setenv("CARDOON_SECURITY_CA_CERTIFICATES", str(shop.folder / "nowhere.pem"))

    done = shop.run("cert", "check", "--json")

    assert done.exit_code == 1
    assert [(one["part"], one["name"], one["state"]) for one in json.loads(done.stdout)] == [
        ("identity", "CN=web", "expires-soon"),
        ("pin", "CN=web", "expires-soon"),
        ("anchor", "", "unreadable"),
    ]


def short_lived(shop, *, seconds):
    """A certificate by the project's authority, near its end: it is backdated by five minutes."""
    signed = load_authority(shop.state).certify(
        parse_subject("brief", "shop.example"),
        load_key(shop.state / "brief.key").public_key(),
        clock=SystemClock(),
        lifetime=seconds,
    )
    return encode_certificate(signed)


def test_what_is_in_files_is_shown_with_a_verdict(shop):
    good = shop.answer("cert", "show", ".cardoon/client.pem", ".cardoon/client.key")
    bad = shop.run("cert", "show", "--json", ".cardoon/worker.pem", stranger(shop))

    assert "trusted: pinned" in good
    assert "BEGIN" not in good
    assert bad.exit_code == 1
    kinds = [(one["kind"], one["is_refused"]) for one in json.loads(bad.stdout)]
    assert kinds == [("certificate", False), ("certificate", True)]


def stranger(project):
    paths = ensure_identity(project.folder / "elsewhere", "eve", clock=SystemClock())
    return str(paths.certificate)


def test_files_are_shown_where_nobody_is_trusted_yet(project):
    done = project.run("cert", "show", stranger(project))

    assert done.exit_code == 0
    assert "note: trust store: no usable certificate" in done.stderr
    assert "not judged" in done.stdout


def test_an_encrypted_key_is_opened_only_with_its_password(shop, monkeypatch):
    monkeypatch.setenv("PW", "secret")
    write(shop.folder, "a.key", encode_key(ed25519_key(4), b"secret"), mode=0o600)

    assert "not opened" in shop.answer("cert", "show", "a.key")
    assert "Ed25519" in shop.answer("cert", "show", "a.key", "--password-from", "env:PW")
