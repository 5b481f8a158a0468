"""The receivers in `deploy/syslog` are those that this version makes, and real servers take them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from cardoon.syslog.catalogue import EVENTS
from cardoon.syslog.receivers import make_receivers
from tests.servers.ground import Authority, find_program
from tests.servers.syslog import SyslogNg

FOLDER = Path(__file__).parents[2] / "deploy/syslog"


def test_the_files_are_made_from_the_catalogue():
    found = {one.name: one.read_text("utf-8") for one in FOLDER.iterdir()}

    assert found == dict(make_receivers()), "run `cardoon syslog receivers deploy/syslog`"


def test_wazuh_has_a_rule_for_each_event_with_an_id_of_its_own():
    rules = ET.parse(FOLDER / "wazuh_rules.xml").getroot().findall("rule")
    ET.fromstring(f"<all>{make_receivers()['wazuh_decoder.xml']}</all>")

    assert len(rules) == len(EVENTS) + 1
    assert len({one.get("id") for one in rules}) == len(rules)
    assert {one.findtext("field") for one in rules[1:]} == {
        "^" + name.replace(".", r"\.") + "$" for name in EVENTS
    }


def test_sigma_has_a_rule_for_each_event_that_is_worth_a_look():
    rules = list(yaml.safe_load_all(make_receivers()["sigma.yml"]))

    assert {one["detection"]["selection"]["event"] for one in rules} == {
        name for name, event in EVENTS.items() if event.ocsf_severity >= 3
    }
    assert {one["level"] for one in rules} == {"medium", "high", "critical"}


@pytest.fixture
def files(tmp_path):
    """The configurations with certificates that are there."""
    authority = Authority(tmp_path / "authority")
    pair = authority.issue("server")
    made = tmp_path / "made"
    made.mkdir()
    for name, told in make_receivers().items():
        text = told
        for there, here in (
            ("ca.pem", authority.file),
            ("server.pem", pair.certificate),
            ("server.key", pair.key),
        ):
            text = text.replace(f"/etc/cardoon-syslog/{there}", str(here))
        (made / name).write_text(text, "utf-8")
    return made


def test_rsyslog_takes_its_configuration(files):
    checked = subprocess.run(
        [find_program("rsyslogd"), "-N1", "-f", str(files / "rsyslog.conf")],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stderr
    assert "error" not in checked.stderr.lower()


def test_syslog_ng_takes_its_configuration(files, tmp_path):
    server = SyslogNg(tmp_path / "server", Authority(tmp_path / "other"))
    command = [
        str(files / "syslog-ng.conf") if one.endswith("syslog-ng.conf") else one
        for one in server.command
    ]

    checked = subprocess.run(
        [*command, "--syntax-only"], capture_output=True, text=True, check=False, timeout=30
    )

    assert checked.returncode == 0, checked.stderr
