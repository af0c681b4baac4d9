"""Tools whose errors are answers, where a tool call asked (contract, section 6)."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool

from langchain_tokenhub.errors import AuthenticationError, TokenHubError
from langchain_tokenhub.jobs.telling import told
from langchain_tokenhub.tools.client import call_id


class Answering(BaseTool):
    """A tool that answers a tool call with an error, and raises it to anyone else."""

    def run(
        self, tool_input: Any, *args: Any, tool_call_id: str | None = None, **kwargs: Any
    ) -> Any:
        """Run the tool; to a tool call, an error is an answer too (contract, section 6)."""
        token = call_id.set(tool_call_id)
        try:
            return super().run(tool_input, *args, tool_call_id=tool_call_id, **kwargs)
        except TokenHubError as error:
            return self._said(error, tool_call_id)
        finally:
            call_id.reset(token)

    async def arun(
        self, tool_input: Any, *args: Any, tool_call_id: str | None = None, **kwargs: Any
    ) -> Any:
        """As `run`."""
        token = call_id.set(tool_call_id)
        try:
            return await super().arun(tool_input, *args, tool_call_id=tool_call_id, **kwargs)
        except TokenHubError as error:
            return self._said(error, tool_call_id)
        finally:
            call_id.reset(token)

    def _said(self, error: TokenHubError, tool_call_id: str | None) -> ToolMessage:
        """Answer a tool call with an error: a raise would lose its siblings' results."""
        if tool_call_id is None or isinstance(error, AuthenticationError):
            raise error
        return ToolMessage(told(error), name=self.name, tool_call_id=tool_call_id, status="error")
