"""The bill of a chat answer."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from typing import Any

from langchain_tokenhub.testing.chat_replies import Answer
from langchain_tokenhub.testing.chat_validation import message_tokens, prompt_tokens
from langchain_tokenhub.testing.errors import Era

_SPELLING = {"guide": "cached_token", "today": "cached_tokens"}


class Cache:
    """Beginnings of conversations the hub has seen."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._lock = threading.Lock()

    def tokens(self, body: Mapping[str, Any]) -> int:
        """Count the tokens of the longest known beginning, and remember this one."""
        digest, known, total, marks = hashlib.sha1(usedforsecurity=False), 0, 0, []
        digest.update(str(body["model"]).encode(errors="replace"))
        with self._lock:
            for message in body["messages"]:
                digest.update(json.dumps(message, sort_keys=True).encode())
                marks.append(mark := digest.digest())
                total += message_tokens(message)
                known = total if mark in self._seen else known
            self._seen.update(marks)
        return known


def usage(era: Era, body: Mapping[str, Any], answer: Answer, cached: int) -> dict[str, Any]:
    """Count in the field names of the era: the guide writes `cached_token` without an s."""
    prompt = prompt_tokens(body)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer.tokens,
        "total_tokens": prompt + answer.tokens,
        "prompt_tokens_details": {_SPELLING[era]: min(cached, prompt)},
        "completion_tokens_details": {"reasoning_tokens": len(answer.reasoning)},
    }
