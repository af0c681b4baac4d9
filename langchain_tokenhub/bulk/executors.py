"""Where rows run. The driver decides which row runs when and with which key; an executor runs it.

The ledger makes a repeated task resume its job, so a task may run again after a worker died.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, cast

from pydantic import SecretStr, ValidationError
from typing_extensions import TypedDict

from langchain_tokenhub.bulk.plan import Row
from langchain_tokenhub.catalogue import SiteName
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
Accounts: TypeAlias = Mapping[str, SecretStr]
"""API keys by the hashes of their accounts, in the given order."""
Result: TypeAlias = MediaResult | TokenHubError


@dataclass(frozen=True, kw_only=True)
class Task(Row):
    """A row to run, as plain data without a key: results of other rows are dumped.

    Args:
        key: Its key in the ledger.
        run: Id of the run to charge.
        budget_cny: CNY that the run may spend; None is any amount.
        account: Hash of the API key to submit with; empty if any may be used.
        replaced: Tokens of the ledger's entries beside which it is submitted again; where it has
            others by then, nothing is submitted.
        is_collected: Whether it has a job, which is collected.
    """

    key: str
    run: str
    budget_cny: float | None
    account: str = ""
    replaced: tuple[str, ...] = ()
    is_collected: bool = False


class ToolOptions(TypedDict, total=False):
    """How the rows' tools connect and wait; see the tools' fields of the same names."""

    site: SiteName
    base_url: str | Sequence[str] | None
    timeout: float | None
    max_retries: int
    wait_timeout: float | None


class ToolFields(ToolOptions):
    """The fields of the rows' tools, as plain data without a key."""

    save_to: Path
    ledger: str
    max_in_flight: int | None


def accounts_with(keys: Iterable[str]) -> Accounts:
    """Return the accounts of some keys; blank ones are left out.

    Raises:
        AuthenticationError: There is no key.
    """
    stripped = filter(None, (key.strip() for key in keys))
    if accounts := {account_hash(key): SecretStr(key) for key in stripped}:
        return accounts
    raise AuthenticationError(
        NO_KEY,
        phase="not sent",
        hint=f"set {KEY_VARIABLES[0]}, {KEYS_VARIABLE} or a file of keys / 请设置密钥",
    )


def load_accounts(keys_file: str | Path | None = None) -> Accounts:
    """Return the accounts of a file with one key per line, else those of the environment.

    Raises:
        OSError: The file cannot be read.
        AuthenticationError: No key is found.
    """
    if keys_file is not None:
        lines = Path(keys_file).read_text("utf-8-sig", errors="replace").splitlines()
        return accounts_with(line for line in lines if not line.lstrip().startswith("#"))
    if several := os.environ.get(KEYS_VARIABLE, "").strip():
        return accounts_with(several.split(","))
    return accounts_with([next(filter(None, map(os.environ.get, KEY_VARIABLES)), "")])


def missing_key_error(account: str, job: JobRef | None = None) -> AuthenticationError:
    """Return the error for a row that was submitted with a key that is not given."""
    return AuthenticationError(
        f"the key of account {account[:8]} is not given",
        phase="not sent",
        hint="the row was submitted with it, and can be collected with it alone",
        job=job,
    )


def option_error(problem: ValidationError) -> InvalidRequestError:
    """Return the error for an invalid option; its value, perhaps a key, is not quoted."""
    first = problem.errors(include_input=False, include_url=False)[0]
    return InvalidRequestError(f"{first['loc'][0]}: {first['msg']}", phase="not sent")


class Executor:
    """Runs tasks in this process, many at one time, each with its model's tool."""

    def __init__(self, fields: ToolFields, accounts: Accounts) -> None:
        self.fields = fields
        self.accounts = accounts
        self._tools: dict[tuple[str, str], MediaTool] = {}

    def tool(self, account: str, row: Row) -> MediaTool:
        """Return the tool that runs a model's rows with an account's key.

        Raises:
            InvalidRequestError: A connection field is wrong.
            AuthenticationError: The key is not given on this machine.
        """
        if (key := self.accounts.get(account)) is None:
            raise missing_key_error(account)
        if (account, row.model) not in self._tools:
            try:
                tool = TOOLS[row.kind](model=row.model, api_key=key, **self.fields)
            except ValidationError as problem:
                raise option_error(problem) from None
            self._tools[account, row.model] = tool
        return self._tools[account, row.model]

    async def open(self) -> None:
        """Prepare to run tasks."""

    async def run(self, task: Task) -> Result:
        """Run a task to its end, and return whatever goes wrong.

        If it is cancelled, a submit under way is finished first.
        """
        from langchain_tokenhub.bulk.budget import RowBackend  # it needs SQLAlchemy

        try:
            tool = self.tool(task.account, task)
            request = await tool._plan_row(task.id, task.params, task.extra)
            if request.key != task.key:
                return InvalidRequestError(
                    f"row {task.id!r}: a file of it changed since the rows were checked",
                    phase="not sent",
                    hint="nothing was sent or charged; run again",
                )
            request = replace(
                request,
                again=bool(task.replaced),
                replaced=task.replaced,
                is_looked_up=not task.is_collected,
            )
            backend = cast("SqlBackend", tool.ledger)
            rows = RowBackend(backend, task.run, task.key, task.cny or 0.0, task.budget_cny)
            return await tool._run_row(request, rows)
        except TokenHubError as error:
            return error
        except Exception as problem:
            logger.exception("row %s failed", task.id)
            return TokenHubError(f"unexpected {type(problem).__name__}; see the log")

    async def close(self) -> None:
        """Release what it holds."""
        for tool in list(self._tools.values())[:1]:  # they share the loop's connections
            await tool.aclose()
