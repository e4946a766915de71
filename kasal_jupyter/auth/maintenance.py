"""Maintenance mode: nobody is let in but for what switches it off again."""

from __future__ import annotations

from kasal_jupyter.errors import Unavailable
from kasal_jupyter.schemas.base import utc_now
from kasal_jupyter.schemas.maintenance import (
    MAINTENANCE_ID,
    Maintenance,
    MaintenanceState,
    MaintenanceUpdate,
)
from kasal_jupyter.store.store import Store


class MaintenanceMode:
    """The switch, which all servers on a data folder share.

    Parameters
    ----------
    store
        Where its state is kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = -1
        self._state = MaintenanceState(enabled=False)

    @property
    def state(self) -> MaintenanceState:
        """The state as it is now, whichever server switched it."""
        version = self._store.settings.version()
        if version != self._version:
            stored = self._store.settings.readable(MAINTENANCE_ID)
            self._state = (
                MaintenanceState(enabled=False)
                if stored is None
                else MaintenanceState.model_validate(stored.model_dump(exclude={"id"}))
            )
            self._version = version
        return self._state

    def check(self) -> None:
        """Refuse a request while the mode is on.

        Raises
        ------
        Unavailable
            It is; the reference's 503.
        """
        state = self.state
        if state.enabled:
            text = "The server is in maintenance mode"
            raise Unavailable(
                f"{text}: {state.message}" if state.message else text, retry_after=state.retry_after
            )

    async def switch(self, wanted: MaintenanceUpdate) -> MaintenanceState:
        """Switch the mode on or off; on return it holds, also after a restart."""
        before = self.state
        since = (before.since or utc_now()) if wanted.enabled else None
        document = Maintenance(**wanted.model_dump(), since=since)

        def store() -> None:
            self._store.settings.delete(MAINTENANCE_ID)
            self._store.settings.insert(document)

        await self._store.change(store)
        return self.state
