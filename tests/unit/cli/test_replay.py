"""`cardoon replay`."""

from __future__ import annotations

import json
import time


def events(project):
    with (project.state / "audit.jsonl").open() as lines:
        return [json.loads(line) for line in lines]


def test_a_new_store_remembers_since_it_was_made(project):
    before = time.time()

    shown = project.json("replay", "show", "--json")

    assert before <= shown["since"] <= time.time()
    assert shown["number"] == 0
    project.send(1, 2)
    assert project.json("replay", "show", "--json") == {"since": shown["since"], "number": 1}
    assert project.answer("replay", "show").endswith(" (UTC), message 1\n")


def test_an_epoch_is_renewed_when_somebody_says_so(project):
    first = project.json("replay", "show", "--json")
    assert project.run("replay", "renew", input="n\n").exit_code == 1
    assert project.json("replay", "show", "--json") == first

    said = project.answer("replay", "renew", "-f")

    assert said == project.answer("replay", "show")
    assert project.json("replay", "show", "--json")["since"] > first["since"]
    [event] = events(project)
    assert (event["event"], event["source"]) == ("operator.renew_epoch", "operator")
