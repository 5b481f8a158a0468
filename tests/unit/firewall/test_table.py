"""What nft lists is held against what should be there: every kind of tampering is named."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon import Cardoon
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.firewall.planning import make_plan, servers_of
from cardoon.firewall.table import MAX_DIFFERENCES, compare, parse_hooks, parse_table

RECORDED = Path(__file__).parent / "listing.json"
"""What nft 1.0.6 lists after traffic, for the rules of `expected`."""
SETTINGS = {
    "broker_url": "rediss://192.0.2.7:6380/0",
    "result_backend": "rediss://[2001:db8::7]:6380/1",
    "firewall_peers": ["10.0.0.0/24", "fd00::/64"],
    "worker_metrics_address": "0.0.0.0:9464",
    "worker_metrics_token": "env:TOKEN",
    "firewall_dns": ["192.0.2.53"],
}


@pytest.fixture(scope="module")
def expected():
    app = Cardoon("expected", set_as_current=False)
    app.conf.update(SETTINGS)
    servers = servers_of(Deployment(app.settings, clock=SystemClock()))
    return make_plan(app.settings, servers, role="worker").ruleset.table()


class Listing:
    """A recorded listing, to tamper with."""

    def __init__(self):
        self.entries = json.loads(RECORDED.read_text())["nftables"]

    def of(self, kind, **fields):
        """The first entry of a kind with these fields."""
        for entry in self.entries:
            if kind in entry and fields.items() <= entry[kind].items():
                return entry
        raise AssertionError(kind)

    def rule(self, chain, text):
        """The first rule of a chain in which this stands."""
        for entry in self.entries:
            if entry.get("rule", {}).get("chain") == chain and text in json.dumps(entry):
                return entry
        raise AssertionError(text)

    def add_rule(self, chain, *expressions, first=False):
        rule = {"family": "inet", "table": "cardoon", "chain": chain, "handle": 99}
        entry = {"rule": {**rule, "expr": list(expressions)}}
        if first:
            self.entries.insert(self.entries.index(self.rule(chain, '"lo"')), entry)
        else:
            self.entries.append(entry)

    def table(self):
        return parse_table(json.dumps({"nftables": self.entries}).encode())


@pytest.fixture
def listing():
    return Listing()


def told(expected, listing):
    return [str(one) for one in compare(expected, listing.table())]


def test_what_was_loaded_is_what_is_listed_after_traffic(expected, listing):
    assert compare(expected, listing.table()) == []
    assert expected.digest() == listing.table().digest()
    assert '"packets": 1' in RECORDED.read_text()


def test_counts_handles_and_the_order_within_a_set_change_nothing(expected, listing):
    for entry in listing.entries:
        for rule in filter(None, [entry.get("rule")]):
            rule["handle"] += 100
            for expression in rule["expr"]:
                if "counter" in expression:
                    expression["counter"] = {"packets": 10**12, "bytes": 10**15}
                members = expression.get("match", {}).get("right")
                if isinstance(members, dict) and "set" in members:
                    members["set"].reverse()

    assert compare(expected, listing.table()) == []
    assert expected.digest() == listing.table().digest()


def test_a_table_that_is_gone_is_named(expected):
    assert [str(one) for one in compare(expected, None)] == [
        "table-absent: no table inet cardoon is loaded"
    ]


def test_a_flush_leaves_every_rule_missing(expected, listing):
    listing.entries = [entry for entry in listing.entries if "rule" not in entry]

    found = compare(expected, listing.table())

    assert {one.kind for one in found} == {"rule-missing"}
    assert len(found) == sum(len(chain.rules) for chain in expected.chains.values())


def test_a_rule_that_is_gone_is_named(expected, listing):
    listing.entries.remove(listing.rule("output", '"192.0.2.7"'))

    assert told(expected, listing) == [
        "rule-missing in chain output: ip daddr 192.0.2.7 tcp dport 6380 counter accept"
    ]


def test_a_rule_that_was_added_is_named(expected, listing):
    port = {"payload": {"protocol": "tcp", "field": "dport"}}
    listing.add_rule(
        "input", {"match": {"op": "==", "left": port, "right": 4444}}, {"accept": None}, first=True
    )

    assert told(expected, listing) == ["rule-added in chain input: tcp dport 4444 accept"]


def test_a_copy_of_a_rule_is_an_added_one(expected, listing):
    listing.entries.append(copy.deepcopy(listing.rule("output", '"192.0.2.7"')))

    assert told(expected, listing) == [
        "rule-added in chain output: ip daddr 192.0.2.7 tcp dport 6380 counter accept"
    ]


def test_a_rule_that_was_widened_is_one_missing_and_one_added(expected, listing):
    [address, *_] = listing.rule("input", "10.0.0.0")["rule"]["expr"]
    address["match"]["right"]["prefix"] = {"addr": "10.0.0.0", "len": 8}

    assert told(expected, listing) == [
        "rule-missing in chain input: ip saddr 10.0.0.0/24 tcp dport 9464 counter accept",
        "rule-added in chain input: ip saddr 10.0.0.0/8 tcp dport 9464 counter accept",
    ]


def test_a_condition_that_was_turned_round_is_named(expected, listing):
    [address, *_] = listing.rule("output", '"192.0.2.7"')["rule"]["expr"]
    address["match"]["op"] = "!="

    assert (
        "rule-added in chain output: ip daddr != 192.0.2.7 tcp dport 6380 counter accept"
        in told(expected, listing)
    )


def test_rules_in_another_order_are_named(expected, listing):
    drop = listing.entries.pop()
    listing.entries.insert(listing.entries.index(listing.rule("output", '"lo"')), drop)

    assert told(expected, listing) == [
        'rule-moved in chain output: counter {"reject":{"expr":"admin-prohibited","type":"icmpx"}}'
    ]


def test_a_policy_that_was_opened_is_named(expected, listing):
    listing.of("chain", name="input")["chain"]["policy"] = "accept"

    assert told(expected, listing) == ["policy-changed in chain input: accept instead of drop"]


def test_a_chain_that_the_kernel_asks_no_more_is_named(expected, listing):
    chain = listing.of("chain", name="output")["chain"]
    for key in ("type", "hook", "prio", "policy"):
        del chain[key]

    assert told(expected, listing) == [
        "policy-changed in chain output:  instead of drop",
        "chain-changed in chain output: type , hook , priority 0",
    ]


def test_a_table_that_sleeps_is_named(expected, listing):
    listing.of("table")["table"]["flags"] = "dormant"

    assert told(expected, listing) == [
        "table-flags: some are set, and a table that is dormant filters nothing"
    ]


def test_a_chain_that_is_gone_and_one_that_came_are_named(expected, listing):
    chain = listing.of("chain", name="input")["chain"]
    chain["name"] = "in"
    for entry in listing.entries:
        if entry.get("rule", {}).get("chain") == "input":
            entry["rule"]["chain"] = "in"

    count = len(expected.chains["input"].rules)
    assert told(expected, listing) == [
        f"chain-added in chain in: {count} rules",
        "chain-missing in chain input: it is not loaded",
    ]


def test_a_set_that_was_added_is_named(expected, listing):
    listing.entries.append(
        {"set": {"family": "inet", "name": "s", "table": "cardoon", "type": "mark", "handle": 7}}
    )

    assert told(expected, listing) == [
        'object-added: {"set":{"family":"inet","name":"s","table":"cardoon","type":"mark"}}'
    ]


def test_a_table_of_somebody_else_is_told_within_bounds(expected, listing):
    for mark in range(300):
        key = {"meta": {"key": "mark"}}
        listing.add_rule(
            "input", {"match": {"op": "==", "left": key, "right": mark}}, {"accept": None}
        )

    found = compare(expected, listing.table())

    assert len(found) == MAX_DIFFERENCES + 1
    assert str(found[-1]) == "more: 250 differences more"


def test_names_of_strangers_stay_on_their_line(expected, listing):
    listing.add_rule("input", {"jump": {"target": "a\n\x1b[2Kb" + "x" * 999}})

    [line] = told(expected, listing)

    assert line.isprintable()
    assert len(line) < 400


def test_every_change_of_a_rule_changes_the_digest(expected, listing):
    digests = {expected.digest()}
    for entry in [one for one in listing.entries if "rule" in one]:
        tampered = Listing()
        tampered.entries.remove(entry)
        digests.add(tampered.table().digest())

    kinds = {json.dumps(entry["rule"]["expr"]) for entry in listing.entries if "rule" in entry}
    assert len(digests) > len(kinds)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_listing_are_refused(noise):
    for parse in (parse_table, parse_hooks):
        with pytest.raises(ValueError, match="nft lists something"):
            parse(noise)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["nftables", "table", "chain", "rule", "expr", "name", "set", "x"]),
                inner,
                max_size=3,
            )
        ),
    )
)
def test_json_that_is_no_listing_is_refused_or_read(told):
    listing = json.dumps({"nftables": told}).encode()
    for parse in (parse_table, parse_hooks):
        try:
            parse(listing)
        except ValueError as error:
            assert "nft lists something" in str(error)  # noqa: PT017  # either is right


def test_deep_nesting_is_refused():
    with pytest.raises(ValueError, match="nft lists something"):
        parse_table(b'{"nftables":' + b"[" * 100_000)


def test_chains_of_others_that_see_the_same_packets_are_told():
    chain = {"family": "ip", "table": "nat", "name": "post", "hook": "output", "prio": -100}
    listing = {
        "nftables": [
            {"metainfo": {}},
            {"chain": {**chain, "policy": "accept"}},
            {"chain": {"family": "ip", "table": "nat", "name": "plain"}},
            {"chain": {**chain, "hook": "forward"}},
            {"chain": {**chain, "family": "inet", "table": "cardoon"}},
        ]
    }

    assert parse_hooks(json.dumps(listing).encode()) == (
        "table ip nat, chain post: hook output, priority -100, policy accept",
    )
