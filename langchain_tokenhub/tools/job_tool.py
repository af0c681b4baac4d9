"""A tool that looks up, lists and collects jobs submitted earlier. It never submits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Unpack

from langchain_core.tools import ArgsSchema
from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from langchain_tokenhub.catalogue import media_model
from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.jobs.models import Job
from langchain_tokenhub.tools.client import JobOptions, JobSettings
from langchain_tokenhub.tools.media_tools import TOOLS, MediaTool, ToolErrorMixin, ToolOptions
from langchain_tokenhub.transport import Transport, run_sync

MAX_LISTED = 20


class JobToolInput(BaseModel):
    """The input of `TokenHubJobTool`."""

    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)

    action: Literal["list", "look", "collect"] = Field(
        default="look",
        description="list: known jobs; look: the state of one; collect: wait for its files. "
        "list 列出任务；look 查看状态；collect 等待并取回结果。不产生新的费用。",
    )
    job_id: str | None = Field(
        default=None, description="ID of the job; not for list. 任务 ID（list 不需要）。"
    )
    model: str | None = Field(
        default=None, description="Model of a job submitted elsewhere. 在别处提交的任务所用的模型。"
    )


class JobToolOptions(JobOptions, ToolOptions, total=False):
    """Constructor keywords of `TokenHubJobTool`."""


class TokenHubJobTool(JobSettings, ToolErrorMixin):
    """Lists, checks and collects image, video and 3D jobs that were submitted earlier.

    Example:
        ```python
        job = TokenHubVideoTool().submit(prompt="一只橘猫在雪地里奔跑")
        print(TokenHubJobTool(save_to="out").invoke({"action": "collect", "job_id": job.id}))
        ```
    """

    model_config = ConfigDict(extra="forbid")  # BaseTool's is "ignore"

    name: str = "tokenhub_job"
    description: str = (
        "查看、列出或取回已提交的图片、视频、3D 任务，不产生费用。"
        "Lists, checks or collects image, video and 3D jobs submitted earlier; costs nothing."
    )
    args_schema: SkipValidation[ArgsSchema | None] = JobToolInput
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"

    if TYPE_CHECKING:

        def __init__(self, **options: Unpack[JobToolOptions]) -> None: ...

    def _run(self, *_: Any, **params: Any) -> tuple[str, dict[str, Any]]:
        return run_sync(self._answer(self._sync(), JobToolInput(**params)))

    async def _arun(self, *_: Any, **params: Any) -> tuple[str, dict[str, Any]]:
        return await self._answer(self._async(), JobToolInput(**params))

    async def _answer(
        self, transport: Transport, question: JobToolInput
    ) -> tuple[str, dict[str, Any]]:
        if question.action == "list":
            return _listing(await self._history(transport).jobs())
        tool, job = await self._find(transport, question.job_id, question.model)
        if question.action == "look":
            return _listing([await tool._query(transport, job)])
        result = await tool._result(transport, job, None)
        return str(result), result.model_dump(mode="json")

    async def _find(
        self, transport: Transport, job_id: str | None, model: str | None
    ) -> tuple[MediaTool, Job]:
        """Return the tool for a job, and the job."""
        job_id = (job_id or "").strip()
        if not job_id:
            raise InvalidRequestError("job_id: needed to look or collect", phase="not sent")
        job = await self._history(transport).find(job_id)
        job = job or _job_of_model(job_id, (model or "").strip())
        shared: dict[str, Any] = {name: getattr(self, name) for name in JobSettings.model_fields}
        return TOOLS[job.kind](**shared, model=job.model), job


def _job_of_model(job_id: str, model: str) -> Job:
    known = media_model(model)
    if known is None:
        advice = (
            f"{model!r} is not listed: use the tool of that model" if model else "give its model"
        )
        raise InvalidRequestError(f"job {job_id} is not known; {advice}", phase="not sent")
    return Job(kind=known.kind, model=known.id, id=job_id)


def _listing(jobs: list[Job]) -> tuple[str, dict[str, Any]]:
    jobs = jobs[:MAX_LISTED]
    text = "\n".join(map(job_text, jobs)) or "no jobs are known"
    return text, {"jobs": [job.model_dump(mode="json") for job in jobs]}


def job_text(job: Job) -> str:
    """Return the state of a job on one line, for a language model."""
    percent = f" {job.progress}%" if job.progress is not None else ""
    names = ", ".join(str(file.path or file.type) for file in job.files)
    files = f": {names}" if names else ""
    reason = f": {job.error['message']}" if job.error else ""
    return f"job {job.id} ({job.model}) {job.status}{percent}{files}{reason}"
