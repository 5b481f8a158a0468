"""Names and options of nodes, as `cardoon multi` reads them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.cli.nodes import MAX_NODES, Node, Option, make_nodes, name_nodes, parse_words
from cardoon.exceptions import ImproperlyConfigured

OPTIONS = {
    "-c": Option("--concurrency", takes_value=True),
    "--concurrency": Option("--concurrency", takes_value=True),
    "-Q": Option("--queues", takes_value=True),
    "--queues": Option("--queues", takes_value=True),
    "--purge": Option("--purge", takes_value=False),
    "--pidfile": Option("--pidfile", takes_value=True),
}


def read(*words, host="here"):
    """Names of nodes, and what each is given."""
    parsed = parse_words(words, OPTIONS)
    names = name_nodes(parsed.names, host=host)
    return {node.name: dict(node.options) for node in make_nodes(parsed, names, defaults={})}


def test_options_are_for_all_nodes_or_for_those_that_are_named():
    found = read("web", "mail", "log", "-c", "2", "-c:mail", "8", "-Q:1,log=a,b")

    assert found == {
        "web@here": {"--concurrency": "2", "--queues": "a,b"},
        "mail@here": {"--concurrency": "8"},
        "log@here": {"--concurrency": "2", "--queues": "a,b"},
    }


def test_a_number_makes_so_many_nodes_and_ranges_are_of_their_numbers():
    found = read("4", "-Q:1-3", "images,video", "-Q:4=data", "--concurrency:2-4=9")

    assert list(found) == [f"celery{number}@here" for number in (1, 2, 3, 4)]
    assert [one["--queues"] for one in found.values()] == ["images,video"] * 3 + ["data"]
    assert [one.get("--concurrency") for one in found.values()] == [None, "9", "9", "9"]


@pytest.mark.parametrize(
    "words", [["-c3"], ["-c", "3"], ["-c=3"], ["--concurrency=3"], ["--concurrency", "3"]]
)
def test_a_value_may_be_written_in_each_way(words):
    assert read(*words, "web") == {"web@here": {"--concurrency": "3"}}
    assert read("web", *words) == {"web@here": {"--concurrency": "3"}}


def test_a_flag_takes_no_name_for_its_value():
    assert read("--purge", "web") == {"web@here": {"--purge": None}}
    assert read("web", "mail", "--purge:2") == {"web@here": {}, "mail@here": {"--purge": None}}


def test_what_is_said_of_one_node_counts_more_and_of_two_the_later():
    found = read("-c:1", "5", "-c:web=6", "web", "-c", "1")

    assert found["web@here"]["--concurrency"] == "6"


def test_a_name_with_a_dash_is_no_range():
    assert read("1-3", "a", "b", "c", "-c:1-3=7")["1-3@here"] == {"--concurrency": "7"}


def test_placeholders_are_replaced_for_each_node():
    node = Node("web@host.example.com", ())

    assert node.expand("%n %N %p %h %d %i.%I %% %x") == (
        "web web web@host.example.com host.example.com example.com 0. % %x"
    )
    assert read("web", "--pidfile=/run/%n.pid")["web@here"] == {"--pidfile": "/run/web.pid"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["web", "--concurency=3"], "no option '--concurency'.*did you mean --concurrency?"),
        (["web", "-c"], "-c needs a value"),
        (["web", "--purge=1"], "--purge takes no value, and '1' was given"),
        (["web", "-c:mail", "3"], "node 'mail', which is not there; there are: web@here"),
        (["2", "-c:3=1"], "for node 3, and there are 2"),
        (["2", "-c:2-1=1"], "for node 2-1, and there are 2"),
        (["2", "-c:=1"], "node '', which is not there"),
        (["web", "web"], "two nodes are called 'web@here'"),
        (["a/b"], "'a/b' is no name of a node"),
        (["0"], "0 nodes; give a number from 1 to"),
        ([str(MAX_NODES + 1)], "nodes; give a number from 1 to"),
    ],
)
def test_what_is_wrong_is_named_with_the_remedy(words, told):
    with pytest.raises(ImproperlyConfigured, match=told):
        read(*words)


@given(st.lists(st.text(alphabet="-cQ:=,%123ab@. é\n", max_size=12), max_size=6))
def test_whatever_is_typed_makes_nodes_or_an_error_of_ours(words):
    with contextlib.suppress(ImproperlyConfigured):
        found = read(*words)
        assert len(found) <= MAX_NODES
        assert all("/" not in name for name in found)
