"""Large requests to servers that answer, or leave, before they have read them."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import httpx
import pytest
from langchain_core.messages import HumanMessage

from langchain_tokenhub.errors import InvalidRequestError

COMPLAINT = b'{"error":{"message":"too large","code":"413"}}'
HEAD = b"HTTP/1.1 413 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
PICTURE = [
    HumanMessage(
        [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 20_000_000}}]
    )
]


@contextlib.contextmanager
def complaining(then, tls=None):
    """Serve with a complaint after the first bytes, and go on as `then` does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    connection = (
                        tls.wrap_socket(connection, server_side=True) if tls else connection
                    )
                    with connection:
                        connection.recv(65536)
                        connection.sendall(HEAD % len(COMPLAINT) + COMPLAINT)
                        then(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        yield f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_an_answer_that_comes_before_the_request_was_read_is_read(model, call):
    """On asyncio, httpx 0.28.1 says that the connection broke."""

    def read_some(connection):
        connection.recv(8_000_000, socket.MSG_WAITALL)

    with complaining(read_some) as url:
        for _ in range(3):  # nor is the broken connection used again
            with pytest.raises(InvalidRequestError) as caught:
                call(model(base_url=url), "invoke", PICTURE)
            assert (caught.value.status, caught.value.attempts) == (413, 1)


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "tls"])
def test_an_answer_of_a_server_that_leaves_at_once_is_read(is_tls, model, call, raw, trusted):
    """asyncio's TLS drops it."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if is_tls else None
    if tls:
        tls.load_cert_chain(raw.certificate)
    with complaining(lambda _: None, tls) as url, pytest.raises(InvalidRequestError) as caught:
        call(model(base_url=url), "invoke", PICTURE)
    assert (caught.value.status, caught.value.attempts) == (413, 1)


def test_an_answer_of_a_server_that_reads_no_more_is_read(model, call):
    """httpx 0.28.1 waits until its patience is gone, and then says that it is."""
    over = threading.Event()
    with complaining(lambda _: over.wait(30)) as url:
        with pytest.raises(InvalidRequestError) as caught:
            call(model(base_url=url, timeout=httpx.Timeout(5, write=0.3)), "invoke", PICTURE)
        over.set()
    assert (caught.value.status, caught.value.attempts) == (413, 1)
