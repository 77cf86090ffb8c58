"""List files: one entry a line, `#` begins a comment, upper and lower case are alike.

What is asked of a list says how its entries are read: texts for texts (each stands for its
subdomains too, as host names want it), networks for addresses, integers for numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from engine.language.diagnostics import Diagnostic, Source, Span
from engine.language.vocabulary import Type

MAX_LIST_B = 16 * 1024 * 1024
MAX_ENTRY_B = 255
# Of one list; what follows more mistakes is not read.
MAX_MISTAKES = 10

_UNUSED = "name it in a condition, or take it out"
_COMMENT = re.compile(r"(?:^|\s)#")
_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]{1,16}|0|[1-9][0-9]{0,19}")


@dataclass(frozen=True, slots=True)
class TextList:
    """Texts in lower case; a text is in it that equals one, or ends with a dot and one."""

    entries: frozenset[bytes]
    longest_b: int

    def __contains__(self, text: bytes) -> bool:
        text = text.lower()
        if text in self.entries:
            return True
        # Only the end can matter: a text full of dots costs no more than a host name.
        dot = text.find(b".", max(0, len(text) - self.longest_b - 1))
        while dot >= 0:
            if text[dot + 1 :] in self.entries:
                return True
            dot = text.find(b".", dot + 1)
        return False


@dataclass(frozen=True, slots=True)
class NetworkList:
    """Networks, by IP version and prefix length: each length costs one look-up."""

    networks: Mapping[int, Mapping[int, frozenset[int]]]

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        bits, value = address.max_prefixlen, int(address)
        return any(
            value >> (bits - length) in prefixes
            for length, prefixes in self.networks.get(address.version, {}).items()
        )


Entries = TextList | NetworkList | frozenset[int]


@dataclass(slots=True)
class Lists:
    """The list files of a folder, by name, each read when a condition first asks for it.

    `diagnostics` grows with what is found wrong in them.
    """

    sources: Mapping[str, Source]
    diagnostics: list[Diagnostic] = field(default_factory=list)
    _read: dict[tuple[str, Type], Entries] = field(default_factory=dict)

    def entries(self, name: str, kind: Type) -> Entries:
        """What to look a TEXT, NUMBER or ADDRESS up in. KeyError where there is no such list."""
        key = (name, kind)
        if key not in self._read:
            self._read[key], mistakes = read_list(self.sources[name], kind)
            self.diagnostics += mistakes
        return self._read[key]

    def unused(self) -> list[Diagnostic]:
        """A warning for each list that nothing asked for."""
        used = {name for name, _ in self._read}
        return [
            Diagnostic("S103", f"`@{name}` is never used", source, Span(1, 1, 1, 2), _UNUSED)
            for name, source in sorted(self.sources.items())
            if name not in used
        ]


def read_list(source: Source, kind: Type) -> tuple[Entries, list[Diagnostic]]:
    """The entries of a list file as `kind` needs them, and what is wrong with the others."""
    read: Callable[[str], Any] = {Type.TEXT: _text, Type.NUMBER: _number}.get(kind, _network)
    values: set[Any] = set()
    mistakes: list[Diagnostic] = []
    for entry, span in _entries(source):
        try:
            values.add(read(entry))
        except ValueError as error:
            message = f"`{entry[:60]}`: {error}"
            hint = f"`@{source.path.stem}` is asked for {kind}"
            mistakes.append(Diagnostic("S025", message, source, span, hint))
        if len(mistakes) == MAX_MISTAKES:
            message = f"{MAX_MISTAKES} mistakes are enough; what follows was not read"
            mistakes.append(Diagnostic("S023", message, source, span))
            break
    if kind is Type.TEXT:
        return TextList(frozenset(values), max(map(len, values), default=0)), mistakes
    if kind is Type.NUMBER:
        return frozenset(values), mistakes
    return _by_length(values), mistakes


def _entries(source: Source) -> Iterator[tuple[str, Span]]:
    for number, line in enumerate(source.lines, 1):
        written = _COMMENT.split(line, maxsplit=1)[0].rstrip()
        if entry := written.lstrip():
            yield entry, Span(number, len(written) - len(entry) + 1, number, len(written) + 1)


def _text(entry: str) -> bytes:
    if entry.startswith(("*.", ".")):
        raise ValueError("subdomains belong to a name as it is: write no dot or `*.` in front")
    text = entry.lower().encode()
    if len(text) > MAX_ENTRY_B:
        raise ValueError(f"longer than {MAX_ENTRY_B} bytes")
    return text


def _number(entry: str) -> int:
    if not _NUMBER.fullmatch(entry) or (value := int(entry, 0)) >= 1 << 64:
        raise ValueError("not an integer from 0 to 2^64 - 1")
    return value


def _network(entry: str) -> IPv4Network | IPv6Network:
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        raise ValueError("not an address or a network such as 10.0.0.0/8") from None
    if "/" in entry and network.network_address != ip_address(entry.split("/")[0]):
        raise ValueError(f"a host in a network; did you mean `{network}`?")
    return network


def _by_length(networks: set[IPv4Network | IPv6Network]) -> NetworkList:
    grouped: dict[int, dict[int, set[int]]] = {}
    for network in networks:
        prefix = int(network.network_address) >> (network.max_prefixlen - network.prefixlen)
        grouped.setdefault(network.version, {}).setdefault(network.prefixlen, set()).add(prefix)
    return NetworkList(
        {
            version: {length: frozenset(prefixes) for length, prefixes in by_length.items()}
            for version, by_length in grouped.items()
        }
    )
