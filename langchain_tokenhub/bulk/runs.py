"""`run` and `arun`: many jobs as Python objects."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterator,
    Sequence,
)
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, Unpack

from pydantic import SecretStr

from langchain_tokenhub.bulk.executors import Accounts, Executor, LocalExecutor, ToolSettings
from langchain_tokenhub.bulk.manifest import Rows
from langchain_tokenhub.bulk.plan import Prices, make_plan
from langchain_tokenhub.bulk.report import Counts, Outcome
from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.ledger_backends import backend_for
from langchain_tokenhub.params import Language
from langchain_tokenhub.settings import SiteName
from langchain_tokenhub.transport.runtime import INTERRUPT_GRACE

if TYPE_CHECKING:
    from langchain_tokenhub.bulk.driver import Driver

LEDGER_FILE = "ledger.sqlite"
ExecutorName: TypeAlias = Literal["local", "ray"]
_TICK = 0.5
"""Seconds after which a waiting main thread looks for Ctrl-C, which Windows needs."""


class ToolOptions(TypedDict, total=False):
    """How the rows' tools connect and wait; see the tools' fields of the same names."""

    site: SiteName
    base_url: str | Sequence[str] | None
    timeout: float | None
    max_retries: int
    wait_timeout: float | None


class RunOptions(ToolOptions, total=False):
    """What `run` and `arun` take.

    Args:
        budget_cny: CNY that the submits of all runs with this `out` may cost by estimate, from 0.
        executor: `local` for this process, `ray` for a Ray cluster, or an `Executor`.
        ledger: Database URL; None is an SQLite file in `out`.
        on_error: `stop` submits nothing new after a row failed.
        price_cny: CNY of a job of each model without a known price; or by model, in place of it.
        in_flight: Jobs at once per account and model, from 1; None is the catalogue's quota.
        api_keys: Keys that share the rows; else those of `keys_file` or the environment
            (`TOKENHUB_API_KEYS`, separated by commas, then `TOKENHUB_API_KEY`).
        keys_file: File with a key a line.
        retry_failed: Whether rows that failed in an earlier run are run again.
        again: `unknown` submits rows again that may have been charged already.
        language: Of the gallery page.
    """

    budget_cny: float | None
    executor: ExecutorName | Executor
    ledger: str | None
    on_error: Literal["continue", "stop"]
    price_cny: Prices
    in_flight: int | None
    api_keys: Sequence[str | SecretStr] | None
    keys_file: str | Path | None
    retry_failed: bool
    again: Literal["unknown"] | None
    language: Language


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
    budget = options.get("budget_cny")
    _check(budget, options)
    prices = options.get("price_cny")
    plan = make_plan(rows, price_cny=prices, has_budget=budget is not None)
    out = out.expanduser().absolute()
    ledger = options.get("ledger") or f"sqlite:///{out / LEDGER_FILE}"
    if "://" not in ledger:
        raise InvalidRequestError(
            f"ledger: {ledger!r} is not the URL of a database",
            phase="not sent",
            hint="use sqlite:///path/to/file.db or postgresql+psycopg://user@host/name",
        )
    backend_for(ledger)  # raises if SQLAlchemy is missing, which the driver imports
    from langchain_tokenhub.bulk.driver import Driver, Rules

    given: Any = options
    tools = ToolSettings(
        out=out,
        ledger=ledger,
        in_flight=options.get("in_flight"),
        options={name: given[name] for name in ToolOptions.__annotations__ if name in given},
    )
    accounts = accounts_of(options)
    rules = Rules(
        budget_cny=budget,
        stops=options.get("on_error") == "stop",
        retry_failed=options.get("retry_failed", False),
        again_unknown=options.get("again") == "unknown",
        language=options.get("language", "zh"),
    )
    executor = _executor(options.get("executor", "local"), tools, accounts, _keys_file(options))
    return Driver(plan, rules, tools, accounts, executor)


def accounts_of(options: RunOptions) -> Accounts:
    """Return the accounts whose keys are given."""
    keys = options.get("api_keys")
    if keys is not None:
        return Accounts(key if isinstance(key, str) else key.get_secret_value() for key in keys)
    return Accounts.from_environment(_keys_file(options))


def _keys_file(options: RunOptions) -> Path | None:
    keys_file = options.get("keys_file")
    return Path(keys_file).expanduser().absolute() if keys_file else None


def _executor(
    executor: ExecutorName | Executor,
    tools: ToolSettings,
    accounts: Accounts,
    keys_file: Path | None,
) -> Executor:
    match executor:
        case "local":
            return LocalExecutor(tools, accounts)
        case "ray":
            return _ray_executor(tools, accounts, keys_file)
        case str():
            raise InvalidRequestError(f"executor: {executor!r} is not known", phase="not sent")
        case _:
            return executor


def _ray_executor(tools: ToolSettings, accounts: Accounts, keys_file: Path | None) -> Executor:
    try:
        from langchain_tokenhub.bulk.ray_executor import RayExecutor
    except ModuleNotFoundError:
        raise InvalidRequestError(
            "executor='ray' needs Ray",
            phase="not sent",
            hint="pip install 'langchain-tokenhub[ray]'",
        ) from None
    return RayExecutor(tools, accounts, keys_file)


def _check(budget: float | None, options: RunOptions) -> None:
    in_flight = options.get("in_flight")
    if budget is not None and not 0 <= budget < float("inf"):  # also refuses NaN
        raise InvalidRequestError(f"budget_cny: {budget} is not an amount in CNY", phase="not sent")
    if in_flight is not None and in_flight < 1:
        raise InvalidRequestError(f"in_flight: {in_flight}, at least 1 is needed", phase="not sent")
    choices: dict[str, tuple[Any, ...]] = {
        "on_error": (None, "continue", "stop"),
        "again": (None, "unknown"),
    }
    for name, allowed in choices.items():
        if (value := options.get(name)) not in allowed:
            raise InvalidRequestError(f"{name}: {value!r} is not known", phase="not sent")


class AsyncRun(Counts):
    """An async iterable of outcomes, with the counts so far. It is iterated once."""

    def __init__(self, driver: Driver) -> None:
        super().__init__(rows=driver.counts.rows, budget=driver.counts.budget)
        driver.counts = self
        self._outcomes = _outcomes(driver)

    def __aiter__(self) -> AsyncIterator[Outcome]:
        return self._outcomes

    async def aclose(self) -> None:
        """Submit nothing new; what is under way ends its submit."""
        await self._outcomes.aclose()


async def _outcomes(driver: Driver) -> AsyncGenerator[Outcome, None]:
    ended: asyncio.Queue[Outcome | None] = asyncio.Queue()
    task = asyncio.create_task(driver.run(ended.put_nowait))
    task.add_done_callback(lambda _: ended.put_nowait(None))
    try:
        while (outcome := await ended.get()) is not None:
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
        super().__init__(rows=driver.counts.rows, budget=driver.counts.budget)
        driver.counts = self
        self._outcomes = _iterate(driver)

    def __iter__(self) -> Iterator[Outcome]:
        return self._outcomes

    def close(self) -> None:
        """Submit nothing new; what is under way ends its submit."""
        self._outcomes.close()


def _iterate(driver: Driver) -> Generator[Outcome, None, None]:
    ended: SimpleQueue[Outcome | None] = SimpleQueue()
    thread = _LoopThread(driver.run(ended.put), functools.partial(ended.put, None))
    try:
        while (outcome := _next(ended)) is not None:
            yield outcome
        thread.join()
    finally:
        thread.stop()
    thread.raise_error()


def _next(ended: SimpleQueue[Outcome | None]) -> Outcome | None:
    while True:
        with suppress(Empty):
            return ended.get(timeout=_TICK)


class _LoopThread(threading.Thread):
    """Runs a coroutine in an event loop of its own."""

    def __init__(self, work: Coroutine[Any, Any, None], then: Callable[[], None]) -> None:
        super().__init__(name="tokenhub-bulk", daemon=True)
        self._work = work
        self._then = then
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._main())
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            self._error = error
        finally:
            self._then()

    async def _main(self) -> None:
        self._task = asyncio.current_task()
        await self._work

    def stop(self) -> None:
        """Cancel the work, and wait for submits that are under way."""
        if self.is_alive() and self._task is not None:
            with suppress(RuntimeError):  # the loop has just ended
                self._loop.call_soon_threadsafe(self._task.cancel)
            self.join(INTERRUPT_GRACE + 2)

    def raise_error(self) -> None:
        """Raise what the work raised."""
        if self._error is not None:
            raise self._error
