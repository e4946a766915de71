"""What the sandbox model answers where it is asked for a crew: one made by rule out of the request's words.

No model understands the sentence: its verbs choose from a few members, its *about …* or *on …* becomes
``{topic}``, and where it says nothing a researcher and a writer do the work. The same request gives the same
crew, always.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_INPUTS = re.compile(r"The crew takes these inputs; use each of them as a placeholder: (.*)")
_TOOL = re.compile(r"^- ([A-Za-z_]\w*): ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class _Member:
    """An agent with its task, and the beginnings of words that ask for it."""

    name: str
    role: str
    goal: str
    backstory: str
    task: str
    does: str
    gives: str
    words: tuple[str, ...]
    tools: tuple[str, ...] = ()


_MEMBERS = (
    _Member(
        "planner",
        "Planner",
        "Plan the work on {about}",
        "Thinks before others act.",
        "plan",
        "Plan what has to be done for this: {request}",
        "A plan of at most five steps",
        ("plan", "organi", "schedul", "prepar"),
    ),
    _Member(
        "researcher",
        "Researcher",
        "Find what matters about {about}",
        "Knows where to look, and names the sources.",
        "research",
        "Collect the facts that this needs: {request}",
        "The most important facts, each with its source",
        ("research", "find", "search", "collect", "gather", "look", "news", "competit", "market", "monitor"),
        ("web_search", "web_page"),
    ),
    _Member(
        "analyst",
        "Analyst",
        "Say what the facts about {about} mean",
        "Calculates before judging.",
        "analysis",
        "Analyse what is known, with this in mind: {request}",
        "Findings, each with what it is drawn from",
        ("analy", "compar", "evaluat", "calculat", "data", "statist", "forecast", "price", "pricing", "rank"),
        ("calculator",),
    ),
    _Member(
        "developer",
        "Developer",
        "Write code that works for {about}",
        "Tests what is written.",
        "code",
        "Write the code that this asks for: {request}",
        "Code, with a note how to run it",
        ("code", "coding", "program", "script", "develop", "implement", "software"),
    ),
    _Member(
        "writer",
        "Writer",
        "Write about {about} so that everybody understands it",
        "A former journalist.",
        "text",
        "Write what is asked for: {request}",
        "A text of at most one page in Markdown",
        (
            *("writ", "report", "summar", "article", "blog", "post", "mail", "letter", "draft", "document"),
            *("newsletter", "content", "explain", "story"),
        ),
    ),
    _Member(
        "translator",
        "Translator",
        "Translate so that nothing is lost",
        "At home in many languages.",
        "translation",
        "Translate what has been written, as asked for: {request}",
        "The translation",
        ("translat",),
    ),
    _Member(
        "reviewer",
        "Reviewer",
        "Find what is wrong before others do",
        "Reads everything twice.",
        "review",
        "Check the result against this, and correct it: {request}",
        "The corrected result, with a list of what was changed",
        ("review", "check", "proofread", "critic", "quality", "edit", "verif", "test"),
    ),
)

_DEFAULT = ("researcher", "writer")


def is_crew_request(task: str) -> bool:
    """Say whether a task asks for a crew."""
    return task.startswith(CREW_TASK)


def made_crew(task: str) -> str:
    """Make a crew by rule.

    Parameters
    ----------
    task
        The task with its context: the tools that there are, the inputs that are wanted, the request.

    Returns
    -------
    str
        YAML.
    """
    request = task.split(f"- {REQUEST}", 1)[-1].split("\n- Your last answer was:", 1)[0].strip()
    named = _INPUTS.search(task)
    inputs = re.findall(r"\{([^{}]+)\}", named[1]) if named else []
    tools = set(_TOOL.findall(task))
    begun = re.findall(r"\w+", request.lower())
    members = [each for each in _MEMBERS if any(word.startswith(each.words) for word in begun)]
    if not members:
        members = [each for each in _MEMBERS if each.name in _DEFAULT]
    about = " and ".join(f"{{{name}}}" for name in inputs) or "{topic}"
    # Braces of the request itself would be inputs, whether they are meant so or not.
    line = " ".join(request.split()).replace("{", "(").replace("}", ")")[:500].rstrip(".")
    lines = [
        "# [sandbox] Made by rule out of the request's words: no model has thought about it.",
        f"name: {_text(_title(line))}",
        f"description: {_text(f'[sandbox] {line}')}",
        "agents:",
    ]
    for each in members:
        lines += [
            f"  {each.name}:",
            f"    role: {_text(each.role)}",
            f"    goal: {_text(each.goal.replace('{about}', about))}",
            f"    backstory: {_text(each.backstory)}",
        ]
        if usable := [name for name in each.tools if name in tools]:
            lines.append(f"    tools: [{', '.join(usable)}]")
    lines.append("tasks:")
    for place, each in enumerate(members):
        does = each.does.replace("{request}", line)
        lines += [
            f"  {each.task}:",
            f"    description: {_text(f'{does}. It is about {about}.')}",
            f"    expected_output: {_text(each.gives)}",
            f"    agent: {each.name}",
        ]
        if place:
            lines.append(f"    context: [{members[place - 1].task}]")
    return "\n".join(lines)


def _title(line: str) -> str:
    first = re.split(r"[,;:.]|\band\b", line, maxsplit=1)[0]
    return " ".join(first.split()[:8])[:60].strip() or "Crew"


def _text(text: str) -> str:
    """Write a text as YAML, in which JSON's quotes mean the same."""
    return json.dumps(text, ensure_ascii=False)


# How a model is asked for a crew: the marks by which the sandbox model knows such a request again.

CREW_TASK = "Design a crew of AI agents that does what the request in the context asks for."
"""The description of the task."""

REQUEST = "The request: "
"""What the user's own words begin with, in the task's context."""
