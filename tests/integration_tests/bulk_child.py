"""A driver of many jobs that a test kills: python bulk_child.py MANIFEST OUT [again | METHOD].

With a method of `Ledger`, it kills itself when the first call of that returns.

Jobs of the emulator end in less than a second, so nobody waits half a minute for another's id.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter

from langchain_tokenhub.bulk import driver, run
from langchain_tokenhub.jobs import ledger, service

ledger.OTHER_WORKER = 1.5
service.MIN_POLL_DELAY = 0.02
driver.PAUSES = (0.1, 0.2, 0.4)


def kill_after(method):
    """Kill this process when a method of the ledger has done its work."""
    called = getattr(ledger.Ledger, method)

    async def call(*args, **fields):
        await called(*args, **fields)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(ledger.Ledger, method, call)


if __name__ == "__main__":
    again = "unknown" if sys.argv[3:] == ["again"] else None
    if sys.argv[3:] and sys.argv[3] != "again":
        kill_after(sys.argv[3])
    print("ready", flush=True)
    shots = run(sys.argv[1], out=sys.argv[2], budget_cny=10_000, again=again)
    ended = {one.id: one.state for one in shots}
    print(json.dumps({"states": ended, "spent": shots.spent, "count": Counter(ended.values())}))
