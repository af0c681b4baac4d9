"""The chat model over time: loops that come and go, threads, silence, streams that are left."""

from __future__ import annotations

import asyncio
import gc
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import pytest

from langchain_tokenhub import APITimeoutError, ChatTokenHub


def _model(**fields):
    return ChatTokenHub(**{"model": "hy3", "max_retries": 0} | fields)


def test_row_2_async_is_native_and_uses_no_thread(hub):
    async def ask():
        asyncio.get_running_loop().set_default_executor(_Refusing())
        chunks = [chunk async for chunk in _model().astream("Hello")]
        return await _model().ainvoke("Hello"), chunks

    answer, chunks = asyncio.run(ask())

    assert answer.text
    assert len(chunks) > 2


class _Refusing(ThreadPoolExecutor):
    def submit(self, fn, /, *args, **kwargs):
        # the loop itself looks names up and shuts down on threads; the package must not
        raise AssertionError(f"{fn} on a thread")


def _whole(model, call):
    return call(model, "invoke", "Hello")


def _streamed(model, call):
    first, *rest = call(model, "stream", "Hello")
    assert not {"host", "attempts", "client_request_id", "elapsed"} & first.response_metadata.keys()
    return sum(rest, first)


@pytest.mark.parametrize("ask", [_whole, _streamed])
def test_a_message_says_which_request_it_was_at_which_host_and_how_often_it_was_tried(
    ask, hub, call
):
    """Those of langchain-openai 1.7.4 and langchain-mistralai 1.1.6 say none of it."""
    hub.fail(status=429, retry_after=0)

    metadata = ask(_model(max_retries=1), call).response_metadata

    names = {request.headers["x-client-request-id"] for request in hub.requests}
    assert names == {metadata["client_request_id"]}
    assert metadata["host"] == hub.url.removeprefix("http://")
    assert metadata["attempts"] == len(hub.requests) == 2
    assert metadata["elapsed"] > 0


def test_v3_events_end_with_the_same_metadata(hub):
    *_, last = _model().stream_events("Hello", version="v3")

    assert last["metadata"].keys() >= {"host", "attempts", "client_request_id", "elapsed"}


def test_row_79_one_instance_serves_several_loops_one_after_another(hub):
    model = _model()

    answers = [asyncio.run(model.ainvoke("Hello")).text for _ in range(3)]

    assert len(set(answers)) == 1


def test_row_80_a_new_instance_in_each_loop_works(hub):
    assert all(asyncio.run(_model().ainvoke("Hello")).text for _ in range(3))


def test_one_instance_serves_threads_and_loops_at_once(hub):
    model = _model()

    with ThreadPoolExecutor(8) as pool:
        sync = [pool.submit(model.invoke, "Hello") for _ in range(8)]
        loops = [pool.submit(lambda: asyncio.run(model.ainvoke("Hello"))) for _ in range(8)]

    assert all(work.result().text for work in [*sync, *loops])


def test_a_pickled_model_answers_on_the_other_side(hub, call):
    model = _model()
    call(model, "invoke", "Hello")

    assert call(pickle.loads(pickle.dumps(model)), "invoke", "Hello").text


def test_row_86_requests_say_who_sends_them(hub, call):
    call(_model(), "invoke", "Hello")

    assert hub.requests[-1].headers["user-agent"].startswith("langchain-tokenhub/")


@pytest.mark.parametrize("kind", ["stall", "keep-alive"])
def test_row_33_a_stream_that_falls_silent_is_a_timeout(hub, call, kind):
    hub.fail(kind, after=2)

    with pytest.raises(APITimeoutError):
        call(_model(timeout=0.2), "stream", "Hello")


@pytest.mark.parametrize(("fields", "kwargs"), [({"timeout": 0.2}, {}), ({}, {"timeout": 0.2})])
def test_row_75_a_timeout_may_be_a_fraction_of_a_second(hub, call, fields, kwargs):
    hub.fail("hang")

    with pytest.raises(APITimeoutError):
        call(_model(**{"timeout": 60} | fields), "invoke", "Hello", **kwargs)


@pytest.fixture
def talker(peer, raw):
    """A server that talks until it is left."""

    async def talk(connection, request):
        if b'"stream":true' not in request.body:
            await connection.json(raw.WHOLE)
            return
        await connection.send(raw.STREAM + b"Transfer-Encoding: chunked\r\n\r\n")
        await connection.chunks(raw.event("word"))
        await connection.until_gone()

    peer.answer = talk
    return peer


LEFT = {
    "v0": lambda model: model().stream("q"),
    "v1": lambda model: model(output_version="v1").stream("q"),
    "v3": lambda model: model().stream_events("q", version="v3"),
}


@pytest.mark.parametrize("begin", LEFT.values(), ids=LEFT)
def test_row_35_leaving_a_stream_closes_its_socket_and_leaves_the_model_usable(
    talker, model, begin
):
    stream = begin(model)
    for _ in stream:
        break
    del _, stream
    gc.collect()

    assert talker.connections[0].gone.wait(5)
    assert model().invoke("q").text == "hi"


async def _first(stream):
    async for item in stream:
        return item
    return None


async def test_row_36_cancelling_a_stream_closes_its_socket_and_leaves_the_model_usable(
    talker, model
):
    async def read():
        async for _ in model().astream("q"):
            began.set()

    began = asyncio.Event()
    reading = asyncio.create_task(read())
    await began.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    assert await asyncio.to_thread(talker.connections[0].gone.wait, 5)
    assert (await model().ainvoke("q")).text == "hi"


@pytest.mark.parametrize("version", [None, "v1", "v3"])
async def test_row_36_closing_an_async_stream_closes_its_socket(talker, model, version):
    if version == "v3":
        stream = await model().astream_events("q", version="v3")
    else:
        stream = model(output_version=version).astream("q")
    async with aclosing(stream):
        await _first(stream)

    assert await asyncio.to_thread(talker.connections[0].gone.wait, 5)


async def test_section_4_complaint_12_a_timeout_around_a_call_closes_its_socket(talker, model):
    async def read():
        return [chunk async for chunk in model().astream("q")]

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(read(), 0.2)

    assert await asyncio.to_thread(talker.connections[0].gone.wait, 5)


def test_row_77_five_models_share_one_connection(peer, model):
    for _ in range(5):
        model().invoke("q")

    assert len(peer.connections) == 1


async def test_row_77_five_models_share_one_connection_of_a_loop(peer, model):
    for _ in range(5):
        await model().ainvoke("q")

    assert len(peer.connections) == 1


def test_row_72_a_busy_service_is_asked_again(hub, call):
    hub.fail(status=429, code="429001", retry_after=0)

    assert call(_model(max_retries=1), "invoke", "Hello").text
    assert len(hub.requests) == 2
