"""An MCP server for the media tools: submit a job, query it, wait for it and collect its files.

Requires the extra `mcp`. The command `tokenhub mcp` runs it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import mimetypes
from collections.abc import Mapping
from typing import Any

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.auth import AccessToken, TokenVerifier
from fastmcp.server.dependencies import get_context
from fastmcp.tools import Tool, ToolResult
from fastmcp.tools.base import InputRequiredToolResult
from mcp_types import (
    ContentBlock,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequests,
    InputRequiredResult,
    ResourceLink,
    TextContent,
    ToolAnnotations,
)
from pydantic import Field, SkipValidation

from langchain_tokenhub._version import __version__
from langchain_tokenhub.catalogue import estimate_price, media_models
from langchain_tokenhub.errors import InvalidRequestError, JobTimeoutError, TokenHubError
from langchain_tokenhub.jobs.media_file import MediaFile
from langchain_tokenhub.jobs.models import Job, MediaResult
from langchain_tokenhub.tools.client import JobSettings
from langchain_tokenhub.tools.job_tool import TokenHubJobTool, job_text
from langchain_tokenhub.tools.llm_text import error_text
from langchain_tokenhub.tools.media_tools import MediaTool
from langchain_tokenhub.tools.toolkit import TokenHubToolkit

WAIT = 45.0
"""Seconds for which `tokenhub_wait` waits by default: most clients give up after 60 s."""
MAX_WAIT = 3600.0
_FREE = ToolAnnotations(read_only_hint=True, open_world_hint=True)
_PAID = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=True)
_APPROVAL = "approval"
_CONFIRM: dict[str, Any] = {
    "type": "object",
    "properties": {"value": {"type": "boolean", "title": "Submit and pay"}},
    "required": ["value"],
}


def server(
    toolkit: TokenHubToolkit, *, approve_above: float | None = None, token: str | None = None
) -> FastMCP:
    """Return an MCP server for a toolkit's models.

    The tools of the models submit and return a job at once. `tokenhub_look`, `tokenhub_wait`,
    `tokenhub_jobs` and `tokenhub_models` cost nothing. Results are structured content, and a
    resource link for each file. Local files are read from `allow_local_files` and `save_to` alone.

    Args:
        toolkit: The models and their settings: limits, folders, ledger, connection.
        approve_above: CNY up to which a call needs no approval; None: no call does. The client asks
            its user; the call is refused if it cannot.
        token: Bearer token that HTTP clients must send.

    Raises:
        ValueError: `approve_above` is negative or not a number; or the toolkit has a `budget_cny`,
            which counts the calls of an agent's thread, and a server has none.
    """
    if approve_above is not None and not approve_above >= 0:
        raise ValueError(f"approve_above: {approve_above!r} is not an amount in CNY from 0")
    if toolkit.budget_cny is not None:
        raise ValueError("budget_cny: a server has no thread to count; give approve_above instead")
    shared = {name: getattr(toolkit, name) for name in JobSettings.model_fields}
    jobs = _Jobs(**shared)
    mcp = FastMCP(
        "tokenhub",
        version=__version__,
        instructions="Image, video and 3D tools submit a paid job and return its ID: call "
        "tokenhub_wait with it. Never submit again to check on a job.",
        auth=_BearerTokenVerifier(token) if token else None,
        mask_error_details=True,
    )
    for tool in toolkit.get_tools():
        if isinstance(tool, MediaTool):
            mcp.add_tool(_submit_tool(tool, approve_above))
    mcp.tool(jobs.look, name="tokenhub_look", annotations=_FREE, output_schema=None)
    mcp.tool(jobs.wait, name="tokenhub_wait", annotations=_FREE, output_schema=None)
    mcp.tool(jobs.list_jobs, name="tokenhub_jobs", annotations=_FREE, output_schema=None)
    mcp.tool(models, name="tokenhub_models", annotations=_FREE, output_schema=None)
    return mcp


def models() -> dict[str, Any]:
    """List the image, video and 3D models with their estimated prices and usual times."""
    return {
        "models": [
            {
                "id": row.id,
                "kind": row.kind,
                "purpose": row.purpose,
                "price": f"about {row.price.cny} CNY per {row.price.per}" if row.price else None,
                "typical_seconds": row.typical_seconds,
                "jobs_at_once": row.max_in_flight,
            }
            for row in media_models()
        ]
    }


class _BearerTokenVerifier(TokenVerifier):
    """Accepts one bearer token."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token.encode()

    async def verify_token(self, token: str) -> AccessToken | None:
        if not hmac.compare_digest(token.encode(), self._token):
            return None
        return AccessToken(token=token, client_id="tokenhub", scopes=[])


class _SubmitTool(Tool):
    """Submits a job of one model."""

    media_tool: SkipValidation[MediaTool] = Field(exclude=True, repr=False)
    approve_above: float | None = Field(exclude=True, repr=False)

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        tool = self.media_tool
        try:
            params = tool._check_params(arguments)  # noqa: SLF001 - same package
            question = self._question(arguments)
            if question and (unapproved := await _ask_approval(question, arguments)):
                return unapproved
            submit, transport = tool._submit, tool._async()  # noqa: SLF001 - same package
            # unlike `asubmit`, this reads files of the allowed folders only
            return _result(await submit(transport, params, None, again=False, by_model=True))
        except TokenHubError as error:
            return _failure(error)

    def _question(self, arguments: Mapping[str, Any]) -> str | None:
        """Return the question for the user, or None if the call needs no approval."""
        price = estimate_price(self.media_tool.model, arguments)
        if self.approve_above is None or (price and price.high <= self.approve_above):
            return None
        return f"{self.media_tool.model}: {price or 'price not known'}. Submit it?"


def _submit_tool(tool: MediaTool, approve_above: float | None) -> _SubmitTool:
    schema: dict[str, Any] = tool.get_input_jsonschema()
    schema.get("properties", {}).pop("job_id", None)
    return _SubmitTool(
        name=tool.name,
        description=f"{tool.description} Returns at once: call tokenhub_wait with the job ID.",
        parameters=schema,
        annotations=_PAID,
        media_tool=tool,
        approve_above=approve_above,
    )


async def _ask_approval(question: str, arguments: Mapping[str, Any]) -> ToolResult | None:
    """Ask the client's user; return the answer of a call that is not approved, else None."""
    context = get_context()
    digest = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
    if (answers := context.input_responses) is not None:
        approved = _is_accepted(answers.get(_APPROVAL)) and context.request_state == digest
        return None if approved else _refuse_call(question)
    try:
        asked = await context.elicit(question, bool)
    except ToolError:  # newer protocols: the client asks, then repeats the call with the answer
        form = ElicitRequestFormParams(message=question, requested_schema=_CONFIRM)
        requests: InputRequests = {_APPROVAL: ElicitRequest(params=form)}
        return InputRequiredToolResult(
            InputRequiredResult(input_requests=requests, request_state=digest)
        )
    except Exception:  # noqa: BLE001 - the client cannot ask its user
        return _refuse_call(question)
    return None if asked.action == "accept" and asked.data else _refuse_call(question)


def _is_accepted(answer: object) -> bool:
    match answer:
        case ElicitResult(action="accept", content={"value": True}):
            return True
        case _:
            return False


def _refuse_call(question: str) -> ToolResult:
    text = f"Not approved, nothing was submitted or charged. {question}"
    return ToolResult(content=[TextContent(type="text", text=text)], is_error=True)


class _Jobs(TokenHubJobTool):
    """The tools for jobs that were submitted."""

    async def look(self, job_id: str, model: str | None = None) -> ToolResult:
        """Query a job's state once.

        Args:
            job_id: ID of the job.
            model: Model of a job that was submitted elsewhere.
        """
        try:
            tool, job = await self._find(self._async(), job_id, model)
            return _result(await tool.aquery(job))
        except TokenHubError as error:
            return _failure(error)

    async def wait(
        self, job_id: str, context: Context, seconds: float = WAIT, model: str | None = None
    ) -> ToolResult:
        """Wait for a job with progress, save its files and return them.

        A job that still runs is returned in its current state: call again.

        Args:
            job_id: ID of the job.
            context: The MCP request.
            seconds: Seconds to wait, above 0, at most 3600.
            model: Model of a job that was submitted elsewhere.
        """
        try:
            if not 0 < seconds <= MAX_WAIT:
                raise InvalidRequestError(f"seconds: {seconds:g}, must be above 0, at most 3600")
            tool, job = await self._find(self._async(), job_id, model)
            return _result(await _collect(tool, job, seconds, context))
        except TokenHubError as error:
            return _failure(error)

    async def list_jobs(self) -> ToolResult:
        """List the jobs submitted earlier, the newest first."""
        try:
            jobs = await self._history(self._async()).jobs()
        except TokenHubError as error:
            return _failure(error)
        dumped = [job.model_dump(mode="json") for job in jobs]
        return ToolResult(content=json.dumps(dumped), structured_content={"jobs": dumped})


async def _collect(
    tool: MediaTool, job: Job, seconds: float, context: Context
) -> Job | MediaResult:
    """Wait for a job and return its result, or its state after `seconds`."""
    waiting = tool.model_copy(update={"wait_timeout": seconds})
    try:
        async for state in waiting.awatch(job):
            job = state
            await context.report_progress(job.progress or 0, 100, job.status)
    except JobTimeoutError:
        return job
    return await tool.aresult(job)


def _result(found: Job | MediaResult) -> ToolResult:
    files = found.files
    text = str(found) if isinstance(found, MediaResult) else job_text(found)
    if isinstance(found, Job) and (files or not found.ended):
        text += ". Call tokenhub_wait with this job ID."
    content: list[ContentBlock] = [TextContent(type="text", text=text)]
    content += [link for file in files if (link := _link(file))]
    return ToolResult(content=content, structured_content=found.model_dump(mode="json"))


def _link(file: MediaFile) -> ResourceLink | None:
    uri = file.path.absolute().as_uri() if file.path else file.url
    if uri is None:
        return None
    name = file.path.name if file.path else f"result.{file.type}"
    kind = mimetypes.guess_type(name)[0]
    return ResourceLink(type="resource_link", uri=uri, name=name, mime_type=kind)


def _failure(error: TokenHubError) -> ToolResult:
    job = {"job": {"id": error.job.id, "model": error.job.model}} if error.job else None
    content = [TextContent(type="text", text=error_text(error))]
    return ToolResult(content=content, structured_content=job, is_error=True)
