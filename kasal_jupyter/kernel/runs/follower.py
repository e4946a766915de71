"""The thread that follows a run from the notebook."""

from __future__ import annotations

import contextvars
import threading

from kasal_jupyter.client.client import Client
from kasal_jupyter.client.stream import Waiting
from kasal_jupyter.errors import KasalError
from kasal_jupyter.kernel.functions.call_thread import Serve, call_thread
from kasal_jupyter.kernel.functions.tool_calls import RunTools
from kasal_jupyter.kernel.runs.result import RunResult
from kasal_jupyter.kernel.views.live import View


class Follower(threading.Thread):
    """Follows a run: draws it, and takes in the calls of the notebook's tools.

    A thread of its own, so that the view goes on, and the server's pings are answered, while a tool keeps
    the thread of the cell busy.

    Parameters
    ----------
    client
        The server.
    result
        Takes the run's events.
    view
        Shows them; it is used by this thread alone.
    tools
        The tools that this kernel answers for; None where it only looks on.
    """

    def __init__(self, client: Client, result: RunResult, view: View, tools: RunTools | None) -> None:
        super().__init__(name=f"kasal-{result.job_id}", daemon=True)
        self.lost: KasalError | None = None
        self._broken: Exception | None = None
        self._client = client
        self._result = result
        result.server_url = client.url
        self._view = view
        self._tools = tools
        self._serve: Serve | None = None
        self._waiting = Waiting(client, result.trace)
        # What is printed or displayed meanwhile belongs to the cell that asked for it.
        self._context = contextvars.copy_context()
        if tools is not None:
            tools.reopen()
            result.frames = tools.frames

    def in_background(self, serve: Serve) -> None:
        """Have the calls done by the kernel's thread for them, rather than by whoever asks for the next."""
        self._serve = serve

    def run(self) -> None:
        """Follow; see :class:`threading.Thread`."""
        self._context.run(self._follow)

    def check(self) -> None:
        """Raise what kept the run from being followed to its end.

        Raises
        ------
        KasalError
            The connection was lost for good, or the server refuses.
        """
        if self.lost is not None:
            raise self.lost
        if self._broken is not None:
            raise self._broken

    def _follow(self) -> None:
        tools = self._tools
        if self._serve is not None:
            call_thread.open()
        try:
            for event in self._client.follow(
                self._result.job_id,
                on_idle=self._idle,
                serve=tools is not None and tools.serves,
                on_connect=tools.connected if tools is not None else None,
            ):
                if tools is not None:
                    tools.take(event)
                    self._hand_on()
                self._view.feed(event)
        except KasalError as error:
            self.lost = error
            self._view.cut_off(f"Not followed any further: {error.message}")
        except Exception as error:
            # The border of a thread: told to whoever waits for it; in the background, nobody does.
            self._broken = error
            if self._serve is not None:
                raise
        finally:
            if tools is not None:
                tools.end()
            if self._serve is not None:
                call_thread.close()

    def _idle(self) -> None:
        if self._tools is not None:
            self._tools.caught_up()
            self._hand_on()
        self._waiting.look()
        self._result.queue_position = self._waiting.position
        self._view.tick()

    def _hand_on(self) -> None:
        if self._serve is not None and self._tools is not None:
            for call in self._tools.waiting():
                call_thread.submit(call, self._serve)
            call_thread.mind()
