"""From the settings to the rules of a host, and what of them is refused."""

from __future__ import annotations

import os
import pwd

import pytest

from cardoon import Cardoon
from cardoon.clock import SystemClock
from cardoon.deployment import Deployment
from cardoon.exceptions import ImproperlyConfigured, OperationalError
from cardoon.firewall.planning import make_plan, servers_of
from cardoon.firewall.ruleset import MAX_RULES

NAMES = {
    "broker.example": ["192.0.2.7"],
    "both.example": ["2001:db8::9%eth0", "192.0.2.9", "::ffff:192.0.2.9"],
    "none.example": [],
    "here.example": ["127.0.0.1", "::1"],
}
ICMP = "icmp type { destination-unreachable, time-exceeded, parameter-problem } accept"
ICMPV6 = (
    "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem, nd-router-solicit, "
    "nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, mld-listener-query, mld-listener-report, "
    "mld-listener-done, mld2-listener-report } accept"
)
WORKER = f"""\
table inet cardoon
delete table inet cardoon
table inet cardoon {{
	chain input {{
		type filter hook input priority 10; policy drop;
		iif "lo" accept
		ct state established accept
		ct state related accept
		ct state invalid counter drop
		{ICMP.replace("{ ", "{ echo-request, ")}
		{ICMPV6.replace("{ ", "{ echo-request, ")}
		ip saddr 10.9.0.0/24 tcp dport 22 counter accept comment "firewall_open"
		counter drop comment "all else"
	}}
	chain output {{
		type filter hook output priority 10; policy drop;
		oif "lo" accept
		ct state established accept
		ct state related accept
		ct state invalid counter drop
		{ICMP}
		{ICMPV6}
		ip daddr 192.0.2.7 tcp dport 6380 counter accept comment "broker_url"
		ip6 daddr 2001:db8::7 tcp dport 6379 counter accept comment "result_backend"
		ip daddr 192.0.2.9 udp dport 123 counter accept comment "firewall_allow"
		ip daddr 192.0.2.53 udp dport 53 counter accept comment "firewall_dns"
		ip daddr 192.0.2.53 tcp dport 53 counter accept comment "firewall_dns"
		counter reject with icmpx admin-prohibited comment "all else"
	}}
}}
"""


def look_up(name):
    if name not in NAMES:
        raise OSError("Name or service not known")
    return NAMES[name]


def plan(role="worker", **settings):
    settings.setdefault("broker_url", "rediss://192.0.2.7:6380/0")
    app = Cardoon("planned", set_as_current=False)
    app.conf.update(settings)
    deployment = Deployment(app.settings, clock=SystemClock())
    return make_plan(app.settings, servers_of(deployment), role=role, resolve=look_up)


def rules(hook, role="worker", **settings):
    """Those that are not in every chain, without what is counted."""
    for chain in plan(role, **settings).ruleset.chains:
        if chain.hook == hook:
            return [
                str(rule).replace(" counter", "")
                for rule in chain.rules
                if rule.purpose and not rule.purpose.startswith("all else")
            ]
    return None


def test_a_worker_reaches_its_servers_and_nobody_reaches_it():
    made = plan(
        result_backend="rediss://[2001:db8::7]/1",
        firewall_allow=["udp/192.0.2.9:123"],
        firewall_open=["10.9.0.0/24:22"],
        firewall_dns=["192.0.2.53"],
    )

    assert made.ruleset.text() == WORKER
    assert made.notes == ()


def test_a_broker_is_reached_by_its_peers_only_and_may_go_anywhere():
    peers = ["10.0.0.0/24", "fd00::/64", "both.example"]

    assert rules("input", "broker", firewall_peers=peers) == [
        "ip saddr 10.0.0.0/24 tcp dport 6380 accept",
        "ip6 saddr fd00::/64 tcp dport 6380 accept",
        "ip saddr 192.0.2.9 tcp dport 6380 accept",
        "ip6 saddr 2001:db8::9 tcp dport 6380 accept",
    ]
    assert rules("output", "broker", firewall_peers=peers) is None


def test_a_broker_without_peers_is_refused():
    with pytest.raises(ImproperlyConfigured, match="firewall_peers: names nobody"):
        plan("broker")


def test_a_broker_on_its_own_host_is_still_opened_to_peers():
    told = {"broker_url": "amqps://localhost", "firewall_peers": ["192.0.2.1"]}

    assert rules("input", "both", **told) == ["ip saddr 192.0.2.1 tcp dport 5671 accept"]
    assert rules("output", "both", **told) == []


def test_a_store_without_a_server_needs_no_rule(tmp_path):
    assert rules("output", broker_url="memory://") == []
    assert rules("output", broker_url=f"sqlite:///{tmp_path}/x.db") == []


def test_servers_that_stand_in_for_one_another_are_all_reached():
    urls = "rediss://192.0.2.7;rediss://192.0.2.8:7000"

    assert rules("output", broker_url=urls) == [
        "ip daddr 192.0.2.7 tcp dport 6379 accept",
        "ip daddr 192.0.2.8 tcp dport 7000 accept",
    ]


def test_a_server_for_two_things_has_one_rule():
    urls = {"broker_url": "rediss://192.0.2.7/0", "result_backend": "rediss://192.0.2.7/1"}

    assert rules("output", **urls) == ["ip daddr 192.0.2.7 tcp dport 6379 accept"]


def test_syslog_servers_are_reached():
    told = ["tls://192.0.2.5", "udp://[2001:db8::5]:514", "unix:/dev/log", "udp://127.0.0.1"]

    assert rules("output", broker_url="memory://", syslog_address=told) == [
        "ip daddr 192.0.2.5 tcp dport 6514 accept",
        "ip6 daddr 2001:db8::5 udp dport 514 accept",
    ]


def test_names_are_looked_up_and_told():
    made = plan(broker_url="amqps://both.example", firewall_allow=["here.example:80"])

    assert made.resolved == {
        "both.example": ("192.0.2.9", "2001:db8::9"),
        "here.example": ("127.0.0.1", "::1"),
    }
    assert any("firewall_dns permits no server of names" in note for note in made.notes)


def test_what_a_name_means_on_this_host_needs_no_rule():
    assert rules("output", broker_url="memory://", firewall_allow=["here.example:80"]) == []


@pytest.mark.parametrize("name", ["gone.example", "none.example"])
def test_a_name_without_an_address_leaves_no_rules_with_a_gap(name):
    with pytest.raises(OperationalError, match=name):
        plan(broker_url=f"amqps://{name}")


def test_metrics_are_opened_to_peers_where_others_can_reach_them():
    told = {"worker_metrics_address": "0.0.0.0:9464", "worker_metrics_token": "env:TOKEN"}

    assert rules("input", **told, firewall_peers=["192.0.2.3"]) == [
        "ip saddr 192.0.2.3 tcp dport 9464 accept"
    ]
    assert any("nobody collects metrics" in note for note in plan(**told).notes)
    assert rules("input", worker_metrics_address="127.0.0.1:9464", firewall_peers=["::2"]) == []


def test_users_alone_can_be_kept_in():
    name = pwd.getpwuid(os.getuid()).pw_name
    made = plan(firewall_users=[name, "65000"])
    [chain] = made.ruleset.chains

    assert (chain.hook, chain.policy) == ("output", "accept")
    assert [str(rule) for rule in chain.rules[-2:]] == [
        f"meta skuid {os.getuid()} counter reject with icmpx admin-prohibited",
        "meta skuid 65000 counter reject with icmpx admin-prohibited",
    ]
    assert any("what comes in is not filtered" in note for note in made.notes)


@pytest.mark.parametrize("user", ["nobody-of-that-name", "-1", "99999999999", "root\n"])
def test_a_user_that_is_not_there_is_refused(user):
    with pytest.raises(ImproperlyConfigured, match="firewall_users"):
        plan(firewall_users=[user])


def test_what_comes_in_belongs_to_no_user():
    with pytest.raises(ImproperlyConfigured, match="firewall_users"):
        plan("broker", firewall_users=["65000"], firewall_peers=["192.0.2.1"])


def test_an_operator_is_told_who_may_come_in_by_ssh():
    assert any(":22" in note for note in plan().notes)
    assert not any(":22" in note for note in plan(firewall_open=["192.0.2.1:22"]).notes)


def test_sentinels_name_servers_that_only_the_operator_knows():
    url = "sentinels://192.0.2.7:26379"
    told = plan(broker_url=url, broker_transport_options={"master_name": "main"})

    assert any("sentinels name Redis servers" in note for note in told.notes)


def test_more_rules_than_can_be_tried_are_refused():
    peers = [f"10.0.{index // 250}.{index % 250 + 1}" for index in range(MAX_RULES)]

    with pytest.raises(ImproperlyConfigured, match="write networks instead"):
        plan("broker", firewall_peers=peers)


def test_no_password_is_shown_by_a_server():
    app = Cardoon("planned", set_as_current=False, broker="rediss://me:secret@192.0.2.7/0")

    found = servers_of(Deployment(app.settings, clock=SystemClock()))

    assert "secret" not in repr(found)
