"""A driver of many jobs that a test kills: python bulk_child.py MANIFEST OUT [again].

Jobs of the emulator end in less than a second, so nobody waits half a minute for another's id.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

from langchain_tokenhub.bulk import driver, run
from langchain_tokenhub.jobs import ledger, schedule

ledger.OTHER_WORKER = 1.5
schedule.SOONEST = 0.02
driver.PAUSES = (0.1, 0.2, 0.4)

if __name__ == "__main__":
    again = "unknown" if sys.argv[3:] == ["again"] else None
    print("ready", flush=True)
    shots = run(sys.argv[1], out=sys.argv[2], budget_cny=10_000, again=again)
    ended = {one.id: one.state for one in shots}
    print(json.dumps({"states": ended, "spent": shots.spent, "count": Counter(ended.values())}))
