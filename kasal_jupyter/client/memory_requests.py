"""The client's requests about what crews remember and know."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError

from kasal_jupyter.schemas.base import MOST_LISTED
from kasal_jupyter.schemas.memory import (
    CrewMemory,
    KnowledgeCreate,
    MemoryClear,
    MemoryCreate,
    MemoryDetails,
    MemoryHits,
    MemoryList,
    MemoryType,
    SourceDetails,
    SourceList,
    WholeSource,
)
from kasal_jupyter.wellformed import text_of, well_formed

M = TypeVar("M", bound=BaseModel)


def written(body: BaseModel, *, whole: bool = False) -> bytes:
    """Write a request's body: what of it was set, or the whole."""
    try:
        return body.model_dump_json(exclude_unset=not whole).encode()
    except PydanticSerializationError:
        # What no UTF-8 can hold, in an input or a frame's cell.
        return json.dumps(well_formed(body.model_dump(exclude_unset=not whole)), default=text_of).encode()


class MemoryRequests:
    """What :class:`~kasal_jupyter.client.client.Client` asks about memory and knowledge."""

    if TYPE_CHECKING:

        def _get(self, model: type[M], path: str, query: dict[str, Any] | None = None) -> M: ...

        def _send(self, model: type[M], method: str, path: str, body: BaseModel) -> M: ...

        def _request(self, method: str, path: str, body: bytes | None = None) -> bytes: ...

    def memory(self, crew_id: str) -> CrewMemory:
        """Give what a crew remembers."""
        return self._get(CrewMemory, _memory(crew_id))

    def memories(self, crew_id: str, type: MemoryType | None = None) -> list[MemoryDetails]:  # noqa: A002
        """List a crew's memories one by one, the newest first; at most 500."""
        query = {"per_page": MOST_LISTED, **({"type": type} if type else {})}
        return self._get(MemoryList, f"{_memory(crew_id)}/entries", query).items

    def search_memory(
        self,
        crew_id: str,
        text: str,
        *,
        type: MemoryType | Literal["knowledge"] | None = None,  # noqa: A002
        limit: int = 10,
    ) -> MemoryHits:
        """Find what of a crew's memories and knowledge is near to a text."""
        query = {"query": text, "limit": limit, **({"type": type} if type else {})}
        return self._get(MemoryHits, f"{_memory(crew_id)}/search", query)

    def add_memory(self, crew_id: str, body: MemoryCreate) -> MemoryDetails:
        """Have a crew remember something."""
        return self._send(MemoryDetails, "POST", _memory(crew_id), body)

    def delete_memory(self, crew_id: str, memory_id: str) -> None:
        """Have a crew forget one memory."""
        self._request("DELETE", f"{_memory(crew_id)}/{quote(memory_id, safe='')}")

    def clear_memory(self, crew_id: str, body: MemoryClear) -> None:
        """Have a crew forget its memories of a type, or all."""
        self._request("POST", f"{_memory(crew_id)}/clear", written(body, whole=True))

    def knowledge(self, crew_id: str) -> list[SourceDetails]:
        """List the files and texts that a crew was given; at most 500."""
        return self._get(SourceList, _knowledge(crew_id), {"per_page": MOST_LISTED}).items

    def source(self, crew_id: str, source_id: str) -> WholeSource:
        """Give a source with the first 500 of its passages."""
        path = f"{_knowledge(crew_id)}/{quote(source_id, safe='')}"
        return self._get(WholeSource, path, {"per_page": MOST_LISTED})

    def add_knowledge(self, crew_id: str, body: KnowledgeCreate) -> SourceDetails:
        """Give a crew a text or a file to know."""
        return self._send(SourceDetails, "POST", _knowledge(crew_id), body)

    def delete_knowledge(self, crew_id: str, source_id: str) -> None:
        """Take a source away from a crew."""
        self._request("DELETE", f"{_knowledge(crew_id)}/{quote(source_id, safe='')}")


def _memory(crew_id: str) -> str:
    return f"/memory/{quote(crew_id, safe='')}"


def _knowledge(crew_id: str) -> str:
    return f"/crews/{quote(crew_id, safe='')}/knowledge"
