"""httpx's types in fields, checked without importing httpx: who has one has imported it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

if TYPE_CHECKING:
    from httpx import AsyncClient, Client, Timeout
else:

    class _Of:
        def __init__(self, name: str) -> None:
            self._name = name

        def __get_pydantic_core_schema__(
            self, _source: object, _handler: GetCoreSchemaHandler
        ) -> CoreSchema:
            return core_schema.no_info_plain_validator_function(self._check)

        def _check(self, value: object) -> object:
            known = getattr(sys.modules.get("httpx"), self._name, ())
            if not isinstance(value, known):
                raise PydanticCustomError(
                    "is_instance_of",
                    "Input should be an instance of {name}",
                    {"name": f"httpx.{self._name}"},
                )
            return value

    AsyncClient = Annotated[Any, _Of("AsyncClient")]
    Client = Annotated[Any, _Of("Client")]
    Timeout = Annotated[Any, _Of("Timeout")]

__all__ = ["AsyncClient", "Client", "Timeout"]
