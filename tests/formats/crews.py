"""Crews made up at random, always the same for the same seed: with all that texts and names may hold."""

from __future__ import annotations

import random

from kasal_jupyter.schemas.crews import CrewCreate

PIECES = [
    *(
        "Write",
        "about",
        "{topic}",
        "{{braces}}",
        '{"json": [1, 2]}',
        "yes",
        "no",
        "null",
        "12:30",
        "1e3",
        "0x1F",
    ),
    *(
        "~",
        "- item",
        "# no comment",
        "key: value",
        "'single'",
        '"double"',
        "back\\slash",
        "\\n",
        "%TAG",
        "@at",
    ),
    *(
        "é",
        "日本語",
        "🙂",
        "naïve café",
        "Ω≈ç√",
        "\u200bzero",
        "\u2028",
        "\x85",
        "\u00a0",
        "!!python/name:os",
    ),
    *("custom:tool", "[a, b]", "{a: b}", "*alias", "&anchor", "<<", "|", ">", "?", "`code`", "$HOME", "<b>"),
    *("trailing ", " leading", "tab\there", "line\nline", "line\n\n  indented", "\n", "end\n", "'''", '"""'),
]

NAMES = [
    *("writer", "Content Writer", "Ἀθηνᾶ", "作家", "class", "self", "crew", "yes", "on", "12", "1.5", "~"),
    *(
        "a: b",
        "'quoted'",
        '"double"',
        "#hash",
        "-dash",
        "agents",
        "tasks",
        "x.y[0]",
        "{braces}",
        "naïve",
        "ﬁne",
    ),
    *("Writer", "WRITER", "null", "import", "<<", "*star", "a  b", "m²", "_private", "💡 idea"),
]

TOOLS = ["web_search", "calculator", "web_page", "my_tool"]

RULES = ["calculator", "http_request(method=P*, url=https://*.example.com/*?x=1,2)", "mcp_*(path=)"]


def text(chance: random.Random) -> str:
    """Make a text that is not blank."""
    made = chance.choice(["", " ", "\n"]).join(chance.choices(PIECES, k=chance.randint(1, 6)))
    return made if made.strip() else f"{made}."


def crew(seed: int) -> CrewCreate:
    """Make a crew in which every field is used by and by."""
    chance = random.Random(seed)
    maybe = lambda make, share=0.4: make() if chance.random() < share else None  # noqa: E731
    names = chance.sample(NAMES, chance.randint(1, 5))
    titles = chance.sample(NAMES, chance.randint(1, 6))
    agents = [
        {
            "name": name,
            "role": text(chance),
            "goal": text(chance),
            "backstory": maybe(lambda: text(chance)) or "",
            "model": maybe(
                lambda: chance.choice(["gpt-4", "openai/gpt-4o", "claude-3-opus", "ollama/llama3:8b"])
            ),
            "fallbacks": maybe(lambda: ["gpt-4.1"], 0.1) or [],
            "tools": maybe(lambda: chance.sample(TOOLS, 2)) or [],
            "allow_delegation": chance.random() < 0.3,
            "needs_approval": maybe(lambda: [chance.choice(RULES)], 0.2) or [],
            "max_iter": maybe(lambda: chance.randint(1, 50)),
            "max_execution_time": maybe(lambda: chance.randint(1, 500)),
            "settings": {
                "temperature": maybe(lambda: chance.choice([0.0, 0.7, 2.0])),
                "seed": maybe(lambda: chance.randint(-9, 9), 0.2),
                "stop": maybe(lambda: [text(chance)], 0.2),
                "stream": chance.random() < 0.8,
            },
        }
        for name in names
    ]
    tasks = []
    for place, title in enumerate(titles):
        first = place == 0
        tasks.append(
            {
                "name": title,
                "description": text(chance),
                "expected_output": text(chance),
                "agent": chance.choice(names),
                "context": chance.sample(titles[:place], chance.randint(0, place)),
                "async_execution": chance.random() < 0.2,
                "output_schema": maybe(
                    lambda: {"type": "object", "properties": {chance.choice(NAMES): {"type": "string"}}}
                ),
                "output_file": maybe(lambda: chance.choice(["out.md", "a/b c.txt", "日本.md", "yes"])),
                "guardrail": maybe(lambda: text(chance)),
                "guardrail_max_retries": chance.choice([3, 3, 0, 5]),
                "human_input": chance.random() < 0.2,
                "condition": None
                if first
                else maybe(
                    lambda: {
                        "contains": text(chance),
                        "field": "a.b",
                        "equals": chance.choice([1, -2.5, True, "x", [1, {"a": None}], {"k": "v"}]),
                    },
                    0.3,
                ),
                "tools": maybe(lambda: chance.sample(TOOLS, 1), 0.2) or [],
            }
        )
    hierarchical = chance.random() < 0.3
    return CrewCreate.model_validate(
        {
            "name": chance.choice([*NAMES, "Market research", "json", "crewai"]),
            "description": maybe(lambda: text(chance)) or "",
            "process": "hierarchical" if hierarchical else "sequential",
            "manager_model": maybe(lambda: "gpt-4") if hierarchical else None,
            "planning": (planning := chance.random() < 0.3),
            "planning_model": maybe(lambda: "gpt-4o") if planning else None,
            "memory": chance.random() < 0.3,
            "needs_approval": maybe(lambda: RULES, 0.2) or [],
            "people": maybe(lambda: {"may_answer": ["ada@example.com"], "on_timeout": "fail"}, 0.2) or {},
            "webhook": maybe(lambda: {"url": "https://example.com/hook"}, 0.1),
            "agents": agents,
            "tasks": tasks,
        },
        strict=True,
    )
