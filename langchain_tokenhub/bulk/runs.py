"""`run` and `arun`: many jobs as Python objects."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Unpack

from langchain_tokenhub.bulk.executors import Accounts, Executor, LocalExecutor, ToolSettings
from langchain_tokenhub.bulk.manifest import Rows
from langchain_tokenhub.bulk.options import (
    ExecutorName,
    RunOptions,
    ToolOptions,
    accounts_of,
    checked_options,
    keys_file_of,
)
from langchain_tokenhub.bulk.plan import make_plan
from langchain_tokenhub.bulk.report import Counts, Outcome
from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.ledger_backends import backend_for
from langchain_tokenhub.transport.runtime import INTERRUPT_GRACE, run_on_thread

if TYPE_CHECKING:
    from langchain_tokenhub.bulk.driver import Driver

LEDGER_FILE = "ledger.sqlite"
_TICK = 0.5
"""Seconds after which a waiting main thread looks for Ctrl-C, which Windows needs."""


def run(rows: Rows, *, out: str | Path, **options: Unpack[RunOptions]) -> Run:
    """Run rows as jobs, and return an iterable of their outcomes as they end.

    All rows are checked by this call. Iterating submits them; the files, a report and a gallery
    page are written into `out`. With the same `out` again nothing is submitted twice.

    Args:
        rows: Mappings of `id` (optional), `model`, and the model's parameters; or the path of a
            JSONL or CSV file, `-` for standard input. A file is relative to the manifest, and
            `@id` stands for another row's result.
        out: Folder for results.
        **options: See `RunOptions`.

    Raises:
        InvalidRequestError: It names every wrong row; nothing was submitted.
        AuthenticationError: There is no key.

    Example:
        ```python
        shots = run("shots.jsonl", out="out", budget_cny=200)
        for outcome in shots:
            print(outcome.id, outcome.state, shots.spent, shots.left)
        ```
    """
    return Run(_driver(rows, Path(out), options))


def arun(rows: Rows, *, out: str | Path, **options: Unpack[RunOptions]) -> AsyncRun:
    """As `run`, for `async for`."""
    return AsyncRun(_driver(rows, Path(out), options))


def _driver(rows: Rows, out: Path, given: RunOptions) -> Driver:
    options = checked_options(given)
    plan = make_plan(
        rows,
        price_cny=options.get("price_cny"),
        has_budget=options.get("budget_cny") is not None,
    )
    out = out.expanduser().absolute()
    ledger = options.get("ledger") or f"sqlite:///{out / LEDGER_FILE}"
    if "://" not in ledger:
        raise InvalidRequestError(
            f"ledger: {ledger!r} is not the URL of a database",
            phase="not sent",
            hint="use sqlite:///path/to/file.db or postgresql+psycopg://user@host/name",
        )
    backend_for(ledger)  # raises if SQLAlchemy is missing, which the driver imports
    from langchain_tokenhub.bulk.driver import Driver

    names = ToolOptions.__annotations__
    tools = ToolSettings(
        out=out,
        ledger=ledger,
        in_flight=options.get("in_flight"),
        options={name: value for name, value in options.items() if name in names},
    )
    accounts = accounts_of(options)
    executor = options.get("executor", "local")
    if isinstance(executor, str):
        executor = _executor(executor, tools, accounts, keys_file_of(options))
    return Driver(plan, options, tools, accounts, executor)


def _executor(
    name: ExecutorName, tools: ToolSettings, accounts: Accounts, keys_file: Path | None
) -> Executor:
    if name == "local":
        return LocalExecutor(tools, accounts)
    try:
        from langchain_tokenhub.bulk.ray_executor import RayExecutor
    except ModuleNotFoundError:
        raise InvalidRequestError(
            "executor='ray' needs Ray",
            phase="not sent",
            hint="pip install 'langchain-tokenhub[ray]'",
        ) from None
    return RayExecutor(tools, accounts, keys_file)


class AsyncRun(Counts):
    """An async iterable of outcomes, with the counts so far. It is iterated once."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(rows=len(driver.rows), budget=driver.budget_cny)
        driver.counts = self
        self._outcomes = _outcomes(driver)

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        try:
            async for outcome in self._outcomes:
                yield outcome
        finally:  # also after `break`: the rows do not end with the last reference to this run
            await self.aclose()

    async def aclose(self) -> None:
        """Submit nothing new; what is under way ends its submit."""
        await self._outcomes.aclose()


async def _outcomes(driver: Driver) -> AsyncGenerator[Outcome, None]:
    outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
    task = asyncio.create_task(driver.run(outcomes.put_nowait))
    task.add_done_callback(lambda _: outcomes.put_nowait(None))
    try:
        while (outcome := await outcomes.get()) is not None:
            yield outcome
        await task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class Run(Counts):
    """An iterable of outcomes, with the counts so far. It is iterated once.

    The rows run on a thread of their own, so a caller that is slow delays none. Ctrl-C, or the end
    of the loop, submits nothing new; what is under way ends its submit.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(rows=len(driver.rows), budget=driver.budget_cny)
        driver.counts = self
        self._outcomes = _iterate(driver)

    def __iter__(self) -> Iterator[Outcome]:
        try:
            yield from self._outcomes
        finally:  # also after `break`: the rows do not end with the last reference to this run
            self.close()

    def close(self) -> None:
        """Submit nothing new; what is under way ends its submit."""
        self._outcomes.close()


def _iterate(driver: Driver) -> Generator[Outcome, None, None]:
    outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
    cancel: Future[Callable[[], object]] = Future()
    future: Future[None] = Future()

    async def work() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task  # noqa: S101 - it runs in one
        cancel.set_result(lambda: loop.call_soon_threadsafe(task.cancel))
        await driver.run(outcomes.put)

    future.add_done_callback(lambda _: outcomes.put(None))
    run_on_thread(lambda: asyncio.run(work()), future)
    try:
        while (outcome := _next(outcomes)) is not None:
            yield outcome
    finally:
        if not future.done():
            with suppress(RuntimeError):  # the loop has just ended
                cancel.result()()
            concurrent.futures.wait([future], INTERRUPT_GRACE + 2)
    future.result()


def _next(outcomes: SimpleQueue[Outcome | None]) -> Outcome | None:
    while True:
        with suppress(Empty):
            return outcomes.get(timeout=_TICK)
