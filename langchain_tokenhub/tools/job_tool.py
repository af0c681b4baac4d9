"""A tool to look at, list and collect jobs that were submitted earlier. It never submits."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from langchain_core.tools import ArgsSchema
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveFloat, SkipValidation

from langchain_tokenhub.catalogue import Kind, media_model
from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.models import Job
from langchain_tokenhub.jobs.progress import Emit, aemit, emit
from langchain_tokenhub.settings import ConnectionSettings
from langchain_tokenhub.tools.client import Folder, LedgerLocation, MediaClient
from langchain_tokenhub.tools.media_tools import TOOLS, ToolErrorMixin
from langchain_tokenhub.transport import Transport, finish

MOST_LISTED = 20
_SHARED = frozenset(ConnectionSettings.model_fields) | {"save_to", "ledger", "wait_timeout"}


class JobQuestion(BaseModel):
    """What to do with which job."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["list", "look", "collect"] = Field(
        default="look",
        description="list: known jobs; look: how one stands; collect: wait for its files. "
        "列出任务 / 查看状态 / 等待并取回结果。不会产生新的费用。",
    )
    job_id: Annotated[
        str | None, BeforeValidator(lambda value: str(value) if value is not None else None)
    ] = Field(default=None, description="Id of the job; not for list. 任务 ID（list 不需要）。")
    model: str | None = Field(
        default=None,
        description="Model that made it, where the job is not known here. 未知任务时填写所属模型。",
    )


class TokenHubJobTool(ConnectionSettings, ToolErrorMixin):
    """Looks at and collects image, video and 3D jobs; for agents that submit and come back.

    Example:
        ```python
        job = TokenHubVideoTool().submit(prompt="一只橘猫在雪地里奔跑")
        print(TokenHubJobTool(save_to="out").invoke({"action": "collect", "job_id": job.id}))
        ```
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, extra="forbid")

    name: str = "tokenhub_job"
    description: str = (
        "查看、列出或取回已提交的图片、视频、3D 任务，不产生费用。"
        "Looks at, lists or collects image, video and 3D jobs submitted earlier; costs nothing."
    )
    args_schema: SkipValidation[ArgsSchema | None] = JobQuestion
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    wait_timeout: PositiveFloat | None = None
    """Seconds to wait when collecting; None is the model's default."""
    save_to: Folder | None = None
    """Folder where collected files are saved."""
    ledger: LedgerLocation = None
    """Where the other tools remember their calls: its jobs are listed and known."""

    def _run(self, *_: Any, **asked: Any) -> tuple[str, dict[str, Any]]:
        return finish(self._answer(self._sync(), emit, JobQuestion(**asked)))

    async def _arun(self, *_: Any, **asked: Any) -> tuple[str, dict[str, Any]]:
        return await self._answer(self._async(), aemit, JobQuestion(**asked))

    async def _answer(
        self, transport: Transport, emit: Emit, asked: JobQuestion
    ) -> tuple[str, dict[str, Any]]:
        if asked.action == "list":
            jobs = await self._client("image").history(transport).jobs()
            listed = [_line(job) for job in jobs[:MOST_LISTED]]
            dumped = [job.model_dump(mode="json") for job in jobs[:MOST_LISTED]]
            return "\n".join(listed) or "no job is known here", {"jobs": dumped}
        client, job = await self._found(transport, asked)
        if asked.action == "look":
            seen = await client.looked_at(transport, job)
            return _line(seen), {"jobs": [seen.model_dump(mode="json")]}
        result = await client.collected(transport, emit, job)
        return str(result), result.model_dump(mode="json")

    async def _found(self, transport: Transport, asked: JobQuestion) -> tuple[MediaClient, Job]:
        """Return the job that is meant, and the client of its kind."""
        job_id = (asked.job_id or "").strip()
        if not job_id:
            raise InvalidRequestError(f"job_id: needed to {asked.action}", phase="not sent")
        job = await self._client("image").history(transport).find(job_id)
        model = (asked.model or "").strip()
        known = media_model(job.model if job else model)
        if job is None and known is not None:
            job = Job(kind=known.kind, model=known.id, id=job_id)
        if job is None:
            what = (
                f"{model!r} is not listed: its own tool takes the id" if model else "say its model"
            )
            raise InvalidRequestError(f"job {job_id} is not known here; {what}", phase="not sent")
        return self._client(job.kind, job.model), job

    def _client(self, kind: Kind, model: str | None = None) -> MediaClient:
        fields: dict[str, Any] = {name: getattr(self, name) for name in _SHARED}
        if model is not None:
            fields["model"] = model
        return TOOLS[kind](**fields)


def _line(job: Job) -> str:
    percent = f" {job.progress}%" if job.progress is not None else ""
    files = ", ".join(str(file.path or file.type) for file in job.files)
    reason = f": {job.error['message']}" if job.error else ""
    return (
        f"job {job.id} ({job.model}) {job.status}{percent}{f': {files}' if files else ''}{reason}"
    )
