"""Translate with the model that is made for it, and fall back to a general one.

python examples/translator.py ["text"] ["language"]
"""

from __future__ import annotations

import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_tokenhub import ChatTokenHub, ModelNotAvailableError, QuotaExhaustedError
from langchain_tokenhub.testing.offline import emulator_unless_key

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "你是一个专业的翻译助手。把用户的话译成{language}。只返回翻译结果，不做解释。"),
        ("user", "{text}"),
    ]
)


def main(text: str, language: str) -> None:
    special, general = ChatTokenHub(model="hy-mt2-pro"), ChatTokenHub(model="hy3", thinking=False)
    model = special.with_fallbacks(
        [general], exceptions_to_handle=(ModelNotAvailableError, QuotaExhaustedError)
    )
    chain = PROMPT | model | StrOutputParser()
    for piece in chain.stream({"text": text, "language": language}):
        print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    with emulator_unless_key():
        main(*(sys.argv[1:] or ["今天天气真好", "英文"]))
