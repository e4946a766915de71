"""Failed logins: how many an account may have from one address, and what slows whoever tries many."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from kasal_jupyter.auth.rates import Rate, RateMeter
from kasal_jupyter.errors import TooManyRequests, Unauthorized

QUARTER = 900

PER_PAIR = Rate(10, QUARTER, "10 failed logins of this account from your address in 15 minutes")
"""Past it, nothing more of the account is tried from the address."""

PER_ACCOUNT = Rate(100, QUARTER, "100 failed logins of one account")
"""Past it, the account's logins are slow, but for those from addresses where it has logged in before."""

PER_ADDRESS = Rate(50, QUARTER, "failed logins of 50 accounts from one address")
"""Past it, logins from the address are slow, but for those of accounts that have logged in there before."""

PAUSE_SECONDS = 2.0
"""How long a slow login waits before its password is looked at."""

MOST_PAUSED = 20
"""Slow logins of one address that may wait at the same time."""

MOST_KNOWN = 10_000
"""Pairs of account and address that are remembered as good; 0.3 kB each."""

Pause = Callable[[float], Awaitable[object]]


class FailedLogins:
    """Stops who guesses passwords before a password is even hashed, and nobody else.

    Nobody can be locked out of an account by somebody at another address: past what one address may, only
    that address is refused. Who guesses from many addresses, or tries many accounts, is slowed. Behind a
    proxy everybody has its address, unless the server is told to trust the proxy's headers.

    Parameters
    ----------
    meter
        Where failures are counted.
    pause
        Waits some seconds.
    """

    def __init__(self, meter: RateMeter, pause: Pause = asyncio.sleep) -> None:
        self._meter = meter
        self._pause = pause
        self._under_way: Counter[str] = Counter()
        self._paused: Counter[str] = Counter()
        self._known: OrderedDict[str, None] = OrderedDict()

    @asynccontextmanager
    async def attempt(self, account: str, address: str) -> AsyncIterator[None]:
        """Try a password inside; that it is wrong is told by raising :class:`Unauthorized`.

        Attempts that are under way count as if they had failed: otherwise, a thousand made at the same
        time would all be let through.

        Parameters
        ----------
        account
            The e-mail address that is tried, whether there is such an account or not.
        address
            Where the request comes from.

        Raises
        ------
        TooManyRequests
            So many have failed that this one is not tried.
        """
        network = network_of(address)
        pair = f"pair {account} {network}"
        if self._meter.left(pair, PER_PAIR).remaining <= self._under_way[pair]:
            seconds = self._meter.wait(pair, PER_PAIR)
            raise TooManyRequests(
                f"More than {PER_PAIR.words}; try again in {seconds} s", retry_after=seconds
            )
        self._under_way[pair] += 1
        try:
            if pair not in self._known and self._is_slow(account, network):
                await self._wait(network)
            yield
        except Unauthorized:
            self._count(pair, account, network)
            raise
        else:
            self._remember(pair)
        finally:
            _take_back(self._under_way, pair)

    def _is_slow(self, account: str, network: str) -> bool:
        counted = ((f"account {account}", PER_ACCOUNT), (f"address {network}", PER_ADDRESS))
        return any(self._meter.left(name, rate).remaining == 0 for name, rate in counted)

    async def _wait(self, network: str) -> None:
        if self._paused[network] >= MOST_PAUSED:
            raise TooManyRequests(
                "Too many logins from your address have failed; try again in some seconds",
                retry_after=int(PAUSE_SECONDS) + 1,
            )
        self._paused[network] += 1
        try:
            await self._pause(PAUSE_SECONDS)
        finally:
            _take_back(self._paused, network)

    def _count(self, pair: str, account: str, network: str) -> None:
        # An address counts accounts, each once: ten mistakes of one person are no search for weak passwords.
        if self._meter.left(pair, PER_PAIR).remaining == PER_PAIR.amount:
            self._meter.count(f"address {network}", PER_ADDRESS)
        self._meter.count(f"account {account}", PER_ACCOUNT)
        self._meter.count(pair, PER_PAIR)

    def _remember(self, pair: str) -> None:
        self._known[pair] = None
        self._known.move_to_end(pair)
        if len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)


def _take_back(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if not counter[name]:
        del counter[name]


def network_of(address: str) -> str:
    """Give what stands for the sender: of IPv6, a /64, since everybody has 2⁶⁴ addresses there."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        # A server on a UNIX socket has no addresses.
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address
