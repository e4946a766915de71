"""Events written briefly."""


def at(second):
    return f"2024-01-15T10:30:{second:09.6f}Z"


def queued(*tasks, second=0):
    plan = [{"id": name, "title": name.title(), "agent": "Ada", "context": []} for name in tasks]
    return {
        "type": "execution_status",
        "status": "queued",
        "time": at(second),
        "crew_name": "C",
        "tasks": plan,
    }


def status(name, second=1, **fields):
    return {"type": "execution_status", "status": name, "time": at(second), **fields}


def span(kind, number, parent=None, second=2, task="one", **fields):
    where = {"span_id": number, "parent_id": parent, "task_id": task, "task": task.title(), "agent": "Ada"}
    return {"type": kind, "time": at(second), **where, **fields}


def usage(prompt, completion):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def answer(number, parent, tokens, second=3, **fields):
    said = {"model": "m", "text": "hi", "tool_calls": [], "finish_reason": "stop"}
    return span("llm_response", number, parent, second, usage=tokens, **said, **fields)


FAILED = {"code": "RATE_LIMIT", "message": "Rate limit exceeded"}
