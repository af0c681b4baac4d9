"""Small versions of the scale runs in `tests/benchmarks`."""

from __future__ import annotations

import pytest

from tests.benchmarks import jobs_scale, polling


@pytest.mark.parametrize("face", ["sync", "async"])
def test_many_jobs_end_with_their_results_and_few_threads(face):
    found = jobs_scale.run(150, face, faults=False, speed=20)
    assert found["outcomes"] == {"MediaResult": 150}
    assert found["distinct"] == found["submits"] == 150
    assert found["threads"] <= 1 + 16


@pytest.mark.parametrize("face", ["sync", "async"])
def test_under_faults_each_job_ends_and_each_submit_is_accounted_for(face):
    found = jobs_scale.run(100, face, faults=True, speed=20, timeout=1.0)
    assert found["submits"] == found["known"] + found["unknown"] == 100
    assert found["distinct"] == found["ended"] == found["known"]
    assert found["errors_without_job"] == 0
    assert found["unknown"] > 0
    assert found["completed"] > 0


def test_ours_costs_fewer_requests_than_polling_that_is_as_late():
    ours, geometric, second = (
        polling.simulate(polling.POLICIES[name], 90, 90, 150)
        for name in ("prior-aware (ours)", "geometric 15 %", "fixed 1 s")
    )
    assert ours.requests <= 20
    assert ours.lag <= 0.05
    assert ours.lag < geometric.lag
    assert ours.requests < 0.6 * geometric.requests
    assert ours.requests < 0.2 * second.requests
