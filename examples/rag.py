"""Answer a question from your own text: load, split, embed, search, ask.

pip install numpy && python examples/rag.py ["question"] [text.txt]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from langchain_core.prompts import ChatPromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_tokenhub import ChatTokenHub, TokenHubEmbeddings
from langchain_tokenhub.testing.offline import emulator_unless_key

TEXT = """
本店营业时间为每天上午九点到晚上十点，除夕当天只营业到下午四点。
龙井用八十度的水冲泡，第一泡三十秒即可；普洱要用沸水，并先洗茶一次。
茶叶请放在阴凉干燥处密封保存，绿茶最好放入冰箱冷藏，并在一年之内喝完。
会员每消费一元积一分，满一千分可以兑换一只紫砂杯，积分两年内有效。
包间需要提前一天预订，可以坐八位客人，最低消费六百元，自带茶叶另收茶位费。
七天之内未拆封的茶叶可以退货，已经拆封的不退，质量问题除外。
"""
PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "只根据下面的资料回答，资料里没有的就说不知道。\n\n{passages}"),
        ("user", "{question}"),
    ]
)


def split(text: str, limit: int = 200) -> list[str]:
    """Return a passage for each paragraph, or several of whole sentences for a long one."""
    passages: list[str] = []
    for paragraph in text.splitlines():
        passages.append("")
        for sentence in re.findall(rf"[^。！？]{{1,{limit - 1}}}[。！？]?", paragraph):
            if len(passages[-1] + sentence) > limit:
                passages.append("")
            passages[-1] += sentence
    return [passage for passage in passages if passage.strip()]


def main(question: str, text: str) -> None:
    store = InMemoryVectorStore(TokenHubEmbeddings())
    store.add_texts(split(text))
    found = [document.page_content for document in store.similarity_search(question, k=2)]
    print("资料：", *found, sep="\n- ")
    chain = PROMPT | ChatTokenHub(model="deepseek-v4-flash")
    print("回答：", chain.invoke({"passages": "\n".join(found), "question": question}).text)


if __name__ == "__main__":
    question, *path = sys.argv[1:] or ["绿茶怎么保存？"]
    with emulator_unless_key():
        main(question, Path(path[0]).read_text("utf-8") if path else TEXT)
