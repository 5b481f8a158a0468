"""The catalogue has every event that code records, in words and numbers that the schemas know."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import cardoon
from cardoon.audit import REFUSAL_EVENTS
from cardoon.security.keyholding import KeysetEvent
from cardoon.security.policing import PolicyEvent
from cardoon.security.renewal import IdentityEvent
from cardoon.security.trust import TrustEvent
from cardoon.syslog.catalogue import EVENTS, UNKNOWN, find_event

SOURCE = Path(cardoon.__file__).parent
FAMILIES = {
    "identity": IdentityEvent,
    "trust": TrustEvent,
    "policy": PolicyEvent,
    "keyset": KeysetEvent,
    "certificate": (),  # below: commands name what they did without the family
    "schedule": ("add", "replace", "remove", "run", "pause", "resume"),
}
DOTTED = re.compile(r"[a-z]+\.[a-z_]+")


def texts_of(node):
    return {
        one.value
        for one in ast.walk(node)
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }


def recorded(tree):
    """Names that are given to a `record`, or are kept under a name with EVENT; and families of f-strings."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="record" | "record_all" | "_record"),
                args=[ast.JoinedStr() as name, *_],
            ):
                yield f"{name.values[0].value}*"
            case ast.Call(
                func=ast.Attribute(attr="record" | "record_all" | "_record"), args=[name, *_]
            ):
                yield from texts_of(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str(text))):
                if "EVENT" in name.upper() and DOTTED.fullmatch(text):
                    yield text
            case ast.keyword(arg="event", value=ast.Constant(value=str(text))):
                if DOTTED.fullmatch(text):
                    yield text


def test_every_event_that_code_records_is_in_the_catalogue():
    found = set(REFUSAL_EVENTS.values())
    for path in sorted(SOURCE.rglob("*.py")):
        if path.parent.name != "syslog":
            found.update(recorded(ast.parse(path.read_text("utf-8"))))
    found |= {f"certificate.{one}" for one in found if re.fullmatch(r"[a-z_]+", one)}
    families = {one.removesuffix(".*") for one in found if one.endswith("*")}
    found = {one for one in found if DOTTED.fullmatch(one)}

    assert len(found) > 50
    assert families <= FAMILIES.keys()
    assert {f"{name}.{one}" for name in families for one in FAMILIES[name]} <= EVENTS.keys()
    assert found <= EVENTS.keys()


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_fits_the_fields_that_it_is_put_into(name):
    event = EVENTS[name]

    assert DOTTED.fullmatch(name)
    assert len(name) <= 32  # of an RFC 5424 message id
    assert event.title.isascii()
    assert not event.title.endswith(".")
    assert 1 <= event.ocsf_severity <= 5
    assert 0 <= event.cef_severity <= 10
    assert event.outcome in {"success", "failure", "unknown"}
    assert all(re.fullmatch(r"T\d{4}(\.\d{3})?", one) for one in event.attack)
    assert all(re.fullmatch(r"(CWE|CAPEC)-\d+", one) for one in event.weaknesses)


def test_what_is_worse_in_one_schema_is_not_harmless_in_another():
    for name, event in EVENTS.items():
        assert (event.severity <= 2) == (event.ocsf_severity >= 4 and event.cef_severity >= 8), name


def test_an_event_that_nobody_knows_is_told_all_the_same():
    assert find_event("new.thing") is UNKNOWN
