"""The faults of streams: what they hold, how they end, and what they must not hide."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable

from faults import Seen, fault, hang, outcome
from models import EVERYONE, Chat
from server import CHUNKED, DONE, SSE, Connection, Request, chunk, event, serving

MIB = 1 << 20

A, B, ODD = chunk("a"), chunk("b"), "\u2028\u2029\u0085"
END = event("", "stop") + DONE
LATIN = b"Content-Type: text/event-stream; charset=ISO-8859-1\r\nTransfer-Encoding: chunked\r\n"
CHINESE = event("你好").replace(b"\n", b"\r\n")
TWO = b"data: %s%sdata: %s%s"


def in_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


ROWS: dict[str, tuple[list[bytes], str]] = {
    "LF": ([TWO % (A, b"\n\n", B, b"\n\n")], "ab"),
    "CRLF": ([TWO % (A, b"\r\n\r\n", B, b"\r\n\r\n")], "ab"),
    "CR": ([TWO % (A, b"\r\r", B, b"\r\r")], "ab"),
    "mixed ends": ([TWO % (A, b"\n\r\n", B, b"\r\n\n")], "ab"),
    "no space": ([b"data:%s\n\n" % A], "a"),
    "several data lines": ([b"data: " + A.replace(b', "c', b',\ndata: "c') + b"\n\n"], "a"),
    "comment inside": ([b"data: {\n: ping\ndata: " + A[1:] + b"\n\n"], "a"),
    "comments alone": ([b": ping\n\n: ping\n\n", event("a")], "a"),
    "id and retry": ([b"id: 1\nretry: 5\n" + event("a")], "a"),
    "unknown field": ([b"datum: x\n" + event("a")], "a"),
    "BOM": ([b"\xef\xbb\xbf" + event("a")], "a"),
    "BOM in pieces": (in_bytes(b"\xef\xbb\xbf" + event("a")), "a"),
    "U+2028 inside": ([event(ODD)], ODD),
    "UTF-8 byte by byte": (in_bytes(CHINESE), "你好"),
    "charset ISO-8859-1": ([event("你好")], "你好"),
    "no blank line at the end": ([event("a", "stop"), b"data: %s\n" % B], "a"),
    "not UTF-8": ([event("a").replace(b'"a"', b'"\xff"')], "a typed error"),
}
PROMPT_ROWS = {"CR CR at once": b"\r\r", "LF CRLF at once": b"\n\r\n", "CRLF at once": b"\r\n\r\n"}


def heard(chat: Chat) -> str:
    """Return the text of a stream; a library's own error counts as one that is typed."""
    found = outcome(lambda: "".join(chat.stream()), 10)
    if found.error is None:
        return found.value if found.ended else "hangs"
    return type(found.error).__name__ if builtin(found.error) else "a typed error"


def builtin(error: Exception) -> bool:
    return type(error).__module__ in {"builtins", "json.decoder"}


def row(subject: type[Chat], name: str, pieces: list[bytes]) -> str:
    async def answer(connection: Connection, _: Request) -> None:
        last = b"" if name == "no blank line at the end" else END
        headers = LATIN if name.startswith("charset") else CHUNKED
        await connection.stream(*pieces, *[last][: len(last)], headers=headers)

    return heard(subject(serving(answer).url, timeout=5.0))


def at_once(subject: type[Chat], end: bytes) -> bool:
    """Say whether an event is handed on while nothing comes after the byte that ends it."""
    released = []

    async def answer(connection: Connection, _: Request) -> None:
        await connection.begin()
        await connection.chunks(b"data: %s%s" % (A, end))
        await asyncio.sleep(1)
        released.append(True)
        await connection.chunks(END)
        await connection.send(b"0\r\n\r\n")

    for text in subject(serving(answer).url, timeout=5.0).stream():
        if text == "a":
            return not released
    return False


@fault(
    "the rows of the event format",
    "test_each_row, test_an_event_is_dispatched_with_the_byte_that_ends_it",
    *EVERYONE,
)
def event_rows(subject: type[Chat]) -> Seen:
    texts = {name: (row(subject, name, pieces), text) for name, (pieces, text) in ROWS.items()}
    wrong = [f"{name}: {found[:20]!a}" for name, (found, text) in texts.items() if found != text]
    wrong += [f"{name}: late" for name, end in PROMPT_ROWS.items() if not at_once(subject, end)]
    return not wrong, "; ".join(wrong) or f"{len(ROWS) + len(PROMPT_ROWS)} rows right"


def spent(subject: type[Chat], mebibytes: int) -> float:
    """Return the CPU seconds of one large event in small pieces, the lesser of two."""

    async def answer(connection: Connection, _: Request) -> None:
        large = event("x" * (mebibytes * MIB), "stop")
        pieces = [large[i : i + 1024] for i in range(0, len(large), 1024)]
        await connection.stream(*pieces, DONE)

    def once() -> float:
        begun = time.process_time()
        assert sum(len(text) for text in chat.stream()) == mebibytes * MIB
        return time.process_time() - begun

    chat = subject(serving(answer).url)
    return min(once(), once())


@fault(
    "a large event takes linear time: 4 MiB 4 times that of 1 MiB",
    "test_time_is_linear_in_the_size_of_an_event, "
    "test_an_event_of_four_mebibytes_passes_in_little_time",
    *EVERYONE,
)
def large_event(subject: type[Chat]) -> Seen:
    found = outcome(lambda: (spent(subject, 1), spent(subject, 4)), 60)
    if not found.value:
        return False, str(found)
    few, many = found.value
    return many / few < 6, f"{few:.2f} s and {many:.2f} s: {many / few:.1f} times"


@fault(
    "an event that never ends is refused",
    "test_what_never_ends_is_refused_at_the_limit",
    *EVERYONE,
)
def endless_event(subject: type[Chat]) -> Seen:
    async def answer(connection: Connection, _: Request) -> None:
        await connection.begin()
        for _ in range(64):
            await connection.chunks((b"data: " if _ == 0 else b"") + b"x" * MIB)
        server.answer = hang
        await connection.send(b"0\r\n\r\n")

    server = serving(answer)
    found = outcome(lambda: list(subject(server.url).stream()))
    refused = found.error is not None and server.answer is not hang
    return refused, str(found) if refused else "takes 64 MiB in"


# -- what a stream must not hide --------------------------------------------------------------


async def chunked(connection: Connection) -> None:
    await connection.begin()
    await connection.chunks(event("hi"))


async def of_known_length(connection: Connection) -> None:
    await connection.begin(SSE + b"Content-Length: 9999\r\n")
    await connection.send(event("hi"))


async def until_closed(connection: Connection) -> None:
    await connection.begin(SSE + b"Connection: close\r\n")
    await connection.send(event("hi") + b'data: {"choices": [{"del')


async def without_done(connection: Connection) -> None:
    await connection.stream(event("hi"))


async def gzipped(connection: Connection) -> None:
    await connection.begin(SSE + b"Content-Encoding: gzip\r\nConnection: close\r\n")
    await connection.send(gzip.compress(event("hi") * 400)[:-20])


def silent(subject: type[Chat], cut: Callable[[Connection], Awaitable[None]]) -> bool:
    async def answer(connection: Connection, _: Request) -> None:
        await cut(connection)
        connection.writer.close()

    chat = subject(serving(answer).url)
    return outcome(lambda: list(chat.stream())).error is None


@fault(
    "5 ways to cut a stream are errors",
    "test_a_cut_stream_is_an_error_with_what_was_said",
    *EVERYONE,
)
def truncations(subject: type[Chat]) -> Seen:
    cuts = [chunked, of_known_length, until_closed, without_done, gzipped]
    hidden = [cut.__name__.replace("_", " ") for cut in cuts if silent(subject, cut)]
    return not hidden, f"ends in silence: {', '.join(hidden)}" if hidden else "5 errors"


@fault(
    "comments alone do not keep a sync stream alive",
    "test_keep_alive_comments_do_not_count_as_an_answer",
    *EVERYONE,
)
def ping_only(subject: type[Chat]) -> Seen:
    async def answer(connection: Connection, _: Request) -> None:
        await connection.begin()
        for _ in range(40):
            await connection.chunks(b": ping\n\n")
            await asyncio.sleep(0.1)

    chat = subject(serving(answer).url, timeout=0.5)
    found = outcome(lambda: list(chat.stream()))
    ended = found.error is not None and found.seconds < 3
    what = type(found.error).__name__ if ended else "timeout of 0.5 s, still listening"
    return ended, f"{what} after {found.seconds:.1f} s"


@fault(
    "a JSON error in a 200 on a stream is that error",
    "test_a_json_error_instead_of_a_stream_is_raised",
    *EVERYONE,
)
def json_error(subject: type[Chat]) -> Seen:
    async def answer(connection: Connection, _: Request) -> None:
        await connection.json({"error": {"code": "401001", "message": "bad key"}})

    chat = subject(serving(answer).url)
    found = outcome(lambda: list(chat.stream()))
    return found.error is not None and "bad key" in str(found.error), str(found)
