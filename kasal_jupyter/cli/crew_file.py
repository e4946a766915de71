"""Crews and inputs in files, as the command line takes them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kasal_jupyter.cli import WrongUsage
from kasal_jupyter.cli.connect import STDIN, say
from kasal_jupyter.client.client import Client
from kasal_jupyter.errors import Fault, InvalidRequest, NotFound
from kasal_jupyter.formats.yaml_crew import load_crew
from kasal_jupyter.formats.yaml_text import parse_mapping
from kasal_jupyter.kernel.crews import stored_crews
from kasal_jupyter.kernel.crews.stored_crews import (
    TERMINAL,
    ChangedElsewhere,
    Hand,
    is_same,
    own_crew,
    put_crew,
    require_own,
)
from kasal_jupyter.kernel.plain_values import NotPlain, plain
from kasal_jupyter.schemas.crews import ChangeQuery, CrewCreate, CrewDetails, Writer

_LINE = re.compile(r"line (\d+): (.*)", re.DOTALL)


def names_file(word: str) -> bool:
    """Say whether a word means a crew's file, and not its name."""
    return word == STDIN or word.lower().endswith((".yaml", ".yml")) or Path(word).is_file()


def read_crew(word: str) -> CrewCreate:
    """Read a crew from a file; where the text gives it no name, it has the file's.

    Raises
    ------
    InvalidRequest
        There is no such file, or it is no crew; each fault with its line and its field.
    """
    text = _read(word)
    name = None
    try:
        if "name" not in parse_mapping(text, "a crew begins with `agents:` and `tasks:`"):
            name = "crew" if word == STDIN else Path(word).stem
        return load_crew(text, name)
    except InvalidRequest as error:
        faults = [_placed(fault, word) for fault in error.faults]
        raise InvalidRequest(f"{word} is no crew", faults=faults) from None


def store_crew(
    client: Client, crew: CrewCreate, source: Writer, file: str | None, *, force: bool, ways: str
) -> tuple[str, str]:
    """Create a crew, or update the one of its name; give its id, and what was done.

    One that is the same already is left alone: whoever edits it elsewhere finds it unchanged.

    Parameters
    ----------
    client
        The server.
    crew
        The crew.
    source, file
        What it comes from, for its history.
    force
        Whether to write over what comes from elsewhere.
    ways
        What can be done where it is not.

    Raises
    ------
    ChangedElsewhere
        Its newest version comes from elsewhere; the difference is told.
    InvalidRequest
        There are several of that name.
    """
    hand = hand_of(source, file, force=force, ways=ways)
    with difference_told():
        put = put_crew(client, crew, hand, own_crew(client, crew.name, command=TERMINAL))
    return put.crew.id, put.verb


def require_own_crew(client: Client, crew: CrewCreate, hand: Hand) -> None:
    """Refuse what :func:`store_crew` would refuse, without writing anything."""
    stored = own_crew(client, crew.name, command=TERMINAL)
    if stored is not None and not is_same(stored, crew):
        with difference_told():
            require_own(client, crew, hand, stored)


def hand_of(source: Writer, file: str | None, *, force: bool, ways: str) -> Hand:
    """Say where a crew comes from that is written here: which file that is, by its name."""
    origin = Path(file).name if file not in {None, STDIN} else file
    return Hand(ChangeQuery(source=source, origin=origin or None), force=force, ways=ways)


@contextmanager
def difference_told() -> Iterator[None]:
    """Tell what would have changed of a crew that is not written over."""
    try:
        yield
    except ChangedElsewhere as error:
        say(repr(error.difference))
        raise


def find_crew(client: Client, word: str) -> CrewDetails:
    """Find a crew by its name or its id.

    Raises
    ------
    NotFound
        There is none; the message has the nearest.
    InvalidRequest
        There are several.
    """
    try:
        return stored_crews.find_crew(client, word, command=TERMINAL)
    except NotFound as error:
        raise NotFound(f"{error.message}; a file ends with .yaml") from None


def read_inputs(words: Iterable[str], file: str | None) -> dict[str, Any]:
    """Read a run's inputs: ``name=value`` words, which are texts, over those of a YAML or JSON file.

    Raises
    ------
    WrongUsage
        A word has no ``=``.
    InvalidRequest
        The file cannot be read, or has no mapping.
    """
    inputs: dict[str, Any] = {}
    if file is not None:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        text = _read(file)
        try:
            found = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise InvalidRequest(f"{file} is no YAML: {' '.join(str(error).split())}") from None
        if not isinstance(found, dict):
            raise InvalidRequest(f"{file} has no inputs; write them as name: value, one a line")
        try:
            inputs = {str(key): plain(value, str(key)) for key, value in found.items()}
        except NotPlain as error:
            raise InvalidRequest(f"{file}: {error}") from None
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise WrongUsage(f"{word!r} is no input; write it as name=value, with quotes around spaces")
        inputs[key] = value
    return inputs


def _read(word: str) -> str:
    try:
        return sys.stdin.read() if word == STDIN else Path(word).read_text("utf-8")
    except OSError as error:
        raise InvalidRequest(f"{word} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{word} is no text in UTF-8") from None


def _placed(fault: Fault, file: str) -> Fault:
    """Give a fault whose field is the place in the file, as compilers and editors write it."""
    found = _LINE.match(fault.reason)
    if found is None:
        return Fault(file, f"{fault.field}: {fault.reason}")
    field = "" if fault.field == "yaml" else f"{fault.field}: "
    return Fault(f"{file}:{found[1]}", f"{field}{found[2]}")
