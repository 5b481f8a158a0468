"""What users see, in code and in the documents, and that the two agree."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cardoon.cli.main import cardoon as command_line
from cardoon.config import OPTIONS, Settings
from cardoon.exceptions import Refusal
from tests.architecture import surface

ROOT = Path(__file__).parents[2]
SNAPSHOT = Path(__file__).parent / "surface.txt"
CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
PROTOCOL = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_public_api_is_the_one_that_was_agreed_on():
    agreed = SNAPSHOT.read_text(encoding="utf-8").splitlines()

    found = list(surface.describe())

    difference = "\n".join(difflib.unified_diff(agreed, found, "agreed", "found", lineterm=""))
    assert not difference, (
        f"the public API has changed:\n{difference}\n\n"
        f"If that is meant, write a decision record and renew the snapshot:\n  {surface.RENEW}"
    )


def sample(first: int, /, second: str = "x", *rest: bytes, third: float | None = None, **more):
    """To be described."""


class Sample:
    """To be described."""

    limit = 3
    _private = 4

    def method(self, *, flag: bool) -> int:
        """To be described."""

    @property
    def name(self) -> str:
        """To be described."""


def test_a_signature_is_described_as_it_is_written():
    assert surface.signature(sample) == (
        "(first: int, /, second: str = 'x', *rest: bytes, third: float | None = None, **more)"
    )
    assert surface.signature(Sample.method) == "(self, *, flag: bool) -> int"


def test_a_class_is_described_with_its_public_members(monkeypatch):
    monkeypatch.setattr(Sample, "__module__", "cardoon.sample")

    assert list(
        surface.describe_names([("Sample", Sample), ("Old", Sample), ("version", "1")])
    ) == [
        "Sample()",
        "    limit = 3",
        "    method(self, *, flag: bool) -> int",
        "    name: property",
        "Old: the same as Sample",
        "version: str",
    ]


# Settings and docs/configuration.md


def documented_settings(page: str) -> dict[str, str]:
    """The default that each setting of the page's tables is said to have."""
    found: dict[str, str] = {}
    for line in page.splitlines():
        if line.startswith("| `"):
            first, default, *_ = (cell.strip() for cell in line.strip("|").split("|"))
            names = re.findall(r"`([a-z_]+)`", first)
            own = default.split(", ") if default.count(", ") == len(names) - 1 else [default] * 9
            found |= dict(zip(names, own, strict=False))
    return found


def wrong_defaults(page: str) -> Iterator[str]:
    """Settings whose default the page says as a value, and wrongly; words are not judged."""
    for name, told in documented_settings(page).items():
        actual = getattr(Settings(), name, None)
        shown = list(actual) if isinstance(actual, tuple) else actual
        plain = told.strip("*`")
        try:
            value = json.loads(plain)
        except ValueError:
            value = plain if told == f"`{plain}`" else shown
        # A setting that is empty stands for a value that is worked out.
        if value != shown and actual not in ("", (), None):
            yield f"{name}: {plain}, but it is {actual!r}"


def test_every_setting_is_described_and_the_page_names_no_other():
    assert set(documented_settings(CONFIGURATION)) == set(OPTIONS)


def test_the_defaults_on_the_page_are_the_true_ones():
    assert list(wrong_defaults(CONFIGURATION)) == []


TABLE = """
| setting | default | |
|---|---|---|
| `task_acks_late` | **false** | |
| `task_publish_retry`, `task_publish_retry_policy` | true, `{}` | |
| `security_max_age` | 5 | |
| `worker_pool` | `solo` | |
| `no_such` | 1 | named in `text` |
"""


def test_a_page_that_is_wrong_is_found_out():
    assert set(documented_settings(TABLE)) == {
        "task_acks_late",
        "task_publish_retry",
        "task_publish_retry_policy",
        "security_max_age",
        "worker_pool",
        "no_such",
    }
    assert [line.partition(":")[0] for line in wrong_defaults(TABLE)] == [
        "task_acks_late",
        "security_max_age",
        "worker_pool",
    ]


# The command line


def commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command and those within it, each with its full name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        full = (*path, name)
        yield " ".join(full), command
        if isinstance(command, click.Group):
            yield from commands(command, *full)


COMMANDS = list(commands(command_line))


def unhelpful(command: click.Command) -> Iterator[str]:
    """What of a command is not explained by its `--help`."""
    if not (command.help or "").strip():
        yield "the command itself"
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden and not parameter.help:
            yield parameter.opts[-1]


def undocumented(names: list[str], text: str) -> list[str]:
    """Commands that no document shows."""
    return [name for name in names if not re.search(rf"\bcardoon (-\S+ \S+ )*{name}\b", text)]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_and_option_has_help(name, command):
    assert list(unhelpful(command)) == []


def test_every_command_appears_in_the_documents():
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)

    assert undocumented([name for name, _ in COMMANDS], text) == []


def test_a_command_without_help_is_found():
    option = click.Option(["--loud"])
    group = click.Group("all", commands=[click.Command("one", params=[option])])

    [(name, command)] = commands(group)

    assert name == "one"
    assert list(unhelpful(command)) == ["the command itself", "--loud"]
    assert undocumented(["one", "two", "on"], "`cardoon -A tasks one`, two") == ["two", "on"]


# Refusal codes and docs/protocol.md


def documented_codes(page: str) -> set[str]:
    """The codes in the numbered steps of the section "Receiving"."""
    section = page.partition("## Receiving")[2].partition("\n## ")[0]
    steps = "\n".join(line for line in section.splitlines() if re.match(r"\d\. |   ", line))
    return set(re.findall(r"`([a-z.-]+)`", steps))


def test_every_code_of_a_refusal_is_documented_and_no_other():
    assert documented_codes(PROTOCOL) == {refusal.value for refusal in Refusal}


def test_a_code_that_is_wrong_is_found_out():
    page = (
        "## Receiving\n\nAs `said`:\n1. form: `malformed`,\n   `certificate-...`\n## Next\n2. `no`"
    )

    assert documented_codes(page) == {"malformed", "certificate-..."}
