"""Tokens are counted offline, near to what real tokenizers count.

The judges are the tokenizer files that the litellm wheel ships; their counts are frozen in
`tests/data/token_counts.json`, which says what each of them may judge, and why.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately, trim_messages

from langchain_tokenhub import ChatTokenHub

COUNTS = json.loads(
    (Path(__file__).parent.parent / "data" / "token_counts.json").read_text(encoding="utf-8")
)
SAMPLES = {sample["name"]: sample for sample in COUNTS["samples"]}
JUDGES = list(COUNTS["judges"])
IMAGE = {"type": "image", "url": "https://pictures.test/cat.png"}
TOOL = {
    "name": "get_weather",
    "description": "获取指定城市的天气信息",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture
def model():
    return ChatTokenHub(model="deepseek-v4-flash", api_key="sk-test-canary")


JUDGED = [
    (sample, judge)
    for sample in SAMPLES.values()
    for judge, facts in COUNTS["judges"].items()
    if sample["kind"] in facts["kinds"]
]


@pytest.mark.parametrize(("sample", "judge"), JUDGED, ids=lambda x: x if x in JUDGES else x["name"])
def test_rows_68_and_69_an_estimate_is_within_15_percent_of_the_tokenizer(model, sample, judge):
    counted = model.get_num_tokens(sample["text"])

    assert counted == pytest.approx(sample["tokens"][judge], rel=0.15)


@pytest.mark.parametrize("judge", ["cl100k_base", "claude-2", "p50k_base"])
def test_tokenizers_without_chinese_words_cannot_judge_chinese(judge):
    chinese = [sample["tokens"] for sample in SAMPLES.values() if sample["kind"] == "zh"]

    assert all(counts[judge] > 1.5 * counts["deepseek"] for counts in chinese)


@pytest.mark.parametrize("kind", ["zh", "en", "mixed", "code"])
def test_the_samples_hold_texts_that_the_weights_were_not_fitted_to(kind):
    assert any(s["kind"] == kind and not s["fitted"] for s in SAMPLES.values())


def test_row_69_core_counts_chinese_three_times_too_low(model):
    text = SAMPLES["zh_news"]["text"]

    assert count_tokens_approximately([HumanMessage(text)]) < 0.6 * model.get_num_tokens(text)


@pytest.mark.parametrize(
    ("text", "least"), [("", 0), ("a", 1), ("😀", 1), ("a\ud83d", 1), ("한국어", 1), ("  ", 0)]
)
def test_any_text_can_be_counted(model, text, least):
    assert least <= model.get_num_tokens(text) <= 4


def test_messages_count_more_than_their_text(model):
    text = SAMPLES["zh_chat"]["text"]

    assert model.get_num_tokens_from_messages([HumanMessage(text)]) > model.get_num_tokens(text)


def test_section_4_complaint_17_tools_are_counted_without_a_warning(model):
    alone = model.get_num_tokens_from_messages([HumanMessage("hi")])

    with_tools = model.get_num_tokens_from_messages([HumanMessage("hi")], tools=[TOOL])

    assert with_tools - alone > 20


def test_a_picture_counts_like_a_page_and_not_like_its_link(model):
    data = {"type": "image", "base64": "aGk=" * 50_000, "mime_type": "image/png"}
    for image in (IMAGE, data):
        assert 500 < model.get_num_tokens_from_messages([HumanMessage(["look", image])]) < 3000


def test_tool_calls_and_reasoning_are_counted(model):
    call = {"name": "f", "args": {"city": "北京" * 20}, "id": "c"}
    said = AIMessage("", tool_calls=[call], additional_kwargs={"reasoning_content": "想" * 50})

    assert model.get_num_tokens_from_messages([said]) > 40


def test_a_part_of_a_history_can_be_counted_that_could_not_be_sent(model):
    for part in ([AIMessage("hi")], [ToolMessage("1", tool_call_id="c")], [SystemMessage("s")], []):
        assert model.get_num_tokens_from_messages(part) >= 0


def test_token_ids_are_refused_with_what_to_use_instead(model):
    with pytest.raises(NotImplementedError, match="get_num_tokens"):
        model.get_token_ids("你好")


def test_a_tokenizer_of_the_callers_own_counts_everything():
    model = ChatTokenHub(model="hy3", api_key="sk-test-canary", custom_get_token_ids=list)

    assert model.get_token_ids("ab") == ["a", "b"]
    assert model.get_num_tokens("你好吗") == 3
    assert model.get_num_tokens_from_messages([HumanMessage("a" * 500)]) > 500


def test_trim_messages_takes_the_model_as_its_counter(model):
    history = [HumanMessage("天气真好" * 100), AIMessage("好"), HumanMessage("再见")]

    kept = trim_messages(history, max_tokens=60, token_counter=model, start_on="human")

    assert [message.content for message in kept] == ["再见"]
