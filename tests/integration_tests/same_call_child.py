"""Processes that make the same call at the same moment: `same_call_child.py LEDGER NUMBER`.

They are forks of one process, which has imported the package. Each prints the ID of its job.
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.synchronize import Barrier

from langchain_tokenhub import TokenHubVideoTool
from langchain_tokenhub.jobs import service


def make_call(ledger: str, all_ready: Barrier) -> None:
    tool = TokenHubVideoTool(ledger=ledger)
    all_ready.wait()
    sys.stdout.write(f"{tool.generate(prompt='猫').job.id}\n")


def main(ledger: str, number: str) -> int:
    TokenHubVideoTool(ledger=ledger)  # imports what the forks need
    service.add_jitter = lambda seconds: min(seconds, 0.02)
    fork = multiprocessing.get_context("fork")
    all_ready = fork.Barrier(int(number))
    workers = [fork.Process(target=make_call, args=(ledger, all_ready)) for _ in range(int(number))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(worker.exitcode != 0 for worker in workers)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
