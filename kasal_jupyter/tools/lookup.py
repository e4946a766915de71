"""Looking at a host before its address is stored; it is looked at again whenever it is called."""

from __future__ import annotations

import asyncio

from kasal_jupyter.places import Places
from kasal_jupyter.tools.guard import HostGuard, HostUnknown, origin_of

SECONDS = 5.0
"""How long a name may take to be looked up."""

_LOOKUPS = Places(16, each_target=2)
"""A name server that hangs holds a thread for as long as the operating system asks it."""


async def check_host(guard: HostGuard, url: str) -> None:
    """Look at where an address leads, without waiting for a name server that hangs.

    Raises
    ------
    HostRefused
        It may not be called.
    HostUnknown
        There is no such host, or none was found in time.
    """
    try:
        async with asyncio.timeout(SECONDS):
            await _LOOKUPS.do(lambda: guard.check(url), target=origin_of(url)[1])
    except TimeoutError:
        raise HostUnknown(f"Its host was not found within {SECONDS:g} seconds") from None
