"""Values that are made once, without a lock that a fork would leave locked."""

from __future__ import annotations

import threading

from langchain_tokenhub.transport.calls import cached_property


class Slow:
    """An object whose value takes until it is let go."""

    def __init__(self, go):
        self.go, self.begun, self.made = go, threading.Event(), 0

    @cached_property
    def value(self):
        self.begun.set()
        self.made += 1
        return self.go.wait(5)


def test_a_value_is_made_once():
    go = threading.Event()
    go.set()
    slow = Slow(go)
    assert (slow.value, slow.value, slow.made) == (True, True, 1)


def test_a_value_in_the_making_holds_up_no_other_object():
    """`functools.cached_property` has one lock for all objects before Python 3.12."""
    go, ready = threading.Event(), threading.Event()
    ready.set()
    slow = Slow(go)
    making = threading.Thread(target=lambda: slow.value)
    making.start()
    slow.begun.wait(5)
    found = []
    other = threading.Thread(target=lambda: found.append(Slow(ready).value))
    other.start()
    other.join(2)
    assert found == [True]
    go.set()
    making.join()
