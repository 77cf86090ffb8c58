"""What the marks of connections say to our iptables rules, and who sets and forgets them.

A mark belongs to a connection in the kernel's table (conntrack), not to a packet. Three bits of
it are ours: one for each direction that goes by without us, because nothing more is looked for in
it, and one for a connection that the kernel drops by itself. All other bits stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from engine.enforce.conntrack import Conntrack
from engine.enforce.target import address_of


@dataclass(frozen=True, slots=True)
class MarkBits:
    """The three bits: of the opener's direction, of the answers', of what is refused."""

    original: int
    reply: int
    refused: int

    @classmethod
    def of(cls, mask: int) -> Self:
        """The bits of a mask that has three, from the lowest one on."""
        bits = [bit for bit in (1 << n for n in range(32)) if mask & bit]
        return cls(*bits)

    @property
    def mask(self) -> int:
        """All of them."""
        return self.original | self.reply | self.refused


class ConnectionMarks:
    """The marks of the connections in this network namespace. For one thread at a time.

    Every method raises UnavailableError where the kernel refuses.
    """

    def __init__(self, bits: MarkBits) -> None:
        """Open the kernel's table. Raises UnavailableError."""
        self._bits = bits
        self._table = Conntrack()

    def close(self) -> None:
        """Give the socket back; marks stay."""
        self._table.close()

    def release(self, key: bytes, protocol: int) -> bool:
        """Let go by what the receiver of a packet with this key sends in its connection.

        False where the connection is not found.
        """
        entry = self._table.find(key, protocol)
        if entry is None:
            return False
        width = len(key) // 2 - 2
        answers = entry.begun_by(key[:width], key[-4:-2])
        bit = self._bits.reply if answers else self._bits.original
        return self._table.mark(entry, bit, bit)

    def refuse(self, key: bytes, protocol: int) -> bool:
        """Have the kernel drop a packet's connection from now on; false where it is not found."""
        entry = self._table.find(key, protocol)
        return entry is not None and self._table.mark(entry, self._bits.refused, self._bits.mask)

    def forget_released(self, targets: Collection[bytes] | None = None) -> None:
        """Inspect again what goes by: all of it, or what has to do with some targets (see Ban)."""
        addresses = None if targets is None else {address_of(target) for target in targets}
        for bit in (self._bits.original, self._bits.reply):
            for entry in self._table.marked(bit):
                ends = entry.original + entry.reply
                # Bytes that are there by chance cost nothing but another look at the connection.
                if addresses is None or any(address in ends for address in addresses):
                    self._table.mark(entry, 0, self._bits.mask)

    def forget_refused(self) -> None:
        """Judge again what the kernel drops."""
        for entry in self._table.marked(self._bits.refused):
            self._table.mark(entry, 0, self._bits.mask)
