"""A media model as plain methods: submit, watch, collect."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

from langchain_core.runnables.config import ensure_config
from pydantic import BeforeValidator, Field, ValidationError

from langchain_tokenhub._warnings import suppress_warnings
from langchain_tokenhub.catalogue import Kind, MediaKind, estimate_price, media_kind, media_model
from langchain_tokenhub.errors import InvalidRequestError, JobRef
from langchain_tokenhub.jobs.batch import Outcome, wait_for_all
from langchain_tokenhub.jobs.history import JobHistory
from langchain_tokenhub.jobs.inputs import Reader
from langchain_tokenhub.jobs.ledger_backends import LedgerBackend
from langchain_tokenhub.jobs.ledger_keys import key_of
from langchain_tokenhub.jobs.models import Job, JobRequest, MediaResult, id_of
from langchain_tokenhub.jobs.progress import JobSpan, Reporter
from langchain_tokenhub.jobs.runner import JobRunner, effective_wait
from langchain_tokenhub.jobs.schedule import shared_limiter
from langchain_tokenhub.jobs.service import Service, attach_job, poll_until_ended
from langchain_tokenhub.params import MediaParams, explain, params_class
from langchain_tokenhub.tools.settings import Folder, MediaSettings
from langchain_tokenhub.transport import AsyncRuntime, Transport, iterate_sync, run_sync

call_id: ContextVar[str | None] = ContextVar("tokenhub_tool_call_id", default=None)
"""Id of the tool call that runs; an injected argument would forbid plain calls."""


Extra = Mapping[str, Any] | None
ModelId = Annotated[str, BeforeValidator(lambda model: str(model).strip().lower())]


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
        params = self._with_prompt(text, params)
        return run_sync(self._generate(self._sync(), params, extra, again=again, wait=wait_timeout))

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
        params = self._with_prompt(text, params)
        return await self._generate(self._async(), params, extra, again=again, wait=wait_timeout)

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
        params = self._with_prompt(text, params)
        return run_sync(self._submit(self._sync(), params, extra, again=again))

    async def asubmit(
        self, text: str | None = None, /, *, extra: Extra = None, again: bool = False, **params: Any
    ) -> Job:
        """As `submit`."""
        params = self._with_prompt(text, params)
        return await self._submit(self._async(), params, extra, again=again)

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
        params: Mapping[str, Any],
        extra: Extra,
        *,
        again: bool = False,
        wait: float | None = None,
        by_model: bool = False,
    ) -> MediaResult:
        checked = self._check_params(params)
        job_id = getattr(checked, "job_id", None)
        if job_id and (extra or again):
            raise InvalidRequestError(
                "job_id: that job is submitted already, and accepts neither extra nor again; "
                "leave them out to collect it, or job_id to submit a new one"
            )
        if job_id:
            return await self._result(transport, job_id, wait)
        runner = self._runner(transport, wait)
        request = await self._request(runner, checked, extra, again=again, by_model=by_model)
        return await runner.generate(request)

    async def _submit(
        self,
        transport: Transport,
        params: Mapping[str, Any],
        extra: Extra,
        *,
        again: bool,
        by_model: bool = False,
    ) -> Job:
        checked = self._check_params(params)
        if getattr(checked, "job_id", None):
            raise InvalidRequestError("job_id: that job is submitted already; call result(job_id)")
        runner = self._runner(transport, None)
        request = await self._request(runner, checked, extra, again=again, by_model=by_model)
        return await runner.submit(request)

    async def _query(self, transport: Transport, job: JobRef | str) -> Job:
        history = self._history(transport)
        known = await self._job(history, job)
        seen = await self._service(transport, known).query(known)
        history.keep(seen)
        return seen

    async def _watch(self, transport: Transport, job: JobRef | str) -> AsyncGenerator[Job, None]:
        history = self._history(transport)
        known = await self._job(history, job)
        service = self._service(transport, known)
        wait = effective_wait(self.wait_timeout, service.facts.wait_timeout)
        shown: tuple[Any, ...] | None = None
        async with aclosing(poll_until_ended(service, known, wait=wait)) as states:
            async for state in states:
                if (now := (state.status, state.progress)) != shown:
                    shown = now
                    history.keep(state)
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
        found = wait_for_all(known, lambda job: self._runner(transport, wait, job, show_bar=False))
        async with aclosing(found):
            async for outcome in found:
                yield outcome

    # --- parts --------------------------------------------------------------------------------

    def _with_prompt(self, text: str | None, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters with a prompt that was passed by position."""
        if text is None:
            return params
        fields = params_class(self.model, self.kind).model_fields
        if "prompt" in fields and "prompt" not in params:
            return {"prompt": text, **params}
        is_twice = "prompt" in fields
        raise InvalidRequestError(
            "prompt: given twice" if is_twice else f"{self.model} has no prompt",
            hint="give it once" if is_twice else f"its fields: {', '.join(fields)}",
            phase="not sent",
        )

    def _check_params(self, params: Mapping[str, Any]) -> MediaParams:
        """Return the parameters as the model's class, or raise `InvalidRequestError`."""
        cls = params_class(self.model, self.kind)
        try:
            return cls(**params)
        except ValidationError as error:
            problem = explain(error, model=self.model)
        raise InvalidRequestError(problem, phase="not sent", hint="nothing was sent or charged")

    async def _plan_row(self, row: str, params: Mapping[str, Any], extra: Extra) -> JobRequest:
        """Return the request of a row of many jobs, without sending it.

        Its files are named after the row, and its key is without an account, because several
        accounts share the rows.
        """
        runner = self._runner(self._async(), None)
        with suppress_warnings():  # they were shown when the rows were checked
            checked = self._check_params(params)
        request = await self._request(runner, checked, extra, again=False, by_model=False, row=row)
        return replace(request, label=row)

    async def _run_row(self, request: JobRequest, backend: LedgerBackend) -> MediaResult:
        """Run a row that was planned, with its own view of the ledger's records."""
        transport = self._async()
        runner = self._runner(transport, None)
        history = replace(runner.history, ledger=self._ledger(transport, backend))
        runner = replace(runner, history=history)
        return await runner.generate(request)

    async def _request(
        self,
        runner: JobRunner,
        checked: MediaParams,
        extra: Extra,
        *,
        again: bool,
        by_model: bool,
        row: str | None = None,
    ) -> JobRequest:
        if price := estimate_price(self.model, dict(checked)):
            runner.reporter.span.price = price.low, price.high
        reader = Reader(
            history=runner.history,
            refresh=functools.partial(self._query_links, runner.service.transport),
            folders=self._readable() if by_model else None,
        )
        sent, call = await reader.read(checked)
        body = {**sent, **(extra or {})}
        label = body.get("prompt") or body.get("template") or self._facts().tool_name
        return JobRequest(
            body=body,
            label=str(label),
            key=self._ledger_key({**call, **(extra or {})}, row),
            again=again,
            problem=next(iter(reader.problems), None),
        )

    def _ledger_key(self, call: Mapping[str, Any], row: str | None) -> str:
        """Return the key of this call in the ledger; an empty text without a ledger.

        It is made of the request and the account, inside a graph also of thread and tool call; for
        a row of many jobs, of the request and the row's id.
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
        self,
        transport: Transport,
        wait: float | None,
        job: Job | None = None,
        *,
        show_bar: bool = True,
    ) -> JobRunner:
        service = self._service(transport, job)
        listener = None if self.progress is True and not show_bar else self.progress
        span = JobSpan(service.model, self.kind, job)
        return JobRunner(
            service=service,
            limiter=shared_limiter(*self._owner(), service.model),
            max_in_flight=self.max_in_flight or service.facts.max_in_flight,
            wait=effective_wait(wait, self.wait_timeout, service.facts.wait_timeout),
            history=self._history(transport),
            reporter=Reporter(
                is_async=isinstance(transport.runtime, AsyncRuntime),
                listener=listener,
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

    def _readable(self) -> tuple[Path, ...]:
        return (*self.allow_local_files, *self._folders())
