"""Addresses, networks and names in settings: what is none of them never reaches a rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon import Cardoon
from cardoon.exceptions import ImproperlyConfigured
from cardoon.network_place import addresses, hosts, parse_host, parse_place, places


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("192.0.2.7:443", "192.0.2.7:443"),
        ("10.0.0.0/24:22", "10.0.0.0/24:22"),
        ("[2001:DB8::7]:443", "[2001:db8::7]:443"),
        ("[fd00::/64]:22", "[fd00::/64]:22"),
        ("[::ffff:192.0.2.7]:1", "192.0.2.7:1"),
        ("Broker.Example.:5671", "broker.example:5671"),
        ("udp/192.0.2.1:123", "udp/192.0.2.1:123"),
    ],
)
def test_a_place_is_an_address_a_network_or_a_name_with_a_port(text, told):
    assert str(parse_place(text)) == told
    assert str(parse_place(told)) == told


@pytest.mark.parametrize(
    "text",
    [
        "", "192.0.2.7", "192.0.2.7:", "192.0.2.7:0", "192.0.2.7:65536", "192.0.2.7:1e3", "192.0.2.7:٣",
        "192.0.2.256:1", "10.0.0.1/24:1", "0.0.0.0/0:1", "[::/0]:1", "[2001::/3]:1", "2001:db8::7:443",
        "[fe80::1%eth0]:1", "224.0.0.1:1", "a b:1", "a;drop:1", 'a"b:1', "a}:1", "-a:1", "a..b:1",
        "$(id):1", "192.0.2.1 tcp dport 1 accept:1", "x" * 64 + ":1", "a\n:1",
    ],
)  # fmt: skip
def test_what_is_no_place_is_refused(text):
    with pytest.raises(ValueError, match=r"^(is|has|needs) "):
        parse_place(text)


@given(st.text(max_size=30))
def test_nothing_but_plain_characters_comes_out(text):
    try:
        host = parse_host(text)
    except ValueError:
        return
    assert set(str(host)) <= set("abcdefghijklmnopqrstuvwxyz0123456789.:/_-")


def test_a_setting_names_what_is_wrong_with_it():
    app = Cardoon("placed", set_as_current=False)

    with pytest.raises(
        ImproperlyConfigured, match=r"firewall_allow.*'192.0.2.7', which is not HOST:PORT"
    ):
        app.conf.update(firewall_allow=["192.0.2.7"])


def test_lists_come_from_environments_too_and_are_told_once():
    assert hosts("10.0.0.0/24, fd00::1,10.0.0.0/24") == ("10.0.0.0/24", "fd00::1")
    assert places("a.example:1,[::2]:3") == ("a.example:1", "[::2]:3")
    assert addresses(["192.0.2.53"]) == ("192.0.2.53",)


@pytest.mark.parametrize("value", [7, None, ["192.0.2.0/24"], ["ns.example"], [7], {"a": 1}])
def test_servers_of_names_are_addresses(value):
    with pytest.raises(ValueError, match=r"^(is|has) "):
        addresses(value)
