"""Jobs and their results: values without keys that survive JSON, and how answers become them.

Pure. Every known spelling of an answer is accepted, as results are paid for.
"""

from __future__ import annotations

import base64
import html
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from langchain_tokenhub.catalogue import MediaKind, error_row
from langchain_tokenhub.errors import (
    Fault,
    InvalidRequestError,
    JobRef,
    TokenHubError,
    clean,
    fault_in,
)
from langchain_tokenhub.jobs.files import TYPES, file_type_of
from langchain_tokenhub.jobs.media_file import MediaFile, Time
from langchain_tokenhub.transport import Answer

logger = logging.getLogger("langchain_tokenhub.jobs")

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled", "unknown"]
ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled"})


class JobFault(TypedDict):
    """Why a job failed, in the service's words."""

    code: str | None
    message: str


class Job(JobRef):
    """The known state of a job. Store it as JSON, and collect it later in another process.

    Args:
        kind: `image`, `video` or `3d`.
        model: Model id as sent.
        id: The service's id: an opaque string, never empty.
        status: `unknown` for an undocumented word; such a job is still polled.
        host: Name of the host that accepted the job; queries go to it first.
        request_id: The service's id of the submit, for its support.
        submitted_at: Time of the submit, by this machine's clock.
        completed_at: Time of the end, by this machine's clock if the submit's time is known, else
            by the service's.
        progress: Percent, if the service gives it.
        error: Why the job failed.
        files: The result.
        raw_revised_prompt: The service's rewriting of the prompt, with its markup.
        service_status: The service's own word for the status.
        created_at: Time of the submit by the service's clock.
    """

    status: Status = "queued"
    request_id: str | None = None
    submitted_at: Time | None = None
    completed_at: Time | None = None
    progress: int | None = None
    error: JobFault | None = None
    files: list[MediaFile] = Field(default_factory=list)
    raw_revised_prompt: str | None = Field(default=None, repr=False)
    service_status: str | None = None
    created_at: Time | None = None

    def model_post_init(self, _context: Any) -> None:
        """Record the job in its files."""
        self.files[:] = [file._of_job(self, index) for index, file in enumerate(self.files)]

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.status in ENDED

    @property
    def seconds(self) -> float | None:
        """Seconds from submit to completion, if both are known by one clock."""
        if self.completed_at is None or self.submitted_at is None:
            return None
        seconds = round((self.completed_at - self.submitted_at).total_seconds(), 3)
        return seconds if seconds >= 0 else None

    def age(self, now: datetime) -> float | None:
        """Return the seconds since the submit, if its time is known."""
        since = self.submitted_at
        return None if since is None else max(0.0, (now - since).total_seconds())


class MediaResult(BaseModel):
    """The result of a job. `str(result)` is the short text that a language model reads.

    Args:
        job: The job.
        files: Its files, with paths if they were saved.
        revised_prompt: The service's rewriting of the prompt, without markup.
        raw_revised_prompt: The rewriting with its markup.
        seconds: Seconds from submit to completion.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    job: Job
    files: list[MediaFile]
    revised_prompt: str | None = Field(default=None, repr=False)
    raw_revised_prompt: str | None = Field(default=None, repr=False)
    seconds: float | None = None

    def model_post_init(self, _context: Any) -> None:
        """Record the job in the files."""
        self.files[:] = [file._of_job(self.job, index) for index, file in enumerate(self.files)]

    def __str__(self) -> str:
        """Return one line that begins with the job's id, because models misquote long links."""
        job, took = self.job, f" in {self.seconds:.0f} s" if self.seconds is not None else ""
        files = "; ".join(file._text() for file in self.files) or "no file"
        return f"job {job.id} ({job.model}) {job.status}{took}: {files}"

    def _repr_html_(self) -> str:
        files = "".join(f"<div>{file._repr_html_()}</div>" for file in self.files)
        return f"{files}<small>{html.escape(f'{self.job.model}/{self.job.id}')}</small>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/plain": str(self), "text/html": self._repr_html_()}


def id_of(job: object) -> str:
    """Return the id of a job, or the id itself."""
    match job:
        case JobRef():
            return job.id
        case str() | int() if not isinstance(job, bool) and (job_id := str(job).strip()):
            return job_id
        case str():
            what = "it is empty"
        case _:
            what = f"{type(job).__name__} is neither a Job nor a job ID"
    raise InvalidRequestError(f"job_id: {what}", phase="not sent", hint="nothing was sent")


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """A job to submit: the parameters as sent, the text that its files are named after, the key."""

    body: Mapping[str, Any]
    label: str = ""
    key: str = ""
    again: bool = False
    """Whether to submit although the ledger has a job for the same call."""
    replaced: tuple[str, ...] | None = None
    """Tokens of the only ledger entries beside which it is submitted again; None is any."""
    is_looked_up: bool = False
    """Whether the caller knows that it is to be submitted, unless another worker is faster."""
    problem: TokenHubError | None = None
    """Why it cannot be sent; the job of an earlier call may still be resumed."""

    def as_record(self) -> dict[str, Any]:
        """Return the request as it is recorded: without the files in the parameters."""
        return {"title": self.label, "parameters": _without_base64(self.body)}


def request_from_record(record: Any, key: str = "") -> JobRequest | None:
    """Return a recorded request, if there is one."""
    match record:
        case {"title": str() as label, "parameters": dict() as parameters}:
            return JobRequest(body=parameters, label=label, key=key)
        case _:
            return None


def _without_base64(value: Any) -> Any:
    match value:
        case Mapping():
            return {name: _without_base64(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_without_base64(inner) for inner in value]
        case str() if len(value) > 2000 and " " not in value[:200]:
            return f"({len(value)} characters of base64)"
        case _:
            return value


# --- answers -------------------------------------------------------------------------------------

# documented values, and others that clients have reported
_WORDS: dict[Status, str] = {
    "queued": "queued pending wait waiting submitted",
    "in_progress": "in_progress processing running run",
    "completed": "completed succeeded success done finished",
    "failed": "failed fail error banned expired",
    "cancelled": "cancelled canceled",
}
_STATUS: dict[str, Status] = {w: status for status, words in _WORDS.items() for w in words.split()}
_URLS = ("url", "model_url", "image_url", "video_url")
_PREVIEWS = ("preview_image_url", "preview_url", "rendered_image_url")
_BASE64 = ("b64_json", "base64", "image_base64", "image")
_RESULT_FIELDS = ("data", "output", "result", "result_files", "videos", "images")
_DEFAULT_TYPES = {"image": "png", "video": "mp4", "3d": "glb"}
_WITHOUT_FILES = frozenset({"failed", "cancelled"})
_unknown_words: set[str] = set()


def decode_submit(
    answer: Answer, facts: MediaKind, model: str, *, submitted_at: datetime, now: datetime
) -> Job | None:
    """Return the job in the answer to a submit, or None if the answer has no id.

    An id means that the job was accepted, whatever else the answer holds. An answer with files
    (hy-image-lite) is a completed job whose id is that of the request.
    """
    data = answer.data
    if not isinstance(data, Mapping):
        return None
    status = _status(data, "queued")
    files = [] if status in _WITHOUT_FILES else decode_files(data, facts, now)
    job_id = _job_id(data) or ((answer.request_id or answer.client_request_id) if files else None)
    if not job_id:
        return None
    created_at = _time(data.get("created_at"))
    job = Job(
        kind=facts.kind, model=model, id=job_id, submitted_at=submitted_at, created_at=created_at
    )
    return _update(job, answer, "completed" if files else status, files, now)


def decode_query(job: Job, answer: Answer, facts: MediaKind, *, now: datetime) -> Job:
    """Return `job` updated from the answer to a query."""
    data = answer.data
    if not isinstance(data, Mapping):
        return job
    files = decode_files(data, facts, now)
    implied: Status = "failed" if reports_failure(data) else "unknown"
    status = _status(data, "completed" if files else implied)
    return _update(job, answer, status, files if status == "completed" else [], now)


def _update(job: Job, answer: Answer, status: Status, files: list[MediaFile], now: datetime) -> Job:
    data = answer.data
    return Job(
        **{
            **job.model_dump(exclude={"files"}),
            "status": status,
            "host": job.host or answer.host,
            "request_id": job.request_id or answer.request_id,
            "completed_at": _completed_at(job, data, now) if status in ENDED else None,
            "progress": _percent(data.get("progress")),
            "error": _fault(data) if status == "failed" else None,
            "files": files,
            "raw_revised_prompt": _revised_prompt(data) or job.raw_revised_prompt,
            "service_status": _word(data) or job.service_status,
        }
    )


def _completed_at(job: Job, data: Mapping[str, Any], now: datetime) -> datetime:
    """Return when a job ended, by the clock of its `submitted_at`.

    The duration is measured by the service's clock and by this machine's, since the two may
    differ; the shorter is right, as a poll sees the end late.
    """
    if job.ended and job.completed_at is not None:
        return job.completed_at  # queried again for fresh links
    completed = _time(data.get("completed_at"))
    if job.submitted_at is None:
        return completed or now
    durations = [now - job.submitted_at]
    if completed and job.created_at:
        durations.append(completed - job.created_at)
    possible = [duration for duration in durations if duration >= timedelta(0)]
    return job.submitted_at + min(possible) if possible else now


def refusal_in(data: Any, *, at_once: bool) -> Fault | None:
    """Return why a submit was refused, or None if it was accepted or no reason is given.

    If the model answers `at_once`, an answer with files needs no job id.
    """
    fault = fault_in(data)
    if fault is None or not (fault.code or fault.message).strip("0 "):
        return None
    return None if _job_id(data) or (at_once and _has_files(data)) else fault


def is_accepted(data: Any) -> bool:
    """Return True if an answer names a job that was not refused, whatever its HTTP status is."""
    has_id = _job_id(data) is not None
    return has_id and _status(data, "unknown") not in {"unknown", *_WITHOUT_FILES}


def refusal_text(data: Any) -> str | None:
    """Return the text of a refused submit without an error body; None if it has an id."""
    if not isinstance(data, Mapping) or _job_id(data):
        return None
    job_id = data.get("id")
    empty = job_id is not None and not str(job_id).strip("0- ")
    is_refused = empty or _status(data, "queued") in _WITHOUT_FILES
    return _fault(data)["message"] or "no reason was given" if is_refused else None


def _job_id(data: Any) -> str | None:
    """Return the id of an accepted job; an empty id, or one of zeros, means a refusal."""
    match data:
        case {"id": bool()}:
            return None
        case {"id": str() | int() as value} if (text := _text(value)) and text.strip("0- "):
            return text.strip()
        case _:
            return None


def _has_files(data: Mapping[str, Any]) -> bool:
    return any(_first(e, _URLS) or _decode_base64(_first(e, _BASE64) or "") for e in _entries(data))


def reports_failure(data: Mapping[str, Any]) -> bool:
    """Return True if an answer reports a failed job, rather than a failed query."""
    fault = fault_in(data)
    row = error_row(None, fault.code) if fault and fault.code else None
    match row and row.name:
        case "ContentBlockedError" | "JobFailedError":
            return True
        case "JobNotFoundError":
            return False
        case _:
            return _status(data, "unknown") in {"failed", "cancelled"}


def decode_files(data: Mapping[str, Any], facts: MediaKind, now: datetime) -> list[MediaFile]:
    """Return the files of an answer, in its order."""
    return [file for entry in _entries(data) if (file := _file(entry, facts, now))]


def revised_text(raw: str | None) -> str | None:
    """Return the service's rewriting of a prompt without reasoning and markup."""
    if not raw:
        return None
    before, _, answer = raw.partition("<answer>")
    return _without_markup(before) or _without_markup(answer)


def _without_markup(text: str) -> str | None:
    caption = text.rpartition("<recaption>")[2]
    caption = re.sub(r"<think>.*?</think>", "", caption, flags=re.DOTALL)
    return re.sub(r"</?[a-z][a-z0-9_]*>", "", caption).strip() or None


def _word(data: Mapping[str, Any]) -> str | None:
    word = _text(data.get("status"))
    return clean(word, 40) if word else None


def _status(data: Mapping[str, Any], default: Status) -> Status:
    word = _word(data)
    if word is None:
        return default
    known = _STATUS.get(word.strip().lower())
    if known is None and word not in _unknown_words:
        _unknown_words.add(word)
        logger.warning("unknown job status %r; the job is still polled", word)
    return known or "unknown"


def _fault(data: Mapping[str, Any]) -> JobFault:
    fault = fault_in(data) or Fault(None, _text(data.get("message")) or "no reason was given")
    return {"code": _text(fault.code), "message": clean(fault.message)}


def _entries(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    place = next((data[name] for name in _RESULT_FIELDS if data.get(name)), None)
    for entry in place if isinstance(place, list) else [place]:
        match entry:
            case str() if re.match(r"https?://", entry):
                yield {"url": entry}
            case str() if entry:
                yield {"base64": entry}
            case Mapping():
                yield entry


def _file(entry: Mapping[str, Any], facts: MediaKind, now: datetime) -> MediaFile | None:
    url = _first(entry, _URLS)
    data = None if url else _decode_base64(_first(entry, _BASE64) or "")
    if not url and not data:
        return None
    expiry = _signature_expiry(url or "") or now + timedelta(seconds=facts.link_life)
    return MediaFile._from_bytes(
        data,
        url=url,
        type=_type(entry, url, data, facts),
        preview_url=_first(entry, _PREVIEWS),
        expires_at=expiry if url else None,
    )


def _signature_expiry(url: str) -> datetime | None:
    """Return when a signed link expires: COS `q-sign-time`, S3 `X-Amz-*`, or `Expires`."""
    query = {name.lower(): value for name, value in parse_qsl(url.partition("?")[2])}
    if life := query.get("x-amz-expires"):
        with suppress(ValueError, OverflowError):
            signed_at = datetime.strptime(query.get("x-amz-date", ""), "%Y%m%dT%H%M%S%z")
            return signed_at + timedelta(seconds=int(life))
    return _time(query.get("q-sign-time", query.get("expires", "")).rpartition(";")[2])


def _type(entry: Mapping[str, Any], url: str | None, data: bytes | None, facts: MediaKind) -> str:
    declared = (_text(entry.get("type")) or "").lower().lstrip(".")
    suffix = re.split(r"[?#]", url or "")[0].rpartition(".")[2].lower()
    known = next((name for name in (declared, suffix) if name in TYPES), None)
    found = file_type_of(data) if data else None
    return known or found or _DEFAULT_TYPES[facts.kind]


def _time(value: Any) -> datetime | None:
    try:
        seconds = float(value)
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _percent(value: Any) -> int | None:
    try:
        return max(0, min(100, round(float(value))))
    except (TypeError, ValueError, OverflowError):
        return None


def _decode_base64(text: str) -> bytes | None:
    with suppress(ValueError):
        return base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    return None


def _revised_prompt(data: Mapping[str, Any]) -> str | None:
    texts = (_text(entry.get("revised_prompt")) for entry in _entries(data))
    return next((text for text in texts if text), None)


def _first(entry: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    found = (entry.get(name) for name in names)
    return next((_text(value) for value in found if isinstance(value, str) and value), None)


def _text(value: Any) -> str | None:
    """Return a value as text without half characters, which have no UTF-8."""
    text = None if value is None else str(value)
    if text is None or text.isascii():  # of base64 there may be megabytes
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
