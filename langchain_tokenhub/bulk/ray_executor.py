"""Runs rows on a Ray cluster. This module alone imports Ray, the extra `ray`.

Each node has one worker, an async actor that runs any number of rows, since rows only wait. Ray
notices dead workers and nodes, starts them again and repeats their rows; the ledger makes sure that
each is paid once. A worker gets plain data, and finds the key in its own environment or file.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from langchain_tokenhub import __version__
from langchain_tokenhub.bulk.driver import RUN_FILE, is_saved
from langchain_tokenhub.bulk.executors import (
    Accounts,
    Executor,
    Result,
    Task,
    ToolFields,
    load_accounts,
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
"""Times that Ray runs a row again whose worker died."""
MAX_ROWS = 5000
"""Rows at once in one worker."""
_PACKAGE = f"langchain-tokenhub[ray]=={__version__}"
_ADDRESS = ("site", "base_url")
"""Fields whose defaults are the environment's, which is another one at a worker."""


class RayExecutor(Executor):
    """Runs each task in a Ray worker, and saves in this process what the worker cannot.

    Keys never leave this process: a node has its own `keys_file`, or its environment if that is
    None.
    """

    def __init__(
        self, fields: ToolFields, accounts: Accounts, keys_file: str | Path | None = None
    ) -> None:
        super().__init__(fields, accounts)
        sent: dict[str, Any] = {**fields}
        own = ConnectionSettings(**{name: sent[name] for name in _ADDRESS if name in sent})
        self._sent = {**sent, **{name: getattr(own, name) for name in _ADDRESS}}, keys_file
        self._is_owner = False

    async def open(self) -> None:
        """Connect to the cluster, or start Ray on this machine if there is none.

        Raises:
            InvalidRequestError: Ray cannot be used, or not with this ledger.
        """
        self._workers = itertools.cycle(await asyncio.to_thread(self._start_workers))

    def _start_workers(self) -> list[Any]:
        if not ray.is_initialized():
            try:
                ray.init(log_to_driver=False, logging_level=logging.ERROR)
            except (RayError, OSError, RuntimeError, ValueError) as problem:
                raise _refusal(f"Ray cannot be used: {problem}", "see `ray status`") from None
            self._is_owner = True
        listed: list[Any] = ray.nodes()  # type: ignore[no-untyped-call] # of Ray
        nodes = [node for node in listed if node["Alive"]]
        hosts = [node["NodeManagerHostname"] for node in nodes]
        if self.fields["ledger"].startswith("sqlite") and hosts != [socket.gethostname()]:
            raise _refusal(
                f"the ledger is an SQLite file, which the nodes {', '.join(hosts)} cannot share",
                "give a PostgreSQL database: ledger='postgresql+psycopg://user@host/name'",
            )
        how = {"max_restarts": -1, "max_task_retries": RETRIES, "max_concurrency": MAX_ROWS}
        worker = ray.remote(Worker).options(num_cpus=0, scheduling_strategy="SPREAD", **how)
        return [worker.remote() for _ in nodes]

    async def run(self, task: Task) -> Result:  # noqa: D102
        method = next(self._workers).run
        if task.replaced:  # a second attempt could pay twice
            method = method.options(max_task_retries=0)
        try:
            found = await _wait_for_row(method.remote(__version__, vars(task), *self._sent))
        except RayTaskError as problem:
            return TokenHubError(
                f"unexpected {type(problem.cause).__name__} in a Ray worker; see its log",
                hint=f"is {_PACKAGE} on every node?",
            )
        except RayError as problem:
            return _dead_worker_error(task, type(problem).__name__)
        if isinstance(found, str):
            return _refusal(found, "install the same version on every node; nothing was sent")
        if isinstance(found, MediaResult) and not await asyncio.to_thread(is_saved, found.job):
            return await super().run(replace(task, replaced=()))
        return found

    async def close(self) -> None:  # noqa: D102
        self._workers = itertools.cycle([])  # Ray ends workers that nobody refers to
        await super().close()
        if self._is_owner:
            await asyncio.to_thread(ray.shutdown)


async def _wait_for_row(ref: ray.ObjectRef[Result | str]) -> Result | str:
    """Wait for a row; if this is cancelled, cancel the row, which ends its submit first."""
    future = asyncio.wrap_future(ref.future())
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        ray.cancel(ref)
        await asyncio.wait([future], timeout=INTERRUPT_GRACE)
        raise


class Worker:
    """Runs rows on a node, as a Ray actor. Each call passes all data: Ray stores an actor's own."""

    async def run(
        self,
        version: str,
        task: Mapping[str, Any],
        fields: ToolFields,
        keys_file: str | Path | None,
    ) -> Result | str:
        """Run a `Task`; return what is wrong if `version` is another one."""
        node = socket.gethostname()
        if version != __version__:
            return f"langchain-tokenhub is {__version__} on node {node}, {version} in the driver"
        result = await _run(Task(**task), fields, keys_file)
        if isinstance(result, TokenHubError) and result.phase == "not sent":
            result.hint = f"{result.hint or 'nothing was sent'} (on node {node})"
        return result


async def _run(task: Task, fields: ToolFields, keys_file: str | Path | None) -> Result:
    is_shared = False
    with suppress(OSError):  # this machine does not see the driver's folder
        is_shared = (fields["save_to"] / RUN_FILE).read_text("ascii").strip() == task.run
    if not is_shared and task.params.get("rsp_img_type") == "base64":
        return _refusal("rsp_img_type='base64' needs the folder `out`", "share it")
    try:
        executor = Executor(fields, load_accounts(keys_file))
        tool = executor.tool(task.account, task)
    except OSError as problem:
        return _refusal(f"{keys_file}: {problem.strerror}", "put the keys there")
    except TokenHubError as error:
        return error
    if not is_shared:
        tool.save_to = None  # the driver saves
    return await executor.run(task)


def _dead_worker_error(task: Task, reason: str) -> TokenHubError:
    text = f"the Ray worker of row {task.id!r} died ({reason})"
    if task.replaced:
        return SubmissionUnknownError(
            text, phase="sent", hint="run again to see whether it has a job"
        )
    hint = f"run again: nothing is paid twice; is {_PACKAGE} on every node?"
    return APIConnectionError(text, hint=hint)


def _refusal(problem: str, hint: str) -> InvalidRequestError:
    return InvalidRequestError(problem, phase="not sent", hint=hint)
