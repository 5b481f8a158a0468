"""The page that a team runs it by: each command in it exists, and names options that there are."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from cardoon.cli.main import cardoon

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "docs" / "operations.md", *sorted((ROOT / "deploy").rglob("README.md")))


def commands():
    for page in PAGES:
        text = page.read_text("utf-8")
        told = re.findall(r"`(cardoon [a-z][^`]*)`", text) + re.findall(
            r"^ {4,}(cardoon [a-z].*)$", text, re.MULTILINE
        )
        for line in told:
            yield pytest.param(line, id=f"{page.parent.name}: {line}")


@pytest.mark.parametrize("line", list(commands()))
def test_a_command_of_the_pages_exists_with_its_options(line):
    words = line.split("|")[0].split("#")[0].split()[1:]
    context = click.Context(cardoon)
    found: click.Command = cardoon
    while words and isinstance(found, click.Group):
        name = words.pop(0)
        group, found = found, found.get_command(context, name)
        assert found is not None, f"{group.name} has no command {name}"
    known = {option for one in found.params for option in (*one.opts, *one.secondary_opts)}
    named = {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)}

    assert named <= known, f"unknown: {named - known}"


def test_the_page_is_of_some_use():
    assert len(list(commands())) > 20
