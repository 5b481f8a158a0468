"""Which sandbox a task gets: the operator's file, the task's own, the setting, the default."""

from __future__ import annotations

import dataclasses
import json
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import SecurityError
from cardoon.sandbox.merging import DEFAULT, Profiles
from cardoon.sandbox.profile import Level, Sandbox
from cardoon.security.policyfile import parse_rules

OWN = Sandbox(level="confined", read=["/srv/own"])
SETTING = Sandbox(level="strict", read=["/srv/setting"])
FILE = """
    version = 1

    [[sandbox]]
    task = "shop.pay"
    queue = "urgent"
    level = "process"

    [[sandbox]]
    task = ["shop.*"]
    level = "strict"
    network = ["db.internal:5432"]
    syscalls = "net"
    memory = "256MiB"

    [[sandbox]]
    queue = "mail"
    read = ["/srv/mail"]
"""


def rows(text=FILE):
    return parse_rules(textwrap.dedent(text).encode(), source="policy.toml").sandboxes


# Who wins


def test_a_task_of_which_nobody_says_anything_has_the_default():
    found = Profiles().choose("shop.pay", "celery")

    assert (found.profile, found.source, found.is_shared) == (DEFAULT, "the default", True)


def test_the_setting_is_for_all_tasks():
    found = Profiles(setting=SETTING).choose("shop.pay", "celery")

    assert (found.profile, found.source, found.is_shared) == (
        SETTING,
        "the setting worker_sandbox",
        True,
    )


def test_a_tasks_own_goes_before_the_setting():
    profiles = Profiles(own={"shop.pay": OWN}, setting=Sandbox(level="process"))

    assert profiles.choose("shop.pay", "celery").profile == OWN
    assert profiles.choose("shop.mail", "celery").profile.level is Level.PROCESS


def test_a_tasks_own_is_never_below_the_settings_level():
    profiles = Profiles(own={"shop.pay": OWN}, setting=SETTING)

    found = profiles.choose("shop.pay", "celery")

    assert (found.profile.level, found.profile.read) == (Level.STRICT, OWN.read)
    assert found.source.endswith("raised to the level 'strict' of worker_sandbox")


def test_a_task_cannot_put_itself_below_the_default_either():
    profiles = Profiles(own={"shop.pay": Sandbox(level="process")})

    found = profiles.choose("shop.pay", "celery")

    assert found.profile.level is Level.CONFINED
    assert found.source.endswith("raised to the level 'confined' of the default")


def test_the_first_row_that_fits_goes_before_all_and_may_lower():
    profiles = Profiles(rows=rows(), own={"shop.pay": OWN}, setting=SETTING)

    urgent = profiles.choose("shop.pay", "urgent")
    usual = profiles.choose("shop.pay", "celery")
    mail = profiles.choose("mail.send", "mail")

    assert (urgent.profile.level, urgent.source) == (
        Level.PROCESS,
        "[[sandbox]] 1 of the policy file",
    )
    assert (usual.profile.network, usual.profile.memory) == (("db.internal:5432",), 256 << 20)
    assert mail.profile.read == ("/srv/mail",)
    assert not urgent.is_shared


def test_a_row_is_a_whole_profile_and_not_laid_over_another():
    found = Profiles(rows=rows(), own={"shop.pay": OWN}).choose("shop.pay", "celery")

    assert found.profile.read == ()


# The table


def test_the_table_has_each_profile_once_and_that_of_all_tasks_first():
    profiles = Profiles(rows=rows(), own={"a": OWN, "b": OWN, "c": DEFAULT})

    assert profiles.table[0] == DEFAULT
    assert len(set(profiles.table)) == len(profiles.table) == 5


@pytest.mark.parametrize("task", ["shop.pay", "mail.send", "a", "nobody.knows"])
@pytest.mark.parametrize("queue", ["celery", "urgent", "mail"])
def test_an_index_leads_to_what_was_chosen(task, queue):
    profiles = Profiles(rows=rows(), own={"a": OWN}, setting=SETTING)

    for _ in range(2):  # the second answer is a remembered one
        index = profiles.index_for(task, queue)
        assert profiles.table[index] == profiles.choose(task, queue).profile


def test_all_that_a_task_may_get_is_found_over_its_queues():
    profiles = Profiles(rows=rows())

    found = profiles.choices("shop.pay", ["celery", "urgent", "mail"])

    assert [one.source[:13] for one in found] == ["[[sandbox]] 2", "[[sandbox]] 1"]


# The file


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ('levl = "strict"\ntask = "a"', "sandbox 1: unknown key 'levl'; did you mean 'level'?"),
        ('level = "strict"', 'names neither task nor queue; write task = ["**"] for every task'),
        ('task = "a"\nlevel = "high"', "sandbox 1: level='high' is no level"),
        ('task = "a"\nnetwork = "any"', "sandbox 1: network='any' needs syscalls='net'"),
        ('task = "a"\nread = "/x"', "sandbox 1: read='/x' is not a list"),
        ('task = []\nqueue = "x"', "sandbox 1: task is empty"),
        ('task = "a***"', "sandbox 1: pattern 'a***'"),
        ('task = "cardoon.map"', "runs in the sandbox of the task that it maps"),
        ("task = 3", "task must be a text, or a list of texts"),
    ],
)
def test_a_row_that_is_not_understood_makes_the_file_an_error(row, complaint):
    with pytest.raises(SecurityError) as caught:
        rows(f"version = 1\n[[sandbox]]\n{row}")

    assert complaint in str(caught.value)
    assert str(caught.value).startswith("policy.toml: sandbox 1: ")


def test_rows_are_written_as_an_array_of_tables():
    with pytest.raises(SecurityError, match="write \\[\\[sandbox\\]\\] for each row"):
        rows('version = 1\n[sandbox]\ntask = "a"')


def test_a_file_without_rows_says_nothing_of_sandboxes():
    assert rows("version = 1") == ()


def test_rows_that_never_count_are_found():
    text = """
        version = 1
        [[sandbox]]
        task = ["shop.*", "mail.*"]
        [[sandbox]]
        task = ["shop.*"]
        queue = ["x"]
        [[sandbox]]
        task = ["bank.*"]
        [[sandbox]]
        task = ["**"]
        [[sandbox]]
        queue = ["y"]
        [[sandbox]]
        task = ["bank.*"]
    """
    rules = parse_rules(textwrap.dedent(text).encode(), source="policy.toml")

    assert rules.find_shadowed() == [(2, 1), (5, 4), (6, 3)]


FIELDS = [one.name for one in dataclasses.fields(Sandbox)]
SCALARS = st.booleans() | st.integers(-2, 1 << 70) | st.floats() | st.text(max_size=12)
VALUES = (
    SCALARS | st.lists(SCALARS, max_size=3) | st.sampled_from(["strict", "net", "64MiB", ["/a"]])
)


@given(st.dictionaries(st.sampled_from([*FIELDS, "task", "queue", "x"]), VALUES, max_size=6))
def test_whatever_a_row_says_it_is_a_profile_or_a_security_error(row):
    text = "version = 1\n[[sandbox]]\n" + "".join(
        f"{name} = {json.dumps(value).replace('NaN', 'nan').replace('Infinity', 'inf')}\n"
        for name, value in row.items()
    )
    try:
        [found] = parse_rules(text.encode(), source="policy.toml").sandboxes
    except SecurityError:
        return
    assert Sandbox.from_mapping(found.profile.to_mapping()) == found.profile
