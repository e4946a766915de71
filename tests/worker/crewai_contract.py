"""What is built on of CrewAI's own parts, looked at in a process of its own, as only those import CrewAI.

``python -m tests.worker.crewai_contract`` prints it, and ``--write`` writes ``crewai_contract.txt`` anew.
"""

from __future__ import annotations

import ast
import contextvars
import inspect
import json
import logging
import pkgutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

from kasal_jupyter.worker.process.setup import import_crewai

CONTRACT = Path(__file__).with_name("crewai_contract.txt")


def overridden() -> list[str]:
    """Give a line for each method of CrewAI's that a class of ours overrides: where, and how it is called."""
    return sorted({f"{name} {signature}" for cls in _classes() for name, signature in _methods(cls)})


def named_elsewhere() -> list[str]:
    """Give where a private part of CrewAI's is overridden or named, besides the module that may do so."""
    return sorted(
        f"{cls.__module__}.{cls.__qualname__}.{name}"
        for cls in _classes()
        if not cls.__module__.endswith(".crewai_seams")
        for name in _own_names(cls) & _crewais_private_names(cls)
    )


def _own_names(cls: type) -> set[str]:
    """Give the names that a class defines, and those that it takes of itself and of what is above it."""
    found = [node for node in _defined_in(inspect.getfile(cls)) if node.name == cls.__name__]
    return {
        node.attr if isinstance(node, ast.Attribute) else node.name
        for each in found
        for node in ast.walk(each)
        if isinstance(node, (ast.Attribute, ast.FunctionDef))
    }


@cache
def _defined_in(file: str) -> list[ast.ClassDef]:
    return [node for node in ast.walk(ast.parse(Path(file).read_text())) if isinstance(node, ast.ClassDef)]


def _crewais_private_names(cls: type) -> set[str]:
    # A tool does what it is for in ``_run``: so CrewAI's documentation has it.
    above = [each for each in cls.__mro__ if each.__module__.startswith("crewai")]
    names = {name for each in above for name in (*vars(each), *getattr(each, "__private_attributes__", ()))}
    return {name for name in names if name.startswith("_") and not name.startswith("__")} - {"_run"}


def _classes() -> Iterator[type]:
    import kasal_jupyter.worker as room

    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        for found in vars(import_module(module.name)).values():
            if isinstance(found, type) and found.__module__ == module.name:
                yield found


def _methods(cls: type) -> Iterator[tuple[str, str]]:
    line = cls.__mro__
    for at, own in enumerate(line):
        if not own.__module__.startswith("kasal_jupyter"):
            continue
        for name in vars(own):
            # Pydantic's own, and what every class has.
            if name == "model_post_init" or (name.startswith("__") and name != "__call__"):
                continue
            crews = (each for each in line[at:] if each.__module__.startswith("crewai"))
            above = next((each for each in crews if name in vars(each)), None)
            theirs = inspect.unwrap(getattr(above, name, None)) if above is not None else None
            if above is None or not callable(theirs):
                continue
            plain = [
                each.replace(annotation=inspect.Parameter.empty)
                for each in inspect.signature(theirs).parameters.values()
            ]
            yield f"{above.__module__}.{above.__qualname__}.{name}", str(inspect.Signature(plain))


def retries_can_be_left_out() -> bool:
    """CrewAI wraps each ``call`` unless it is marked, and the wrapped one is found below."""
    from crewai.llms.base_llm import BaseLLM

    from kasal_jupyter.worker.crewai_seams import once, unwrapped

    class Retried(BaseLLM):
        def call(self, *_args: object, **_request: object) -> str:
            return "retried"

    class Plain(BaseLLM):
        @unwrapped
        def call(self, *_args: object, **_request: object) -> str:
            return "plain"

    wrapped = Retried.call.__wrapped__  # type: ignore[attr-defined]
    return once(Retried(model="m")) is wrapped is not Retried.call and once(Plain(model="m")) is Plain.call


def no_sdk_starts_a_thread() -> bool:
    """A fork would lose it. What only some runs need is loaded in the zygote, too."""
    from kasal_jupyter.worker.process.warm import load_rest

    for name in ("mcp", "openai", "anthropic", "gemini", "azure", "bedrock"):
        load_rest(name)
    return len(threading.enumerate()) == 1


def clients_load_no_authorities_of_their_own() -> bool:
    """Each agent has a client: those of all providers share what was loaded before the fork."""
    import ssl

    from kasal_jupyter.outward import authorities
    from kasal_jupyter.worker.models.run_models import make_ready

    authorities()
    loaded: list[str] = []
    load = ssl.SSLContext.load_verify_locations

    def counted(context: ssl.SSLContext, *args: Any, **places: Any) -> None:
        loaded.append("")
        load(context, *args, **places)

    ssl.SSLContext.load_verify_locations = counted  # type: ignore[method-assign,assignment]
    try:
        for provider in ("openai", "ollama", "anthropic", "gemini", "azure", "bedrock"):
            make_ready(provider)
    finally:
        ssl.SSLContext.load_verify_locations = load  # type: ignore[method-assign]
    return not loaded


def what_is_filled_in_is_not_filled_in_again_here_alone() -> bool:
    """CrewAI fills in one text after the other; where it does so once by itself, ``FilledOnce`` can go."""
    from crewai.agents.agent_executor import AgentExecutor
    from crewai.utilities.prompts import Prompts

    from kasal_jupyter.worker.crewai_seams import CrewExecutor, FilledOnce

    said = SimpleNamespace(goal="{role} {input}", role="R {backstory}", backstory="B {tools}", skills=None)
    given = {"input": "I {tools} {tool_names}", "tool_names": "N", "tools": "T"}

    def told(prompts: Any, executor: Any) -> str:
        made = prompts(agent=said, has_tools=True).task_execution().prompt
        return str(executor._format_prompt(made, given))

    ours = told(FilledOnce, CrewExecutor)
    return (
        "goal is: R B T I T N" in told(Prompts, AgentExecutor)
        and "You are R {backstory}. B {tools}\nYour personal goal is: {role} {input}" in ours
        and "I {tools} {tool_names}" in ours
        and "NEVER make up tools that are not listed here:\n\nT" in ours
    )


def the_event_bus_has_what_is_reset() -> bool:
    """The bus's state is in these attributes, and each event goes by its record."""
    from crewai.events.event_bus import crewai_event_bus as bus

    state = ("_shutting_down", "_executor_initialized", "_has_pending_events")
    return (
        all(isinstance(getattr(bus, name), bool) for name in state)
        and list(inspect.signature(type(bus)._record_event).parameters) == ["self", "event"]
        and "self._record_event(event)" in inspect.getsource(type(bus))
        and "wait" in inspect.signature(bus.shutdown).parameters
    )


def the_record_of_outputs_is_looked_up_where_it_is_replaced() -> bool:
    """The class's name is a global of the module, read when a handler is made; ours has its methods."""
    from crewai.utilities import task_output_storage_handler as handler

    from kasal_jupyter.worker.crewai_seams import NoTaskOutputs

    source = inspect.getsource(handler.TaskOutputStorageHandler)
    called = {word.partition("(")[0] for word in source.split("self.storage.")[1:]}
    return "KickoffTaskOutputsSQLiteStorage()" in source and called <= vars(NoTaskOutputs).keys()


def an_executors_steps_are_crewais() -> bool:
    """The flow of our executor is that of the class above it."""
    from crewai.agents.agent_executor import AgentExecutor

    from kasal_jupyter.worker.crewai_seams import CrewExecutor

    return CrewExecutor._flow_definition == AgentExecutor.flow_definition()


def an_executors_steps_follow_each_other() -> bool:
    """Each step of an executor, and each outcome of one, leads to one step at most, which takes nothing."""
    from kasal_jupyter.worker.crewai_seams import CrewExecutor, _alternatives

    steps = CrewExecutor.flow_definition().methods
    followed = [each for step in steps.values() if step.listen for each in _alternatives(step.listen)]
    outcomes = {each for each in followed if each not in steps}
    takes_nothing = all(len(inspect.signature(getattr(CrewExecutor, name)).parameters) <= 1 for name in steps)
    starts = [name for name, step in steps.items() if step.listen is None]
    # Of a step that is no router, the outcome leads nowhere.
    silent = [name for name, step in steps.items() if step.listen is not None and not step.router]
    said = {each for name in silent for each in _said_by(CrewExecutor, name)}
    return takes_nothing and len(starts) == 1 and len(followed) == len(set(followed)) and not said & outcomes


def _said_by(cls: type, name: str) -> tuple[str, ...]:
    """Give the outcomes that a step is declared to have."""
    return get_args(get_type_hints(getattr(cls, name).__wrapped__)["return"])


def an_executor_does_what_it_does_on_crewais_engine() -> bool:
    """A crew says the same whether its executors' steps are taken here or by CrewAI's engine for flows."""
    from kasal_jupyter.worker.crewai_seams import CrewExecutor
    from kasal_jupyter.worker.process.warm import events_of, warming

    volatile = {"time", "duration", "key", "call_id"}

    def told(tool_calls: str, process: str) -> list[dict[str, Any]]:
        with tempfile.TemporaryDirectory() as folder:
            spec = warming(folder, "sandbox", "", tool_calls, process)
            lines = contextvars.Context().run(events_of, spec)
        events = map(json.loads, lines)
        return [{name: event[name] for name in event if name not in volatile} for event in events]

    asked = ("native", "hierarchical"), ("react", "sequential")
    ours = [told(*each) for each in asked]
    own = {name: vars(CrewExecutor)[name] for name in ("kickoff", "kickoff_async", "_class_bound_methods")}
    try:
        for name in own:
            delattr(CrewExecutor, name)
        return ours == [told(*each) for each in asked]
    finally:
        for name, method in own.items():
            setattr(CrewExecutor, name, method)


def the_store_of_files_waits_for_nothing() -> bool:
    """Without a store, CrewAI's files are none, and nothing of them needs an event loop."""
    from uuid import uuid4

    from crewai.utilities import file_store

    file_store.clear_files(uuid4())
    file_store.clear_task_files(uuid4())
    return file_store._file_store is None and not file_store.get_all_files(uuid4(), uuid4())


def a_call_that_cannot_be_read_gives_what_the_executor_takes() -> bool:
    """The executor takes these fields of what a tool call gives."""
    from crewai.agents.agent_executor import AgentExecutor

    source = inspect.getsource(AgentExecutor._execute_single_native_tool_call)
    fields = ("call_id", "func_name", "result", "from_cache", "original_tool", "tool_failure")
    return all(f'"{name}"' in source for name in fields)


def the_hooks_come_last_before_a_request() -> bool:
    """Every provider begins, runs the hooks, and then asks: a call that fails before them was not sent."""
    for name in ("openai", "anthropic", "azure", "bedrock", "gemini"):
        source = inspect.getsource(inspect.unwrap(_provider(name).call))
        began = source.index("_emit_call_started_event(")
        hooks = source.index("_invoke_before_llm_call_hooks(")
        words = ("return self._call_completions(", "_handle_")
        asks = min(at for word in words if (at := source.find(word)) > 0)
        if not began < hooks < asks:
            return False
    return True


def _provider(name: str) -> Any:
    module = import_module(f"crewai.llms.providers.{name}.completion")
    (cls,) = [
        each
        for each in vars(module).values()
        if isinstance(each, type) and each.__module__ == module.__name__ and "call" in vars(each)
    ]
    return cls


def calls_are_told_apart_in_events() -> bool:
    """Each event of a call has its ``call_id``."""
    from crewai.events.types import llm_events

    names = ("LLMCallStartedEvent", "LLMCallCompletedEvent", "LLMCallFailedEvent", "LLMStreamChunkEvent")
    return all("call_id" in getattr(llm_events, name).model_fields for name in names)


def how_work_ends_is_looked_up_where_it_is_replaced() -> bool:
    """Both functions are globals of the modules that call them, and take what ours take."""
    import crewai.task
    from crewai.agents.agent_executor import AgentExecutor
    from crewai.utilities import agent_utils, converter

    from kasal_jupyter.worker.crew.task import last_answer, object_of

    def parameters(function: Callable[..., object]) -> list[str]:
        return list(inspect.signature(function).parameters)

    forced = inspect.getsource(AgentExecutor.ensure_force_final_answer)
    return (
        "convert_to_model(" in inspect.getsource(crewai.task.Task._export_output)
        and parameters(converter.convert_to_model) == parameters(object_of)
        and "handle_max_iterations_exceeded(" in forced
        and {"messages=", "llm="} <= {word.split("=")[0] + "=" for word in forced.split() if "=" in word}
        and {"messages", "llm"} <= set(parameters(agent_utils.handle_max_iterations_exceeded))
        and {"messages", "llm"} <= set(parameters(last_answer))
    )


def it_is_known_by_our_words_that_a_server_takes_no_tools() -> bool:
    """The executor goes on in words where an error's text says so."""
    from crewai.agents import agent_executor
    from crewai.utilities.agent_utils import is_native_tool_calling_unsupported_error as is_known

    from kasal_jupyter.worker.process.failures import NoToolCalls

    source = inspect.getsource(agent_executor.AgentExecutor.call_llm_native_tools)
    return (
        is_known(NoToolCalls("gpt"))
        and is_known(NoToolCalls("gpt", "gpt: no (400)."))
        and "is_native_tool_calling_unsupported_error(e)" in source
    )


def the_answers_of_each_provider_go_through_what_is_replaced() -> bool:
    """What a provider's ``call`` asks by is what is overridden, whole and streamed, with the form last."""
    handlers = {
        "anthropic": ("_handle_completion", "_handle_streaming_completion"),
        "azure": ("_handle_completion", "_handle_streaming_completion"),
        "gemini": ("_handle_completion", "_handle_streaming_completion"),
        "bedrock": ("_handle_converse", "_handle_streaming_converse"),
        "openai": ("_call_completions", "_call_responses"),
    }
    for name, methods in handlers.items():
        cls = _provider(name)
        source = inspect.getsource(inspect.unwrap(cls.call))
        for method in methods:
            last = list(inspect.signature(getattr(cls, method)).parameters)[-1]
            if f"self.{method}(" not in source or last != "response_model":
                return False
    return True


def anthropics_way_to_ask_for_an_object_is_at_hand() -> bool:
    """Which models have one of their own, and what it is called, CrewAI knows."""
    completion = import_module("crewai.llms.providers.anthropic.completion")
    return (
        completion._supports_native_structured_outputs("claude-sonnet-4-5") in {True, False}
        and isinstance(completion.ANTHROPIC_STRUCTURED_OUTPUTS_BETA, str)
        and "schema = transform_schema(" in inspect.getsource(completion)
    )


def geminis_sdk_asks_by_what_is_replaced() -> bool:
    """Google's client builds a request and makes it by these two, and its parts stay those of its SDK."""
    from google.genai._api_client import BaseApiClient

    def parameters(name: str) -> list[str]:
        return list(inspect.signature(getattr(BaseApiClient, name)).parameters)

    request = ["self", "http_method", "path", "request_dict", "http_options"]
    source = inspect.getsource(BaseApiClient.request_streamed)
    return (
        parameters("request") == parameters("request_streamed") == parameters("_build_request") == request
        and parameters("_request") == ["self", "http_request", "http_options", "stream"]
        and "self._build_request(" in source
        and "self._request(" in source
    )


def what_is_said_beside_calls_is_left_out() -> bool:
    """The conversation has no text where the model called tools: it is put there afterwards."""
    from crewai.agents.agent_executor import AgentExecutor

    said = '"content": None,\n                "tool_calls": tool_calls_to_report'
    return said in Path(AgentExecutor._execute_single_native_tool_call.__code__.co_filename).read_text()


def a_result_is_reviewed_by_the_contexts_provider_alone() -> bool:
    """An executor asks the provider that is set, with its answer, and takes what that gives."""
    from crewai.agents.agent_executor import AgentExecutor
    from crewai.core.providers import human_input

    asked = inspect.getsource(AgentExecutor._handle_human_feedback)
    again = inspect.getsource(AgentExecutor._invoke_loop)
    return (
        "provider = get_provider()" in asked
        and "provider.handle_feedback(" in asked
        and "self.messages = self.state.messages" in asked
        and "self._prepare_feedback_iteration()" in again
        and "_provider.get()" in inspect.getsource(human_input.get_provider)
    )


def whole_crews_run() -> bool:
    """The crews that warm a process up complete: both processes, both ways to call tools, over HTTP too."""
    from kasal_jupyter.worker.process import warm

    told: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = told.append  # type: ignore[method-assign]
    warm.log.addHandler(handler)
    warm.warm_up()
    return not told


FACTS = (
    no_sdk_starts_a_thread,
    clients_load_no_authorities_of_their_own,
    what_is_filled_in_is_not_filled_in_again_here_alone,
    the_answers_of_each_provider_go_through_what_is_replaced,
    anthropics_way_to_ask_for_an_object_is_at_hand,
    geminis_sdk_asks_by_what_is_replaced,
    what_is_said_beside_calls_is_left_out,
    retries_can_be_left_out,
    the_event_bus_has_what_is_reset,
    the_record_of_outputs_is_looked_up_where_it_is_replaced,
    an_executors_steps_are_crewais,
    an_executors_steps_follow_each_other,
    an_executor_does_what_it_does_on_crewais_engine,
    the_store_of_files_waits_for_nothing,
    a_call_that_cannot_be_read_gives_what_the_executor_takes,
    the_hooks_come_last_before_a_request,
    calls_are_told_apart_in_events,
    how_work_ends_is_looked_up_where_it_is_replaced,
    a_result_is_reviewed_by_the_contexts_provider_alone,
    it_is_known_by_our_words_that_a_server_takes_no_tools,
    # It shuts CrewAI's bus down.
    whole_crews_run,
)


def main() -> None:
    """Print what is so."""
    with tempfile.TemporaryDirectory() as folder:
        # First of all: it leaves out what takes seconds to import.
        import_crewai(Path(folder))
        import crewai.utilities.task_output_storage_handler as handler
        from crewai.memory.storage.kickoff_task_outputs_storage import KickoffTaskOutputsSQLiteStorage

        handler.KickoffTaskOutputsSQLiteStorage = KickoffTaskOutputsSQLiteStorage  # type: ignore[misc]
        lines = overridden()
        if "--write" in sys.argv:
            CONTRACT.write_text("\n".join(lines) + "\n")
        facts = {fact.__name__: fact() for fact in FACTS}
        told = {"file": handler.__file__, "overridden": lines, "elsewhere": named_elsewhere(), "facts": facts}
        print(json.dumps(told))


if __name__ == "__main__":
    main()
