"""Drives a run: the one place that decides which row runs when, and with which key.

A row waits for the rows that it needs; then its key is computed and its record is read. A row that
has a job is collected with the account that submitted it. The others run on any account that has
room for their model. The executor reserves a row's estimate when it claims the call; a row that
exceeds the budget is queued again after a refund.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Literal, TypeAlias

from typing_extensions import TypedDict

from langchain_tokenhub._warnings import warn_user
from langchain_tokenhub.bulk.executors import Executor, Result, Task, missing_key_error
from langchain_tokenhub.bulk.manifest import refuse
from langchain_tokenhub.bulk.plan import Cny, Row, with_files
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
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.jobs.runner import check_folder, is_lost, result_of
from langchain_tokenhub.params import Language
from langchain_tokenhub.transport import AsyncRuntime

logger = logging.getLogger("langchain_tokenhub.bulk")

PAUSES = (5.0, 20.0, 60.0)
"""Seconds before a row with a temporary error is repeated."""
RUN_FILE = ".tokenhub-run"
"""Holds the run's id, which its submits are recorded under."""
REFRESH = 2.0
"""Seconds after which the amount that is spent is read."""
_ACCOUNT_ERRORS = (AuthenticationError, QuotaExhaustedError, ModelNotAvailableError)
"""Errors after which an account gets no further row of a model."""
_Ready: TypeAlias = tuple[Task, Record]
_Wrong: TypeAlias = tuple[Row, TokenHubError]


class DriverOptions(TypedDict, total=False):
    """Which rows are submitted; see `RunOptions`."""

    budget_cny: Cny | None
    on_error: Literal["continue", "stop"]
    retry_failed: bool
    again: Literal["unknown"] | None
    language: Language


class Driver:
    """Runs the rows of a plan.

    Raises:
        InvalidRequestError: A connection field is wrong.
    """

    def __init__(self, rows: list[Row], options: DriverOptions, executor: Executor) -> None:
        self.counts = Counts(rows=len(rows), budget=options.get("budget_cny"))
        self._rows = {row.id: row for row in rows}
        """Rows that need others which have not ended; at first all."""
        self._options = options
        self._executor = executor
        self._accounts = list(executor.accounts)
        self._out = executor.fields["save_to"]
        self._graph: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(self._rows, ()))
        self._users: defaultdict[str, list[Row]] = defaultdict(list)
        """The rows that need a row."""
        for row in rows:
            executor.tool(self._accounts[0], row)
            needed = {ref.id for ref in row.sources}
            self._graph.add(row.id, *needed)
            for source in needed:
                self._users[source].append(row)
        self._graph.prepare()
        self._results: dict[str, MediaResult] = {}
        self._queues: defaultdict[tuple[str, str], deque[Task]] = defaultdict(deque)
        self._over_budget: list[tuple[Task, BudgetExceededError]] = []
        self._failed = 0
        """Failures so far; each may have been refunded."""
        self._running: Counter[tuple[str, str]] = Counter()
        self._closed: dict[tuple[str, str], TokenHubError] = {}
        self._halt_reason = ""
        """Why nothing new is submitted; what has a job is collected."""

    async def run(self, emit: Callable[[Outcome], object]) -> None:
        """Run all rows; `emit` gets each outcome.

        Raises:
            InvalidRequestError: Rows are wrong (nothing was sent), or the ledger cannot be used
                (jobs may have been submitted; run again).
        """
        self._emit = emit
        try:
            await self._open()
            ready, wrong = await self._read(map(self._rows.pop, self._graph.get_ready()))
            refuse([f"{row.place}: {error.message}" for row, error in wrong])
            await self._run_all(ready)
            self._skip_rest()
        finally:
            await self._executor.close()
        await asyncio.to_thread(self._write_gallery)

    # --- begin and end ------------------------------------------------------------------------

    async def _open(self) -> None:
        from langchain_tokenhub.bulk.budget import Budget  # it needs SQLAlchemy
        from langchain_tokenhub.jobs.ledger_sql import SqlBackend

        await asyncio.to_thread(check_folder, self._out)
        await self._executor.open()
        try:
            self._run_id = await asyncio.to_thread(run_id, self._out)
            self._report = await asyncio.to_thread(Report, self._out)
        except OSError as problem:
            reason = f"out: {problem.filename or self._out}: {problem.strerror}"
            raise InvalidRequestError(reason, phase="not sent") from None
        runtime, backend = AsyncRuntime(), SqlBackend(self._executor.fields["ledger"])
        self._ledger = Ledger(backend, runtime)
        self._budget = Budget(backend, runtime, self._run_id, self.counts)
        self._submitted, self._failures = await self._budget.open()

    async def _run_all(self, ready: list[_Ready]) -> None:
        """Run rows that need no other row, and then those that need them."""
        refreshing = asyncio.create_task(self._refresh())
        try:
            async with asyncio.TaskGroup() as self._group:
                for task, record in ready:
                    self._dispatch(task, record)
                self._start()
        except ExceptionGroup as group:
            error = group.exceptions[0]
            if isinstance(error, InvalidRequestError):
                error.phase = None  # jobs may have been submitted
            raise error from None
        finally:
            refreshing.cancel()

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH)
            with suppress(InvalidRequestError):  # the database may be back at the next call
                await self._budget.refresh()

    def _skip_rest(self) -> None:
        """Skip the remaining rows: the budget or an error ended the run early."""
        for task, error in self._over_budget:
            self._end(task, "skipped", error)
        for queue in self._queues.values():
            for task in queue:
                self._end(task, "skipped", _not_submitted_error(self._halt_reason))

    def _write_gallery(self) -> None:
        try:
            write_gallery(self._out, language=self._options.get("language", "zh"))
        except OSError as problem:
            warn_user(f"the gallery page was not written: {problem.strerror or problem}")

    # --- rows that are ready ------------------------------------------------------------------

    async def _read(self, rows: Iterable[Row]) -> tuple[list[_Ready], list[_Wrong]]:
        """Read the files and the records of rows; return those that can run, and the others."""
        wrong: list[_Wrong] = []
        tasks: list[tuple[Task, TokenHubError | None]] = []
        for row in rows:
            try:
                tasks.append(await self._task(row))
            except TokenHubError as error:
                wrong.append((row, error))
        found = await self._ledger.records([task.key for task, _ in tasks])
        # a row that cannot be sent any more may have a job
        wrong += [(task, problem) for task, problem in tasks if problem and not found[task.key]]
        ready = [task for task, problem in tasks if found[task.key] or not problem]
        return [(task, found[task.key]) for task in ready], wrong

    async def _task(self, row: Row) -> tuple[Task, TokenHubError | None]:
        """Return a row as a task, and what is wrong with its files."""
        params = with_files(row.params, lambda id_: self._results[id_].model_dump(mode="json"))
        tool = self._executor.tool(self._accounts[0], row)
        request = await tool._plan_row(row.id, params, row.extra)
        task = Task(
            **vars(row) | {"params": params, "sources": ()},
            key=request.key,
            run=self._run_id,
            budget_cny=self.counts.budget,
        )
        return task, request.problem

    async def _prepare(self, row: Row) -> None:
        """Queue or report a row whose sources are done."""
        ready: list[_Ready] = []
        try:
            ready, wrong = await self._read([row])
        except InvalidRequestError as problem:  # the ledger may be back for other rows
            wrong = [(row, problem)]
        for _, error in wrong:
            self._end(row, "failed", error)
        for task, record in ready:
            self._dispatch(task, record)
        self._start()

    def _dispatch(self, task: Task, record: Record) -> None:
        """Report a row that ended before, or queue it."""
        entry = next(iter(record), None)
        job = entry.job if entry else None
        failed = self._failures.get((task.key, entry.token if entry else ""))
        is_unknown = any(one.job is None for one in record)
        cny = task.cny if task.key in self._submitted else 0.0
        if job and is_saved(job):
            self._end(task, "done", result_of(job), cny)
        elif failed and not is_unknown and not self._options.get("retry_failed"):
            self._end(task, "failed", _earlier_failure(failed, job), cny, is_new=False)
        elif entry is None or self._is_submitted_again(record, is_lost=failed is not None):
            self._enqueue(replace(task, replaced=tuple(one.token for one in record)))
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
        if entry.account not in self._accounts:
            self._end(task, "failed", missing_key_error(entry.account, entry.job))
        else:
            self._enqueue(replace(task, account=entry.account, replaced=(), is_collected=True))

    def _enqueue(self, task: Task) -> None:
        self._queues[task.account, task.model].append(task)

    # --- rows that run ------------------------------------------------------------------------

    def _start(self) -> None:
        """Start rows while there is room, those that have jobs already first."""
        for model in dict.fromkeys(model for _, model in self._queues):
            for account in self._accounts:
                while (task := self._next(account, model)) is not None:
                    self._running[account, model] += 1
                    self.counts.running += 1
                    self._group.create_task(self._run(task, account))
        self._end_closed()

    def _next(self, account: str, model: str) -> Task | None:
        if (account, model) in self._closed:
            return None
        for owner in [account] if self._halt_reason else [account, ""]:
            queue = self._queues.get((owner, model))
            if queue:
                quota = self._executor.fields["max_in_flight"] or queue[0].facts.max_in_flight
                return queue.popleft() if self._running[account, model] < quota else None
        return None

    def _end_closed(self) -> None:
        """Fail the rows whose model is closed on every account."""
        for (account, model), queue in self._queues.items():
            accounts = [account] if account else self._accounts
            closed = [self._closed[one, model] for one in accounts if (one, model) in self._closed]
            while queue and len(closed) == len(accounts):
                self._end(queue.popleft(), "failed", closed[0])

    async def _run(self, task: Task, account: str) -> None:
        """Run a row, record how it ended, and start others in its place."""
        failed_before = self._failed
        result = await self._run_repeatedly(replace(task, account=account))
        error = result if isinstance(result, TokenHubError) else None
        record = await self._ledger.record(task.key) if error else ()
        token = record[0].token if record else ""
        name = type(error).__name__ if error and _is_final(error, record, account) else None
        is_paid = await self._budget.record_end(task.key, token, name)
        self._running[account, task.model] -= 1
        self.counts.running -= 1
        cny = task.cny if is_paid else 0.0
        match result:
            case BudgetExceededError() if self._failed > failed_before:
                self._enqueue(task)
            case BudgetExceededError():
                self._over_budget.append((task, result))
            case MediaResult():
                self._end(task, "done", result, cny)
                if any(file.path is None for file in result.files):
                    self._halt_reason = (
                        self._halt_reason or f"the files of row {task.id!r} could not be saved"
                    )
            case TokenHubError() if record and _is_of_other(record[0], task, account):
                self._enqueue_collection(task, record[0])
            case TokenHubError():
                self._handle_failure(task, account, result, record, cny)
        self._start()

    async def _run_repeatedly(self, task: Task) -> Result:
        """Run a row, and repeat it after a temporary error; with the ledger it is paid once."""
        for pause in PAUSES:
            result = await self._executor.run(task)
            if not _is_temporary(result):
                return result
            logger.info("row %s is repeated in %g s", task.id, pause)
            await asyncio.sleep(pause)
            if result.job is not None:
                task = replace(task, replaced=(), is_collected=True)
        return await self._executor.run(task)

    def _handle_failure(
        self, task: Task, account: str, error: TokenHubError, record: Record, cny: float | None
    ) -> None:
        self._failed += 1
        for waiting, _ in self._over_budget:  # a refund may allow these rows
            self._enqueue(waiting)
        self._over_budget.clear()
        is_unsubmitted = all(entry.token in task.replaced for entry in record)
        if is_unsubmitted and isinstance(error, _ACCOUNT_ERRORS):
            self._closed[account, task.model] = error
            self._queues["", task.model].appendleft(task)
            return
        state: State = "failed"
        if any(entry.job is None for entry in record) or isinstance(error, SubmissionUnknownError):
            state = "unknown"
            error.hint = (
                "check the usage in the console; --again unknown (again='unknown') "
                "submits it again, which is charged again"
            )
        self._end(task, state, error, cny)
        if self._options.get("on_error") == "stop":
            self._halt_reason = self._halt_reason or f"row {task.id!r} failed"

    def _end(
        self,
        row: Row,
        state: State,
        found: Result,
        cny: float | None = 0.0,
        *,
        is_new: bool = True,
    ) -> None:
        """Report how a row ended, and prepare or skip the rows that need it."""
        result = found if isinstance(found, MediaResult) else None
        error = found if isinstance(found, TokenHubError) else None
        outcome = Outcome(id=row.id, state=state, result=result, error=error, cny=cny)
        self._report_end(row, outcome, is_new=is_new)
        if result is None:
            self._skip_users(row)
        else:
            self._prepare_users(row, result)

    def _prepare_users(self, row: Row, result: MediaResult) -> None:
        """Prepare the rows for which this was the last that they need."""
        if row.id in self._users:
            self._results[row.id] = result
        self._graph.done(row.id)
        for id_ in self._graph.get_ready():
            self._group.create_task(self._prepare(self._rows.pop(id_)))

    def _skip_users(self, row: Row) -> None:
        ended = deque([row])
        while ended:  # not by recursion: a chain may have thousands of rows
            source = ended.popleft().id
            error = _not_submitted_error(f"it needs row {source!r}, which is not done")
            for user in self._users.get(source, ()):
                if self._rows.pop(user.id, None):  # it is skipped once
                    skipped = Outcome(id=user.id, state="skipped", error=error, cny=0.0)
                    self._report_end(user, skipped)
                    ended.append(user)

    def _report_end(self, row: Row, outcome: Outcome, *, is_new: bool = True) -> None:
        self.counts.add(outcome)
        if is_new:
            self._report.add(outcome, row.model)
        self._emit(outcome)


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
        hint="remove it: the next run then counts its spending from 0",
    )


def is_saved(job: Job) -> bool:
    """Return True if all files of a job that completed are on this machine."""
    paths = [file.path for file in job.files]
    return job.status == "completed" and bool(paths) and all(p and p.is_file() for p in paths)


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


def _earlier_failure(name: str, job: Job | None) -> TokenHubError:
    return CLASSES.get(name, TokenHubError)(
        "it failed in an earlier run",
        job=job,
        hint="see the report for the reason; --retry-failed (retry_failed=True) runs it again",
    )


def _not_submitted_error(reason: str) -> TokenHubError:
    return InvalidRequestError(f"not submitted: {reason}", phase="not sent")
