"""`%kasal memory, knowledge`."""

from __future__ import annotations

import base64
from argparse import Namespace
from pathlib import Path
from typing import get_args

from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import nearest
from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.kernel.magics.command_line import Parser, add_crew, one_of, phrase
from kasal_jupyter.kernel.session import Session
from kasal_jupyter.kernel.views.cards import Shown
from kasal_jupyter.kernel.views.figures import counted, moment_text
from kasal_jupyter.schemas.crews import CrewDetails
from kasal_jupyter.schemas.memory import MemoryType

MEMORY_HEADS = ["memory", "about", "when", "what", "id"]
FOUND_HEADS = ["near", "from", "about", "what", "id"]
SOURCE_HEADS = ["source", "what it is", "passages", "characters", "since", "id"]
PASSAGE_HEADS = ["", "passage"]

KIND_WORDS = {"short_term": "short term", "long_term": "long term", "knowledge": "knowledge"}


def memory_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal memory``."""
    add_crew(parser)
    parser.add_argument("query", nargs="*", metavar="WORDS", help="what to look for; else all is listed")
    kinds = (*get_args(MemoryType), "knowledge")
    parser.add_argument("--type", type=one_of(kinds), metavar="TYPE", help="short_term or long_term only")
    parser.add_argument("--add", metavar="TEXT", type=phrase, help="have the crew remember this")
    parser.add_argument("--about", metavar="CATEGORY", type=phrase, help="what the added memory is about")
    parser.add_argument("--forget", metavar="ID", help="have the crew forget one memory")
    types = (*get_args(MemoryType), "all")
    parser.add_argument("--clear", type=one_of(types), metavar="TYPE", help="have it forget a type, or all")


def memory_command(session: Session, words: Namespace, cell: str | None) -> Shown | None:
    """Show what a crew remembers, search in it, or change it."""
    del cell
    crew, client = session.crew(words.crew), session.client
    asked = " ".join(words.query)
    doing = [name for name in ("add", "forget", "clear") if getattr(words, name)]
    if len(doing) > 1 or (doing and asked):
        raise CellError(f"One at a time: {', '.join(f'--{name}' for name in doing)} or a search")
    if words.about and not words.add:
        raise CellError("--about goes with --add: what the new memory is about")
    if words.add:
        _add(client, crew, words)
        return None
    if words.forget:
        client.delete_memory(crew.id, words.forget)
        print(f"{crew.name} has forgotten {words.forget}")  # noqa: T201 - it is the answer
        return None
    if words.clear:
        _clear(client, crew, words.clear)
        return None
    return _search(client, crew, asked, words.type) if asked else _list(client, crew, words.type)


def knowledge_arguments(parser: Parser) -> None:
    """Have a parser take what stands behind ``%kasal knowledge``."""
    add_crew(parser)
    parser.add_argument("--add", nargs="+", metavar="FILE", help="text, Markdown, CSV, JSON, HTML or PDF")
    parser.add_argument("--name", metavar="NAME", help="what the added file is called; else as it is")
    parser.add_argument("--show", metavar="SOURCE", help="show the passages of a source, by name or id")
    parser.add_argument("--remove", metavar="SOURCE", help="take a source away, by name or id")


def knowledge_command(session: Session, words: Namespace, cell: str | None) -> Shown | None:
    """Show what a crew was given to know, or change it."""
    del cell
    crew, client = session.crew(words.crew), session.client
    doing = [name for name in ("add", "remove", "show") if getattr(words, name)]
    if len(doing) > 1:
        raise CellError(f"One at a time: {', '.join(f'--{name}' for name in doing)}")
    if words.name and not words.add:
        raise CellError("--name goes with --add: what the source is called")
    if words.add:
        return _give(client, crew, words)
    if words.remove:
        source_id = _source(client, crew, words.remove)
        client.delete_knowledge(crew.id, source_id)
        print(f"{crew.name} does not know {words.remove} any more")  # noqa: T201 - it is the answer
        return None
    if words.show:
        whole = client.source(crew.id, _source(client, crew, words.show))
        rows = [[str(place), each.content] for place, each in enumerate(whole.passages, 1)]
        more = f"; the first {len(rows)}" if whole.total > len(rows) else ""
        return Shown(f"{whole.name}: {counted(whole.total, 'passage')}{more}", PASSAGE_HEADS, rows)
    sources = client.knowledge(crew.id)
    rows = [
        [
            each.name,
            each.media_type,
            f"{each.passages:,}",
            f"{each.characters:,}",
            moment_text(each.created_at),
            each.id,
        ]
        for each in sources
    ]
    title = "" if rows else f"{crew.name} was given nothing to know; --add FILE does"
    return Shown(title, SOURCE_HEADS, rows)


def _list(client: Client, crew: CrewDetails, kind: str | None) -> Shown:
    if kind == "knowledge":
        raise CellError(f"`%kasal knowledge` shows that; here it goes with words to look for in {crew.name}")
    memories = client.memories(crew.id, kind)  # type: ignore[arg-type] # one of the two is left
    rows = [
        [
            KIND_WORDS[each.type],
            each.category or "",
            moment_text(each.created_at),
            each.content,
            each.id,
        ]
        for each in sorted(memories, key=lambda each: each.type != "short_term")
    ]
    if rows:
        return Shown("", MEMORY_HEADS, rows)
    why = "" if crew.configuration.memory else "; its runs are remembered once it has `memory: true`"
    return Shown(f"{crew.name} remembers nothing yet{why}", MEMORY_HEADS, rows)


def _search(client: Client, crew: CrewDetails, text: str, kind: str | None) -> Shown:
    found = client.search_memory(crew.id, text, type=kind)  # type: ignore[arg-type] # read by one_of
    rows = [
        [f"{hit.score:.2f}", KIND_WORDS[hit.type], hit.category or "", hit.content, hit.id]
        for hit in found.hits
    ]
    title = "" if rows else f"{crew.name} remembers nothing near to that"
    return Shown(". ".join(filter(None, (title, found.remark))), FOUND_HEADS, rows)


def _add(client: Client, crew: CrewDetails, words: Namespace) -> None:
    from kasal_jupyter.schemas.memory import MemoryCreate

    if words.type == "knowledge":
        raise CellError("`%kasal knowledge` gives a crew something to know")
    about = words.about or (None if words.type == "short_term" else "general")
    body = MemoryCreate(
        type=words.type or "long_term",
        content=words.add,
        category=about,
    )
    made = client.add_memory(crew.id, body)
    print(f"{crew.name} will remember that: {made.id}")  # noqa: T201 - it is the answer
    if not crew.configuration.memory:
        print(  # noqa: T201 - whoever thinks it is used is told
            f"No run recalls it yet: {crew.name} has `memory: false`; with `memory: true` its runs do"
        )


def _clear(client: Client, crew: CrewDetails, kind: str) -> None:
    from kasal_jupyter.schemas.memory import MemoryClear

    client.clear_memory(crew.id, MemoryClear.model_validate({"type": kind}))
    what = "everything" if kind == "all" else f"its {KIND_WORDS[kind]} memories"
    print(f"{crew.name} has forgotten {what}")  # noqa: T201 - it is the answer


def _give(client: Client, crew: CrewDetails, words: Namespace) -> Shown:
    from kasal_jupyter.schemas.memory import KnowledgeCreate

    rows = []
    paths = [Path(each).expanduser() for each in words.add]
    if words.name and len(paths) > 1:
        raise CellError("--name is for one file")
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CellError(f"{path} cannot be read: {error.strerror or error}") from None
        body = KnowledgeCreate(name=words.name or path.name, content=base64.b64encode(data).decode())
        made = client.add_knowledge(crew.id, body)
        rows.append([made.name, counted(made.passages, "passage"), made.id])
    return Shown(f"{crew.name} knows", ["source", "", "id"], rows)


def _source(client: Client, crew: CrewDetails, word: str) -> str:
    sources = client.knowledge(crew.id)
    for each in sources:
        if word in {each.id, each.name}:
            return each.id
    near = nearest(word, [each.name for each in sources])
    raise CellError(
        f"{crew.name} was given no {word!r}{near or '; `%kasal knowledge` lists what it was given'}"
    )
