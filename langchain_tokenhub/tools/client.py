"""A media model for code: submit, watch, collect. No LangChain tool yet."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
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
    PrivateAttr,
    SkipValidation,
    ValidationError,
)

from langchain_tokenhub.catalogue import Kind, MediaKind, media_kind, media_model
from langchain_tokenhub.errors import AuthenticationError, InvalidRequestError
from langchain_tokenhub.jobs.archive import Archive
from langchain_tokenhub.jobs.errand import Errand, patience
from langchain_tokenhub.jobs.gate import shared_gate
from langchain_tokenhub.jobs.inputs import Reader
from langchain_tokenhub.jobs.job import Job, MediaResult, id_of
from langchain_tokenhub.jobs.ledger import Ledger, keeper_of, key_of
from langchain_tokenhub.jobs.lifecycle import Service, about, polls, query
from langchain_tokenhub.jobs.many import Outcome, outcomes
from langchain_tokenhub.jobs.memory import Memory, shared_memory
from langchain_tokenhub.jobs.order import Order
from langchain_tokenhub.jobs.progress import Emit, Progress, Reporter, aemit, emit
from langchain_tokenhub.media import MediaParams, explain, params_class
from langchain_tokenhub.settings import Connected
from langchain_tokenhub.transport import Transport, drain, finish

call_id: ContextVar[str | None] = ContextVar("tokenhub_tool_call_id", default=None)
"""Which tool call is being answered: an injected argument would forbid plain calls."""

Extra = Mapping[str, Any] | None
ModelId = Annotated[str, BeforeValidator(lambda model: str(model).strip().lower())]


class MediaClient(Connected):
    """A media model as plain methods."""

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, extra="forbid")

    kind: ClassVar[Kind]

    model: ModelId
    """Model id in any letter case; unknown ids and `ep-…` have the kind's common parameters."""
    wait_timeout: PositiveFloat | None = None
    """Seconds to wait for a job; None is the model's default."""
    save_to: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    """Folder where files are saved before their links die, each with a JSON sidecar."""
    progress: SkipValidation[Progress] = Field(default=None, exclude=True)
    """True for a bar, or a function that takes a `Job`."""
    max_in_flight: PositiveInt | None = None
    """Jobs at once an account and model; None is the catalogue's default."""
    allow_local_files: Sequence[Path] = ()
    """Folders from which a language model may send files."""
    ledger: SkipValidation[str | Path | BaseStore[str, Any] | None] = Field(
        default=None, exclude=True
    )
    """Folder or store that makes calls repeatable: the same call resumes its job and pays once.

    A folder claims a call atomically. A store cannot: two workers that start the same call at the
    same moment may both submit.
    """

    _folders: list[Path] = PrivateAttr(default_factory=list)
    """Where the other tools of a toolkit save: their files may be sent too."""

    def _facts(self) -> MediaKind:
        known = media_model(self.model)
        if known is None:
            return media_kind(self.kind)
        if known.kind != self.kind:
            raise ValueError(f"{self.model!r} is a model for {known.kind}, not for {self.kind}")
        return known

    def share(self, folders: Sequence[Path]) -> None:
        """Let files in `folders`, where sibling tools save, be sent too."""
        self._folders = list(folders)

    # --- code ---------------------------------------------------------------------------------

    def generate(
        self,
        *,
        extra: Extra = None,
        again: bool = False,
        wait_timeout: float | None = None,
        **params: Any,
    ) -> MediaResult:
        """Submit a job, wait for it, save its files, and return them.

        Args:
            extra: Fields for the body that this package does not know, merged last, unchecked.
            again: Submit anew although the ledger knows the same call.
            wait_timeout: Seconds; else the tool's.
            **params: The model's parameters; or `job_id` alone, to resume a job.
        """
        work = self._generate(self._sync(), emit, params, extra, again=again, wait=wait_timeout)
        return finish(work)

    async def agenerate(
        self,
        *,
        extra: Extra = None,
        again: bool = False,
        wait_timeout: float | None = None,
        **params: Any,
    ) -> MediaResult:
        """As `generate`."""
        work = self._generate(self._async(), aemit, params, extra, again=again, wait=wait_timeout)
        return await work

    def submit(self, *, extra: Extra = None, again: bool = False, **params: Any) -> Job:
        """Submit a job and return it; it is paid for, and can be collected with `result`."""
        return finish(self._submit(self._sync(), emit, params, extra, again=again))

    async def asubmit(self, *, extra: Extra = None, again: bool = False, **params: Any) -> Job:
        """As `submit`."""
        return await self._submit(self._async(), aemit, params, extra, again=again)

    def query(self, job: Job | str) -> Job:
        """Ask once how a job stands."""
        return finish(self._query(self._sync(), job))

    async def aquery(self, job: Job | str) -> Job:
        """As `query`."""
        return await self._query(self._async(), job)

    def watch(self, job: Job | str) -> Iterator[Job]:
        """Yield a job as it stands, then whenever it changed, until it ends."""
        return drain(self._watch(self._sync(), job))

    def awatch(self, job: Job | str) -> AsyncGenerator[Job, None]:
        """As `watch`."""
        return self._watch(self._async(), job)

    def result(self, job: Job | str, wait_timeout: float | None = None) -> MediaResult:
        """Wait for a job, save its files, and return them."""
        return finish(self._result(self._sync(), emit, job, wait_timeout))

    async def aresult(self, job: Job | str, wait_timeout: float | None = None) -> MediaResult:
        """As `result`."""
        return await self._result(self._async(), aemit, job, wait_timeout)

    def results(
        self, jobs: Iterable[Job | str], wait_timeout: float | None = None
    ) -> Iterator[Outcome]:
        """Yield the result or the error of each job once, in the order in which they end."""
        return drain(self._results(self._sync(), emit, jobs, wait_timeout))

    def aresults(
        self, jobs: Iterable[Job | str], wait_timeout: float | None = None
    ) -> AsyncGenerator[Outcome, None]:
        """As `results`."""
        return self._results(self._async(), aemit, jobs, wait_timeout)

    # --- stepped ------------------------------------------------------------------------------

    async def _generate(
        self,
        transport: Transport,
        emit: Emit,
        params: Mapping[str, Any],
        extra: Extra,
        *,
        again: bool = False,
        wait: float | None = None,
        by_model: bool = False,
    ) -> MediaResult:
        checked = self._checked(params)
        job_id = getattr(checked, "job_id", None)
        if job_id and (extra or again):
            raise InvalidRequestError(
                "job_id: that job is submitted already, and takes neither extra nor again; "
                "leave them out to collect it, or job_id to submit a new one"
            )
        if job_id:
            return await self._result(transport, emit, job_id, wait)
        errand = self._errand(transport, emit, wait)
        with closing(errand.reporter):
            order = await self._order(errand, checked, extra, params, by_model=by_model)
            return await errand.generate(order, again=again)

    async def _submit(
        self,
        transport: Transport,
        emit: Emit,
        params: Mapping[str, Any],
        extra: Extra,
        *,
        again: bool,
    ) -> Job:
        checked = self._checked(params)
        if getattr(checked, "job_id", None):
            raise InvalidRequestError("job_id: that job is submitted already; call result(job_id)")
        errand = self._errand(transport, emit, None)
        order = await self._order(errand, checked, extra, params, by_model=False)
        return await errand.submit(order, again=again)

    async def _query(self, transport: Transport, job: Job | str) -> Job:
        archive = self.archive(transport)
        known = await self._job(archive, job)
        seen = await query(self._service(transport, known), known)
        archive.note(seen)
        return seen

    async def _watch(self, transport: Transport, job: Job | str) -> AsyncGenerator[Job, None]:
        archive = self.archive(transport)
        known = await self._job(archive, job)
        wait = patience(self.wait_timeout, self._facts().wait_timeout)
        shown: tuple[Any, ...] | None = None
        states = polls(self._service(transport, known), known, wait=wait)
        try:
            async for state in states:
                if (now := (state.status, state.progress)) != shown:
                    shown = now
                    archive.note(state)
                    yield state
        finally:
            await states.aclose()

    async def _result(
        self, transport: Transport, emit: Emit, job: Job | str, wait: float | None
    ) -> MediaResult:
        archive = self.archive(transport)
        known = await self._job(archive, job)
        with about(known):
            await archive.recall([known.id])
            known = archive.latest(known)
            errand = self._errand(transport, emit, wait, known)
            with closing(errand.reporter):
                return await errand.result(known)

    async def _results(
        self, transport: Transport, emit: Emit, jobs: Iterable[Job | str], wait: float | None
    ) -> AsyncGenerator[Outcome, None]:
        asked = {id_of(job): job for job in ([jobs] if isinstance(jobs, str | Job) else jobs)}
        archive = self.archive(transport)
        await archive.recall(asked)
        known = [archive.latest(await self._job(archive, job)) for job in asked.values()]
        found = outcomes(known, lambda job: self._errand(transport, emit, wait, job, quiet=True))
        try:
            async for outcome in found:
                yield outcome
        finally:
            await found.aclose()

    # --- parts --------------------------------------------------------------------------------

    def _checked(self, params: Mapping[str, Any]) -> MediaParams:
        """Return the parameters as the model's class, or say what is wrong with them."""
        cls = params_class(self.model, self.kind)
        try:
            return cls(**params)
        except ValidationError as error:
            problem = explain(error, model=self.model)
        raise InvalidRequestError(problem, phase="not sent", hint="nothing was sent or charged")

    async def _order(
        self,
        errand: Errand,
        checked: MediaParams,
        extra: Extra,
        params: Mapping[str, Any],
        *,
        by_model: bool,
    ) -> Order:
        reader = Reader(
            wire=errand.service.transport.wire,
            find=self.archive(errand.service.transport).find,
            folders=self._readable() if by_model else None,
        )
        body = {**await reader.body(checked), **(extra or {})}
        title = body.get("prompt") or body.get("template") or self._facts().tool_name
        return Order(body=body, title=str(title), key=self._ledger_key(body, params))

    def _ledger_key(self, body: Mapping[str, Any], params: Mapping[str, Any]) -> str:
        """Return the key of this call: inside a graph it is the tool call, else the request."""
        if self.ledger is None:
            return ""
        thread = ensure_config().get("configurable", {}).get("thread_id")
        call = call_id.get()
        if thread and call:
            return key_of(self.model, self._origins(), params, str(thread), call)
        return key_of(self.model, self._origins(), body)

    def _errand(
        self,
        transport: Transport,
        emit: Emit,
        wait: float | None,
        job: Job | None = None,
        *,
        quiet: bool = False,
    ) -> Errand:
        service = self._service(transport, job)
        listener = None if quiet and self.progress is True else self.progress
        return Errand(
            service=service,
            gate=shared_gate(*self._owner(), service.model),
            most=self.max_in_flight or service.facts.max_in_flight,
            wait=patience(wait, self.wait_timeout, service.facts.wait_timeout),
            memory=self._memory(),
            ledger=self._ledger(transport),
            reporter=Reporter(emit, listener, service.typical),
            folder=self.save_to,
        )

    def _service(self, transport: Transport, job: Job | None = None) -> Service:
        model = job.model if job else self.model
        return Service(
            transport=transport,
            model=model,
            facts=media_model(model) or media_kind(self.kind),
            at_home=self._at_home(),
            timeout=self.timeout,
        )

    async def _job(self, archive: Archive, job: Job | str) -> Job:
        """Return a job by its id; what is known of it here saves asking."""
        if not isinstance(job, Job):
            job_id = id_of(job)
            job = await archive.find(job_id) or Job(kind=self.kind, model=self.model, id=job_id)
        if job.kind != self.kind:
            raise InvalidRequestError(
                f"job {job.id} is one of {job.model} ({job.kind}); this tool is for {self.kind}",
                job=job,
                phase="not sent",
            )
        return job

    async def looked_at(self, transport: Transport, job: Job) -> Job:
        """Return a job as it stands."""
        return await self._query(transport, job)

    async def collected(self, transport: Transport, emit: Emit, job: Job) -> MediaResult:
        """Return a job's result."""
        return await self._result(transport, emit, job, None)

    def archive(self, transport: Transport) -> Archive:
        """Return where the account's earlier jobs are looked up."""
        return Archive(
            wire=transport.wire,
            memory=self._memory(),
            ledger=self._ledger(transport),
            folders=(*([self.save_to] if self.save_to else ()), *self._folders),
        )

    def _readable(self) -> tuple[Path, ...]:
        own = (self.save_to,) if self.save_to else ()
        return (*self.allow_local_files, *own, *self._folders)

    def _owner(self) -> tuple[object, ...]:
        return hash(self._account()), self._origins()

    def _account(self) -> str:
        """Return the key that calls will use; none where there is none."""
        try:
            return self._key()
        except AuthenticationError:
            return ""

    def _memory(self) -> Memory:
        return shared_memory(*self._owner())

    def _ledger(self, transport: Transport) -> Ledger | None:
        return Ledger(keeper_of(self.ledger), transport.wire) if self.ledger is not None else None
