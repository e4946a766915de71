"""`%kasal` and `%%kasal`. Loading them imports nothing heavy: the rest comes with the first use."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext
    from IPython.core.interactiveshell import InteractiveShell

MATCHER = "kasal"
"""The completion's name in IPython's settings."""

_CELLS_MAGIC = "%%kasal"

_AS_LINE = "get_ipython().run_line_magic('%kasal'"
"""What IPython makes of a cell's magic that stands below another line."""


@magics_class
class KasalMagics(Magics):
    """The magics of one notebook."""

    @no_var_expand
    @line_cell_magic
    def kasal(self, line: str, cell: str | None = None) -> Any:
        """Work with crews; `%kasal` alone says what can be typed."""
        from kasal_jupyter.errors import KasalError, nearest
        from kasal_jupyter.kernel.failure import CellError
        from kasal_jupyter.kernel.magics.command_line import WordsWanted, split
        from kasal_jupyter.kernel.magics.crew_words import with_names_whole
        from kasal_jupyter.kernel.magics.subcommands import ALIASES, COMMANDS, find_command, overview
        from kasal_jupyter.kernel.session import the_session
        from kasal_jupyter.wellformed import well_formed

        line, cell = well_formed((line, cell))
        words = split(line)
        if not words:
            from kasal_jupyter.kernel.magics.commands.server import greeting

            print(greeting(the_session()))  # noqa: T201 - it is the answer
            return None
        name, *rest = words
        if name == "help" and rest and rest[0] in COMMANDS:
            name, rest = rest[0], split("--help")
        if name in {"-h", "--help", "help"}:
            print(overview())  # noqa: T201 - it is the answer
            return None
        command = find_command(name)
        if command is None:
            known = ", ".join(sorted(COMMANDS))
            hint = nearest(name, [*COMMANDS, *ALIASES])
            raise CellError(
                f"There is no %kasal {name}"
                f"{hint or f'; a crew is run by `%kasal run NAME`, and there are {known}'}"
            )
        parser = command.parser()
        try:
            if not parser.wants_help(rest):
                _check_cell(name, command.cell, cell)
                rest = with_names_whole(parser, rest, the_session())
            return command.carry_out(the_session(), parser.read(rest), cell)
        except WordsWanted as help_text:
            print(help_text)  # noqa: T201 - it is the answer
            return None
        except CellError:
            raise
        except KasalError as error:
            # The server's refusals, and faults in a crew's YAML: one readable message that fails the cell.
            raise CellError(error.message, faults=error.faults) from None


def _check_cell(name: str, reads: str, cell: str | None) -> None:
    """Refuse a sub-command that has a cell and reads none, or has none and reads one."""
    from kasal_jupyter.kernel.failure import CellError

    if cell is None and reads == "must":
        raise CellError(f"%kasal {name} reads a cell: begin it with %%kasal {name}, with YAML below")
    if cell is not None and reads == "must" and not cell.strip():
        raise CellError(f"%%kasal {name} reads the lines below it, and there are none; write the YAML there")
    if cell is not None and reads == "never":
        raise CellError(f"%%kasal {name} reads no cell: write %kasal {name}, with one %")


def with_body(lines: list[str]) -> list[str]:
    """Give a cell of ``%%kasal`` alone an empty line, or IPython would answer in the magic's place."""
    only = bool(lines) and lines[0].startswith("%%kasal") and not "".join(lines[1:])
    return [*lines, "\n"] if only else lines


def _refuse_below(lines: list[str]) -> list[str]:
    """Refuse a cell whose `%%kasal` is not its first line: Python would find its YAML to be no Python."""
    for line in lines:
        said = line.strip()
        if said.startswith(_AS_LINE) or (said.startswith(_CELLS_MAGIC) and not _is_python(lines)):
            from kasal_jupyter.kernel.failure import CellError

            raise CellError(
                f"{_CELLS_MAGIC} must be the first line of its cell: put the lines above it into a cell of "
                "their own, and commands that follow its YAML into another"
            )
    return lines


def _is_python(lines: list[str]) -> bool:
    """Say whether lines can be read: then what looks like a magic is within a text."""
    try:
        ast.parse("".join(lines))
    except (SyntaxError, ValueError):
        return False
    return True


def register(shell: InteractiveShell) -> None:
    """Add the magics to a shell, and their completion."""
    shell.register_magics(KasalMagics(shell))
    transformers = shell.input_transformers_cleanup
    # Loading the extension again replaces what came with it the first time.
    transformers[:] = [each for each in transformers if getattr(each, "__name__", "") != with_body.__name__]
    transformers.append(with_body)
    # After IPython's own, which have made calls of all magics; a second time, it would only ask again.
    if _refuse_below not in shell.input_transformers_post:
        shell.input_transformers_post.append(_refuse_below)
    matchers = shell.Completer.custom_matchers
    matchers[:] = [each for each in matchers if getattr(each, "matcher_identifier", "") != MATCHER]
    matchers.append(_matcher(shell))


def _matcher(shell: InteractiveShell) -> Any:
    from IPython.core.completer import context_matcher

    @context_matcher(identifier=MATCHER, priority=200)  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> Any:
        # Before every key pressed for completion, in any cell: as little as can be.
        if "%kasal" not in context.text_until_cursor and not context.full_text.startswith("%%kasal"):
            return {"completions": []}
        from kasal_jupyter.kernel.magics.completion import complete

        return complete(context, shell)

    return matcher
