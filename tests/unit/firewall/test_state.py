"""What root found, in a file for workers: believed only if nobody else can have written it, and only for a while."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cardoon.exceptions import ImproperlyConfigured
from cardoon.firewall.judging import Finding, Verdict
from cardoon.firewall.state import read_state, write_state
from cardoon.firewall.table import Difference

NOW = 1_800_000_000.0
FOUND = Finding(
    Verdict.CHANGED, "ab", "cd", (Difference("rule-added", "input", "tcp dport 1 accept"),)
)


@pytest.fixture
def path(tmp_path):
    tmp_path.chmod(0o755)
    return tmp_path / "firewall.json"


def read(path, now=NOW):
    return read_state(path, now=now, owner=os.getuid())


def test_what_is_written_is_read_by_everybody(path):
    write_state(path, FOUND, now=NOW, interval=30)

    assert read(path) == FOUND
    assert path.stat().st_mode & 0o777 == 0o644
    assert [one.name for one in path.parent.iterdir()] == ["firewall.json"]


@pytest.mark.parametrize(
    ("seconds", "believed"), [(90, True), (91, False), (-5, True), (-6, False)]
)
def test_it_is_believed_for_three_intervals(path, seconds, believed):
    write_state(path, FOUND, now=NOW, interval=30)

    finding = read(path, NOW + seconds)

    assert (finding == FOUND) is believed
    assert believed or "seconds old" in finding.describe()


def test_it_says_itself_for_how_long_but_not_for_ever(path):
    write_state(path, FOUND, now=NOW, interval=1e9)

    assert read(path, NOW + 3 * 86_400 + 1).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("moment", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_time_that_is_none_is_not_believed(path, moment):
    write_state(path, FOUND, now=NOW, interval=30)
    path.write_text(path.read_text().replace(str(NOW), moment))

    assert read(path).verdict is Verdict.UNKNOWN


def test_one_that_is_missing_is_no_good_news(path):
    assert "No such file" in read(path).describe()


def test_one_of_another_owner_is_not_believed(path):
    write_state(path, FOUND, now=NOW, interval=30)

    finding = read_state(path, now=NOW, owner=os.getuid() + 1)

    assert "must be root's" in finding.describe()


@pytest.mark.parametrize("place", ["file", "folder"])
def test_one_that_others_could_have_written_is_not_believed(path, place):
    write_state(path, FOUND, now=NOW, interval=30)
    (path if place == "file" else path.parent).chmod(0o777)

    assert "writable by nobody else" in read(path).describe()


def test_a_link_is_not_followed(path):
    write_state(path, FOUND, now=NOW, interval=30)
    other = path.with_name("link.json")
    other.symlink_to(path)

    assert read(other).verdict is Verdict.UNKNOWN


def test_a_pipe_is_not_waited_for(path):
    os.mkfifo(path, 0o644)

    assert "is no file" in read(path).describe()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ImproperlyConfigured, match="firewall_state"):
        write_state(tmp_path / "none" / "x", FOUND, now=NOW, interval=30)


@given(
    st.binary(max_size=50)
    | st.dictionaries(
        st.sampled_from(
            ["format", "time", "interval", "verdict", "digest", "expected", "differences", "reason"]
        ),
        st.none()
        | st.integers()
        | st.text(max_size=3)
        | st.lists(st.lists(st.text(max_size=2), max_size=4), max_size=2),
    ).map(lambda told: json.dumps({"format": 1, "time": NOW, "interval": 1, **told}).encode())
)
def test_whatever_is_in_it_the_worker_goes_on(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp() / "states"
    folder.mkdir(mode=0o755, exist_ok=True)
    path = folder / "firewall.json"
    path.write_bytes(content)
    path.chmod(0o644)

    assert read(path).verdict in set(Verdict)
