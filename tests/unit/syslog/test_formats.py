"""Events in ECS, OCSF and CEF: what the catalogue says, and nothing that an attacker has written in its place."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.config import Conf
from cardoon.exceptions import ImproperlyConfigured
from cardoon.syslog.catalogue import EVENTS
from cardoon.syslog.formats import write_cef, write_ecs, write_ocsf, writer_of
from cardoon.syslog.messages import Entry, Origin, Repeats, Severity, pack
from cardoon.syslog_target import FORMATS

ORIGIN = Origin(host="w1", pid=411, stream="ab12")
PAIR = re.compile(r"(?:^| )([A-Za-z]+)=((?:[^=\\]|\\.)*?)(?= [A-Za-z]+=|$)")


def entry(event="message.replay", *, text="it happened", is_security=True, **fields):
    return Entry(
        event=event, severity=Severity.CRITICAL, facility=10, moment=1.5, text=text, fields=fields,
        is_security=is_security,
    )  # fmt: skip


def test_ecs_has_category_type_and_outcome():
    _, text = write_ecs(entry(task="shop.add", count=3), ORIGIN)

    told = json.loads(text)
    assert told["@timestamp"] == "1970-01-01T00:00:01.500000+00:00"
    assert told["event"] == {
        "dataset": "cardoon", "action": "message.replay", "kind": "alert",
        "category": ["intrusion_detection", "authentication"], "type": ["denied"],
        "outcome": "failure", "severity": 8,
    }  # fmt: skip
    assert told["cardoon"] == {"task": "shop.add", "count": 3}
    assert told["threat"]["technique"]["id"] == ["T1550"]


@pytest.mark.parametrize("name", EVENTS)
def test_ocsf_numbers_fit_one_another(name):
    told = json.loads(write_ocsf(entry(name), ORIGIN)[1])

    assert told["category_uid"] == told["class_uid"] // 1000
    assert told["type_uid"] == told["class_uid"] * 100 + told["activity_id"]
    assert told["severity_id"] == EVENTS[name].ocsf_severity
    assert (told["class_uid"] == 2004) == ("finding_info" in told) == EVENTS[name].is_alarm


def test_cef_has_the_catalogue_in_its_header_and_the_rest_behind_it():
    _, text = write_cef(entry(task="a=b|c\\d", task_id="x"), ORIGIN)

    head, _, body = text.partition("|rt=")
    assert head == "CEF:0|Cardoon|cardoon|1|message.replay|A message was sent a second time|8"
    assert dict(PAIR.findall(f"rt={body}"))["cardoonTask"] == r"a\=b|c\\d"


def test_what_is_logged_is_no_finding():
    logged = entry("log", is_security=False)

    assert "kind" not in json.loads(write_ecs(logged, ORIGIN)[1])["event"]
    assert json.loads(write_ocsf(logged, ORIGIN)[1])["class_uid"] == 6002
    assert "|log|log|5|" in write_cef(logged, ORIGIN)[1]


@given(st.text(), st.sampled_from(FORMATS))
def test_whatever_is_told_it_is_one_line_and_changes_no_other_field(text, name):
    told = entry(task=text, text=text, signer="ab")
    octets = pack(told, ORIGIN, 1, write=writer_of(name))

    assert not re.search(rb"[\x00-\x1f\x7f]", octets)
    body = octets.decode().partition('seq="1"] ')[2].removeprefix("\ufeff")
    match name:
        case "ecs":
            assert json.loads(body)["cardoon"]["signer"] == "ab"
        case "ocsf":
            assert json.loads(body)["unmapped"]["signer"] == "ab"
        case "cef":
            assert body.endswith(" cardoonSigner=ab")


def test_a_format_that_is_not_there_is_refused():
    with pytest.raises(ImproperlyConfigured, match="use rfc5424, ecs, ocsf, cef"):
        Conf({}).update(syslog_format="leef")


def test_each_format_has_the_count_where_its_schema_wants_it():
    several = replace(entry(count=3), repeats=Repeats(41, 1.5, 2.25))

    ecs = json.loads(write_ecs(several, ORIGIN)[1])
    assert ecs["cardoon"] == {"count": 3, "repeats": 41}
    assert ecs["event"]["start"] == "1970-01-01T00:00:01.500000+00:00"
    assert ecs["event"]["end"] == "1970-01-01T00:00:02.250000+00:00"
    ocsf = json.loads(write_ocsf(several, ORIGIN)[1])
    assert (ocsf["count"], ocsf["start_time"], ocsf["end_time"]) == (41, 1500, 2250)
    assert ocsf["unmapped"] == {"count": 3}
    cef = dict(PAIR.findall(write_cef(several, ORIGIN)[1].partition("|8|")[2]))
    assert (cef["cnt"], cef["start"], cef["end"], cef["cardoonCount"]) == (
        "41",
        "1500",
        "2250",
        "3",
    )
