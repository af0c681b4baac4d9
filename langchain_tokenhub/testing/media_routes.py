"""The paths of media jobs, the synchronous image path, and the links to files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import Response

from langchain_tokenhub.testing.errors import MediaRefusedError, RefusedError
from langchain_tokenhub.testing.http import Exchange, json_response
from langchain_tokenhub.testing.media_validation import check_media
from langchain_tokenhub.testing.sample_files import Source, file_of, formats_of, text_of
from langchain_tokenhub.testing.state import Job, estimate_credits
from langchain_tokenhub.testing.tables import Body, Row, table

Json = dict[str, Any]
_IMAGE_FIELDS = ("image", "image_url", "image_base64")


async def submit(x: Exchange) -> Response:
    """Accept a job."""
    kind = _kind(x)
    job = x.hub.accept(kind, _check(x, kind), x.body, x.key, error=_job_error(x), rng=x.rng)
    answer = {"id": job.id, "request_id": x.rng.uuid(), "object": job.row["object"]}
    return json_response(answer | {"created_at": int(x.hub.now()), "status": "queued"})


async def lite(x: Exchange) -> Response:
    """Draw an image at once; it comes as base64 unless the body says otherwise."""
    request_id, row = x.rng.uuid(), _check(x, "lite")
    if error := _job_error(x):
        raise error
    with x.hub.count_drawing(row, x.body["model"], x.key):
        await x.hub.sleep(row["seconds"])
    x.hub.cost += estimate_credits(row, x.body)
    file = file_of("png", request_id, row, x.body, [])
    entry = {"url": x.hub.sign_link(x.base, file, row["link_seconds"])}
    if x.body.get("rsp_img_type", "base64") == "base64":
        entry = {"b64_json": base64.b64encode(await asyncio.to_thread(file.make)).decode()}
    answer = {"created": int(x.hub.now()), "request_id": request_id, "data": [entry]}
    return json_response(answer)


async def query(x: Exchange) -> Response:
    """Return the state of a job; the answer has no id, and its time is the time of the answer."""
    job, asked = x.hub.find(x.body.get("id")), (_kind(x), x.body.get("model"), x.key)
    answer: Json = {"request_id": x.rng.uuid()}
    if job is None or (job.kind, job.model, job.key) != asked:
        error = {"message": "The job does not exist or has expired.", "type": "api_error"}
        return json_response({"error": error | {"code": "FailedOperation.JobNotFound"}, **answer})
    status, now = job.status, int(x.hub.now())
    answer |= {"object": job.row["object"], "created_at": now, "status": status}
    if job.kind == "video":
        answer["progress"] = job.progress
    if status == "failed" and job.error:
        answer["error"] = {"code": job.error.code, "message": job.error.message}
    if status == "completed":
        answer |= {"completed_at": now, "data": _data(x, job)}
    return json_response(answer)


def _kind(x: Exchange) -> str:
    return x.received.path.split("/")[3]


def _job_error(x: Exchange) -> RefusedError | None:
    return x.fault.error() if x.fault and x.fault.kind == "job" else None


def _check(x: Exchange, kind: str) -> Row:
    row = check_media(kind, x.body, x.hub.models)
    own_link = rf'"{re.escape(x.base)}/files/([^"?]*)\??([^"]*)"'
    for name, query in re.findall(own_link, json.dumps(x.body)):
        found = x.hub.open_link(name, dict(parse_qsl(query)))
        if isinstance(found, str):  # an expired link, which the service could not fetch
            raise MediaRefusedError("FailedOperation.ImageDownloadError", found)
    return row


def _data(x: Exchange, job: Job) -> Any:
    """List the files of a job; for video it is one object."""
    sources = list(_sent_images(x, job.body))

    def link(kind: str) -> str:
        file = file_of(kind, job.id, job.row, job.body, sources)
        return x.hub.sign_link(x.base, file, job.row["link_seconds"])

    match job.kind:
        case "image":
            revised = job.body.get("revise", 1)
            extra = {"revised_prompt": _revise(text_of(job.body))} if revised else {}
            return [{"url": link("png"), **extra}]
        case "video":
            return {"url": link("mp4")}
        case _:
            return [
                {"type": kind, "url": link(kind), "preview_image_url": link("preview")}
                for kind in formats_of(job.body)
            ]


def _sent_images(x: Exchange, body: Body) -> Iterator[Source]:
    """Yield the images that were sent; of a link and base64 it is the link."""
    images = body.get("images")
    sent = images if isinstance(images, list) else [body.get(name) for name in _IMAGE_FIELDS]
    for one in sent:
        text = (one.get("url") or one.get("base64")) if isinstance(one, dict) else one
        if isinstance(text, str):
            name = text.removeprefix(f"{x.base}/files/").partition("?")[0]
            yield x.hub.files.get(name, text)


def _revise(prompt: str) -> str:
    """Wrap a rewritten prompt in the raw markup that the service leaves in it."""
    return (
        f"<think>用户希望得到：{prompt}。先想好构图、主体和光线。</think>"
        f"<recaption>{prompt}，构图完整，层次分明，细节清晰。</recaption>"
        "<answer><boi><img_size_1024><img_ratio_34>"
    )


# -- links to files -----------------------------------------------------------------------------

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


async def serve_file(x: Exchange) -> Response:
    """Answer GET /files/{name} as an object storage does."""
    asked = x.request.headers
    if "authorization" in asked:
        return _denial(400, "InvalidArgument", "Two ways of signing at once")
    file = x.hub.open_link(x.received.path.removeprefix("/files/"), x.request.query_params)
    if isinstance(file, str):
        return _denial(404 if file == "NoSuchKey" else 403, file, "Request denied")
    raw = await asyncio.to_thread(file.make)
    tag = f'"{hashlib.md5(raw, usedforsecurity=False).hexdigest()}"'
    kind = table("media_rules")["types"][file.type]
    headers = {"content-type": kind, "accept-ranges": "bytes", "etag": tag}
    part = _RANGE.fullmatch(asked.get("range", ""))
    if not part or asked.get("if-range", tag) != tag:
        return Response(raw, headers=headers)
    start, end = int(part[1]), int(part[2] or len(raw)) + 1
    if start >= min(end, len(raw)):
        return Response(status_code=416, headers=headers | {"content-range": f"bytes */{len(raw)}"})
    shown = raw[start:end]
    span = f"bytes {start}-{start + len(shown) - 1}/{len(raw)}"
    return Response(shown, 206, headers | {"content-range": span})


def _denial(status: int, code: str, message: str) -> Response:
    text = (
        "<?xml version='1.0' encoding='utf-8' ?>\n"
        f"<Error>\n\t<Code>{code}</Code>\n\t<Message>{message}</Message>\n</Error>\n"
    )
    return Response(text, status, media_type="application/xml")
