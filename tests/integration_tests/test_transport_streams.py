"""Streams on real sockets: five ways to be cut, three ways to be silent, and odd answers."""

from __future__ import annotations

import asyncio
import gzip
import inspect
import json
import time

import pytest

from langchain_tokenhub import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    IncompleteStreamError,
    RateLimitError,
    ServerError,
    SubmissionUnknownError,
    TokenHubVideoTool,
)
from tests.integration_tests.answers import (
    Link,
    close,
    drip,
    drip_chunk,
    drip_head,
    half,
    silence,
)

CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def answering(peer):
    """Make `peer` answer with what the decorated coroutine function sends."""

    def take(serve):
        peer.answer = serve
        return serve

    return take


def error_of(call, chat, verb="stream"):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the tests look at its class
        call(chat, verb, "q")
    return caught.value


async def chunked(connection, raw):
    await connection.send(raw.STREAM + CHUNKED)
    await connection.chunks(raw.event("你好"))
    connection.writer.close()


async def of_known_length(connection, raw):
    await connection.send(raw.STREAM + b"Content-Length: 9999\r\n\r\n" + raw.event("你好"))
    connection.writer.close()


async def until_closed(connection, raw):
    """langchain-openai 1.7.3 and langchain-mistralai 1.1.6 end in silence with partial text."""
    await connection.send(raw.STREAM + b"Connection: close\r\n\r\n" + raw.event("你好"))
    await connection.send(b'data: {"choices": [{"del')
    connection.writer.close()


async def whole_without_done(connection, raw):
    """langchain-openai 1.7.3 and langchain-mistralai 1.1.6 end in silence with partial text."""
    await connection.stream(raw.event("你好"))


async def gzipped(connection, raw):
    """langchain-openai 1.7.3 and langchain-mistralai 1.1.6 end in silence with partial text."""
    packed = gzip.compress(raw.event("你好") * 400)
    await connection.send(raw.STREAM + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n")
    await connection.send(packed[: len(packed) - 20])
    connection.writer.close()


async def reset(connection, raw):
    await connection.send(raw.STREAM + CHUNKED)
    await connection.chunks(raw.event("你好"))
    await asyncio.sleep(0.1)  # else the reset may overtake what was sent
    connection.reset()


@pytest.mark.parametrize(
    "cut", [chunked, of_known_length, until_closed, whole_without_done, gzipped, reset]
)
def test_a_cut_stream_is_an_error_with_what_was_said(cut, model, peer, raw, call):
    @answering(peer)
    async def serve(connection, request):
        await cut(connection, raw)

    error = error_of(call, model())
    assert isinstance(error, IncompleteStreamError)
    assert error.partial.content.startswith("你好")
    assert (error.phase, len(peer.requests)) == ("streaming", 1)


@pytest.mark.parametrize("then", [close, silence])
def test_a_stream_without_done_after_its_finish_reason_is_whole(then, model, peer, raw, call):
    @answering(peer)
    async def serve(connection, request):
        await connection.send(raw.STREAM + CHUNKED)
        await connection.chunks(raw.event("hi"), raw.event(finish="stop"))
        await then(connection, request)

    chunks = call(model(timeout=0.2), "stream", "q")
    assert "".join(chunk.content for chunk in chunks) == "hi"


def test_a_stream_cut_before_its_first_event_is_asked_for_once_more(model, peer, raw, call):
    async def serve(connection, request):
        if len(peer.requests) > 1:
            return await connection.stream(raw.event("hi", "stop"), raw.DONE)
        await connection.send(raw.STREAM + CHUNKED)
        return connection.writer.close()

    peer.answer = serve
    assert "".join(chunk.content for chunk in call(model(), "stream", "q")) == "hi"
    assert len(peer.requests) == 2


def test_keep_alive_comments_do_not_count_as_an_answer(model, peer, raw, call):
    """In langchain-openai 1.7.3 and httpx 0.28.1 comments feed the read timeout."""

    peer.answer = drip(raw.STREAM + CHUNKED, b"8\r\n: ping\n\n\r\n")
    error = error_of(call, model(timeout=0.3, max_retries=0))
    assert isinstance(error, APITimeoutError)
    assert "no content" in str(error)
    assert peer.connections[0].gone.wait(5)


def test_a_stall_after_the_first_word_is_noticed(model, peer, raw, call):
    @answering(peer)
    async def serve(connection, request):
        await connection.send(raw.STREAM + CHUNKED)
        await connection.chunks(raw.event("word"))
        await connection.until_gone()

    error = error_of(call, model(timeout=0.2))
    assert isinstance(error, APITimeoutError)
    assert error.phase == "streaming"


def test_no_answer_in_time_is_a_timeout(model, peer, call):
    peer.answer = silence
    error = error_of(call, model(timeout=0.2), "invoke")
    assert isinstance(error, APITimeoutError)
    assert (error.phase, len(peer.requests)) == ("sent", 1)


def test_a_json_error_instead_of_a_stream_is_raised(model, peer, call):
    """openai 3.54.0 yields nothing; langchain-openai 1.7.3 tells of no generation chunks."""

    @answering(peer)
    async def serve(connection, request):
        await connection.json({"error": {"code": "401001", "message": "bad key"}})

    assert isinstance(error_of(call, model()), AuthenticationError)


def test_an_error_frame_in_the_middle_comes_after_what_was_said(model, peer, raw, call):
    @answering(peer)
    async def serve(connection, request):
        frame = json.dumps({"error": {"code": "429001", "message": "slow down"}}).encode()
        await connection.stream(raw.event("hi") + b"data: " + frame + b"\n\n")

    error = error_of(call, model())
    assert isinstance(error, RateLimitError)
    assert len(peer.requests) == 1


ERROR_FRAMES = [
    {"choices": [], "error": {"code": "429001", "message": "slow down"}},
    {"error": {"code": "429001", "message": "slow down"}},
    {
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
        "error": {"code": 429, "message": "slow down"},
    },
]


def v3(chat, call):
    """Read a stream by LangChain's newest events, in the face that `call` has."""
    if call.__name__ == "sync":
        return list(chat.stream_events("q", version="v3"))

    async def main():
        stream = chat.astream_events("q", version="v3")
        stream = await stream if inspect.isawaitable(stream) else stream
        return [event async for event in stream]

    return asyncio.run(main())


FACES = {
    "v0": lambda call, model: call(model(), "stream", "q"),
    "v1": lambda call, model: call(model(output_version="v1"), "stream", "q"),
    "v3": lambda call, model: v3(model(), call),
    "invoke": lambda call, model: call(model(streaming=True), "invoke", "q"),
}


@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
def test_an_error_in_mid_stream_has_its_class_and_what_was_said(face, model, peer, raw, call):
    """openai 3.54.0 ends such a stream as if it were whole where the error is in a chunk."""
    for frame in ERROR_FRAMES:

        @answering(peer)
        async def serve(connection, request, frame=frame):
            last = b"data: " + json.dumps(frame).encode() + b"\n\n"
            await connection.stream(raw.event("你好") + last, raw.DONE)

        with pytest.raises(RateLimitError, match="slow down") as caught:
            face(call, model)
        assert caught.value.partial.text == "你好"


@pytest.mark.parametrize("chunked", [True, False], ids=["events", "JSON and [DONE]"])
def test_an_answer_in_events_that_nobody_asked_for_is_read(chunked, model, peer, raw, call):
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    whole = json.dumps({**raw.WHOLE, "usage": usage}).encode() + b"\n\n"
    last = b"data: " + json.dumps({"choices": [], "usage": usage}).encode() + b"\n\n"

    @answering(peer)
    async def serve(connection, request):
        parts = raw.event("h"), raw.event("i"), raw.event(finish="stop"), last
        await connection.stream(b"".join(parts) if chunked else whole, raw.DONE)

    message = call(model(), "invoke", "q")
    assert type(message).__name__ == "AIMessage"
    assert (message.content, message.usage_metadata["total_tokens"]) == ("hi", 5)
    assert message.response_metadata["finish_reason"] == "stop"
    assert len(peer.requests) == 1


def test_unasked_events_without_their_end_are_incomplete(model, peer, raw, call):
    @answering(peer)
    async def serve(connection, request):
        await connection.stream(raw.event("你好"))

    error = error_of(call, model(), "invoke")
    assert isinstance(error, IncompleteStreamError)
    assert (error.partial.content, len(peer.requests)) == ("你好", 1)


drip_body = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n", b" ")
DRIPPING = pytest.mark.parametrize(
    "dripping", [drip_head, drip_body, drip_chunk()], ids=["head", "body", "chunk"]
)


@DRIPPING
@pytest.mark.parametrize("verb", ["invoke", "stream"])
def test_an_answer_that_drips_comes_to_an_end(dripping, verb, model, peer, call):
    peer.answer = dripping
    error = error_of(call, model(timeout=0.2, max_retries=0), verb)
    assert isinstance(error, APITimeoutError)
    assert peer.connections[0].gone.wait(5)


def test_empty_chunks_do_not_keep_a_stream_alive(model, peer, raw, call):
    peer.answer = drip(raw.STREAM + b"\r\n", raw.event())
    error = error_of(call, model(timeout=0.3, max_retries=0))
    assert isinstance(error, APITimeoutError)
    assert "no content" in str(error)


@DRIPPING
def test_a_submit_whose_answer_drips_is_unknown(dripping, peer, call):
    peer.answer = dripping
    tool = TokenHubVideoTool(base_url=peer.url, api_key="sk", timeout=0.2)
    with pytest.raises(SubmissionUnknownError):
        call(tool, "generate", prompt="猫")
    assert len(peer.requests) == 1


def test_a_submit_ends_with_the_wait_of_its_caller(peer, call, monkeypatch):
    peer.answer = drip_body
    monkeypatch.setattr("langchain_tokenhub.jobs.service.INTERRUPT_GRACE", 0.2)
    tool = TokenHubVideoTool(base_url=peer.url, api_key="sk", wait_timeout=0.3)
    with pytest.raises(SubmissionUnknownError):
        call(tool, "generate", prompt="猫")


def test_a_download_that_drips_is_given_up(peer, call, monkeypatch):
    peer.answer = drip_body
    monkeypatch.setattr("langchain_tokenhub.transport.download.RATE_WINDOW", 0.3)
    with pytest.raises(APITimeoutError, match="bytes/s"):
        call(Link(f"{peer.url}/a.png"), "read")
    assert len(peer.requests) == 1


def test_a_page_instead_of_a_stream_is_a_server_error(model, peer, call):
    @answering(peer)
    async def serve(connection, request):
        page = b"<html>please log in</html>"
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: ")
        await connection.send(b"%d\r\n\r\n%s" % (len(page), page))

    error = error_of(call, model(max_retries=0))
    assert isinstance(error, ServerError)
    assert "text/html" in str(error)


def test_a_whole_completion_instead_of_a_stream_is_one_chunk(model, peer, raw, call):
    @answering(peer)
    async def serve(connection, request):
        await connection.json(raw.WHOLE)

    assert "".join(chunk.content for chunk in call(model(), "stream", "q")) == "hi"


def test_an_event_of_four_mebibytes_passes_in_little_time(model, peer, raw, call):
    """httpx2 2.16.2 refuses more than 1 MiB; langchain-groq 1.1.3 needs quadratic time."""

    @answering(peer)
    async def serve(connection, request):
        await connection.stream(raw.event("x" * (4 << 20), "stop"), raw.DONE)

    begun = time.process_time()
    chunks = call(model(), "stream", "q")
    assert sum(len(chunk.content) for chunk in chunks) == 4 << 20
    assert time.process_time() - begun < 10


def test_a_compressed_bomb_is_refused_before_it_bursts(model, peer, call, monkeypatch):
    """langchain-openai 1.7.3 and httpx 0.28.1 take 256 MiB in for 254 KiB."""
    monkeypatch.setattr("langchain_tokenhub.transport.transport.MAX_ANSWER_BYTES", 4 << 20)
    bomb = gzip.compress(b" " * (64 << 20))

    @answering(peer)
    async def serve(connection, request):
        head = f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
        await connection.send(head.encode() + bomb)

    error = error_of(call, model(max_retries=0), "invoke")
    assert "larger than" in str(error)


def test_a_whole_answer_that_is_cut_is_no_stream_error(model, peer, call):
    peer.answer = half
    error = error_of(call, model(max_retries=0), "invoke")
    assert type(error) is APIConnectionError


def test_streams_ask_for_events_uncompressed(model, peer, call):
    call(model(), "stream", "q")
    headers = peer.requests[0].headers
    assert headers["accept"] == "text/event-stream"
    assert headers["accept-encoding"] == "identity"
    assert headers["cache-control"] == "no-store"


def test_a_stream_that_was_begun_in_a_loop_is_read_on_after_its_end(model, peer, raw):
    """The loop takes async generators that begin under it for its own, and ends them."""

    @answering(peer)
    async def serve(connection, request):
        await connection.send(raw.STREAM + CHUNKED)
        for word in "abc":
            await connection.chunks(raw.event(word))
            await asyncio.sleep(0.05)
        await connection.chunks(raw.event(finish="stop"), raw.DONE)

    stream = model().stream("q")

    async def first():
        return next(stream).content

    assert asyncio.run(first()) + "".join(chunk.content for chunk in stream) == "abc"
