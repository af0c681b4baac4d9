"""What the emulator holds: 1000 open streams, 5000 jobs. Raw sockets keep the client cheap."""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter

import pytest

from langchain_tokenhub.testing import Emulator

STREAMS = 1000
JOBS = 5000
LINES = 8
CHAT = {"model": "hy3", "stream": True, "messages": [{"role": "user", "content": "你好"}]}
IMAGE = {"model": "hy-image-v3.0", "prompt": "雨"}


@pytest.fixture(autouse=True)
def _many_files():
    """Both ends of a thousand connections are open in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = 4 * STREAMS if hard == resource.RLIM_INFINITY else min(4 * STREAMS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def request(path, body):
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer any\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(raw) + raw


async def lines_to(hub, count):
    host, port = hub.url.removeprefix("http://").split(":")
    return [await asyncio.open_connection(host, int(port)) for _ in range(count)]


async def ask_all(lines, path, bodies):
    """Ask over a few lines that stay open; answers come in the order of the bodies."""
    waiting, answers = iter(list(enumerate(bodies))), {}

    async def work(reader, writer):
        for number, body in waiting:
            writer.write(request(path, body))
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answers[number] = json.loads(await reader.readexactly(length))

    await asyncio.gather(*(work(*line) for line in lines))
    return [answers[number] for number in sorted(answers)]


def close(lines):
    for _, writer in lines:
        writer.close()


async def test_it_holds_a_thousand_open_streams_and_still_answers():
    async with Emulator(speed=1e6) as hub:
        hub.fail("stall", after=2, times=STREAMS)
        streams = await lines_to(hub, STREAMS)
        for _, writer in streams:
            writer.write(request("/v1/chat/completions", CHAT))
        for reader, _ in streams:
            await reader.readuntil(b"data: ")
        assert hub.streams == STREAMS
        one = await lines_to(hub, 1)
        (answer,) = await ask_all(one, "/v1/chat/completions", [{**CHAT, "stream": False}])
        assert answer["choices"][0]["message"]["content"]
        close(streams + one)
        while hub.streams:  # noqa: ASYNC110  # the hub is on another thread
            await asyncio.sleep(0.01)


async def test_a_thousand_streams_at_once_all_come_to_their_end():
    async with Emulator(speed=20) as hub:
        streams = await lines_to(hub, STREAMS)
        for _, writer in streams:
            writer.write(request("/v1/chat/completions", CHAT))
        ends = await asyncio.gather(*(r.readuntil(b"data: [DONE]\n\n") for r, _ in streams))
        close(streams)
    assert len(ends) == STREAMS


async def test_it_holds_five_thousand_jobs_in_flight_and_finishes_each():
    async with Emulator(speed=0, quotas=False) as hub:
        lines = await lines_to(hub, LINES)
        accepted = await ask_all(lines, "/v1/api/image/submit", [IMAGE] * JOBS)
        ids = [answer["id"] for answer in accepted]
        assert len(set(ids)) == len(hub.jobs) == JOBS
        assert Counter(job.status for job in hub.jobs.values()) == {"queued": JOBS}
        hub.advance(60)
        asked = [{"model": IMAGE["model"], "id": one} for one in ids]
        answers = await ask_all(lines, "/v1/api/image/query", asked)
        close(lines)
    assert Counter(answer["status"] for answer in answers) == {"completed": JOBS}
    assert len({answer["data"][0]["url"] for answer in answers}) == JOBS
