"""Each deed of somebody who owns the host is named by the part that it concerns, and the worker acts as it was told to."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.detection.intruder import DEEDS, deployed
from tests.servers.ground import find_program, lacking

FEW = {"swap bytecode", "remove the firewall", "trim the audit log"}
"""One for each part; `make test-detection` does all of them."""
CHOSEN = [
    deed for deed in DEEDS if deed.name in FEW or os.environ.get("CARDOON_TEST_THOROUGH") == "1"
]


@pytest.mark.parametrize("deed", CHOSEN, ids=lambda deed: deed.name)
def test_it_is_noticed(deed, tmp_path):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        lacking("what an intruder needs (root, unshare)")
    find_program("nft")

    with deployed(tmp_path) as victim:
        outcome = deed.act(victim)

    assert outcome.part == deed.part
    assert deed.told in outcome.told
    assert outcome.exit_code == deed.exit_code
