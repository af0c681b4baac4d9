"""Runs rows on a Ray cluster. This module alone imports Ray, the extra `ray`.

Ray places the tasks, notices dead workers and nodes, and runs their tasks again; the ledger makes
sure that each row is paid once. A worker gets plain data, and finds the key in its own environment
or file.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from langchain_tokenhub import __version__
from langchain_tokenhub.bulk.driver import RUN_FILE, run_id
from langchain_tokenhub.bulk.executors import (
    Accounts,
    Executor,
    LocalExecutor,
    Result,
    Task,
    ToolSettings,
    run_task,
    tool_for,
)
from langchain_tokenhub.errors import (
    APIConnectionError,
    InvalidRequestError,
    SubmissionUnknownError,
    TokenHubError,
)
from langchain_tokenhub.jobs.models import MediaResult
from langchain_tokenhub.settings import ConnectionSettings
from langchain_tokenhub.transport.runtime import INTERRUPT_GRACE

RETRIES = 3
"""Times that Ray runs a task again whose worker died."""
_TICK = 0.5
"""Seconds after which a worker notices that its row is cancelled."""


class RayExecutor(Executor):
    """Runs each task in a Ray worker.

    Args:
        settings: How the tools are made.
        accounts: The keys of this process, which never leave it.
        keys_file: File with the keys on every node; None is the nodes' environment.
    """

    def __init__(
        self, settings: ToolSettings, accounts: Accounts, keys_file: Path | None = None
    ) -> None:
        options = dict(settings.options)
        given = {name: options[name] for name in ("site", "base_url") if name in options}
        here = ConnectionSettings(**given)  # a worker's environment may name another site
        options |= {"site": here.site, "base_url": here.base_url}
        self._settings = dataclasses.replace(settings, options=options)
        self._keys_file = keys_file
        self._local = LocalExecutor(settings, accounts)
        self._placement: Any = "SPREAD"
        self._is_owner = False

    async def open(self) -> None:
        """Connect to the cluster, or start Ray on this machine if there is none.

        Raises:
            InvalidRequestError: Ray cannot be used, or not with this ledger.
        """
        await asyncio.to_thread(self._connect)
        self._run_id = await asyncio.to_thread(run_id, self._settings.out)

    def _connect(self) -> None:
        if not ray.is_initialized():
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
            except (RayError, OSError, RuntimeError, ValueError) as problem:
                raise _refused(f"Ray cannot be used: {problem}", "see `ray status`") from None
            self._is_owner = True
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if not self._settings.ledger.startswith("sqlite"):
            return
        if [node["NodeManagerHostname"] for node in nodes] != [socket.gethostname()]:
            raise _refused(
                f"the ledger is an SQLite file, which {len(nodes)} nodes cannot share",
                "give a PostgreSQL database: ledger='postgresql+psycopg://user@host/name'",
            )
        self._placement = NodeAffinitySchedulingStrategy(nodes[0]["NodeID"], soft=False)

    async def run(self, task: Task) -> Result:  # noqa: D102
        try:
            found = await self._finished(self._start(task))
        except RayTaskError as problem:
            return TokenHubError(
                f"unexpected {type(problem.cause).__name__} in a Ray worker",
                hint=f"install langchain-tokenhub[ray]=={__version__} on every node; see its log",
            )
        except RayError as problem:
            return _lost(task, type(problem).__name__)
        if isinstance(found, str):
            return _refused(found, "install the same version on every node; nothing was sent")
        if isinstance(found, MediaResult) and not await asyncio.to_thread(_is_saved, found):
            return await self._local.run(dataclasses.replace(task, again=False))
        return found

    def _start(self, task: Task) -> ray.ObjectRef[Result | str]:
        remote = ray.remote(run_row).options(
            num_cpus=0,
            max_retries=0 if task.again else RETRIES,
            scheduling_strategy=self._placement,
            name=f"tokenhub {task.model}",
        )
        plain = [{**vars(value)} for value in (task, self._settings)]
        return remote.remote(__version__, *plain, self._keys_file, self._run_id)

    async def _finished(self, ref: ray.ObjectRef[Result | str]) -> Result | str:
        """Wait for a task; if this is cancelled, cancel the task, which ends its submit first."""
        future = asyncio.wrap_future(ref.future())
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            ray.cancel(ref)
            await asyncio.wait([future], timeout=INTERRUPT_GRACE)
            with suppress(RayError, asyncio.InvalidStateError):
                future.exception()
            raise

    async def close(self) -> None:  # noqa: D102
        await self._local.close()
        if self._is_owner:
            await asyncio.to_thread(ray.shutdown)


def run_row(
    version: str,
    task: Mapping[str, Any],
    settings: Mapping[str, Any],
    keys_file: Path | None,
    run: str,
) -> Result | str:
    """Run a row in a worker; return what is wrong if the worker has another version."""
    if version != __version__:
        node = socket.gethostname()
        return f"langchain-tokenhub is {__version__} on node {node}, and {version} in the driver"
    work = _run_row(Task(**task), ToolSettings(**settings), keys_file, run)
    return asyncio.run(_ticking(work))


async def _ticking(work: Any) -> Result:
    """Run `work`; Ray's interruption is noticed only when the loop wakes."""
    running = asyncio.ensure_future(work)
    try:
        while not running.done():
            await asyncio.wait([running], timeout=_TICK)
    except asyncio.CancelledError:
        running.cancel()
    return await running


async def _run_row(task: Task, settings: ToolSettings, keys_file: Path | None, run: str) -> Result:
    try:
        accounts = Accounts.from_environment(keys_file)
        tool = tool_for(settings, accounts, task.account, task.model, task.kind)
    except OSError as problem:
        return _on_node(_refused(f"{keys_file}: {problem.strerror}", "put the file of keys there"))
    except TokenHubError as error:
        return _on_node(error)
    if not _is_run_folder(settings.out, run):
        if task.params.get("rsp_img_type") == "base64":
            text = f"row {task.id!r}: rsp_img_type='base64' needs `out` on every node"
            return _on_node(_refused(text, "share the folder, or leave it out"))
        tool.save_to = None  # the driver saves
    try:
        result = await run_task(tool, task)
    finally:
        await tool.aclose()
    is_wrong = isinstance(result, InvalidRequestError) and result.phase == "not sent"
    return _on_node(result) if is_wrong else result


def _is_run_folder(out: Path, run: str) -> bool:
    """Return True if this machine sees the driver's folder."""
    with suppress(OSError):
        return (out / RUN_FILE).read_text("ascii").strip() == run
    return False


def _is_saved(result: MediaResult) -> bool:
    return all(file.path and file.path.is_file() for file in result.files)


def _on_node(error: TokenHubError) -> TokenHubError:
    error.hint = f"{error.hint or 'nothing was sent'} (on node {socket.gethostname()})"
    return error


def _lost(task: Task, reason: str) -> TokenHubError:
    """Return the error of a task whose worker died too often: only a known key is repeated."""
    text = f"the Ray worker of row {task.id!r} died ({reason})"
    if task.again:
        hint = "look at the console's usage; it may have been charged; run again to see its job"
        return SubmissionUnknownError(text, phase="sent", hint=hint)
    return APIConnectionError(text, hint="run again: nothing is paid twice")


def _refused(problem: str, hint: str) -> InvalidRequestError:
    return InvalidRequestError(problem, phase="not sent", hint=hint)
