"""A function's arguments as a JSON schema, and an agent's arguments as the function's."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from kasal_jupyter.kernel.failure import CellError
from kasal_jupyter.schemas.tools import MOST_DESCRIPTION

if TYPE_CHECKING:
    from docstring_parser import Docstring
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_KINDS_REFUSED: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


class ArgumentsRefused(ValueError):
    """An agent's arguments are not those of the function; the text tells the agent what to change."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes from an agent.

    Attributes
    ----------
    description
        What the function does, from its docstring; its call, where it has none.
    described
        Whether it has one.
    schema
        The JSON schema of its arguments.
    """

    description: str
    described: bool
    schema: dict[str, Any]
    _model: type[BaseModel]
    _positional: tuple[str, ...]

    def bind(self, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Convert an agent's arguments to what the function is called with.

        ``null`` stands for an argument that was not given, where the function has a default and takes no
        None: some models name every argument.

        Raises
        ------
        ArgumentsRefused
            One is missing, unknown or of another type; all of those are named.
        """
        from pydantic import ValidationError

        try:
            read = self._model.model_validate(arguments)
        except ValidationError as error:
            faulty = [fault["loc"][0] for fault in error.errors() if fault["loc"]]
            left_out = {
                name for name in faulty if arguments.get(str(name), ...) is None and self._has_default(name)
            }
            if not left_out:
                raise ArgumentsRefused(_faults(error)) from None
            return self.bind({name: value for name, value in arguments.items() if name not in left_out})
        values = {
            str(field.alias): getattr(read, name)
            for name, field in self._model.model_fields.items()
            if name in read.model_fields_set
        }
        return self._placed(values)

    def _has_default(self, name: str | int) -> bool:
        fields = self._model.model_fields.values()
        return any(field.alias == name and not field.is_required() for field in fields)

    def _placed(self, values: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Put the values of positional-only parameters first; a gap among them is filled by its default."""
        defaults = {field.alias: field for field in self._model.model_fields.values()}
        given = [name for name in self._positional if name in values]
        reach = self._positional.index(given[-1]) + 1 if given else 0
        placed = [
            values.pop(name) if name in values else defaults[name].get_default(call_default_factory=True)
            for name in self._positional[:reach]
        ]
        return placed, values


def read_signature(function: Callable[..., Any], name: str) -> Signature:
    """Read what a function takes: from its type hints, its defaults and its docstring.

    Parameters
    ----------
    function
        Any callable that says what it takes.
    name
        What the tool is called.

    Raises
    ------
    CellError
        An agent could not call it; the message says which parameter is in the way, and what to do.
    """
    from docstring_parser import parse

    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise CellError(
            f"@kasal.tool: {name} does not say what it takes; wrap it in a function with named arguments"
        ) from None
    docstring = parse(inspect.getdoc(function) or "")
    hints = _hints(function, name)
    fields: dict[str, Any] = {}
    for parameter in parameters.values():
        if (stars := _KINDS_REFUSED.get(parameter.kind)) is not None:
            raise CellError(
                f"@kasal.tool: {name} takes {stars}{parameter.name}, and an agent has to know each argument; "
                "give every one a name"
            )
        if _offered(parameter, name):
            field = _field(parameter, hints.get(parameter.name, Any), docstring, name)
            # By an alias: a pydantic model has names of its own, and takes none with an underscore.
            if field is not None:
                fields[f"argument_{len(fields)}"] = field
    positional = tuple(
        str(field.alias)
        for _, field in fields.values()
        if parameters[str(field.alias)].kind is inspect.Parameter.POSITIONAL_ONLY
    )
    model = _model(name, fields)
    schema = _schema(model, name)
    said = _description(docstring)
    called = f"Call {name}({', '.join(schema['properties'])})."
    return Signature(said or called[:MOST_DESCRIPTION], bool(said), schema, model, positional)


def _offered(parameter: inspect.Parameter, name: str) -> bool:
    """Say whether an agent is to know of a parameter: not where its name begins with an underscore."""
    if not parameter.name.startswith("_"):
        if parameter.name == "self" and parameter.default is parameter.empty:
            raise CellError(
                f"@kasal.tool: {name} is a method; make a tool of one object's: kasal.tool(thing.{name})"
            )
        return True
    if parameter.default is parameter.empty:
        raise CellError(
            f"@kasal.tool: {parameter.name} of {name} begins with an underscore, which keeps it from agents; "
            "give it a default or another name"
        )
    return False


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    """Give the type hints, those written as text included."""
    hinted = function if inspect.isroutine(function) or inspect.isclass(function) else type(function).__call__
    try:
        return typing.get_type_hints(inspect.unwrap(hinted), include_extras=True)
    except NameError as error:
        raise CellError(
            f"@kasal.tool: a type hint of {name} names {error.name}, which the notebook does not have"
        ) from None
    except (TypeError, SyntaxError) as error:
        raise CellError(f"@kasal.tool: the type hints of {name} cannot be read: {error}") from None


def _field(
    parameter: inspect.Parameter, hint: Any, docstring: Docstring, name: str
) -> tuple[Any, FieldInfo] | None:
    """Give a parameter as a pydantic model's field; None where only its default can be its value."""
    from pydantic import Field

    optional = parameter.default is not parameter.empty
    if hint is Any and optional:
        hint = _hint_of(parameter.default)
    hint = _described(hint)
    if fault := _unreadable(hint):
        if optional:
            # The notebook's own value, a frame or a client, stays what it is.
            return None
        raise CellError(
            f"@kasal.tool: an agent cannot give {name} its {parameter.name}: {fault}. Let the function take "
            "it from the notebook's variables, or give it a default"
        )
    told = next((each.description for each in docstring.params if each.arg_name == parameter.name), None)
    default = parameter.default if optional else ...
    # Where the docstring says nothing, what the hint says must not be overruled.
    field: FieldInfo = (
        Field(default=default, alias=parameter.name, description=told)
        if told
        else Field(default=default, alias=parameter.name)
    )
    return hint, field


def _hint_of(default: Any) -> Any:
    """Give the type that a default suggests, where no hint names one."""
    match default:
        case bool() | str():
            return type(default)
        case int():
            return int | float
        case float():
            return float
        case _:
            return Any


def _described(hint: Any) -> Any:
    """Read plain texts in ``Annotated`` as the description, which pydantic passes over."""
    from pydantic import Field

    if typing.get_origin(hint) is not Annotated:
        return hint
    base, *notes = typing.get_args(hint)
    texts = [getattr(note, "documentation", note) for note in notes]
    fields = [
        Field(description=text) if isinstance(text, str) else note
        for text, note in zip(texts, notes, strict=True)
    ]
    return Annotated[(base, *fields)]


def _unreadable(hint: Any) -> str | None:
    """Say why values of a type cannot be read from JSON, where that is so."""
    from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation

    shown = getattr(hint, "__name__", None) or str(hint)
    try:
        TypeAdapter(hint).json_schema()
    except (
        PydanticSchemaGenerationError,
        PydanticInvalidForJsonSchema,
        PydanticUndefinedAnnotation,
        PydanticUserError,
    ):
        return f"a {shown} cannot be written as JSON"
    except TypeError as error:
        return f"{shown} cannot be read: {error}"
    return None


def _model(name: str, fields: dict[str, Any]) -> type[BaseModel]:
    from pydantic import ConfigDict, create_model

    config = ConfigDict(extra="forbid", protected_namespaces=(), title=name)
    model: type[BaseModel] = create_model(f"{name}_arguments", __config__=config, **fields)
    return model


def _schema(model: type[BaseModel], name: str) -> dict[str, Any]:
    import warnings

    from pydantic.json_schema import GenerateJsonSchema, PydanticJsonSchemaWarning

    class Untitled(GenerateJsonSchema):
        """A schema without the titles that only repeat the fields' names."""

        def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
            return False

    with warnings.catch_warnings():
        # A default that is no JSON, a frame say, is left out of the schema, and stays the function's.
        warnings.simplefilter("ignore", PydanticJsonSchemaWarning)
        schema = model.model_json_schema(by_alias=True, schema_generator=Untitled)
    schema.pop("title", None)
    schema.setdefault("properties", {})
    if fault := _refused_name(schema["properties"]):
        raise CellError(f"@kasal.tool: {name} has an argument called {fault!r}; call it something else")
    return schema


def _refused_name(properties: dict[str, Any]) -> str | None:
    """Give a name that no tool's argument may have: the agents' framework has methods of that name."""
    from pydantic import BaseModel

    return next(
        (
            name
            for name in properties
            if name == "self"
            or not name.isascii()
            or (name.startswith("model_") and hasattr(BaseModel, name))
        ),
        None,
    )


def _description(docstring: Docstring) -> str:
    texts = [docstring.short_description, docstring.long_description]
    if docstring.returns is not None and docstring.returns.description:
        texts.append(f"Returns: {docstring.returns.description}")
    return "\n\n".join(text.strip() for text in texts if text and text.strip())[:MOST_DESCRIPTION]


def _faults(error: Any) -> str:
    """Say what is wrong with the arguments, in one line."""
    reasons = []
    for fault in error.errors(include_url=False):
        where = ".".join(map(str, fault["loc"])) or "the arguments"
        match fault["type"]:
            case "missing":
                reasons.append(f"{where} is missing")
            case "extra_forbidden":
                reasons.append(f"there is no argument {where}")
            case _:
                given = repr(fault["input"])
                shown = given if len(given) <= 60 else f"{given[:59]}…"
                reasons.append(f"{where}: {fault['msg']}, not {shown}")
    return "; ".join(reasons)
