"""The fields that the tools share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from langchain_core.stores import BaseStore
from pydantic import AfterValidator, ConfigDict, Field, PositiveFloat, PositiveInt, SkipValidation

from langchain_tokenhub.errors import AuthenticationError
from langchain_tokenhub.jobs.history import JobHistory, shared_recent_jobs
from langchain_tokenhub.jobs.ledger import Ledger
from langchain_tokenhub.jobs.ledger_backends import LedgerBackend, backend_for
from langchain_tokenhub.jobs.ledger_keys import account_hash
from langchain_tokenhub.jobs.progress import Progress
from langchain_tokenhub.settings import ConnectionSettings
from langchain_tokenhub.transport import Transport


def make_absolute(location: Any) -> Any:
    """Return a path that does not depend on the process's current folder."""
    if not isinstance(location, str | os.PathLike):
        return location
    return Path(os.path.abspath(Path(location).expanduser()))  # noqa: PTH100 - links stay links


def normalize_ledger(location: Any) -> Any:
    """Return a folder as an absolute path, and a database's URL as its backend.

    Raises:
        ValueError: It is neither of these, nor a store.
        InvalidRequestError: The database cannot be used.
    """
    match location:
        case str() if "://" in location:
            return backend_for(location)
        case str() | os.PathLike():
            return make_absolute(location)
        case None | BaseStore() | LedgerBackend():
            return location
        case _:
            raise ValueError("ledger is neither a folder, nor a database's URL, nor a BaseStore")


Folder = Annotated[Path, AfterValidator(make_absolute)]
LedgerLocation = Annotated[
    SkipValidation[str | Path | BaseStore[str, Any] | LedgerBackend | None],
    AfterValidator(normalize_ledger),
    Field(default=None, exclude=True),
]


class JobSettings(ConnectionSettings):
    """How to wait for jobs, and where to store their files and records."""

    model_config = ConfigDict(arbitrary_types_allowed=True, populate_by_name=True, extra="forbid")

    wait_timeout: PositiveFloat | None = None
    """Seconds to wait for a job, above 0; None is the model's default."""
    save_to: Folder | None = None
    """Folder where files are saved before their links expire, each with a JSON sidecar."""
    ledger: LedgerLocation = None
    """Where calls are recorded to make them repeatable: the same call resumes its job.

    A folder; the URL of a database (extra `bulk`), `sqlite:///file` or
    `postgresql+psycopg://user:password@host/name`; or a `BaseStore`. Folder and database claim a
    call atomically. A `BaseStore` cannot: two workers that start the same call at the same time
    may both submit and pay. A pickle omits the password; set it in `PGPASSWORD` or `~/.pgpass`.
    """

    def _key_or_empty(self) -> str:
        """Return the API key of the next request; an empty text if there is none."""
        try:
            return self._key()
        except AuthenticationError:
            return ""

    def _account_hash(self) -> str:
        return account_hash(key) if (key := self._key_or_empty()) else ""

    def _owner(self) -> tuple[object, ...]:
        """Return what identifies the account in this process."""
        return hash(self._key_or_empty()), self._origins()

    def _ledger(self, transport: Transport, backend: LedgerBackend | None = None) -> Ledger | None:
        if self.ledger is None:
            return None
        backend = backend or backend_for(self.ledger)
        return Ledger(backend, transport.runtime, self._account_hash())

    def _folders(self) -> tuple[Path, ...]:
        """Return the folders whose files and sidecars belong to this object."""
        return (self.save_to,) if self.save_to else ()

    def _history(self, transport: Transport) -> JobHistory:
        return JobHistory(
            runtime=transport.runtime,
            recent=shared_recent_jobs(*self._owner()),
            ledger=self._ledger(transport),
            folders=self._folders(),
        )


class MediaSettings(JobSettings):
    """How the image, video and 3D tools submit jobs."""

    progress: SkipValidation[Progress] = Field(default=None, exclude=True)
    """True for a progress bar, or a function that takes a `Job`."""
    max_in_flight: PositiveInt | None = None
    """Jobs at once per account and model in this process; None is the catalogue's default."""
    allow_local_files: Sequence[Folder] = ()
    """Folders from which a language model may send files."""
