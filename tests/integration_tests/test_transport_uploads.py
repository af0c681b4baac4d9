"""Large requests to servers that answer, or leave, before they have read them."""

from __future__ import annotations

import contextlib
import socket
import threading

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


@pytest.fixture
def impatient():
    """A server that complains after the first bytes, and closes with the last ones unread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(HEAD % len(COMPLAINT) + COMPLAINT)
                        connection.recv(8_000_000, socket.MSG_WAITALL)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_an_answer_that_comes_before_the_request_was_read_is_heard(model, impatient, call):
    """On asyncio, httpx 0.28.1 says that the connection broke."""
    for _ in range(3):  # nor is the broken connection used again
        with pytest.raises(InvalidRequestError) as caught:
            call(model(base_url=impatient), "invoke", PICTURE)
        assert (caught.value.status, caught.value.attempts) == (413, 1)
