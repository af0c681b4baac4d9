"""A media model as plain methods: submit, query, collect; and the settings that the tools share."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, ClassVar

from langchain_core.runnables.config import ensure_config
from langchain_core.stores import BaseStore
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    SkipValidation,
    ValidationError,
)

from langchain_tokenhub._warnings import suppress_warnings
from langchain_tokenhub.catalogue import Kind, MediaKind, estimate_price, media_kind, media_model
from langchain_tokenhub.errors import AuthenticationError, InvalidRequestError, JobRef
from langchain_tokenhub.jobs.batch import Outcome, wait_for_all
from langchain_tokenhub.jobs.history import JobHistory, shared_recent_jobs
from langchain_tokenhub.jobs.inputs import Reader
from langchain_tokenhub.jobs.ledger import Ledger, account_hash, key_of
from langchain_tokenhub.jobs.ledger_backends import LedgerBackend, backend_for
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaResult, id_of
from langchain_tokenhub.jobs.progress import JobSpan, Progress, Reporter
from langchain_tokenhub.jobs.runner import JobRunner, effective_wait, shared_limiter
from langchain_tokenhub.jobs.service import Service, attach_job, poll_until_ended
from langchain_tokenhub.params import MediaParams, encode_params, explain, has_files, params_class
from langchain_tokenhub.settings import ConnectionOptions, ConnectionSettings
from langchain_tokenhub.transport import AsyncRuntime, Transport, iterate_sync, run_sync

call_id: ContextVar[str | None] = ContextVar("tokenhub_tool_call_id", default=None)
"""Id of the tool call that runs; an injected argument would forbid plain calls."""

Extra = Mapping[str, Any] | None
ModelId = Annotated[str, BeforeValidator(lambda model: str(model).strip().lower())]


def make_absolute(location: Any) -> Any:
    """Return a path that does not depend on the process's current folder."""
    if not isinstance(location, str | os.PathLike):
        return location
    return Path(os.path.abspath(Path(location).expanduser()))  # noqa: PTH100 - links stay links


def normalize_ledger(location: Any) -> Any:
    """Return a folder as an absolute path, and a database's URL as its backend.

    Raises:
        ValueError: It is neither of these, nor a store.
        InvalidRequestError: The database cannot be used.
    """
    match location:
        case str() if "://" in location:
            return backend_for(location)
        case str() | os.PathLike():
            return make_absolute(location)
        case None | BaseStore() | LedgerBackend():
            return location
        case _:
            raise ValueError("ledger is neither a folder, nor a database's URL, nor a BaseStore")


Folder = Annotated[Path, AfterValidator(make_absolute)]
AnyLedger = str | Path | BaseStore[str, Any] | LedgerBackend | None
LedgerLocation = Annotated[SkipValidation[AnyLedger], AfterValidator(normalize_ledger)]


class JobOptions(ConnectionOptions, total=False):
    """Constructor keywords of `JobSettings`."""

    wait_timeout: float | None
    save_to: str | Path | None
    ledger: AnyLedger


class JobSettings(ConnectionSettings):
    """How to wait for jobs, and where to store their files and records."""

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, extra="forbid")

    wait_timeout: PositiveFloat | None = None
    """Seconds to wait for a job, above 0; None is the model's default."""
    save_to: Folder | None = None
    """Folder where files are saved before their links expire, each with a JSON sidecar."""
    ledger: LedgerLocation = Field(default=None, exclude=True)
    """Where calls are recorded to make them repeatable: the same call resumes its job.

    A folder; the URL of a database (extra `bulk`), `sqlite:///file` or
    `postgresql+psycopg://user:password@host/name`; or a `BaseStore`. Folder and database claim a
    call atomically. A `BaseStore` cannot: two workers that start the same call at the same time
    may both submit and pay. A pickle omits the password; set it in `PGPASSWORD` or `~/.pgpass`.
    """

    def _key_or_empty(self) -> str:
        """Return the API key of the next request; an empty text if there is none."""
        try:
            return self._key()
        except AuthenticationError:
            return ""

    def _account_hash(self) -> str:
        return account_hash(key) if (key := self._key_or_empty()) else ""

    def _owner(self) -> tuple[object, ...]:
        """Return what identifies the account in this process."""
        return hash(self._key_or_empty()), self._origins()

    def _folders(self) -> tuple[Path, ...]:
        """Return the folders whose files and sidecars belong to this object."""
        return (self.save_to,) if self.save_to else ()

    def _history(self, transport: Transport) -> JobHistory:
        runtime, ledger = transport.runtime, None
        if self.ledger is not None:
            ledger = Ledger(backend_for(self.ledger), runtime, self._account_hash())
        recent = shared_recent_jobs(*self._owner())
        return JobHistory(runtime=runtime, recent=recent, ledger=ledger, folders=self._folders())


class MediaOptions(JobOptions, total=False):
    """Constructor keywords of `MediaSettings`."""

    progress: Progress
    max_in_flight: int | None
    allow_local_files: Sequence[str | Path]


class MediaSettings(JobSettings):
    """How the image, video and 3D tools submit jobs."""

    progress: SkipValidation[Progress] = Field(default=None, exclude=True)
    """True for a progress bar, or a function that takes a `Job`."""
    max_in_flight: PositiveInt | None = None
    """Jobs at once per account and model in this process; None is the catalogue's default."""
    allow_local_files: Sequence[Folder] = ()
    """Folders from which a language model may send files."""


class MediaClient(MediaSettings):
    """The methods of a media model."""

    kind: ClassVar[Kind]

    model: ModelId
    """Model id in any letter case; unknown ids and `ep-…` have the kind's common parameters."""
    shared_folders: Sequence[Folder] = Field(default=(), exclude=True, repr=False)
    """Folders where a toolkit's other tools save: their files and jobs can be inputs too."""

    def _facts(self) -> MediaKind:
        known = media_model(self.model)
        if known is None:
            return media_kind(self.kind)
        if known.kind != self.kind:
            raise ValueError(f"{self.model!r} is a model for {known.kind}, not for {self.kind}")
        return known

    # --- the methods, sync and async ----------------------------------------------------------

    def generate(
        self,
        text: str | None = None,
        /,
        *,
        extra: Extra = None,
        again: bool = False,
        wait_timeout: float | None = None,
        **params: Any,
    ) -> MediaResult:
        """Submit a job, wait for it, save its files, and return them.

        Args:
            text: The prompt, for models that have one.
            extra: Fields of the body that this package does not know, merged last, unchecked.
            again: Submit again although the ledger knows the same call.
            wait_timeout: Seconds to wait, from 0; None is the tool's.
            **params: The model's parameters; or `job_id` alone, to resume a job.

        Raises:
            TokenHubError: The call failed; `job` of the error is the job, if one was submitted.
        """
        given = self._check_params(self._with_prompt(text, params))
        return run_sync(self._generate(self._sync(), given, extra, again=again, wait=wait_timeout))

    async def agenerate(
        self,
        text: str | None = None,
        /,
        *,
        extra: Extra = None,
        again: bool = False,
        wait_timeout: float | None = None,
        **params: Any,
    ) -> MediaResult:
        """As `generate`."""
        given = self._check_params(self._with_prompt(text, params))
        return await self._generate(self._async(), given, extra, again=again, wait=wait_timeout)

    def submit(
        self, text: str | None = None, /, *, extra: Extra = None, again: bool = False, **params: Any
    ) -> Job:
        """Submit a job and return it; it is paid for, and can be collected with `result`.

        Args:
            text: The prompt, for models that have one.
            extra: As for `generate`.
            again: As for `generate`.
            **params: The model's parameters.

        Raises:
            SubmissionUnknownError: The submit may have been charged, and no job is known.
        """
        given = self._check_params(self._with_prompt(text, params))
        return run_sync(self._submit(self._sync(), given, extra, again=again))

    async def asubmit(
        self, text: str | None = None, /, *, extra: Extra = None, again: bool = False, **params: Any
    ) -> Job:
        """As `submit`."""
        given = self._check_params(self._with_prompt(text, params))
        return await self._submit(self._async(), given, extra, again=again)

    def query(self, job: JobRef | str) -> Job:
        """Query a job once and return its state.

        Args:
            job: A job of this kind of model, or its id.

        Raises:
            JobNotFoundError: The service does not know the job.
        """
        return run_sync(self._query(self._sync(), job))

    async def aquery(self, job: JobRef | str) -> Job:
        """As `query`."""
        return await self._query(self._async(), job)

    def watch(self, job: JobRef | str) -> Iterator[Job]:
        """Yield a job's state, then each change of it, until the job ends.

        Args:
            job: A job of this kind of model, or its id.

        Raises:
            JobTimeoutError: The job did not end within `wait_timeout`, and continues.
        """
        return iterate_sync(self._watch(self._sync(), job))

    def awatch(self, job: JobRef | str) -> AsyncGenerator[Job, None]:
        """As `watch`."""
        return self._watch(self._async(), job)

    def result(self, job: JobRef | str, wait_timeout: float | None = None) -> MediaResult:
        """Wait for a job, save its files, and return them.

        Args:
            job: A job of this kind of model, or its id.
            wait_timeout: Seconds to wait, from 0; None is the tool's.

        Raises:
            JobFailedError: The job failed.
            JobTimeoutError: The job did not end in time, and continues.
            ResultExpiredError: The job's links have expired, and its files are not saved.
        """
        return run_sync(self._result(self._sync(), job, wait_timeout))

    async def aresult(self, job: JobRef | str, wait_timeout: float | None = None) -> MediaResult:
        """As `result`."""
        return await self._result(self._async(), job, wait_timeout)

    def results(
        self, jobs: Iterable[JobRef | str], wait_timeout: float | None = None
    ) -> Iterator[Outcome]:
        """Yield the result or the error of each job once, in the order in which they end.

        Args:
            jobs: Jobs of this kind of model, or their ids.
            wait_timeout: Seconds to wait for each job, from 0; None is the tool's.
        """
        return iterate_sync(self._results(self._sync(), jobs, wait_timeout))

    def aresults(
        self, jobs: Iterable[JobRef | str], wait_timeout: float | None = None
    ) -> AsyncGenerator[Outcome, None]:
        """As `results`."""
        return self._results(self._async(), jobs, wait_timeout)

    # --- sync and async, written once ---------------------------------------------------------

    async def _generate(
        self,
        transport: Transport,
        params: MediaParams,
        extra: Extra,
        *,
        again: bool = False,
        wait: float | None = None,
        by_model: bool = False,
    ) -> MediaResult:
        job_id = getattr(params, "job_id", None)
        if job_id and (extra or again):
            raise InvalidRequestError(
                "job_id: that job is submitted already, and accepts neither extra nor again; "
                "leave them out to collect it, or job_id to submit a new one"
            )
        if job_id:
            return await self._result(transport, job_id, wait)
        runner = self._runner(transport, wait)
        request = await self._request(runner, params, extra, again=again, by_model=by_model)
        return await runner.generate(request)

    async def _submit(
        self,
        transport: Transport,
        params: MediaParams,
        extra: Extra,
        *,
        again: bool,
        by_model: bool = False,
    ) -> Job:
        if getattr(params, "job_id", None):
            raise InvalidRequestError("job_id: that job is submitted already; call result(job_id)")
        runner = self._runner(transport, None)
        request = await self._request(runner, params, extra, again=again, by_model=by_model)
        return await runner.submit(request)

    async def _query(self, transport: Transport, job: JobRef | str) -> Job:
        history = self._history(transport)
        known = await self._job(history, job)
        seen = await self._service(transport, known).query(known)
        history.keep(seen)
        return seen

    async def _watch(self, transport: Transport, job: JobRef | str) -> AsyncGenerator[Job, None]:
        known = await self._job(self._history(transport), job)
        runner = self._runner(transport, None, known)
        shown: tuple[Any, ...] | None = None
        async with aclosing(poll_until_ended(runner.service, known, wait=runner.wait)) as states:
            async for state in states:
                if (now := (state.status, state.progress)) != shown:
                    shown = now
                    runner.history.keep(state)
                    yield state

    async def _result(
        self, transport: Transport, job: JobRef | str, wait: float | None
    ) -> MediaResult:
        history = self._history(transport)
        known = await self._job(history, job)
        with attach_job(known):
            known = await history.latest(known)
            return await self._runner(transport, wait, known).result(known)

    async def _results(
        self, transport: Transport, jobs: Iterable[JobRef | str], wait: float | None
    ) -> AsyncGenerator[Outcome, None]:
        by_id = {id_of(job): job for job in ([jobs] if isinstance(jobs, str | JobRef) else jobs)}
        history = self._history(transport)
        known = [await history.latest(await self._job(history, job)) for job in by_id.values()]
        tool = self if self.progress is not True else self.model_copy(update={"progress": None})
        runner_of = functools.partial(tool._runner, transport, wait)  # noqa: SLF001 - of this class
        found = wait_for_all(known, runner_of)
        async with aclosing(found):
            async for outcome in found:
                yield outcome

    # --- parts --------------------------------------------------------------------------------

    def _with_prompt(self, text: str | None, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters with a prompt that was passed by position."""
        if text is None:
            return params
        fields = params_class(self.model, self.kind).model_fields
        if "prompt" not in fields:
            raise InvalidRequestError(
                f"{self.model} has no prompt",
                hint=f"its fields: {', '.join(fields)}",
                phase="not sent",
            )
        if "prompt" in params:
            raise InvalidRequestError("prompt: given twice", hint="give it once", phase="not sent")
        return {"prompt": text, **params}

    def _check_params(self, params: Mapping[str, Any]) -> MediaParams:
        """Return the parameters as the model's class, or raise `InvalidRequestError`."""
        cls = params_class(self.model, self.kind)
        try:
            return cls(**params)
        except ValidationError as error:
            problem = explain(error, model=self.model)
        raise InvalidRequestError(problem, phase="not sent", hint="nothing was sent or charged")

    async def _plan_row(self, row: str, params: Mapping[str, Any], extra: Extra) -> JobRequest:
        """Return the request of a row of many jobs; its files are named after the row."""
        runner = self._runner(self._async(), None)
        with suppress_warnings():  # they were shown when the rows were checked
            checked = self._check_params(params)
        return await self._request(runner, checked, extra, again=False, by_model=False, row=row)

    async def _run_row(self, request: JobRequest, backend: LedgerBackend) -> MediaResult:
        """Run a row that was planned, with its own view of the ledger's records."""
        tool = self.model_copy(update={"ledger": backend})
        return await tool._runner(tool._async(), None).generate(request)  # noqa: SLF001 - a copy

    async def _request(
        self,
        runner: JobRunner,
        params: MediaParams,
        extra: Extra,
        *,
        again: bool,
        by_model: bool,
        row: str | None = None,
    ) -> JobRequest:
        if price := estimate_price(self.model, dict(params)):
            runner.reporter.span.price = price.low, price.high
        sent = call = encode_params(params)
        problem = None
        if has_files(params):
            reader = self._reader(runner, by_model=by_model)
            sent, call = await reader.read(params)
            problem = next(iter(reader.problems), None)
        body = {**sent, **(extra or {})}
        label = row or body.get("prompt") or body.get("template") or self._facts().tool_name
        return JobRequest(
            body=body,
            label=str(label),
            key=self._ledger_key({**call, **(extra or {})}, row),
            again=again,
            problem=problem,
        )

    def _reader(self, runner: JobRunner, *, by_model: bool) -> Reader:
        """Return the reader of file inputs; a language model may name files in folders alone."""
        return Reader(
            history=runner.history,
            refresh=functools.partial(self._query_links, runner.service.transport),
            folders=(*self.allow_local_files, *self._folders()) if by_model else None,
        )

    def _ledger_key(self, call: Mapping[str, Any], row: str | None) -> str:
        """Return the key of this call in the ledger; an empty text without a ledger.

        Inside a graph, thread and tool call belong to it. Several accounts may share the rows of
        many jobs, so a row's id replaces the account.
        """
        if self.ledger is None:
            return ""
        if row is not None:
            return key_of(self.model, self._origins(), call, "row", row)
        thread = ensure_config().get("configurable", {}).get("thread_id")
        tool_call = call_id.get()
        scope = (str(thread), tool_call) if thread and tool_call else ()
        return key_of(self.model, self._origins(), call, self._account_hash(), *scope)

    def _runner(
        self, transport: Transport, wait: float | None, job: Job | None = None
    ) -> JobRunner:
        service = self._service(transport, job)
        span = JobSpan(service.model, self.kind, job)
        return JobRunner(
            service=service,
            limiter=shared_limiter(*self._owner(), service.model),
            max_in_flight=self.max_in_flight or service.facts.max_in_flight,
            wait=effective_wait(wait, self.wait_timeout, service.facts.wait_timeout),
            history=self._history(transport),
            reporter=Reporter(
                is_async=isinstance(transport.runtime, AsyncRuntime),
                listener=self.progress,
                expected=service.typical,
                span=span,
                tool_call_id=call_id.get(),
            ),
            folder=self.save_to,
        )

    def _service(self, transport: Transport, job: Job | None = None) -> Service:
        model = job.model if job else self.model
        return Service(
            transport=transport,
            model=model,
            facts=media_model(model) or media_kind(self.kind),
            allow_loopback=self._allow_loopback(),
            timeout=self.timeout,
        )

    async def _query_links(self, transport: Transport, ref: JobRef) -> Job:
        """Return a completed job of this account with fresh links."""
        job = Job(**ref.model_dump())
        return await self._service(transport, job).query(job)

    async def _job(self, history: JobHistory, job: JobRef | str) -> Job:
        """Return a job by its id, as this process, the ledger or a sidecar knows it."""
        if not isinstance(job, Job):
            ref = job if isinstance(job, JobRef) else None
            ref = ref or JobRef(kind=self.kind, model=self.model, id=id_of(job))
            job = await history.find(ref.id) or Job(**ref.model_dump())
        if job.kind != self.kind:
            raise InvalidRequestError(
                f"job {job.id} is of {job.model} ({job.kind}); this tool is for {self.kind}",
                job=job,
                phase="not sent",
            )
        return job

    def _folders(self) -> tuple[Path, ...]:
        return (*super()._folders(), *self.shared_folders)
