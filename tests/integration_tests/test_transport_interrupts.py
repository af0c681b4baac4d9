"""Interruptions of a paid submit, and the end of a process, each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading

import anyio
import httpx
import pytest
from starlette.responses import StreamingResponse

from langchain_tokenhub import SubmissionUnknownError, TokenHubJobTool, TokenHubVideoTool
from langchain_tokenhub.transport import SendState, Timeouts, run_sync, runtime
from tests.integration_tests.answers import Client, silence, submit

SUBMIT = """
    import atexit
    import sys
    import httpx
    from langchain_tokenhub.transport import *
    from langchain_tokenhub.transport.retry import Hosts
    from langchain_tokenhub.transport.retry import Budget
    endpoint = Endpoint(hosts=Hosts((sys.argv[1],)), budget=Budget(), key=lambda: "sk")
    send_state = SendState()
    call = Call(path="/submit", body={}, retry_class="submit", send_state=send_state)
    client = httpx.Client() if "own" in sys.argv else None
    if client:
        atexit.register(client.close)
    transport = Transport.sync(endpoint, client)
"""
WAIT = """
    from langchain_tokenhub.transport import runtime
    runtime.INTERRUPT_GRACE = float(sys.argv[2])
    try:
        answer, stop = run_sync(transport.runtime.run_shielded(transport.json(call), send_state))
        print("answered", answer.data, type(stop).__name__)
    except KeyboardInterrupt as stop:
        print("stopped", getattr(stop, "__notes__", []))
"""


def python(code, *args):
    """Start a Python that makes every warning an error and tells of unclosed things."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code), *args]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )


def ended(process):
    out, err = process.communicate(timeout=30)
    return out.strip(), err.strip()


@pytest.fixture
def submitted(peers):
    """Start a submit in a process of its own; return it once its request has arrived."""

    async def start(answer, grace, *options):
        arrived = asyncio.Event()
        loop = asyncio.get_running_loop()

        async def serve(connection, request):
            loop.call_soon_threadsafe(arrived.set)
            await answer(connection, request)

        server = peers(serve)
        process = python(SUBMIT + WAIT, server.url, str(grace), *options)
        await asyncio.wait_for(arrived.wait(), 20)
        return process

    return start


@pytest.mark.parametrize("client", ["none", "own"])
async def test_ctrl_c_waits_for_the_answer_of_a_submit_under_way(client, submitted):
    released = asyncio.Event()
    loops = []

    async def later(connection, request):
        loops.append(asyncio.get_running_loop())
        await released.wait()
        await connection.json({"id": "job-1"})

    process = await submitted(later, 10.0, client)
    process.send_signal(signal.SIGINT)
    await asyncio.sleep(0.1)
    loops[0].call_soon_threadsafe(released.set)
    out, err = await asyncio.to_thread(ended, process)
    assert (out, err) == ("answered {'id': 'job-1'} KeyboardInterrupt", "")


@pytest.mark.parametrize("client", ["none", "own"])
async def test_ctrl_c_waits_no_longer_than_its_grace(client, submitted):
    process = await submitted(silence, 0.1, client)
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.to_thread(ended, process)
    assert out.startswith("stopped ['the submit under way had no answer")


async def test_ctrl_c_while_waiting_to_repeat_a_refused_submit_is_honoured_at_once(submitted):
    async def busy(connection, request):
        error = {"error": {"code": "429001", "message": "m"}}
        await connection.json(error, status=429, Retry_After="30")

    process = await submitted(busy, 10.0)
    await asyncio.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, _ = await asyncio.to_thread(ended, process)
    assert out == "stopped []"


async def shielded(transport, send_state, **details):
    work = transport.json(submit(send_state=send_state, **details))
    return await transport.runtime.run_shielded(work, send_state)


async def run_shielded(url, send_state):
    return await shielded(Client(url).asynchronous, send_state)


async def late_job(connection, request):
    await asyncio.sleep(0.3)
    await connection.json({"id": "job-1"})


async def kept(server, found):
    """Submit, and note what came of it although the caller was cancelled."""
    answer, interruption = await run_shielded(server.url, SendState())
    found.append(answer.data["id"])
    raise interruption or AssertionError("it was not interrupted")


async def sent(server):
    await asyncio.to_thread(server.arrived.wait, 5)


async def by_cancelling(server, found):
    task = asyncio.ensure_future(kept(server, found))
    await sent(server)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def by_an_anyio_group(server, found):
    async with anyio.create_task_group() as group:
        group.start_soon(kept, server, found)
        await sent(server)
        group.cancel_scope.cancel()


async def by_move_on_after(server, found):
    with anyio.move_on_after(0.1):
        await kept(server, found)


async def by_fail_after(server, found):
    with contextlib.suppress(TimeoutError), anyio.fail_after(0.1):
        await kept(server, found)


async def by_wait_for(server, found):
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(kept(server, found), 0.1)


async def by_two_timeouts(server, found):
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.15), asyncio.timeout(0.1):
            await kept(server, found)


async def by_a_task_group(server, found):
    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(kept(server, found))
            await sent(server)
            raise ValueError("a sibling failed")


async def by_a_client_that_left(server, found):
    """Starlette streams an answer whose client hangs up."""

    async def pieces():
        yield b"begun"
        await kept(server, found)

    async def receive():
        await sent(server)
        return {"type": "http.disconnect"}

    async def send(_message):
        return None

    scope = {"type": "http", "asgi": {"spec_version": "2.3"}}
    await StreamingResponse(pieces())(scope, receive, send)


WAYS = [
    *(
        by_cancelling,
        by_an_anyio_group,
        by_move_on_after,
        by_fail_after,
        by_wait_for,
        by_two_timeouts,
    ),
    *(by_a_task_group, by_a_client_that_left),
]


@pytest.mark.parametrize("interrupt", WAYS)
async def test_whoever_cancels_a_submit_under_way_its_answer_is_awaited(interrupt, peers):
    """openai 3.54.0, fal_client 1.0.3, replicate 1.0.7, runwayml 5.24.0 lose the paid job."""
    found = []
    await interrupt(peers(late_job), found)
    assert found == ["job-1"]


async def test_waiting_for_the_answer_does_not_keep_the_loop_busy(peers, monkeypatch):
    """anyio cancels again on every turn of the loop."""
    turns, selector = [], asyncio.get_running_loop()._selector
    select = selector.select
    monkeypatch.setattr(selector, "select", lambda wait=None: turns.append(1) or select(wait))
    await by_an_anyio_group(peers(late_job), [])
    assert len(turns) < 200


async def test_a_cancelled_submit_waits_no_longer_than_its_grace(peers, monkeypatch):
    notes = []

    async def submit(server):
        try:
            await run_shielded(server.url, SendState())
        except asyncio.CancelledError as interruption:
            notes.extend(interruption.__notes__)
            raise

    monkeypatch.setattr("langchain_tokenhub.transport.runtime.INTERRUPT_GRACE", 0.1)
    with anyio.move_on_after(0.1):
        await submit(peers(silence))
    assert ["may have been charged" in note for note in notes] == [True]


async def test_a_submit_refused_while_its_caller_is_cancelled_is_not_sent_again(peers):
    async def busy(connection, request):
        await asyncio.sleep(0.2)
        await connection.json({"error": {"code": "429001"}}, status=429, Retry_After="0.1")

    server = peers(busy)
    with anyio.move_on_after(0.1):
        await run_shielded(server.url, SendState())
    await asyncio.sleep(0.3)
    assert len(server.requests) == 1


async def test_the_timeouts_of_the_callers_own_client_hold_for_a_submit(peers):
    async with httpx.AsyncClient() as own:
        transport = Client(peers(silence).url, http_async_client=own).asynchronous
        timeouts = Timeouts(read=0.2, is_chosen=True)
        with pytest.raises(SubmissionUnknownError):
            await asyncio.wait_for(shielded(transport, SendState(), timeouts=timeouts), 5)


def test_a_cancelled_tools_job_is_logged_and_remembered(hub, caplog):
    hub.fail("drip", seconds=0.4, path="/v1/api/video/submit")

    async def main():
        tool = TokenHubVideoTool()
        with anyio.move_on_after(0.1):
            await tool.agenerate(prompt="猫")
        return await TokenHubJobTool().ainvoke({"action": "list"})

    listed = asyncio.run(main())
    (job_id,) = hub.jobs
    assert job_id in caplog.text
    assert job_id in listed


def test_a_loop_that_ends_waits_for_a_submit_under_way(peers):
    """`asyncio.run` cancels every task, a shielded one too."""
    server = peers(late_job)

    async def main():
        submit = asyncio.ensure_future(run_shielded(server.url, SendState()))
        await asyncio.to_thread(server.arrived.wait, 5)
        return submit

    answer, interruption = asyncio.run(main()).result()
    assert answer.data == {"id": "job-1"}
    assert isinstance(interruption, asyncio.CancelledError)


def silent_about_itself(arrived):
    """Return a transport of the caller's, which tells nothing of how far a request came."""

    def answer(request):
        arrived.set()
        return httpx.Response(200, json={"id": "job-1"})

    return httpx.MockTransport(answer)


@pytest.mark.parametrize("own", [False, True], ids=["own connection", "own client"])
def test_ctrl_c_while_the_thread_of_a_submit_begins_waits_for_its_answer(peers, monkeypatch, own):
    async def job(connection, request):
        await connection.json({"id": "job-1"})

    server, send_state, start = peers(job), SendState(), threading.Thread.start
    client = httpx.Client(transport=silent_about_itself(server.arrived)) if own else None
    transport = Client(server.url, http_client=client).sync

    def and_interrupt(thread):
        start(thread)
        if threading.current_thread() is threading.main_thread():
            assert server.arrived.wait(5)
            raise KeyboardInterrupt

    monkeypatch.setattr(runtime, "idle_threads", [])
    monkeypatch.setattr(threading.Thread, "start", and_interrupt)
    answer, stop = run_sync(shielded(transport, send_state))
    assert (answer.data, type(stop)) == ({"id": "job-1"}, KeyboardInterrupt)


async def test_a_cancelled_submit_over_a_client_that_tells_nothing_is_finished_first():
    arrived, send_state = asyncio.Event(), SendState()

    async def answer(request):
        arrived.set()
        await asyncio.sleep(0.1)
        return httpx.Response(200, json={"id": "job-1"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        transport = Client("http://a.test", http_async_client=client).asynchronous
        task = asyncio.ensure_future(shielded(transport, send_state))
        await arrived.wait()
        task.cancel()
        answer, interruption = await task
    assert answer.data == {"id": "job-1"}
    assert isinstance(interruption, asyncio.CancelledError)


async def test_a_submit_cancelled_before_its_first_byte_is_not_sent(black_hole):
    send_state = SendState()
    task = asyncio.ensure_future(run_shielded(black_hole, send_state))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not send_state.is_under_way


async def test_a_submit_that_fails_while_its_caller_is_cancelled_leaves_a_note(peers):
    async def later_cut(connection, request):
        await asyncio.sleep(0.1)
        connection.reset()

    server = peers(later_cut)
    task = asyncio.ensure_future(run_shielded(server.url, SendState()))
    await asyncio.to_thread(server.arrived.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert "may have been accepted" in caught.value.__notes__[0]


EVERYTHING = """
    import asyncio, gc, sys, threading
    from langchain_tokenhub import ChatTokenHub
    chat = ChatTokenHub(model="m", api_key="sk", base_url=sys.argv[1])
    chat.invoke("q")
    for chunk in chat.stream("q"):
        break
    left = chat.stream("q")
    next(left)
    async def main():
        asyncio.get_running_loop().slow_callback_duration = 30  # a busy machine is no fault
        await chat.ainvoke("q")
        async for chunk in chat.astream("q"):
            break
        left = chat.astream("q")
        await anext(left)
        task = asyncio.ensure_future(chat.ainvoke("q"))
        await asyncio.sleep(0)
        task.cancel()
    asyncio.run(main())
    asyncio.run(main())
    thread = threading.Thread(target=chat.invoke, args=("q",))
    thread.start()
    thread.join()
    gc.collect()
    print("done")
"""


def test_a_process_ends_clean_whatever_was_left_open(peer):
    """openai 3.54.0 complains "asynchronous generator is already running"."""
    assert ended(python(EVERYTHING, peer.url)) == ("done", "")


LEFT = """
    import asyncio, gc, sys
    from langchain_tokenhub import ChatTokenHub
    chats = [ChatTokenHub(model="m", api_key="sk", base_url=url) for url in sys.argv[1:]]
    for chat in chats:
        chat.invoke("q")
    kept = []
    async def main(chat):
        asyncio.get_running_loop().slow_callback_duration = 30  # a busy machine is no fault
        await chat.ainvoke("q")
        for _ in range(3):
            kept.append(chat.astream("q"))
            await anext(kept[-1])
    def badly(work):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(work)
        loop.close()  # without shutdown_asyncgens
    for _ in range(2):
        for chat in chats:
            {run}(main(chat))
        kept.clear()
        gc.collect()
        for chat in chats:
            {run}(main(chat))  # its streams are held until the end
    print("done")
"""


@pytest.mark.parametrize("run", ["asyncio.run", "badly"])
def test_a_loop_ends_clean_although_streams_are_half_read(run, peers, raw, monkeypatch):
    """openai 3.54.0 complains "asynchronous generator is already running"."""
    monkeypatch.setenv("SSL_CERT_FILE", str(raw.certificate))

    async def talk(connection, request):
        if b'"stream":true' not in request.body:
            return await connection.json(raw.WHOLE)
        await connection.send(raw.STREAM + b"Transfer-Encoding: chunked\r\n\r\n")
        await connection.chunks(raw.event("word"))
        return await connection.until_gone()

    servers = [peers(talk, tls=tls) for tls in (False, True)]
    out, err = ended(python(LEFT.format(run=run), *(server.url for server in servers)))
    assert out == "done"
    if run == "asyncio.run":  # else asyncio itself warns of transports that were left open
        assert err == ""
    for server in servers:
        assert all(connection.gone.wait(5) for connection in server.connections)
