"""A limit on what an agent's tool calls may cost in one thread, by estimate.

The amount spent is computed from the thread's messages, which a checkpointer stores: it survives a
restart, and parallel calls of one turn need no lock. Calls count in the order of their messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from langchain_core.messages import AIMessage, BaseMessage, ToolCall, ToolMessage
from pydantic import BaseModel, create_model

from langchain_tokenhub.catalogue import estimate_price
from langchain_tokenhub.errors import BudgetExceededError

MESSAGES = "messages"
"""The argument that LangGraph injects; no model has a parameter of that name."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The limit on what the calls of a toolkit's tools may cost in one thread.

    Args:
        cny: The limit, in CNY.
        models: Model ids by the names of the tools.
    """

    cny: float
    models: Mapping[str, str]

    def check(
        self,
        messages: Iterable[BaseMessage],
        model: str,
        params: Mapping[str, Any],
        tool_call_id: str | None,
    ) -> None:
        """Raise `BudgetExceededError` for a call whose estimated price exceeds what is left.

        The last of `messages` has the calls of this turn; those after `tool_call_id` do not count.
        """
        spent = self._spent([*messages], tool_call_id)
        price, left = _price(model, params), self.cny - spent
        if price > left:
            raise BudgetExceededError(
                f"this call costs up to {price:g} CNY (estimate); {spent:g} of {self.cny:g} CNY "
                f"are spent, {max(0.0, left):g} CNY are left",
                phase="not sent",
                hint="ask for something cheaper, or raise budget_cny; nothing was charged",
            )

    def _spent(self, messages: list[BaseMessage], until: str | None) -> float:
        answers = {m.tool_call_id: m for m in messages if isinstance(m, ToolMessage)}
        spent = 0.0
        for call in self._calls(messages):
            if call["id"] == until:
                break
            price = _price(self.models[call["name"]], call["args"])
            answer = answers.get(call["id"] or "")
            is_refused = answer is None and spent + price > self.cny
            if not is_refused and not (answer and _is_free(answer)):
                spent += price
        return round(spent, 2)

    def _calls(self, messages: Iterable[BaseMessage]) -> Iterator[ToolCall]:
        for message in messages:
            for call in message.tool_calls if isinstance(message, AIMessage) else ():
                if call["name"] in self.models:
                    yield call


def _price(model: str, params: Mapping[str, Any]) -> float:
    estimate = estimate_price(model, params)
    return estimate.high if estimate else 0.0


def _is_free(answer: ToolMessage) -> bool:
    """Return True if a call was refused, by whoever answered it, or was not charged."""
    match answer:
        case ToolMessage(status="error", artifact={"charged": "yes" | "maybe"}):
            return False
        case _:  # a schema, a middleware or a person refuses without an artifact
            return answer.status == "error"


def with_messages(schema: type[BaseModel]) -> type[BaseModel]:
    """Return a schema with the thread's messages as an argument hidden from the model.

    Raises:
        ImportError: LangGraph is not installed.
    """
    from langgraph.prebuilt import InjectedState

    injected = Annotated[list[Any] | None, InjectedState(MESSAGES)]
    fields: dict[str, Any] = {MESSAGES: (injected, None)}
    return create_model(schema.__name__, __base__=schema, __doc__=schema.__doc__, **fields)
