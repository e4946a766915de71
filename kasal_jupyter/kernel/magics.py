"""`%kasal` and `%%kasal`. Loading them imports nothing heavy: the rest comes with the first use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

if TYPE_CHECKING:
    from IPython.core.completer import CompletionContext
    from IPython.core.interactiveshell import InteractiveShell

    from kasal_jupyter.kernel.commands import Session

WORDS = ("connect", "crew", "crews", "ps", "run", "status", "stop", "traces")
"""The sub-commands, here to be completed without loading them; a test compares them."""

COMPLETION_SECONDS = 2.0
"""How long the completion of a crew's name waits for the server: the kernel does nothing else meanwhile."""


@magics_class
class KasalMagics(Magics):
    """The magics of one notebook."""

    _session: Session | None = None

    @no_var_expand
    @line_cell_magic
    def kasal(self, line: str, cell: str | None = None) -> Any:
        """Work with crews; `%kasal` alone says what can be typed."""
        from kasal_jupyter.errors import KasalError, nearest
        from kasal_jupyter.kernel.command_line import WordsWanted, split
        from kasal_jupyter.kernel.commands import COMMANDS, parser_of
        from kasal_jupyter.kernel.failure import CellError

        words = split(line)
        if not words:
            print(self._greeting())  # noqa: T201 - it is the answer
            return None
        name, *rest = words
        if name not in COMMANDS:
            raise CellError(
                f"There is no %kasal {name}{nearest(name, COMMANDS)}; there are {', '.join(sorted(COMMANDS))}"
            )
        try:
            return COMMANDS[name](self.session, parser_of(name).parse_args(rest), cell)
        except WordsWanted as help_text:
            print(help_text)  # noqa: T201 - it is the answer
            return None
        except CellError:
            raise
        except KasalError as error:
            # The server's refusals, and faults in a crew's YAML: one readable message that fails the cell.
            raise CellError(error.message, faults=error.faults) from None

    @property
    def session(self) -> Session:
        """The notebook's session, made at the first use."""
        if self._session is None:
            from kasal_jupyter.kernel.commands import Session

            assert self.shell is not None
            self._session = Session(self.shell.user_ns)
        return self._session

    def complete(self, context: CompletionContext) -> Any:
        """Complete sub-commands, and the names of crews behind `run`."""
        from IPython.core.completer import SimpleCompletion

        before = context.text_until_cursor.lstrip()
        parts = before.split()
        if not parts or parts[0] not in {"%kasal", "%%kasal"}:
            return {"completions": []}
        place = len(parts) - (0 if before.endswith(" ") else 1)
        found: list[str] = []
        if place == 1:
            found = list(WORDS)
        elif place == 2 and parts[1] == "run":
            found = [f'"{each}"' if " " in each else each for each in self._crew_names()]
        completions = [SimpleCompletion(each) for each in found if each.startswith(context.token)]
        return {"completions": completions, "suppress": bool(completions)}

    def _crew_names(self) -> list[str]:
        from kasal_jupyter.errors import KasalError

        try:
            return [each.name for each in self.session.client.crews(seconds=COMPLETION_SECONDS)]
        except KasalError:
            # No server, no names: a key pressed for completion is no place for an error.
            return []

    def _greeting(self) -> str:
        from kasal_jupyter.errors import KasalError

        try:
            where = f"Connected to {self.session.client.url}"
            crews = self.session.client.crews()
        except KasalError as error:
            return f"Not connected: {error.message}"
        names = ", ".join(each.name for each in crews[:8]) or "none yet"
        return (
            f"{where}\nCrews: {names}\n"
            "Next: %%kasal crew NAME (with YAML below) · %kasal run NAME topic=… · %kasal ps · "
            "every word has --help"
        )


def register(shell: InteractiveShell) -> None:
    """Add the magics to a shell, and their completion."""
    magics = KasalMagics(shell)
    shell.register_magics(magics)
    matchers = shell.Completer.custom_matchers
    # Loading the extension again replaces the matcher of the first time.
    matchers[:] = [each for each in matchers if getattr(each, "__qualname__", "") != "KasalMagics.complete"]
    matchers.append(_matcher(magics))


def _matcher(magics: KasalMagics) -> Any:
    from IPython.core.completer import context_matcher

    @context_matcher(identifier="kasal", priority=200)  # type: ignore[untyped-decorator]
    def matcher(context: CompletionContext) -> Any:
        return magics.complete(context)

    matcher.__qualname__ = "KasalMagics.complete"
    return matcher
