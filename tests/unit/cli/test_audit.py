"""`cardoon audit`."""

from __future__ import annotations

import base64
import csv
import io
import json

import pytest

from cardoon.attesting import certifier_of, make_witness
from cardoon.cli.codes import Exit
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.transparency.archive import Archive
from cardoon.transparency.notes import parse_note
from cardoon.transparency.tree import Proof, hash_leaf, root_of_proof
from cardoon.worker.witnessing import Witnesses


@pytest.fixture
def log(project):
    """The log of a project whose worker has run."""
    deployment = Deployment(project.app.settings, clock=SystemClock(), role="worker")
    audit = deployment.audit()
    audit.begin_epoch(certifier_of(deployment))
    for number in range(5):
        audit.record("message.replay", number=number)
    audit.record("control.command", command="shutdown", signer="=cmd")
    audit.close()
    return project.state / "audit.jsonl"


def edit(log, old, new):
    log.write_bytes(log.read_bytes().replace(old, new, 1))


def verdict(project, *arguments):
    done = project.run("audit", "verify", "--json", *arguments)
    return done.exit_code, json.loads(done.stdout)


def test_a_log_that_nobody_touched_verifies_and_says_whose_it_is(project, log):
    code, told = verdict(project)

    assert (code, told["verdict"], told["findings"]) == (Exit.OK, "ok", [])
    assert (told["size"], told["sealed"], told["epochs"]) == (6, 6, 1)
    [identity] = told["identities"]
    assert told["log"].startswith(identity.replace(" ", "%20") + "/")
    said = project.answer("audit", "verify")
    assert "6 records, 6 of them signed" in said
    assert said.endswith("ok\n")


def test_a_changed_record_is_named_in_words_and_by_the_exit_code(project, log):
    edit(log, b'"number":3', b'"number":7')

    code, told = verdict(project, str(log))
    assert (code, told["findings"][0]["flaw"], told["findings"][0]["seq"]) == (
        Exit.TAMPERED,
        "changed",
        3,
    )
    assert "changed at record 3" in project.run("audit", "verify").stdout


def test_a_checkpoint_that_was_kept_shows_that_the_log_was_cut(project, log, tmp_path):
    kept = tmp_path / "kept"
    kept.write_text(project.answer("audit", "checkpoint"))
    assert verdict(project, "--checkpoint", str(kept))[0] == Exit.OK
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:2]))

    code, told = verdict(project, "--checkpoint", str(kept))
    assert code == Exit.CUT
    assert {one["flaw"] for one in told["findings"]} == {"truncated"}


def test_what_is_no_checkpoint_is_refused(project, log, tmp_path):
    (tmp_path / "kept").write_text("no")

    said = project.error("audit", "verify", "--checkpoint", str(tmp_path / "kept"))
    assert "cardoon audit checkpoint" in said


def test_a_log_without_checkpoints_is_incomplete(project):
    project.run("replay", "renew", "-f")

    code, told = verdict(project)
    assert (code, told["size"], told["findings"][0]["flaw"]) == (Exit.INCOMPLETE, 1, "unsealed")
    assert "no checkpoint yet" in project.error("audit", "checkpoint")


def test_an_identity_that_is_not_the_logs_certifies_nothing(project, log):
    """Its owner puts the name of another log into all checkpoints; nobody signs that."""
    notes = log.with_name("audit.jsonl.checkpoints")
    name = notes.read_text().split("\n")[0]
    notes.write_text(notes.read_text().replace(name, "CN=somebody/host/00"))

    code, told = verdict(project)
    assert code == Exit.TAMPERED
    assert {one["flaw"] for one in told["findings"]} >= {"bad-signature"}


def test_a_record_is_proven_without_the_others(project, log):
    told = project.json("audit", "prove", "2")

    note = parse_note(told["checkpoint"].encode()).note
    proof = Proof(told["seq"], told["size"], [base64.b64decode(one) for one in told["proof"]])
    assert root_of_proof(hash_leaf(told["line"].encode()), proof) == note.root
    assert json.loads(told["line"])["number"] == 2


def test_it_is_proven_that_a_log_only_grew(project, log):
    told = project.json("audit", "prove", "4", "--consistency")

    assert (told["old"], told["size"], told["line"]) == (4, 6, None)
    assert len(told["proof"]) == 1


def test_what_was_changed_is_not_proven(project, log):
    edit(log, b'"number":3', b'"number":7')

    assert "cardoon audit verify" in project.error("audit", "prove", "2")


def test_the_last_records_are_shown(project, log):
    said = project.answer("audit", "tail", "-n", "2").splitlines()
    assert [line.split()[0] for line in said] == ["4", "5"]
    assert said[-1].endswith("worker control.command command=shutdown signer==cmd")

    [line] = project.answer("audit", "tail", "-n", "1", "--json").splitlines()
    assert json.loads(line)["seq"] == 5


def test_what_comes_is_followed(project, log):
    with project.start("audit", "tail", "-n", "1", "-f", str(log)) as following:
        assert following.stdout.readline().startswith("5 ")
        project.run("replay", "renew", "-f")
        assert "operator.renew_epoch" in following.stdout.readline()
        following.terminate()


def test_records_are_exported_by_event_and_time(project, log):
    lines = project.answer("audit", "export", "--event", "message.*").splitlines()
    assert [json.loads(line)["number"] for line in lines] == [0, 1, 2, 3, 4]
    assert project.answer("audit", "export", "--until", "2020-01-01") == ""
    assert len(project.answer("audit", "export", "--since", "2020-01-01").splitlines()) == 6
    assert "--since" in project.usage("audit", "export", "--since", "soon")


def test_a_spreadsheet_runs_nothing_of_it(project, log):
    said = project.answer("audit", "export", "--format", "csv", "--event", "control.command")

    head, row = csv.reader(io.StringIO(said))
    assert head == ["seq", "time", "event", "source", "pid", "more"]
    assert (row[0], row[2], json.loads(row[5])["signer"]) == ("5", "control.command", "=cmd")


def test_a_file_that_is_not_there_is_named(project):
    for command in ("verify", "tail", "export"):
        assert "nowhere" in project.error("audit", command, str(project.folder / "nowhere"))


def test_a_log_that_nobody_has_testified_to_is_unproven_where_witnesses_are_asked_for(project, log):
    code, told = verdict(project, "--witness", "store")
    assert (code, told["findings"][0]["flaw"]) == (Exit.INCOMPLETE, "unwitnessed")


def test_a_log_with_a_testimony_in_the_store_verifies(project, log):
    deployment = Deployment(project.app.settings, clock=SystemClock(), role="worker")
    broker = deployment.open_broker()
    audit = deployment.audit()
    witnesses = Witnesses(
        Archive(broker, make_witness(deployment)),
        audit=audit,
        clock=SystemClock(),
        interval=30.0,
        memory=project.state / "seen",
    )
    witnesses.look()
    audit.record("worker.start")
    audit.begin_epoch(certifier_of(deployment))
    witnesses.end()
    audit.close()
    broker.close()

    assert verdict(project, "--witness", "store") == (Exit.OK, verdict(project)[1])
