"""What `run` and `arun` take, and how it is checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    ConfigDict,
    PositiveInt,
    SecretStr,
    TypeAdapter,
    ValidationError,
    with_config,
)
from typing_extensions import TypedDict

from langchain_tokenhub.bulk.executors import Accounts, Executor, option_error
from langchain_tokenhub.bulk.plan import Cny, Prices
from langchain_tokenhub.catalogue import SiteName
from langchain_tokenhub.errors import InvalidRequestError
from langchain_tokenhub.params import Language

ExecutorName: TypeAlias = Literal["local", "ray"]
_as_list = BeforeValidator(lambda keys: [keys] if isinstance(keys, str | SecretStr) else keys)
_Keys: TypeAlias = Annotated[Sequence[str | SecretStr], _as_list]


class ToolOptions(TypedDict, total=False):
    """How the rows' tools connect and wait; see the tools' fields of the same names."""

    site: SiteName
    base_url: str | Sequence[str] | None
    timeout: float | None
    max_retries: int
    wait_timeout: float | None


@with_config(ConfigDict(extra="forbid", arbitrary_types_allowed=True))
class RunOptions(ToolOptions, total=False):
    """What `run` and `arun` take.

    Args:
        budget_cny: CNY that the submits of all runs with this `out` may cost by estimate, from 0.
        executor: `local` for this process, `ray` for a Ray cluster, or an `Executor`.
        ledger: Database URL; None is an SQLite file in `out`.
        on_error: `stop` submits nothing new after a row failed.
        price_cny: CNY of a job of each model without a known price; or by model, in place of it.
        in_flight: Jobs at once per account and model, from 1; None is the catalogue's quota.
        api_keys: Keys that share the rows; else those of `keys_file` or the environment
            (`TOKENHUB_API_KEYS`, separated by commas, then `TOKENHUB_API_KEY`).
        keys_file: File with one key per line.
        retry_failed: Whether rows that failed in an earlier run are run again.
        again: `unknown` submits rows again that may have been charged already.
        language: Of the gallery page.
    """

    budget_cny: Cny | None
    executor: ExecutorName | Executor
    ledger: str | None
    on_error: Literal["continue", "stop"]
    price_cny: Prices
    in_flight: PositiveInt | None
    api_keys: _Keys | None
    keys_file: str | Path | None
    retry_failed: bool
    again: Literal["unknown"] | None
    language: Language


def checked_options(options: RunOptions) -> RunOptions:
    """Return the options with their types.

    Raises:
        InvalidRequestError: One is wrong.
    """
    try:
        return TypeAdapter(RunOptions).validate_python(options)
    except ValidationError as problem:
        raise option_error(problem) from None


def accounts_of(options: RunOptions) -> Accounts:
    """Return the accounts whose keys are given."""
    keys, file = options.get("api_keys"), keys_file_of(options)
    if keys is not None:
        return Accounts(key if isinstance(key, str) else key.get_secret_value() for key in keys)
    try:
        return Accounts.load(file)
    except OSError as problem:
        reason = f"keys_file: {str(file)!r}: {problem.strerror}"
    raise InvalidRequestError(reason, phase="not sent")


def keys_file_of(options: RunOptions) -> Path | None:
    """Return the file with the keys, as an absolute path."""
    file = options.get("keys_file")
    return Path(file).expanduser().absolute() if file else None
