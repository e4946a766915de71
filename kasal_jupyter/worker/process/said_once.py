"""What calls of models say again and again, written once: messages that are on their way already are named."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import orjson

MOST_KNOWN = 40_000
"""Messages that are known; beyond, all are forgotten, and written once more. Some 10 MB, and more than one call has."""


class SaidOnce:
    """Names the messages of a run's calls that earlier ones have, see :mod:`kasal_jupyter.events.prompts`.

    Of each message its digest is kept, with where it was seen last: there its neighbours are the same mostly,
    so that the whole of a conversation is named in a word or two. Of equal messages in one call, each is
    known by itself.

    Parameters
    ----------
    written
        Writes a message as JSON.
    hidden
        Takes the secrets out of it.
    """

    def __init__(self, written: Callable[[Any], bytes], hidden: Callable[[bytes], bytes]) -> None:
        self._written = written
        self._hidden = hidden
        self._seen: dict[tuple[bytes, int], tuple[int, int]] = {}

    def named(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give a call's event with the messages that none before it has, and runs of those that one has."""
        span, seen = event["span_id"], Counter[bytes]()
        own: list[orjson.Fragment] = []
        runs: list[list[int]] = []
        marks = []
        for message in event["messages"]:
            line = self._written(message)
            digest = hashlib.blake2b(line, digest_size=16).digest()
            mark = (digest, seen[digest])
            seen[digest] += 1
            marks.append(mark)
            place = self._seen.get(mark) or self._seen.get((digest, 0))
            if place is None:
                place = (span, len(own))
                own.append(orjson.Fragment(self._hidden(line)))
            if runs and runs[-1][0] == place[0] and sum(runs[-1][1:]) == place[1]:
                runs[-1][2] += 1
            else:
                runs.append([*place, 1])
        if own:
            # A call that says nothing new is no step on the way to where things are written.
            if len(self._seen) > MOST_KNOWN:
                self._seen.clear()
            self._seen.update((mark, (span, at)) for at, mark in enumerate(marks))
        named = {name: own if name == "messages" else value for name, value in event.items()}
        return named if len(own) == len(marks) else {**named, "whole": runs}
