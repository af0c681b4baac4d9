"""A driver of many jobs that a test kills: python bulk_child.py MANIFEST OUT [again | METHOD].

With a method of `Ledger`, it kills itself when the first call of that returns. With LEDGER in the
environment, it runs the rows on the Ray cluster of `RAY_ADDRESS`. In driver and workers nobody
waits half a minute for another's id.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

from langchain_tokenhub.bulk import driver, run
from langchain_tokenhub.jobs import ledger, service


def hurry() -> None:
    """Wait as is fit for jobs that end in less than a second."""
    ledger.OTHER_WORKER = 3.0
    service.MIN_POLL_DELAY = 0.05
    driver.PAUSES = (0.2, 0.5, 2.0)


def kill_after(method):
    """Kill this process when a method of the ledger has done its work."""
    called = getattr(ledger.Ledger, method)

    async def call(*args, **fields):
        await called(*args, **fields)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(ledger.Ledger, method, call)


def on_ray():
    """Return the options of a run on Ray."""
    import ray

    hook = {"worker_process_setup_hook": "bulk_child.hurry"}
    path = {"PYTHONPATH": ":".join([str(Path(__file__).parent), *filter(None, sys.path)])}
    ray.init(log_to_driver=False, runtime_env={**hook, "env_vars": path})
    return {"executor": "ray", "ledger": os.environ["LEDGER"]}


def main(manifest, out, how=""):
    hurry()
    if how not in {"", "again"}:
        kill_after(how)
    options = on_ray() if "LEDGER" in os.environ else {}
    print("ready", flush=True)
    again = "unknown" if how == "again" else None
    shots = run(manifest, out=out, budget_cny=10_000, again=again, **options)
    ended = {one.id: one.state for one in shots}
    print(json.dumps({"states": ended, "spent": shots.spent, "count": Counter(ended.values())}))


if __name__ == "__main__":
    main(*sys.argv[1:])
