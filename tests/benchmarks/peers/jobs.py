"""The faults of paid jobs: submitted once, never lost, waited for with sense."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from faults import Lines, Seen, fault, hang, outcome
from makers import (
    JOB,
    Fal,
    HttpxByHand,
    Maker,
    OpenAIImages,
    OpenAIVideos,
    Replicate,
    Runway,
    TokenHubVideo,
)
from models import KEY
from server import Connection, Request, Server, black_hole, serving

SUBMITTERS = (TokenHubVideo, OpenAIImages, OpenAIVideos, Fal, Replicate, Runway)
WAITERS = (TokenHubVideo, OpenAIVideos, Fal, Replicate, Runway)
READERS = (TokenHubVideo, Replicate, Fal, HttpxByHand)
CONNECT = 0.5


class Script:
    """A service that takes a job, and then tells its states one by one, the last for ever."""

    def __init__(self, *states: str, link: str | None = None, hints: tuple[int, ...] = ()) -> None:
        self.states, self.link, self.hints = states, link, hints
        self.server = serving(self.answer)
        self.maker: Any = None

    def of(self, subject: type[Maker]) -> Maker:
        self.maker = subject(self.server.url)
        return self.maker

    async def answer(self, connection: Connection, _: Request) -> None:
        polls = len(self.server.requests) - 1
        word = self.states[min(polls, len(self.states) - 1)]
        links = [self.link] if self.link else []
        hint = dict(enumerate(self.hints)).get(polls)
        headers = {"Retry_After": f"{hint}", "openai-poll-after-ms": f"{hint}000"} if hint else {}
        await connection.json(self.maker.state(word, *links), **headers)

    def polls(self) -> list[float]:
        """Return when it was asked after the job."""
        return [request.time for request in self.server.requests[1:]]


@fault(
    "a read timeout on a paid submit is exactly 1 POST",
    "test_a_submit_without_an_answer_is_exactly_one_post",
    *SUBMITTERS,
)
def submit_timeout(subject: type[Maker]) -> Seen:
    server = serving(hang)
    found = outcome(subject(server.url, timeout=0.4).submit, 8)
    return server.posts() == 1, f"{server.posts()} POSTs; {str(found).partition(':')[0]}"


async def _cancelled(maker: Maker, server: Server) -> str:
    task = asyncio.ensure_future(maker.asubmit())
    await asyncio.to_thread(server.arrived.wait, 10)
    task.cancel()
    (found,) = await asyncio.gather(task, return_exceptions=True)
    await asyncio.sleep(0.5)
    return f"{found!r} {getattr(found, '__notes__', '')}"


@fault(
    "cancelling a paid submit keeps the job's id",
    "test_whoever_cancels_a_submit_under_way_its_answer_is_awaited",
    *SUBMITTERS,
)
def cancelled_submit(subject: type[Maker]) -> Seen:
    async def later(connection: Connection, _: Request) -> None:
        await asyncio.sleep(0.3)
        await connection.json(maker.state("running"))

    server, logs = serving(later), Lines(logging.WARNING)
    maker = subject(server.url)
    told = asyncio.run(_cancelled(maker, server)) + logs.text
    return JOB in told, "the id is told" if JOB in told else f"id lost: {told[:40].strip()}"


@fault(
    "a wait of 3 s asks once more at its deadline, then ends",
    "test_a_wait_polls_once_more_at_its_deadline_and_never_sleeps_past_it",
    *WAITERS,
)
def deadline(subject: type[Maker]) -> Seen:
    script = Script("running")
    maker = script.of(subject)
    found = outcome(lambda: maker.wait(3.0), 10)
    if not found.ended:
        return False, f"takes no deadline: waits after 10 s, {len(script.polls())} polls"
    end = script.server.requests[0].time + 3.0
    late, last = found.seconds - 3.0, end - max(script.polls())
    right = found.error is not None and abs(late) < 0.6 and abs(last) < 0.5
    return right, f"ended {late:+.1f} s, last poll {-last:+.1f} s from the deadline"


@fault(
    "each answer's hint decides when to look again",
    "test_a_hint_of_the_service_decides_when_to_look_again",
    *WAITERS,
)
def hints(subject: type[Maker]) -> Seen:
    script = Script("running", "running", "running", "done", hints=(0, 2, 1))
    maker = script.of(subject)
    outcome(lambda: maker.wait(25.0), 25)
    first, second, third, *_ = [*script.polls(), 99.0, 99.0, 99.0]
    gaps = (second - first, third - second)
    right = all(-0.1 < gap - hint < 0.4 for gap, hint in zip(gaps, (2, 1), strict=True))
    return right, f"hints of 2 and 1 s, waited {gaps[0]:.1f} and {gaps[1]:.1f} s"


@fault(
    "a state nobody knows is waited for",
    "test_an_unknown_word_is_waited_for_with_one_warning",
    *WAITERS,
)
def unknown_state(subject: type[Maker]) -> Seen:
    script = Script("running", "MARINATING", "MARINATING", "done")
    maker = script.of(subject)
    found = outcome(lambda: maker.wait(40.0), 40)
    right = found.error is None and len(script.polls()) >= 3
    return right, "waits for the result" if right else f"after {len(script.polls())}: {found}"


@fault(
    "a black-holed primary costs 1 connect timeout in 5 submits",
    "test_a_black_holed_primary_costs_one_connect_timeout",
    *(TokenHubVideo, Fal),  # the others have no second host
)
def black_holed(subject: type[Maker]) -> Seen:
    import httpx

    async def answer(connection: Connection, _: Request) -> None:
        await connection.json(maker.state("running"))

    with black_hole() as (host, port):
        backup = serving(answer, ("127.0.0.2", port))
        timeouts = httpx.Timeout(10.0, connect=CONNECT)
        maker = subject(f"http://{host}:{port}", timeout=timeouts, backup=backup.url)
        found = outcome(lambda: [maker.submit() for _ in range(5)], 30)
    assert backup.posts() == 5, str(found)
    paid = round(found.seconds / CONNECT)
    return paid <= 1, f"{found.seconds:.1f} s: {paid} timeouts of {CONNECT} s"


def collected(subject: type[Maker]) -> Server:
    """Let a job end with a signed link to another host, which is read; return that host."""

    async def file(connection: Connection, _: Request) -> None:
        await connection.body(b"\0\0\0\x18ftypmp42" + bytes(64), Content_Type="video/mp4")

    files = serving(file)
    script = Script("running", "done", link=f"{files.url}/a.mp4?q-signature=canary-signature")
    maker = script.of(subject)
    found = outcome(lambda: maker.download(maker.wait(20.0)))
    assert files.requests, str(found)
    return files


@fault(
    "an address from an answer gets no key",
    "test_a_result_is_fetched_without_the_key",
    *READERS,
)
def foreign_link(subject: type[Maker]) -> Seen:
    sent = str(collected(subject).requests[0].headers)
    return KEY not in sent, "the key went there" if KEY in sent else "no key went there"


@fault("a signed link is in no log", "test_a_signed_link_is_in_no_log", *READERS)
def signed_link(subject: type[Maker]) -> Seen:
    logs = Lines()
    collected(subject)
    lines = [line for line in logs.text.splitlines() if "canary-signature" in line]
    names = sorted({line.partition(":")[0] for line in lines})
    return not lines, f"in {len(lines)} lines of {', '.join(names)}" if lines else "in no line"
