"""A driver of many jobs on Ray that a test kills: python ray_child.py MANIFEST OUT LEDGER [again].

In driver and workers nobody waits half a minute for another's id.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

from langchain_tokenhub.bulk import driver, run
from langchain_tokenhub.jobs import ledger, service


def hurry() -> None:
    """Wait as is fit for jobs that end in less than a second."""
    ledger.OTHER_WORKER = 3.0
    service.MIN_POLL_DELAY = 0.05
    driver.PAUSES = (0.5, 1.0, 2.0)


def main(manifest: str, out: str, url: str, again: str = "") -> None:
    """Run the rows on the cluster of `RAY_ADDRESS`."""
    import ray

    hook = {"worker_process_setup_hook": "ray_child.hurry"}
    path = {"PYTHONPATH": ":".join([str(Path(__file__).parent), *filter(None, sys.path)])}
    ray.init(log_to_driver=False, runtime_env={**hook, "env_vars": path})
    shots = run(manifest, out=out, ledger=url, executor="ray", again=again or None)
    ended = {}
    for one in shots:
        ended[one.id] = one.state
        print(one.id, one.state, one.error or "", flush=True)
    print(json.dumps({"states": ended, "count": Counter(ended.values())}))


if __name__ == "__main__":
    hurry()
    main(*sys.argv[1:])
