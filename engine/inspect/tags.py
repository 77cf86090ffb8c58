"""Tags: what signatures have noted about hosts, for a while and in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

MAX_TAGS = 65536
# A tag that is renewed is told anew as often as this.
TELL_EVERY_S = 30


class HostTags:
    """Tags by name and host; the one that was set longest ago is forgotten first.

    Hosts are addresses in network byte order; times are seconds on one clock. `tell`, where it
    is given, hears of tags that others should know too: not of each packet that renews one.
    """

    def __init__(self) -> None:
        self.tell: Callable[[bytes, str, float], None] | None = None
        self._expires_s: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    def __len__(self) -> int:
        """Tags remembered, those that have expired among them."""
        return len(self._expires_s)

    def set(self, host: bytes, name: str, expires_s: float) -> None:
        """Tag a host, or keep its tag for longer; never for shorter."""
        before_s = self._expires_s.get((name, host), 0.0)
        self.learn(host, name, expires_s)
        if self.tell is not None and expires_s // TELL_EVERY_S > before_s // TELL_EVERY_S:
            self.tell(host, name, expires_s)

    def learn(self, host: bytes, name: str, expires_s: float) -> None:
        """Take over what others have told."""
        key = name, host
        self._expires_s[key] = max(expires_s, self._expires_s.get(key, expires_s))
        self._expires_s.move_to_end(key)
        if len(self._expires_s) > MAX_TAGS:
            self._expires_s.popitem(last=False)

    def has(self, host: bytes, name: str, now_s: float) -> bool:
        """Whether a host bears a tag."""
        expires_s = self._expires_s.get((name, host))
        return expires_s is not None and now_s < expires_s
