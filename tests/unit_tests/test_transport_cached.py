"""A call's body is encoded once, without a lock that a fork would leave locked."""

from __future__ import annotations

import threading

from langchain_tokenhub.transport import Call


class Slow(dict):
    """A body whose encoding takes until `go` is set."""

    def __init__(self, go):
        super().__init__(a=1)
        self.go, self.begun, self.encoded = go, threading.Event(), 0

    def items(self):
        self.begun.set()
        self.encoded += 1
        self.go.wait(5)
        return super().items()


def test_a_body_is_encoded_once():
    go = threading.Event()
    go.set()
    call = Call(path="/a", body=Slow(go))
    assert (call.content, call.content, call.body.encoded) == (b'{"a":1}', b'{"a":1}', 1)


def test_a_body_in_the_making_holds_up_no_other_call():
    """`functools.cached_property` has one lock for all objects before Python 3.12."""
    go, ready = threading.Event(), threading.Event()
    ready.set()
    slow, found = Call(path="/a", body=Slow(go)), []
    making = threading.Thread(target=lambda: slow.content)
    making.start()
    slow.body.begun.wait(5)
    other = threading.Thread(target=lambda: found.append(Call(path="/b", body=Slow(ready)).content))
    other.start()
    other.join(2)
    assert found == [b'{"a":1}']
    go.set()
    making.join()
