"""Tags: what signatures have noted about hosts, for a while and in bounded memory."""

from __future__ import annotations

from collections import OrderedDict

MAX_TAGS = 65536


class HostTags:
    """Tags by name and host; the one that was set longest ago is forgotten first.

    Hosts are addresses in network byte order; times are seconds on one clock.
    """

    def __init__(self) -> None:
        self._expires_s: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def __len__(self) -> int:
        """Tags remembered, those that have expired among them."""
        return len(self._expires_s)

    def set(self, host: bytes, name: str, expires_s: float) -> None:
        """Tag a host, or keep its tag for longer; never for shorter."""
        key = name, host
        self._expires_s[key] = max(expires_s, self._expires_s.get(key, expires_s))
        self._expires_s.move_to_end(key)
        if len(self._expires_s) > MAX_TAGS:
            self._expires_s.popitem(last=False)

    def has(self, host: bytes, name: str, now_s: float) -> bool:
        """Whether a host bears a tag."""
        expires_s = self._expires_s.get((name, host))
        return expires_s is not None and now_s < expires_s
