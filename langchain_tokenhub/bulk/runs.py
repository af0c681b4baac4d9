"""`run` and `arun`: many jobs as Python objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Annotated, Literal, TypeAlias, Unpack, cast

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    PositiveInt,
    SecretStr,
    TypeAdapter,
    ValidationError,
    with_config,
)

from langchain_tokenhub.bulk.driver import Driver, DriverOptions
from langchain_tokenhub.bulk.executors import (
    Accounts,
    Executor,
    ToolFields,
    ToolOptions,
    accounts_with,
    load_accounts,
    option_error,
)
from langchain_tokenhub.bulk.manifest import Rows
from langchain_tokenhub.bulk.plan import Prices, make_plan
from langchain_tokenhub.bulk.report import Counts, Outcome
from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.ledger_backends import backend_for
from langchain_tokenhub.tools.client import make_absolute
from langchain_tokenhub.transport.runtime import INTERRUPT_GRACE, run_on_thread

_TICK = 0.5
"""Seconds after which a waiting main thread looks for Ctrl-C, which Windows needs."""
_as_list = BeforeValidator(lambda keys: [keys] if isinstance(keys, str | SecretStr) else keys)
_Keys: TypeAlias = Annotated[Sequence[str | SecretStr], _as_list]


@with_config(ConfigDict(extra="forbid"))
class RunOptions(ToolOptions, DriverOptions, total=False):
    """What `run` and `arun` take.

    Args:
        budget_cny: CNY that the submits of all runs with this `out` may cost by estimate, from 0.
        executor: `local` for this process, `ray` for a Ray cluster.
        ledger: Database URL; None is an SQLite file in `out`.
        on_error: `stop` submits nothing new after a row failed.
        price_cny: CNY of a job of each model without a known price; or by model, in place of it.
        in_flight: Jobs at once per account and model, from 1; None is the catalogue's quota.
        api_keys: Keys that share the rows; else those of `keys_file` or the environment
            (`TOKENHUB_API_KEYS`, separated by commas, then `TOKENHUB_API_KEY`).
        keys_file: File with one key per line.
        retry_failed: Whether rows that failed in an earlier run are run again.
        again: `unknown` submits rows again that may have been charged already.
        language: Of the gallery page.
    """

    executor: Literal["local", "ray"]
    ledger: str | None
    price_cny: Prices
    in_flight: PositiveInt | None
    api_keys: _Keys | None
    keys_file: Annotated[str | Path | None, AfterValidator(make_absolute)]


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


def _driver(rows: Rows, out: Path, options: RunOptions) -> Driver:
    options = check_options(options)
    plan = make_plan(
        rows,
        price_cny=options.get("price_cny"),
        has_budget=options.get("budget_cny") is not None,
    )
    out = out.expanduser().absolute()
    ledger = options.get("ledger") or f"sqlite:///{out / 'ledger.sqlite'}"
    if "://" not in ledger:
        raise InvalidRequestError(
            f"ledger: {ledger!r} is not the URL of a database",
            phase="not sent",
            hint="use sqlite:///path/to/file.db or postgresql+psycopg://user@host/name",
        )
    backend_for(ledger)  # raises if SQLAlchemy is missing
    names = ToolOptions.__annotations__
    given = {name: value for name, value in options.items() if name in names}
    fields = {"save_to": out, "ledger": ledger, "max_in_flight": options.get("in_flight"), **given}
    return Driver(plan, options, _executor(options, cast("ToolFields", fields)))


def check_options(options: RunOptions) -> RunOptions:
    """Return the options with their types.

    Raises:
        InvalidRequestError: One is wrong.
    """
    try:
        return TypeAdapter(RunOptions).validate_python(options)
    except ValidationError as problem:
        raise option_error(problem) from None


def accounts_of(options: RunOptions) -> Accounts:
    """Return the accounts whose keys are given."""
    keys, file = options.get("api_keys"), options.get("keys_file")
    if keys is not None:
        return accounts_with(k if isinstance(k, str) else k.get_secret_value() for k in keys)
    try:
        return load_accounts(file)
    except OSError as problem:
        reason = f"keys_file: {str(file)!r}: {problem.strerror}"
    raise InvalidRequestError(reason, phase="not sent")


def _executor(options: RunOptions, fields: ToolFields) -> Executor:
    accounts = accounts_of(options)
    if options.get("executor", "local") == "local":
        return Executor(fields, accounts)
    try:
        from langchain_tokenhub.bulk.ray_executor import RayExecutor
    except ModuleNotFoundError:
        raise InvalidRequestError(
            "executor='ray' needs Ray",
            phase="not sent",
            hint="pip install 'langchain-tokenhub[ray]'",
        ) from None
    return RayExecutor(fields, accounts, options.get("keys_file"))


class AsyncRun(Counts):
    """An async iterable of outcomes, with the counts so far. It is iterated once."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(**vars(driver.counts))
        driver.counts = self
        self._driver: Driver | None = driver
        self._task: asyncio.Task[None] | None = None

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        driver, self._driver = self._driver, None
        if driver is None:
            return
        outcomes: asyncio.Queue[Outcome | None] = asyncio.Queue()
        self._task = task = asyncio.create_task(driver.run(outcomes.put_nowait))
        task.add_done_callback(lambda _: outcomes.put_nowait(None))
        try:
            while (outcome := await outcomes.get()) is not None:
                yield outcome
            if not task.cancelled():
                await task
        finally:  # also after `break`: the rows do not end with the last reference to this run
            await self.aclose()

    async def aclose(self) -> None:
        """Submit nothing new; what is under way ends its submit. Another task may iterate."""
        self._driver = None
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])


class Run(Counts):
    """An iterable of outcomes, with the counts so far. It is iterated once.

    The rows run on a thread of their own, so a slow caller delays none. Ctrl-C, or the end
    of the loop, submits nothing new; what is under way ends its submit.
    """

    def __init__(self, driver: Driver) -> None:
        super().__init__(**vars(driver.counts))
        driver.counts = self
        self._driver: Driver | None = driver
        self._stop: Callable[[], object] = lambda: None

    def __iter__(self) -> Iterator[Outcome]:
        driver, self._driver = self._driver, None
        if driver is None:
            return
        outcomes: SimpleQueue[Outcome | None] = SimpleQueue()
        runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        loop = runner.get_loop()
        task = loop.create_task(driver.run(outcomes.put))

        def work() -> None:
            with runner, suppress(asyncio.CancelledError):
                loop.run_until_complete(task)

        def stop() -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(task.cancel)
            wait([future], INTERRUPT_GRACE + 2)

        future: Future[None] = Future()
        future.add_done_callback(lambda _: outcomes.put(None))
        run_on_thread(work, future)
        self._stop = stop
        try:
            while (outcome := _next(outcomes)) is not None:
                yield outcome
        finally:  # also after `break`: the rows do not end with the last reference to this run
            self.close()
        future.result()

    def close(self) -> None:
        """Submit nothing new; what is under way ends its submit. Another thread may iterate."""
        self._driver = None
        self._stop()


def _next(outcomes: SimpleQueue[Outcome | None]) -> Outcome | None:
    while True:
        with suppress(Empty):
            return outcomes.get(timeout=_TICK)
