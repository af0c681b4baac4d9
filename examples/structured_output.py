"""Get an answer as a value of your own class.

python examples/structured_output.py ["your text"]
"""

from __future__ import annotations

import sys
from typing import Literal

from pydantic import BaseModel, Field

from langchain_tokenhub import ChatTokenHub
from langchain_tokenhub.testing.offline import emulator_unless_key


class Review(BaseModel):
    """What a customer thinks of a product."""

    product: str = Field(description="which product")
    mood: Literal["good", "bad", "mixed"] = Field(description="how the customer feels")
    score: int = Field(description="from 1 to 5", ge=1, le=5)


def main(text: str) -> None:
    # how to ask differs by model; the catalogue knows, and another way is tried if one fails
    reader = ChatTokenHub(model="hy3").with_structured_output(Review)
    print(repr(reader.invoke(f"从这条评论中提取信息：{text}")))


if __name__ == "__main__":
    with emulator_unless_key():
        main(*(sys.argv[1:] or ["这把“紫砂壶”做工很好，5 分！就是快递慢了些。"]))
