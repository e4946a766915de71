"""The crew editor: `%kasal edit NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kasal_jupyter.client.client import Client
    from kasal_jupyter.kernel.editor.editor import Editor


def edit(client: Client, crew_name: str, namespace: Mapping[str, Any]) -> Editor:
    """Open a crew in an editor.

    Parameters
    ----------
    client
        The server.
    crew_name
        The crew's name or id; a name that no crew has begins a new one.
    namespace
        The notebook's variables, for the inputs of a run.

    Returns
    -------
    Editor
        What a notebook shows as the last value of a cell.

    Raises
    ------
    KasalError
        The server does not answer, or several crews have that name.
    """
    from kasal_jupyter.kernel.editor import saving
    from kasal_jupyter.kernel.editor.draft import Draft
    from kasal_jupyter.kernel.editor.editor import Editor

    details = saving.find_crew(client, crew_name)
    key = (client.url, details.id if details is not None else f"new {crew_name}")
    before = _latest.get(key)
    unsaved = before is not None and before.has_edits
    if details is None:
        editor = Editor(client, Draft(saving.new_text(crew_name)), None, namespace)
    else:
        # Unsaved edits go on from the crew that they were made to: whoever has changed it since is seen.
        stored = before.stored if before is not None and unsaved else None
        stored = stored or saving.opened(client, details)
        editor = Editor(client, Draft(stored.text, stored.ids), stored, namespace)
    if before is not None:
        editor.running.take_up(before.running)
        if unsaved:
            editor.take_up(before)
    _latest[key] = editor
    return editor


_latest: dict[tuple[str, str], Editor] = {}
"""Each crew's latest editor in this kernel: a cell that is run again loses no edits."""
