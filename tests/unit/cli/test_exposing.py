"""`cardoon doctor expose`, as far as it goes on one host; tests/doctor/test_exposure.py goes on."""

from __future__ import annotations

import json

from cardoon.cli.codes import Exit
from tests.servers.ground import free_port

PLACE = "--target", "127.0.0.2:1", "--control"


def test_it_wants_to_know_what_must_answer(project):
    assert "--control: name a place" in project.error("doctor", "expose", "--target", "10.0.0.1:1")


def test_it_wants_to_know_what_must_not(project):
    told = project.error("doctor", "expose", "--control", "10.0.0.1:1")

    assert "--target: the settings name no server on another host" in told


def test_a_result_is_signed_by_who_has_tried_and_counts_as_it_was_written(project, tmp_path):
    project.answer("init")
    result = tmp_path / "result.json"
    words = ("doctor", "expose", *PLACE, f"127.0.0.2:{free_port()}", "--result", str(result))
    done = project.run(*words)
    assert done.exit_code == Exit.CRITICAL
    assert "EXPOSED 127.0.0.2:1: closed" in done.stdout

    verified = project.run("doctor", "expose", "--verify", str(result), "--json")
    assert verified.exit_code == Exit.CRITICAL
    assert json.loads(verified.stdout)["signer"].startswith("spiffe://")

    told = json.loads(result.read_text())
    for change in (
        {"round": {**told["round"], "targets": {}}},
        {"signature": "00"},
        {"chain": 7},
        {"format": 2},
        {"round": None},
    ):
        result.write_text(json.dumps({**told, **change}))
        assert "does not count" in project.error("doctor", "expose", "--verify", str(result))
    del told["signature"]
    result.write_text(json.dumps(told))
    assert "nobody has signed it" in project.error("doctor", "expose", "--verify", str(result))
    result.write_text("[" * 100_000)
    assert "does not count" in project.error("doctor", "expose", "--verify", str(result))


def test_the_doctor_is_asked_as_before_beside_it(project):
    assert project.run("doctor", "--only", "MSG-01").exit_code == Exit.OK
    assert "No such command" in project.usage("doctor", "exposes")
