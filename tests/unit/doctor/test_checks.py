"""Every check finds what it is for, and finds nothing where all is well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cardoon.doctor.catalogue import BY_ID, CATALOGUE
from cardoon.doctor.check import GROUPS, State
from cardoon.doctor.examining import ask
from cardoon.doctor.scene import UncheckedError
from cardoon.doctor.telling import table
from cardoon.exceptions import SecurityError
from cardoon.firewall.judging import Verdict
from tests.unit.doctor.cases import CASES, LINK_LOCAL, approved, serving, watched
from tests.unit.doctor.hosts import RABBIT, Host

ROOT = Path(__file__).parents[3]


@pytest.fixture
def host(tmp_path):
    tmp_path.chmod(0o755)
    return Host(tmp_path)


@pytest.mark.parametrize("check", CATALOGUE, ids=lambda one: one.id)
def test_a_check_finds_what_it_is_for(host, check):
    CASES[check.id][0](host)

    verdict = ask(check, host.scene())

    assert verdict.state is State.FINDING, verdict.evidence
    assert all(verdict.evidence)


@pytest.mark.parametrize("check", CATALOGUE, ids=lambda one: one.id)
def test_a_check_finds_nothing_where_all_is_well(host, check):
    CASES[check.id][1](host)

    verdict = ask(check, host.scene())

    absent = {"KEY-02", "KEY-09"}  # there, what is well is that there is nothing to look at
    allowed = {State.OK, State.NOT_APPLICABLE} if check.id in absent else {State.OK}
    assert verdict.state in allowed, verdict.evidence


def test_every_check_has_a_bad_host_and_a_good_one_and_there_are_at_least_sixty():
    assert set(CASES) == {one.id for one in CATALOGUE}
    assert len(CATALOGUE) >= 60


def test_ids_are_told_once_and_belong_to_a_group():
    ids = [one.id for one in CATALOGUE]

    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Z]+-\d\d", one) for one in ids)
    assert {one.partition("-")[0] for one in ids} == set(GROUPS)


def test_every_check_says_why_it_matters():
    assert [one.id for one in CATALOGUE if not (one.ask.__doc__ or "").strip().endswith(".")] == []


def test_the_page_has_the_table_of_all_checks():
    page = (ROOT / "docs" / "doctor.md").read_text("utf-8")

    assert "\n".join(table()) in page, "renew it: python -m tests.unit.doctor.renew"


def test_rules_that_are_gone_are_told_and_those_that_nobody_saw_are_not_well(host):
    watch = next(one for one in CATALOGUE if one.id == "NET-02")
    watched(Verdict.ABSENT)(host)
    gone = ask(watch, host.scene())
    watched(Verdict.UNKNOWN)(host)
    unseen = ask(watch, host.scene())

    assert (gone.state, unseen.state) == (State.FINDING, State.UNCHECKED)
    assert "flushed" in gone.evidence[0]
    assert unseen.evidence == ("stale",)


def test_a_baseline_that_does_not_count_is_told_with_the_reason(host):
    def refuse():
        raise SecurityError("signed by a key that integrity_key does not name")

    approved(refuse)(host)
    verdict = ask(next(one for one in CATALOGUE if one.id == "COD-09"), host.scene())

    assert verdict.state is State.FINDING
    assert verdict.evidence == ("signed by a key that integrity_key does not name",)


def test_tags_that_the_management_does_not_tell_are_not_taken_for_none(host):
    serving(RABBIT, attributes=None)(host)
    verdict = ask(next(one for one in CATALOGUE if one.id == "RMQ-01"), host.scene())

    assert verdict.state is State.UNCHECKED


def refused(_):
    raise UncheckedError("nft: Operation not permitted (you must be root)")


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (Verdict.OK, State.OK),
        (Verdict.ABSENT, State.FINDING),
        (Verdict.CHANGED, State.FINDING),
        (Verdict.UNKNOWN, State.UNCHECKED),
    ],
)
@pytest.mark.parametrize("name", ["NET-01", "NET-05"])
def test_who_may_not_ask_nft_believes_what_root_has_found(host, name, verdict, state):
    host.put("/proc/net/if_inet6", LINK_LOCAL)
    watched(verdict)(host)
    host.tell(run=refused)

    assert ask(BY_ID[name], host.scene()).state is state


def test_a_watch_over_what_users_send_says_nothing_of_what_comes_in(host):
    watched(Verdict.OK)(host)
    host.set(firewall_users=["tasks"])
    host.tell(run=refused)

    assert ask(BY_ID["NET-01"], host.scene()).state is State.UNCHECKED


def test_tags_that_open_nothing_from_here_are_not_called_well(host):
    serving(RABBIT, user="narrow", attributes=None, manageable=False)(host)
    unreachable = ask(BY_ID["RMQ-01"], host.scene())
    serving(RABBIT, user="narrow", attributes=None)(host)
    silent = ask(BY_ID["RMQ-01"], host.scene())

    assert (unreachable.state, silent.state) == (State.NOT_APPLICABLE, State.UNCHECKED)
