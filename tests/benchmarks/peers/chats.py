"""The faults of chats: connections, secrets, sizes."""

from __future__ import annotations

import asyncio
import os
import pickle
import resource
import traceback
import zlib
from collections.abc import Iterator
from typing import Any

from faults import Lines, Seen, fault, hang, outcome
from models import CALLERS, EVERYONE, KEY, PROMPT, Chat
from server import Connection, Request, Server, serving
from server import plain as answered

MIB = 1 << 20


# -- connections ------------------------------------------------------------------------------


async def _cancelled(chat: Chat, calls: int) -> None:
    async def one(turns: int) -> None:
        task = asyncio.ensure_future(chat.asay())
        for _ in range(turns % 40):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for _ in range(0, calls, 250):
        await asyncio.gather(*[one(number) for number in range(250)])


async def _waves(chat: Chat, server: Server, waves: int = 5) -> int:
    """Cancel 2000 calls at a time; after each wave 30 calls have to be answered."""
    for _ in range(waves):
        server.answer = hang
        await _cancelled(chat, 2000)
        server.answer = answered
        assert await asyncio.gather(*[chat.asay() for _ in range(30)]) == ["hi"] * 30
    return waves


@fault(
    "10 000 cancelled calls leave later ones unharmed",
    "test_after_a_storm_of_cancellations_calls_work",
    *CALLERS,
)
def cancel_storm(subject: type[Chat]) -> Seen:
    server = serving(hang)
    chat = subject(server.url, timeout=10.0)
    found = outcome(lambda: asyncio.run(_waves(chat, server)), 170)
    return found.value == 5, "30 answers after each 2000" if found.value else str(found)


@fault(
    "one client serves `asyncio.run` after `asyncio.run`",
    "test_one_model_serves_loop_after_loop",
    *CALLERS,
)
def two_loops(subject: type[Chat]) -> Seen:
    chat = subject(serving().url)
    found = outcome(lambda: [asyncio.run(chat.asay()) for _ in range(3)])
    return found.value == ["hi"] * 3, "3 answers" if found.error is None else str(found)


@fault(
    "a forked child uses no connection of its parent",
    "test_a_forked_child_uses_no_connection_of_its_parent",
    *CALLERS,
)
def fork(subject: type[Chat]) -> Seen:
    server = serving()
    chat = subject(server.url)
    chat.say()
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os._exit(chat.say() != "hi")
        os.waitpid(child, 0)
    shared = sum(request.connection == 0 for request in server.requests) - 1
    return shared == 0, f"{shared} of 3 children spoke on their parent's connection"


@fault(
    "20 sync streams in a row use 1 connection",
    "test_twenty_streams_use_one_connection",
    *EVERYONE,
)
def twenty_streams(subject: type[Chat]) -> Seen:
    server = serving()
    chat = subject(server.url)
    assert ["".join(chat.stream()) for _ in range(20)] == ["hi"] * 20
    return len(server.connections) == 1, f"{len(server.connections)} connections"


# -- secrets and sizes ------------------------------------------------------------------------


@fault(
    "a 307 to another site takes neither key nor body there",
    "test_a_redirect_to_another_site_gets_neither_key_nor_body",
    *CALLERS,
)
def off_site(subject: type[Chat]) -> Seen:
    async def redirect(connection: Connection, _: Request) -> None:
        await connection.json({}, status=307, Location=thief.url)

    thief = serving()
    found = outcome(subject(serving(redirect).url).say)
    if not thief.requests:
        return True, f"nothing went there; {str(found)[:40]}"
    (request,) = thief.requests
    goods = {"prompt": PROMPT.encode() in request.body, "key": KEY in str(request.headers)}
    taken = " and ".join(name for name, went in goods.items() if went)
    return False, f"the {taken or 'request'} went there"


@fault("an error pickles", "test_an_error_pickles_with_all_its_fields", *CALLERS)
def pickled_error(subject: type[Chat]) -> Seen:
    async def refuse(connection: Connection, _: Request) -> None:
        await connection.json({"error": {"code": "400001", "message": "no"}}, status=400)

    found = outcome(subject(serving(refuse).url).say)
    assert found.error is not None
    again = outcome(lambda: pickle.loads(pickle.dumps(found.error)))
    same = (type(again.value), str(again.value)) == (type(found.error), str(found.error))
    return same, f"{type(found.error).__name__} comes back" if same else str(again)


@fault(
    "a gzip bomb is refused before it bursts",
    "test_a_compressed_bomb_is_refused_before_it_bursts",
    *CALLERS,
)
def gzip_bomb(subject: type[Chat]) -> Seen:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * MIB) for _ in range(256)) + packer.flush()

    async def answer(connection: Connection, _: Request) -> None:
        await connection.body(bomb, Content_Type="application/json", Content_Encoding="gzip")

    chat = subject(serving(answer).url)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = outcome(chat.say)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    refused = found.error is not None and grown < 256
    return refused, f"grew by {grown:.0f} MiB for {len(bomb) // 1024} KiB"


def reached(thing: Any) -> Iterator[str]:
    """Yield every text that can be reached from an object by its attributes."""
    todo, seen = [thing], set()
    while todo and len(seen) < 50_000:
        each = todo.pop()
        if id(each) in seen or isinstance(each, type):
            continue
        seen.add(id(each))
        if isinstance(each, str | bytes):
            yield repr(each)
        elif isinstance(each, dict):
            todo += [*each, *each.values()]
        elif isinstance(each, list | tuple | set):
            todo += each
        else:
            todo += getattr(each, "__dict__", {}).values()


@fault(
    "key and prompt are in no log, error or repr",
    "test_the_key_and_the_prompt_are_in_no_log_and_no_error",
    *CALLERS,
)
def secrets(subject: type[Chat]) -> Seen:
    async def echo(connection: Connection, request: Request) -> None:
        said = {"error": {"code": "401001", "message": f"bad {request.headers['authorization']}"}}
        await connection.json(said, status=401)

    logs = Lines()
    chat = subject(serving(echo).url)
    error = outcome(chat.say).error
    assert error is not None
    shown = {
        "logs": logs.text,
        "traceback": "".join(traceback.format_exception(error)),
        "message": f"{error} {error!r}",
        "error's attributes": " ".join(reached(vars(error))),
        "error's pickle": str(outcome(lambda: repr(pickle.dumps(error))).value),
        "client's repr": repr(chat.client),
        "client's vars": str(vars(chat.client)),
        "client's pickle": str(outcome(lambda: repr(pickle.dumps(chat.client))).value),
    }
    told = [where for where, text in shown.items() if KEY in text or PROMPT in text]
    return not told, f"in {', '.join(told)}" if told else f"in none of {len(shown)} places"
