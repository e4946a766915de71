"""What a type checker makes of `import kasal_jupyter as kasal`: mypy reads this, and nothing runs it.

What is wrong here must be found: an exception that hides nothing is an error as well.
"""

from __future__ import annotations

from typing import assert_type

import kasal_jupyter as kasal


@kasal.tool
def double(n: int) -> int:
    """Double a number."""
    return 2 * n


def notebook() -> None:
    """Do what a notebook does."""
    agent = kasal.Agent("Writer", "Write", llm="sandbox", tools=["calculator"])
    crew = kasal.Crew("Typed", tasks=[kasal.Task("Write", "Text", agent)])
    result = crew.run(topic="tea", background=True)
    assert_type(result.output, str | None)
    assert_type(crew.map([{"topic": "tea"}], lang="de").wait().cost, float | None)
    assert_type(kasal.runs()[0].usage.total_tokens, int)
    assert_type(kasal.Crew.load("Typed").to_yaml(), str)
    assert_type(double(2), int)
    kasal.Agent("Writer")  # type: ignore[call-arg]
    kasal.Crew("Typed", task=[])  # type: ignore[call-arg]
    crew.run(background="yes")  # type: ignore[arg-type]
