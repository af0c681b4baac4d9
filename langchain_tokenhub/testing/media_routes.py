"""The six job paths and the synchronous image path."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.responses import Response

from langchain_tokenhub.testing.failures import hang_up
from langchain_tokenhub.testing.faults import Fault
from langchain_tokenhub.testing.files_app import read_link
from langchain_tokenhub.testing.http import Exchange, json_response
from langchain_tokenhub.testing.jobs import Job
from langchain_tokenhub.testing.media_state import MediaHub, Submit
from langchain_tokenhub.testing.media_validation import check_media
from langchain_tokenhub.testing.refusals import MediaRefusedError, job_not_found, refused_body
from langchain_tokenhub.testing.sample_files import (
    image_of,
    models_of,
    prompt_of,
    revised,
    video_of,
)

Json = dict[str, Any]


def _kind(x: Exchange) -> str:
    return x.arrival.request.url.path.split("/")[3]


def _is_lite(x: Exchange) -> bool:
    """Tell whether the path has no job that could fail later."""
    return x.arrival.request.url.path.endswith("/lite")


def _check(x: Exchange, hub: MediaHub) -> Json:
    match x.fault:
        case Fault(kind="refuse", code=code, message=message):
            raise MediaRefusedError(code or "InvalidParameter.InvalidParameter", message)
        case Fault(kind="job", code=code, message=message) if _is_lite(x):
            raise MediaRefusedError(code or "FailedOperation.ModerationFailed", message)
        case _:
            row = dict(check_media(_kind(x), x.body))
            _check_own_links(x, hub)
            return row


def _check_own_links(x: Exchange, hub: MediaHub) -> None:
    """Refuse inputs that are dead links of this hub: the service could not fetch them."""
    for text in _texts(x.body):
        if text.startswith(f"{x.arrival.base}/files/"):
            parts = urlsplit(text)
            found = hub.open(read_link(parts.path.rsplit("/", 1)[1], parse_qs(parts.query)))
            if isinstance(found, str):
                raise MediaRefusedError("FailedOperation.ImageDownloadError", found)


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for inner in value.values():
                yield from _texts(inner)
        case list():
            for inner in value:
                yield from _texts(inner)
        case _:
            return


async def submit(x: Exchange) -> Response:
    """Take a job."""
    hub = _media(x)
    try:
        row = _check(x, hub)
        job = hub.accept(Submit(_kind(x), row, x.body, x.key, x.fault, x.dice))
    except MediaRefusedError as error:
        return json_response(refused_body(error, x.dice.uuid()))
    if x.fault and x.fault.kind == "lost-answer":
        return await hang_up(x.arrival.request)
    return json_response(
        {
            "id": job.id,
            "request_id": x.dice.uuid(),
            "object": job.object,
            "created_at": int(hub.now()),
            "status": "queued",
        }
    )


async def query(x: Exchange) -> Response:
    """Tell how far a job is; the answer has no id, and its time is the time of the answer."""
    hub = _media(x)
    job = hub.find(x.body.get("id"), x.body.get("model"))
    if job is None or job.kind != _kind(x) or job.key != x.key:
        return json_response(job_not_found(x.dice.uuid()))
    state, now = job.state(hub.clock()), int(hub.now())
    answer: Json = {"request_id": x.dice.uuid(), "object": job.object, "created_at": now}
    if state == "completed":
        answer["completed_at"] = now
    answer["status"] = state
    if job.kind == "video":
        answer["progress"] = job.progress(hub.clock())
    return json_response(answer | _outcome(x, hub, job, state))


def _outcome(x: Exchange, hub: MediaHub, job: Job, state: str) -> Json:
    if state == "failed" and job.error:
        return {"error": dict(zip(("code", "message"), job.error, strict=True))}
    return {"data": _data(x, hub, job)} if state == "completed" else {}


def _data(x: Exchange, hub: MediaHub, job: Job) -> Any:
    """List the results; for video it is one object."""
    match job.kind:
        case "image":
            entry = {"url": hub.link(x.arrival.base, image_of(job.id, job.body), job.link_seconds)}
            told = job.body.get("revise", 1)
            return [entry | ({"revised_prompt": revised(prompt_of(job.body))} if told else {})]
        case "video":
            return {"url": hub.link(x.arrival.base, video_of(job.id), job.link_seconds)}
        case _:
            return [
                {
                    "type": model.type,
                    "url": hub.link(x.arrival.base, model, job.link_seconds),
                    "preview_image_url": hub.link(x.arrival.base, shown, job.link_seconds),
                }
                for model, shown in models_of(job.id, job.body)
            ]


async def lite(x: Exchange) -> Response:
    """Draw an image at once; base64 is what comes when the body does not say."""
    hub = _media(x)
    request_id = x.dice.uuid()
    try:
        row = _check(x, hub)
        with hub.drawing(row, x.body["model"], x.key):
            await hub.sleep(row["seconds"])
    except MediaRefusedError as error:
        return json_response(refused_body(error, request_id))
    hub.charge(row, x.body)
    if x.fault and x.fault.kind == "lost-answer":
        return await hang_up(x.arrival.request)
    made = image_of(request_id, x.body)
    entry = {"url": hub.link(x.arrival.base, made, row["link_seconds"])}
    if x.body.get("rsp_img_type", "base64") == "base64":
        entry = {"b64_json": base64.b64encode(made.make()).decode()}
    return json_response({"created": int(hub.now()), "request_id": request_id, "data": [entry]})


def _media(x: Exchange) -> MediaHub:
    """Return the hub as what it is here: only `MediaHub` serves these paths."""
    if not isinstance(x.hub, MediaHub):
        raise TypeError("these paths need a MediaHub")
    return x.hub
