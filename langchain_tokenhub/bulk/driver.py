"""Drives a run: the one place that decides which row runs when, with which key, and for how much.

A row waits for the rows that it needs; then its key is computed and its record is read. A row that
has a job is collected with the account that submitted it. The others run on any account that has
room for their model, and after their estimate was reserved.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import secrets
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.bulk.budget import Budget, Reservation, micro
from langchain_tokenhub.bulk.executors import (
    Accounts,
    Executor,
    Task,
    ToolSettings,
    missing_key,
    tool_for,
)
from langchain_tokenhub.bulk.manifest import refuse
from langchain_tokenhub.bulk.plan import Plan, Row, with_files
from langchain_tokenhub.bulk.report import Counts, Outcome, Report, State
from langchain_tokenhub.errors import (
    CLASSES,
    RETRYABLE,
    AuthenticationError,
    InvalidRequestError,
    JobNotFoundError,
    ModelNotAvailableError,
    QuotaExhaustedError,
    ResultExpiredError,
    SubmissionUnknownError,
    TokenHubError,
)
from langchain_tokenhub.gallery import write_gallery
from langchain_tokenhub.jobs.ledger import Entry, Ledger
from langchain_tokenhub.jobs.ledger_sql import SqlBackend
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaResult
from langchain_tokenhub.jobs.runner import check_folder, result_of
from langchain_tokenhub.params import Language
from langchain_tokenhub.tools.media_tools import MediaTool
from langchain_tokenhub.transport import AsyncRuntime

logger = logging.getLogger("langchain_tokenhub.bulk")

PAUSES = (5.0, 20.0, 60.0)
"""Seconds before a row with a passing trouble is repeated."""
LOOKED_UP = 500
"""Records that are read at one time."""
RUN_FILE = ".tokenhub-run"
"""Holds the run's id, which its reservations are under."""
_CLOSING = (AuthenticationError, QuotaExhaustedError, ModelNotAvailableError)
"""Errors after which an account gets no further row of a model."""
_LOST = (JobNotFoundError, ResultExpiredError)
"""Errors of a job that was paid for and cannot be collected any more."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a run goes.

    Args:
        budget_cny: What the submits may cost in all, by estimate.
        stops: Whether nothing new is submitted after a row failed.
        retry_failed: Whether rows that failed in an earlier run are run again.
        again_unknown: Whether rows that may have been charged are submitted again.
        language: Of the gallery page.
    """

    budget_cny: float | None = None
    stops: bool = False
    retry_failed: bool = False
    again_unknown: bool = False
    language: Language = "zh"


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A row that can run.

    Args:
        row: The row.
        params: Its parameters, results of other rows dumped.
        key: Its key in the ledger.
        account: The account that submitted it; None for any.
        attempt: Distinguishes a submit on purpose from an earlier one.
    """

    row: Row
    params: Mapping[str, Any]
    key: str
    account: str | None = None
    attempt: str = ""


@dataclass(frozen=True)
class _Failure:
    """Why a row is not done, and its record."""

    error: TokenHubError
    entry: Entry | None


_Ended: TypeAlias = tuple[Row, State, MediaResult | TokenHubError | None, float | None]
_End: TypeAlias = MediaResult | _Failure | None
"""None where the budget did not allow it."""


class Driver:
    """Runs the rows of a plan.

    Args:
        plan: The rows.
        rules: How.
        tools: How tools are made.
        accounts: The keys.
        executor: Runs the rows.
    """

    def __init__(
        self, plan: Plan, rules: Rules, tools: ToolSettings, accounts: Accounts, executor: Executor
    ) -> None:
        self.counts = Counts(rows=len(plan.rows), budget=rules.budget_cny)
        self._rows = {row.id: row for row in plan.rows}
        self._rules = rules
        self._tools = tools
        self._accounts = accounts
        self._executor = executor
        self._missing = {row.id: len({ref.id for ref in row.sources}) for row in plan.rows}
        self._users: dict[str, list[Row]] = {}
        for row in plan.rows:
            for source in dict.fromkeys(ref.id for ref in row.sources):
                self._users.setdefault(source, []).append(row)
        self._results: dict[str, MediaResult] = {}
        self._queues: dict[tuple[str | None, str], deque[_Ready]] = {}
        self._parked: list[_Ready] = []
        self._running: Counter[tuple[str, str]] = Counter()
        self._closed: dict[tuple[str, str], TokenHubError] = {}
        self._halted: str | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._events: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._planners: dict[str, MediaTool] = {}
        self._report: Report | None = None
        self._emit: Callable[[Outcome], object] = lambda _outcome: None

    async def run(self, emit: Callable[[Outcome], object]) -> None:
        """Run all rows; `emit` gets each outcome.

        Raises:
            InvalidRequestError: Rows are wrong, or the ledger cannot be used; nothing was sent.
        """
        self._emit = emit
        try:
            await self._open()
            await self._check()
            await self._go()
            self._end_rest()
        finally:
            await self._close()
        await asyncio.to_thread(self._write_gallery)

    # --- begin and end ------------------------------------------------------------------------

    async def _open(self) -> None:
        out, runtime = self._tools.out, AsyncRuntime()
        await asyncio.to_thread(check_folder, out)
        await self._executor.open()
        backend = SqlBackend(self._tools.ledger)
        run = await asyncio.to_thread(run_id, out)
        self._ledger = Ledger(backend, runtime)
        self._budget = Budget(backend, runtime, run, self._rules.budget_cny)
        self._known = await self._budget.open()
        self.counts.spent = self._budget.spent
        self._report = await asyncio.to_thread(Report, out)

    async def _check(self) -> None:
        """Read the files of all rows, and put those in line that need no other row."""
        faults: list[str] = []
        ready: list[tuple[_Ready, TokenHubError | None]] = []
        for row in self._rows.values():
            if not row.sources:
                try:
                    ready.append(await self._prepared(row))
                except TokenHubError as error:
                    faults.append(f"{row.place}: {error.message}")
        found = await self._entries([one.key for one, _ in ready])
        faults += [
            f"{one.row.place}: {problem.message}"
            for one, problem in ready
            if problem and one.key not in found
        ]
        refuse(faults)
        for one, _ in ready:
            self._place(one, found.get(one.key))

    async def _entries(self, keys: list[str]) -> dict[str, Entry]:
        parts = [keys[n : n + LOOKED_UP] for n in range(0, len(keys), LOOKED_UP)]
        found: dict[str, Entry] = {}
        for part in parts:
            found |= await self._ledger.look_all(part)
        return found

    async def _go(self) -> None:
        self._start()
        while self._tasks or not self._events.empty():
            change = await self._events.get()
            change()
            self.counts.spent = self._budget.spent
            self._start()

    def _end_rest(self) -> None:
        """Skip what is left: the budget or an error ended the run before."""
        for ready in self._parked:
            self._end(ready.row, "skipped", self._over_budget(ready.row))
        for queue in self._queues.values():
            for ready in queue:
                self._end(ready.row, "skipped", _not_submitted(f"row {self._halted!r} failed"))

    def _over_budget(self, row: Row) -> TokenHubError:
        return QuotaExhaustedError(
            f"the budget of {self._rules.budget_cny:g} CNY does not allow {row.cny:g} CNY more; "
            f"{self._budget.spent:g} CNY are spent",
            phase="not sent",
            hint="raise the budget and run again",
        )

    async def _close(self) -> None:
        """Take nothing new; a submit under way is finished."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._executor.close()
        if self._report is not None:
            self._report.close()

    def _write_gallery(self) -> None:
        try:
            write_gallery(self._tools.out, language=self._rules.language)
        except OSError as problem:
            warn_user(f"the gallery page was not written: {problem.strerror or problem}")

    # --- rows that wait for others ------------------------------------------------------------

    async def _prepared(self, row: Row) -> tuple[_Ready, TokenHubError | None]:
        """Return a row with its key, and what is wrong with its files."""
        params = with_files(row.params, lambda id_: self._results[id_].model_dump(mode="json"))
        if row.model not in self._planners:
            first = self._accounts.hashes[0]
            self._planners[row.model] = tool_for(
                self._tools, self._accounts, first, row.model, row.kind
            )
        request: JobRequest = await self._planners[row.model]._plan_row(row.id, params, row.extra)
        return _Ready(row=row, params=params, key=request.key), request.problem

    async def _resolve(self, row: Row) -> tuple[_Ready, Entry | None] | TokenHubError:
        try:
            ready, problem = await self._prepared(row)
            entry = await self._ledger.look(ready.key)
        except TokenHubError as error:
            return error
        return problem if problem and entry is None else (ready, entry)

    def _resolved(self, row: Row, found: tuple[_Ready, Entry | None] | TokenHubError) -> None:
        if isinstance(found, TokenHubError):
            self._end(row, "failed", found)
        else:
            self._place(*found)

    def _place(self, ready: _Ready, entry: Entry | None) -> None:
        """End a row that has ended before, or put it in line."""
        row, job = ready.row, entry.job if entry else None
        failed = None if self._rules.retry_failed else self._known.get((row.id, ready.key))
        if job and is_saved(job):
            self._end(row, "done", result_of(job), cny=self._cny(ready))
        elif failed:
            error = _failed_before(failed, job)
            self._end(row, "failed", error, cny=self._cny(ready), is_new=False)
        elif entry is None or self._is_submitted_again(ready, entry):
            attempt = secrets.token_hex(8) if entry else ""
            self._line((None, row.model), replace(ready, attempt=attempt))
        elif entry.account not in self._accounts.hashes:
            self._end(row, "failed", missing_key(entry.account, entry.job))
        else:
            self._line((entry.account, row.model), replace(ready, account=entry.account))

    def _line(self, name: tuple[str | None, str], ready: _Ready) -> None:
        self._queues.setdefault(name, deque()).append(ready)

    def _is_submitted_again(self, ready: _Ready, entry: Entry) -> bool:
        if entry.job is None:
            return self._rules.again_unknown and entry.is_abandoned
        lost = {error.__name__ for error in _LOST}
        return self._known.get((ready.row.id, ready.key)) in lost

    def _cny(self, ready: _Ready) -> float | None:
        """Return the estimate of a row, or 0 if another run submitted it."""
        return ready.row.cny if (ready.row.id, ready.key) in self._known else 0.0

    # --- rows that run ------------------------------------------------------------------------

    def _start(self) -> None:
        """Start rows while there is room, those that have jobs already first."""
        for model in dict.fromkeys(model for _, model in self._queues):
            for account in self._accounts.hashes:
                while (ready := self._next(account, model)) is not None:
                    self._running[account, model] += 1
                    self.counts.running += 1
                    self._spawn(
                        self._work(ready, account), functools.partial(self._worked, ready, account)
                    )
        self._end_closed()

    def _next(self, account: str, model: str) -> _Ready | None:
        if (account, model) in self._closed:
            return None
        owners = [account] if self._halted is not None else [account, None]
        for queue in (self._queues.get((owner, model)) for owner in owners):
            if queue and self._running[account, model] < self._quota(queue[0].row):
                return queue.popleft()
        return None

    def _quota(self, row: Row) -> int:
        return self._tools.in_flight or row.facts.max_in_flight

    def _end_closed(self) -> None:
        """Fail the rows that no account takes any more."""
        for (account, model), queue in self._queues.items():
            accounts = [account] if account else self._accounts.hashes
            errors = [self._closed.get((one, model)) for one in accounts]
            while queue and all(errors):
                self._end(queue.popleft().row, "failed", errors[0])

    def _spawn(self, work: Coroutine[Any, Any, Any], then: Callable[[Any], None]) -> None:
        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                self._events.put_nowait(lambda: then(task.result()))

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)

    async def _work(self, ready: _Ready, account: str) -> _End:
        row = ready.row
        one = Reservation(
            id=row.id,
            key=ready.key,
            account=account,
            model=row.model,
            reserved=micro(row.cny or 0.0),
            attempt=ready.attempt,
        )
        if ready.account is None:
            if not await self._budget.reserve(one):
                return None
            self._known[row.id, ready.key] = None
        result = await self._repeated(ready, account)
        if isinstance(result, MediaResult):
            return result
        entry = await self._ledger.look(ready.key)
        await self._settle(one, result, entry)
        return _Failure(result, entry)

    async def _repeated(self, ready: _Ready, account: str) -> MediaResult | TokenHubError:
        """Run a row, and repeat it after a passing trouble: a ledger pays it once."""
        task = Task(
            id=ready.row.id,
            key=ready.key,
            model=ready.row.model,
            kind=ready.row.kind,
            params=ready.params,
            extra=ready.row.extra,
            account=account,
            again=bool(ready.attempt),
        )
        for pause in PAUSES:
            result = await self._executor.run(task)
            if isinstance(result, MediaResult) or not _is_passing(result):
                return result
            logger.info("row %s is repeated in %g s: %s", task.id, pause, result)
            await asyncio.sleep(pause)
            task = replace(task, again=task.again and result.job is None)
        return await self._executor.run(task)

    async def _settle(self, one: Reservation, error: TokenHubError, entry: Entry | None) -> None:
        """Give back what was not spent, and record an error that is not to be repeated."""
        name = type(error).__name__
        by_other = entry is not None and entry.account not in {"", one.account}
        is_open = isinstance(error, SubmissionUnknownError) or error.job is not None
        if by_other or (one.attempt and not is_open):
            await self._budget.release(one)
        elif entry is None:
            is_sent = error.phase != "not sent"  # else the next run may fare better
            is_final = is_sent and not _is_passing(error) and not isinstance(error, _CLOSING)
            await self._budget.release(one, name if is_final else None)
            self._known.pop((one.id, one.key), None)
        elif isinstance(error, _LOST):
            await self._budget.mark(one, name)

    def _worked(self, ready: _Ready, account: str, end: _End) -> None:
        self._running[account, ready.row.model] -= 1
        self.counts.running -= 1
        match end:
            case None:
                self._parked.append(ready)
            case MediaResult():
                self._end(ready.row, "done", end, cny=self._cny(ready))
            case _Failure(entry=Entry(account=str() as other) as entry) if other not in {
                "",
                account,
            }:
                self._place(ready, entry)  # another worker submitted it with another key
            case _Failure(error=error, entry=entry):
                self._failed(ready, account, error, entry)

    def _failed(
        self, ready: _Ready, account: str, error: TokenHubError, entry: Entry | None
    ) -> None:
        if entry is None:  # money may have come back
            for parked in self._parked:
                self._line((None, parked.row.model), parked)
            self._parked.clear()
        if entry is None and isinstance(error, _CLOSING):
            self._closed[account, ready.row.model] = error
            self._queues.setdefault((None, ready.row.model), deque()).appendleft(ready)
            return
        state: State = "unknown" if isinstance(error, SubmissionUnknownError) else "failed"
        self._end(ready.row, state, error, cny=self._cny(ready) if entry else 0.0)
        if self._rules.stops and self._halted is None:
            self._halted = ready.row.id

    def _end(
        self,
        row: Row,
        state: State,
        found: MediaResult | TokenHubError | None,
        cny: float | None = 0.0,
        *,
        is_new: bool = True,
    ) -> None:
        """Report how a row ended; a row that needs it becomes ready, or is skipped."""
        ends: deque[_Ended] = deque([(row, state, found, cny)])
        while ends:
            row, state, found, cny = ends.popleft()
            result = found if isinstance(found, MediaResult) else None
            error = found if isinstance(found, TokenHubError) else None
            outcome = Outcome(id=row.id, state=state, result=result, error=error, cny=cny)
            setattr(self.counts, state, getattr(self.counts, state) + 1)
            if self._report is not None and is_new:
                self._report.add(outcome, row.model)
            self._emit(outcome)
            users = self._users.pop(row.id, [])
            if result is not None:
                self._release(row, users, result)
            else:
                ends.extend(self._skipped(row, users))

    def _release(self, row: Row, users: list[Row], result: MediaResult) -> None:
        if users:
            self._results[row.id] = result
        for user in users:
            self._missing[user.id] -= 1
            if self._missing[user.id] == 0:
                self._spawn(self._resolve(user), functools.partial(self._resolved, user))

    def _skipped(self, row: Row, users: list[Row]) -> Iterator[_Ended]:
        for user in users:
            if self._missing[user.id] >= 0:
                self._missing[user.id] = -1
                yield (
                    user,
                    "skipped",
                    _not_submitted(f"it needs row {row.id!r}, which is not done"),
                    0.0,
                )


def run_id(out: Path) -> str:
    """Return the id of the run in a folder, which is written once."""
    file = out / RUN_FILE
    try:
        with file.open("x") as opened:
            opened.write(secrets.token_hex(8))
    except FileExistsError:
        pass
    return file.read_text("ascii").strip()


def is_saved(job: Job) -> bool:
    """Return True if all files of a job that completed are on this machine."""
    files = job.files
    return (
        job.status == "completed"
        and bool(files)
        and all(f.path and f.path.is_file() for f in files)
    )


def _is_passing(error: TokenHubError) -> bool:
    return isinstance(error, RETRYABLE) and not isinstance(error, RuntimeError)


def _failed_before(name: str, job: Job | None) -> TokenHubError:
    return CLASSES.get(name, TokenHubError)(
        "it failed in an earlier run",
        job=job,
        hint="the report says why; --retry-failed (retry_failed=True) runs it again",
    )


def _not_submitted(reason: str) -> TokenHubError:
    return InvalidRequestError(f"not submitted: {reason}", phase="not sent")
