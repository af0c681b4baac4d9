"""Token counts in every spelling become LangChain's, and their details never exceed them."""

from __future__ import annotations

import pytest

from langchain_tokenhub.chat.response import DeltaReader


def decode_usage(usage):
    """Return the counts of an answer with this usage."""
    reader = DeltaReader("m")
    reader.read({"usage": usage})
    return reader.finish()[1].usage


GUIDE = {
    "prompt_tokens": 10,
    "completion_tokens": 7,
    "total_tokens": 17,
    "prompt_tokens_details": {"cached_token": 4},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
SPELLINGS = {
    "the guide's": GUIDE,
    "today's": GUIDE | {"prompt_tokens_details": {"cached_tokens": 4}},
    "the field reference's": {
        **GUIDE,
        "prompt_tokens_details": None,
        "cache_read_tokens": 4,
        "cache_write_tokens": 6,
    },
    "DeepSeek's": {**GUIDE, "prompt_tokens_details": {}, "prompt_cache_hit_tokens": 4},
    "strings": {
        "prompt_tokens": "10",
        "completion_tokens": "7",
        "total_tokens": "17",
        "prompt_cache_hit_tokens": "4",
        "completion_tokens_details": {"reasoning_tokens": "3"},
    },
    "floats": {**GUIDE, "prompt_tokens": 10.0},
    "no total": {**GUIDE, "total_tokens": None},
    "responses": {
        "input_tokens": 10,
        "output_tokens": 7,
        "prompt_tokens_details": {"cached_token": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    },
}


@pytest.mark.parametrize("usage", SPELLINGS.values(), ids=SPELLINGS)
def test_row_66_every_spelling_says_the_same(usage):
    assert decode_usage(usage) == {
        "input_tokens": 10,
        "output_tokens": 7,
        "total_tokens": 17,
        "input_token_details": {"cache_read": 4},
        "output_token_details": {"reasoning": 3},
    }


def test_row_60_details_never_exceed_what_they_are_a_part_of():
    counts = decode_usage(
        {
            "prompt_tokens": 2,
            "completion_tokens": 3,
            "total_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 9},
            "completion_tokens_details": {"reasoning_tokens": 9},
        }
    )

    assert counts["input_token_details"]["cache_read"] == 2
    assert counts["output_token_details"]["reasoning"] == 3
    assert counts["total_tokens"] == 5


@pytest.mark.parametrize("usage", [None, {}, [], "12", 3])
def test_what_is_no_usage_is_none(usage):
    assert decode_usage(usage) is None


@pytest.mark.parametrize("odd", [None, "many", True, [], -4, float("inf"), float("nan")])
def test_a_count_that_is_no_number_counts_nothing(odd):
    counts = decode_usage({"prompt_tokens": odd, "completion_tokens": 2})

    assert (counts["input_tokens"], counts["output_tokens"], counts["total_tokens"]) == (0, 2, 2)


def test_details_that_were_not_given_are_not_invented():
    assert set(decode_usage({"prompt_tokens": 1, "completion_tokens": 1})) == {
        "input_tokens",
        "output_tokens",
        "total_tokens",
    }
