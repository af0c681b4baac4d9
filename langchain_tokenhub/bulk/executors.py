"""Where rows run. The driver decides which row runs when and with which key; an executor runs it.

An executor gets a `Task`, which is plain data without a key, and returns a `MediaResult` or a
`TokenHubError`. It calls the model's tool once: submit, wait and save are the tool's, and the
ledger in `ToolSettings` makes a repeated task resume its job. So an executor may run a task again
after a worker died. It finds the key by `Task.account` among the keys of its own machine
(`Accounts.load`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

from pydantic import SecretStr, ValidationError

from langchain_tokenhub.catalogue import Kind
from langchain_tokenhub.errors import (
    NO_KEY,
    AuthenticationError,
    InvalidRequestError,
    JobRef,
    TokenHubError,
)
from langchain_tokenhub.jobs.ledger import account_hash
from langchain_tokenhub.jobs.models import MediaResult
from langchain_tokenhub.settings import KEY_VARIABLES
from langchain_tokenhub.tools.media_tools import TOOLS, MediaTool

if TYPE_CHECKING:
    from langchain_tokenhub.jobs.ledger_sql import SqlBackend

logger = logging.getLogger("langchain_tokenhub.bulk")

KEYS_VARIABLE = "TOKENHUB_API_KEYS"
"""Several keys, separated by commas."""
Result: TypeAlias = MediaResult | TokenHubError


@dataclass(frozen=True, kw_only=True)
class Task:
    """A row to run, as plain data.

    Args:
        id: The row's id.
        key: Its key in the ledger.
        model: Model id.
        kind: The model's kind.
        params: Parameters; results of other rows are dumped.
        extra: Fields for the body, unchecked.
        account: Hash of the API key to submit with; empty if any may be used.
        again: Whether to submit although the ledger has an entry.
        replaced: Tokens of its entries; where it has others by then, nothing is submitted.
        is_collected: Whether it has a job, which is collected.
        run: Id of the run to charge.
        cny: Estimated price of a submit.
        budget_cny: CNY that the run may spend; None is any amount.
    """

    id: str
    key: str
    model: str
    kind: Kind
    params: Mapping[str, Any]
    extra: Mapping[str, Any] | None
    account: str = ""
    again: bool = False
    replaced: tuple[str, ...] = ()
    is_collected: bool = False
    run: str = ""
    cny: float = 0.0
    budget_cny: float | None = None


@runtime_checkable
class Executor(Protocol):
    """Runs tasks, many at one time."""

    async def open(self) -> None:
        """Prepare to run tasks.

        Raises:
            InvalidRequestError: Tasks cannot be run.
        """
        ...

    async def run(self, task: Task) -> Result:
        """Run a task to its end. If it is cancelled, a submit under way is finished first."""
        ...

    async def close(self) -> None:
        """Release what it holds."""
        ...


@dataclass(frozen=True, kw_only=True)
class ToolSettings:
    """How the tools are made, as plain data.

    Args:
        out: Folder for files.
        ledger: URL of the database.
        in_flight: Jobs at once per account and model; None is the catalogue's.
        options: Connection fields and `wait_timeout`, without a key.
    """

    out: Path
    ledger: str
    in_flight: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class Accounts:
    """API keys by the hashes of their accounts.

    Args:
        keys: The keys; blank ones are left out.

    Raises:
        AuthenticationError: There is no key.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        stripped = filter(None, (key.strip() for key in keys))
        self._keys = {account_hash(key): SecretStr(key) for key in stripped}
        if not self._keys:
            raise AuthenticationError(
                NO_KEY,
                phase="not sent",
                hint=f"set {KEY_VARIABLES[0]}, {KEYS_VARIABLE} or a file of keys / 请设置密钥",
            )

    @classmethod
    def load(cls, keys_file: Path | None = None) -> Accounts:
        """Return the accounts of a file with one key per line, else those of the environment.

        Raises:
            OSError: The file cannot be read.
            AuthenticationError: No key is found.
        """
        if keys_file is not None:
            lines = keys_file.read_text("utf-8-sig", errors="replace").splitlines()
            return cls(line for line in lines if not line.lstrip().startswith("#"))
        if several := os.environ.get(KEYS_VARIABLE, "").strip():
            return cls(several.split(","))
        return cls(filter(None, [next(filter(None, map(os.environ.get, KEY_VARIABLES)), "")]))

    @property
    def hashes(self) -> list[str]:
        """The hashes of the keys, in the given order."""
        return list(self._keys)

    def key(self, account: str) -> SecretStr:
        """Return the key of an account.

        Raises:
            AuthenticationError: It is not given on this machine.
        """
        if (key := self._keys.get(account)) is not None:
            return key
        raise missing_key_error(account)


def missing_key_error(account: str, job: JobRef | None = None) -> AuthenticationError:
    """Return the error for a row that was submitted with a key that is not given."""
    return AuthenticationError(
        f"the key of account {account[:8]} is not given",
        phase="not sent",
        hint="the row was submitted with it, and can be collected with it alone",
        job=job,
    )


def tool_for(
    settings: ToolSettings, accounts: Accounts, account: str, model: str, kind: Kind
) -> MediaTool:
    """Return the tool that runs a model's rows with an account's key.

    Raises:
        InvalidRequestError: A connection field is wrong.
    """
    fields = {"api_key": accounts.key(account), "save_to": settings.out, "ledger": settings.ledger}
    fields |= {"max_in_flight": settings.in_flight, **settings.options}
    try:
        return TOOLS[kind](model=model, **fields)
    except ValidationError as problem:
        raise option_error(problem) from None


def option_error(problem: ValidationError) -> InvalidRequestError:
    """Return the error for an invalid option; its value, perhaps a key, is not quoted."""
    first = problem.errors(include_input=False, include_url=False)[0]
    return InvalidRequestError(f"{first['loc'][0]}: {first['msg']}", phase="not sent")


async def run_task(tool: MediaTool, task: Task) -> Result:
    """Run a task with its tool; whatever goes wrong is returned."""
    from langchain_tokenhub.bulk.budget import RowBackend  # it needs SQLAlchemy

    try:
        request = await tool._plan_row(task.id, task.params, task.extra)
        if request.key != task.key:
            return InvalidRequestError(
                f"row {task.id!r}: a file of it changed since the rows were checked",
                phase="not sent",
                hint="nothing was sent or charged; run again",
            )
        request = replace(
            request,
            again=task.again,
            replaced=task.replaced,
            is_looked_up=not task.is_collected,
        )
        backend = cast("SqlBackend", tool.ledger)
        rows = RowBackend(backend, task.run, task.key, task.cny, task.budget_cny)
        return await tool._run_row(request, rows)
    except TokenHubError as error:
        return error
    except Exception as problem:
        logger.exception("row %s failed", task.id)
        return TokenHubError(f"unexpected {type(problem).__name__}; see the log")


class LocalExecutor(Executor):
    """Runs tasks in this process, in the running event loop."""

    def __init__(self, settings: ToolSettings, accounts: Accounts) -> None:
        self._settings = settings
        self._accounts = accounts
        self._tools: dict[tuple[str, str], MediaTool] = {}

    async def open(self) -> None:  # noqa: D102
        pass

    async def run(self, task: Task) -> Result:  # noqa: D102
        name = task.account, task.model
        if name not in self._tools:
            self._tools[name] = tool_for(self._settings, self._accounts, *name, task.kind)
        return await run_task(self._tools[name], task)

    async def close(self) -> None:  # noqa: D102
        for tool in list(self._tools.values())[:1]:  # they share the loop's connections
            await tool.aclose()
