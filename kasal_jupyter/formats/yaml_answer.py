"""A crew in what a model says: YAML, fenced or not, with text around it or not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kasal_jupyter.errors import Fault, InvalidRequest
from kasal_jupyter.formats.yaml_crew import load_crew
from kasal_jupyter.schemas.crews import CrewCreate
from kasal_jupyter.schemas.exchange import MOST_OF_AN_ANSWER, CrewGenerate

_FENCE = re.compile(r"(`{3,}|~{3,})[ \t]*(\w*)")


def crew_of_answer(answer: str, request: CrewGenerate) -> CrewCreate:
    """Read a model's answer as a crew: the YAML in its first fence, or all of it.

    Raises
    ------
    InvalidRequest
        It is none; with every fault.
    """
    text = answer.strip()
    if len(text) > MOST_OF_AN_ANSWER:
        reason = f"the answer has more than {MOST_OF_AN_ANSWER:,} characters"
        raise InvalidRequest(reason, faults=[Fault("yaml", reason)])
    fences = [inside for language, inside in _fenced(text) if language in {"", "yaml", "yml", "json"}]
    text = next((each for each in fences if "agents" in each), fences[0] if fences else text)
    crew = _named(text, request)
    agents = [
        agent.model_copy(update={"model": request.model}) if agent.model is None else agent
        for agent in crew.agents
    ]
    return crew.model_copy(update={"agents": agents})


def _named(text: str, request: CrewGenerate) -> CrewCreate:
    try:
        return load_crew(text, request.name)
    except InvalidRequest as error:
        if request.name is not None or [fault.field for fault in error.faults] != ["name"]:
            raise
    # All that is missing is a name.
    return load_crew(text, " ".join(request.description.split())[:60])


def _fenced(text: str) -> Iterator[tuple[str, str]]:
    """Give what stands in each fence that is closed, with its language; each line is looked at once."""
    mark = language = ""
    inside: list[str] = []
    for line in text.split("\n"):
        bare = line.strip(" \t\r")
        if mark:
            if bare == mark:
                yield language, "".join(inside)
                mark = ""
            else:
                inside.append(f"{line}\n")
        elif found := _FENCE.match(bare):
            mark, language, inside = found[1], found[2].lower(), []
