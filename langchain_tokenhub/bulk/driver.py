"""Drives a run: the one place that decides which row runs when, and with which key.

A row waits for the rows that it needs; then its key is computed and its record is read. A row that
has a job is collected with the account that submitted it. The others run on any account that has
room for their model. The executor reserves a row's estimate when it claims the call; a row that
exceeds the budget is queued again after a refund.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import secrets
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.bulk.budget import Budget
from langchain_tokenhub.bulk.executors import (
    Accounts,
    Executor,
    Result,
    Task,
    ToolSettings,
    missing_key_error,
    tool_for,
)
from langchain_tokenhub.bulk.manifest import refuse
from langchain_tokenhub.bulk.options import RunOptions
from langchain_tokenhub.bulk.plan import Row, with_files
from langchain_tokenhub.bulk.report import Counts, Outcome, Report, State
from langchain_tokenhub.errors import (
    CLASSES,
    RETRYABLE,
    AuthenticationError,
    BudgetExceededError,
    InvalidRequestError,
    ModelNotAvailableError,
    QuotaExhaustedError,
    SubmissionUnknownError,
    TokenHubError,
)
from langchain_tokenhub.gallery import write_gallery
from langchain_tokenhub.jobs.files import create_part, move
from langchain_tokenhub.jobs.ledger import Entry, Ledger, Record
from langchain_tokenhub.jobs.ledger_sql import SqlBackend
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.jobs.runner import check_folder, is_lost, result_of
from langchain_tokenhub.tools.media_tools import MediaTool
from langchain_tokenhub.transport import AsyncRuntime

logger = logging.getLogger("langchain_tokenhub.bulk")

PAUSES = (5.0, 20.0, 60.0)
"""Seconds before a row with a temporary error is repeated."""
RUN_FILE = ".tokenhub-run"
"""Holds the run's id, which its submits are recorded under."""
_ACCOUNT_ERRORS = (AuthenticationError, QuotaExhaustedError, ModelNotAvailableError)
"""Errors after which an account gets no further row of a model."""
_Prepared: TypeAlias = tuple[Task, Record] | TokenHubError
_End: TypeAlias = tuple[Result, Record]
"""A row's result and, of an error, its record."""
REFRESH = 2.0
"""Seconds without a change after which the amount that is spent is read."""


class Driver:
    """Runs the rows of a plan.

    Args:
        rows: The rows, checked.
        options: Options of the run; see `RunOptions`.
        tools: How tools are made.
        accounts: The keys.
        executor: Runs the rows.

    Raises:
        InvalidRequestError: A connection field is wrong.
    """

    def __init__(
        self,
        rows: list[Row],
        options: RunOptions,
        tools: ToolSettings,
        accounts: Accounts,
        executor: Executor,
    ) -> None:
        self.rows = {row.id: row for row in rows}
        self.budget_cny = options.get("budget_cny")
        self.counts = Counts(rows=len(rows), budget=self.budget_cny)
        self._options = options
        self._out = tools.out
        self._ledger_url = tools.ledger
        self._in_flight = tools.in_flight
        self._accounts = accounts
        self._executor = executor
        self._planners: dict[str, MediaTool] = {}
        self._missing: dict[str, set[str]] = {}
        self._users: dict[str, list[Row]] = {}
        for row in rows:
            if row.model not in self._planners:
                tool = tool_for(tools, accounts, accounts.hashes[0], row.model, row.kind)
                self._planners[row.model] = tool
            self._missing[row.id] = {ref.id for ref in row.sources}
            for source in self._missing[row.id]:
                self._users.setdefault(source, []).append(row)
        self._results: dict[str, MediaResult] = {}
        self._queues: dict[tuple[str, str], deque[Task]] = {}
        self._over_budget: list[tuple[Task, BudgetExceededError]] = []
        self._running: Counter[tuple[str, str]] = Counter()
        self._closed: dict[tuple[str, str], TokenHubError] = {}
        self._halted = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._changes: asyncio.Queue[Callable[[], None]] = asyncio.Queue()
        self._report: Report | None = None

    async def run(self, emit: Callable[[Outcome], object]) -> None:
        """Run all rows; `emit` gets each outcome.

        Raises:
            InvalidRequestError: Rows are wrong (nothing was sent), or the ledger cannot be used
                (jobs may have been submitted; run again).
        """
        self._emit = emit
        try:
            await self._open()
            await self._check()
            try:
                await self._run_all()
            except InvalidRequestError as error:
                error.phase = None  # jobs may have been submitted
                raise
            self._end_rest()
        finally:
            await self._close()
        await asyncio.to_thread(self._write_gallery)

    # --- begin and end ------------------------------------------------------------------------

    async def _open(self) -> None:
        runtime, backend = AsyncRuntime(), SqlBackend(self._ledger_url)
        await asyncio.to_thread(check_folder, self._out)
        await self._executor.open()
        self._ledger = Ledger(backend, runtime)
        try:
            self._run_id = await asyncio.to_thread(run_id, self._out)
            self._report = await asyncio.to_thread(Report, self._out)
        except OSError as problem:
            reason = f"out: {problem.filename or self._out}: {problem.strerror}"
            raise InvalidRequestError(reason, phase="not sent") from None
        self._budget = Budget(backend, runtime, self._run_id)
        self._submitted, self._failures = await self._budget.open()
        self.counts.spent = self._budget.spent

    async def _check(self) -> None:
        """Read the files of all rows, and queue those that need no other row."""
        faults: list[str] = []
        ready: list[tuple[Row, Task, TokenHubError | None]] = []
        for row in self.rows.values():
            if not row.sources:
                try:
                    ready.append((row, *await self._task(row)))
                except TokenHubError as error:
                    faults.append(f"{row.place}: {error.message}")
        found = await self._ledger.records([task.key for _, task, _ in ready])
        for row, task, problem in ready:
            if problem and not found[task.key]:
                faults.append(f"{row.place}: {problem.message}")
        refuse(faults)
        for _, task, _ in ready:
            self._place(task, found[task.key])

    async def _run_all(self) -> None:
        self._start()
        while self._tasks or not self._changes.empty():
            try:
                async with asyncio.timeout(REFRESH):
                    change = await self._changes.get()
            except TimeoutError:
                with suppress(InvalidRequestError):  # the database may be back at the next call
                    await self._budget.refresh()
            else:
                change()
            self.counts.spent = self._budget.spent
            self._start()

    def _end_rest(self) -> None:
        """Skip what is left: the budget or an error ended the run before."""
        for task, error in self._over_budget:
            self._end(task.id, "skipped", error)
        for queue in self._queues.values():
            for task in queue:
                self._end(task.id, "skipped", _not_submitted(self._halted))
        while not self._changes.empty():  # rows that need those
            self._changes.get_nowait()()

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
            write_gallery(self._out, language=self._options.get("language", "zh"))
        except OSError as problem:
            warn_user(f"the gallery page was not written: {problem.strerror or problem}")

    # --- rows that wait for others ------------------------------------------------------------

    async def _task(self, row: Row) -> tuple[Task, TokenHubError | None]:
        """Return a row as a task, and what is wrong with its files."""
        params = with_files(row.params, lambda id_: self._results[id_].model_dump(mode="json"))
        request = await self._planners[row.model]._plan_row(row.id, params, row.extra)
        task = Task(
            id=row.id,
            key=request.key,
            model=row.model,
            kind=row.kind,
            params=params,
            extra=row.extra,
            run=self._run_id,
            cny=row.cny or 0.0,
            budget_cny=self.budget_cny,
        )
        return task, request.problem

    async def _prepare(self, row: Row) -> _Prepared:
        try:
            task, problem = await self._task(row)
            record = await self._ledger.record(task.key)
        except TokenHubError as error:
            return error
        return problem if problem and not record else (task, record)

    def _on_prepared(self, row: Row, found: _Prepared) -> None:
        if isinstance(found, TokenHubError):
            self._end(row.id, "failed", found)
        else:
            self._place(*found)

    def _place(self, task: Task, record: Record) -> None:
        """Report a row that ended before, or queue it."""
        entry = next(iter(record), None)
        job = entry.job if entry else None
        failed = self._failures.get((task.key, entry.token if entry else ""))
        is_unknown = any(one.job is None for one in record)
        if job and is_saved(job):
            self._end(task.id, "done", result_of(job), self._cny(task))
        elif failed and not is_unknown and not self._options.get("retry_failed"):
            error = _failed_before(failed, job)
            self._end(task.id, "failed", error, self._cny(task), is_new=False)
        elif entry is None or self._is_submitted_again(record, is_lost=failed is not None):
            tokens = tuple(one.token for one in record)
            self._enqueue(replace(task, again=bool(record), replaced=tokens))
        else:
            self._enqueue_collection(task, entry)

    def _is_submitted_again(self, record: Record, *, is_lost: bool) -> bool:
        """Return True if no entry has a job that can be collected, and the options allow it."""
        unknown = [entry for entry in record if entry.job is None]
        if not is_lost and len(unknown) < len(record):
            return False
        is_asked = not unknown or self._options.get("again") == "unknown"
        return is_asked and all(entry.is_abandoned for entry in unknown)

    def _enqueue_collection(self, task: Task, entry: Entry) -> None:
        """Queue a row for the account that submitted it; nothing is submitted."""
        if entry.account not in self._accounts.hashes:
            self._end(task.id, "failed", missing_key_error(entry.account, entry.job))
        else:
            task = replace(task, account=entry.account, again=False, replaced=(), is_collected=True)
            self._enqueue(task)

    def _enqueue(self, task: Task) -> None:
        self._queues.setdefault((task.account, task.model), deque()).append(task)

    def _cny(self, task: Task) -> float | None:
        """Return the estimate of a row, or 0 if no run in this folder submitted it."""
        return self.rows[task.id].cny if task.key in self._submitted else 0.0

    # --- rows that run ------------------------------------------------------------------------

    def _start(self) -> None:
        """Start rows while there is room, those that have jobs already first."""
        for model in dict.fromkeys(model for _, model in self._queues):
            for account in self._accounts.hashes:
                while (task := self._next(account, model)) is not None:
                    self._running[account, model] += 1
                    self.counts.running += 1
                    then = functools.partial(self._on_task_end, task, account)
                    self._spawn(self._run(task, account), then)
        self._end_closed()

    def _next(self, account: str, model: str) -> Task | None:
        if (account, model) in self._closed:
            return None
        for owner in [account] if self._halted else [account, ""]:
            queue = self._queues.get((owner, model))
            if queue and self._running[account, model] < self._quota(queue[0]):
                return queue.popleft()
        return None

    def _quota(self, task: Task) -> int:
        return self._in_flight or self.rows[task.id].facts.max_in_flight

    def _end_closed(self) -> None:
        """Fail the rows whose model is closed on every account."""
        for (account, model), queue in self._queues.items():
            accounts = [account] if account else self._accounts.hashes
            closed = [self._closed[one, model] for one in accounts if (one, model) in self._closed]
            while queue and len(closed) == len(accounts):
                self._end(queue.popleft().id, "failed", closed[0])

    def _spawn(self, work: Coroutine[Any, Any, Any], then: Callable[[Any], None]) -> None:
        def on_end(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if not task.cancelled():
                self._changes.put_nowait(lambda: then(task.result()))

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(on_end)

    async def _run(self, task: Task, account: str) -> _End:
        """Run a row, and record what it cost and an error that is not to be repeated."""
        result = await self._run_repeatedly(replace(task, account=account))
        error = result if isinstance(result, TokenHubError) else None
        if error is None and task.account:  # an earlier invocation submitted it
            return result, ()
        record = await self._ledger.record(task.key) if error else ()
        token = record[0].token if record else ""
        name = type(error).__name__ if error and _is_final(error, record, account) else None
        if await self._budget.record_end(task.key, token, name):
            self._submitted.add(task.key)
        else:
            self._submitted.discard(task.key)
        return result, record

    async def _run_repeatedly(self, task: Task) -> Result:
        """Run a row, and repeat it after a temporary error; with the ledger it is paid once."""
        for pause in PAUSES:
            result = await self._executor.run(task)
            if not _is_temporary(result):
                return result
            logger.info("row %s is repeated in %g s", task.id, pause)
            await asyncio.sleep(pause)
            if result.job is not None:
                task = replace(task, again=False, is_collected=True)
        return await self._executor.run(task)

    def _on_task_end(self, task: Task, account: str, end: _End) -> None:
        self._running[account, task.model] -= 1
        self.counts.running -= 1
        match end:
            case BudgetExceededError() as error, _:
                self._over_budget.append((task, error))
            case MediaResult() as result, _:
                self._end(task.id, "done", result, self._cny(task))
                if any(file.path is None for file in result.files):
                    self._halt(f"the files of row {task.id!r} could not be saved")
            case TokenHubError(), (first, *_) if _is_of_other(first, task, account):
                self._enqueue_collection(task, first)
            case TokenHubError() as error, record:
                self._handle_failure(task, account, error, record)

    def _handle_failure(
        self, task: Task, account: str, error: TokenHubError, record: Record
    ) -> None:
        for waiting, _ in self._over_budget:  # a refund may allow these rows
            self._enqueue(waiting)
        self._over_budget.clear()
        is_unsubmitted = all(entry.token in task.replaced for entry in record)
        if is_unsubmitted and isinstance(error, _ACCOUNT_ERRORS):
            self._closed[account, task.model] = error
            self._queues.setdefault(("", task.model), deque()).appendleft(task)
            return
        state: State = "failed"
        if any(entry.job is None for entry in record) or isinstance(error, SubmissionUnknownError):
            state = "unknown"
            error.hint = (
                "see the console's usage; --again unknown (again='unknown') submits it again, "
                "which is charged again"
            )
        self._end(task.id, state, error, self._cny(task) if record else 0.0)
        if self._options.get("on_error") == "stop":
            self._halt(f"row {task.id!r} failed")

    def _halt(self, reason: str) -> None:
        """Submit nothing new; what has a job is collected."""
        self._halted = self._halted or reason

    def _end(
        self,
        row_id: str,
        state: State,
        found: Result,
        cny: float | None = 0.0,
        *,
        is_new: bool = True,
    ) -> None:
        """Report how a row ended; a row that needs it becomes ready, or is skipped."""
        result = found if isinstance(found, MediaResult) else None
        error = found if isinstance(found, TokenHubError) else None
        outcome = Outcome(id=row_id, state=state, result=result, error=error, cny=cny)
        self.counts.add(outcome)
        if self._report is not None and is_new:
            self._report.add(outcome, self.rows[row_id].model)
        self._emit(outcome)
        users = self._users.pop(row_id, [])
        if result is not None and users:
            self._results[row_id] = result
        for row in users:
            self._on_source_end(row, row_id, is_done=result is not None)

    def _on_source_end(self, row: Row, source: str, *, is_done: bool) -> None:
        missing = self._missing.get(row.id)
        if missing is None:  # it was skipped
            return
        missing.discard(source)
        if not is_done:
            del self._missing[row.id]
            error = _not_submitted(f"it needs row {source!r}, which is not done")
            self._changes.put_nowait(lambda: self._end(row.id, "skipped", error))
        elif not missing:
            self._spawn(self._prepare(row), functools.partial(self._on_prepared, row))


def run_id(out: Path) -> str:
    """Return the id of the run in a folder, which is written once."""
    file = out / RUN_FILE
    if not file.exists():
        part = create_part(out, RUN_FILE)
        part.write_text(secrets.token_hex(8), "ascii")
        try:
            move(part, file)
        except FileExistsError:
            part.unlink()
    run = file.read_text("ascii", errors="replace").strip()
    if re.fullmatch("[0-9a-f]{16}", run):
        return run
    raise InvalidRequestError(
        f"out: {str(file)!r} is damaged",
        phase="not sent",
        hint="remove it: the next run then counts what it spends from 0",
    )


def is_saved(job: Job) -> bool:
    """Return True if all files of a job that completed are on this machine."""
    files = job.files
    return (
        job.status == "completed"
        and bool(files)
        and all(f.path and f.path.is_file() for f in files)
    )


def _is_temporary(result: Result) -> bool:
    if isinstance(result, MediaResult):
        return any(file.path is None and file.url for file in result.files)
    return isinstance(result, RETRYABLE) and not isinstance(result, RuntimeError)


def _is_final(error: TokenHubError, record: Record, account: str) -> bool:
    """Return True if the row would fail again in the next run."""
    if record:  # it was submitted: only a job that is lost has failed
        first, job = record[0], error.job
        is_own = job is not None and first.job is not None and job.id == first.job.id
        return is_lost(error) and is_own and first.account in {"", account}
    is_closing = isinstance(error, _ACCOUNT_ERRORS)
    return error.phase != "not sent" and not is_closing and not _is_temporary(error)


def _is_of_other(entry: Entry, task: Task, account: str) -> bool:
    """Return True if another worker submitted a row with another key."""
    is_new = entry.token not in task.replaced
    return is_new and entry.job is not None and entry.account not in {"", account}


def _failed_before(name: str, job: Job | None) -> TokenHubError:
    return CLASSES.get(name, TokenHubError)(
        "it failed before",
        job=job,
        hint="the report says why; --retry-failed (retry_failed=True) runs it again",
    )


def _not_submitted(reason: str) -> TokenHubError:
    return InvalidRequestError(f"not submitted: {reason}", phase="not sent")
