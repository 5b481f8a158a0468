"""Random canvases on a random stage, held against a model that knows nothing of messages.

`CANVASES=10000` performs more of them, as `run.py` does.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.workflows.acting import Theatre

COUNT = int(os.environ.get("CANVASES", "120"))


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def theatre(request, tmp_path_factory):
    made = Theatre(tmp_path_factory.mktemp(request.param), store=request.param)
    yield made
    made.close()


@settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    random=st.randoms(use_true_random=False),
    trouble=st.sampled_from([0.0, 0.1, 0.3]),
    faults=st.sampled_from([0.0, 0.1, 0.3]),
)
@pytest.mark.slow
def test_whatever_happens_a_canvas_comes_to_what_it_means(theatre, random, trouble, faults):
    theatre.perform(random, trouble=trouble, faults=faults)
