"""DNS messages in UDP datagrams (RFC 1035)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from engine.language.vocabulary import VIEW_BITS, Implied

# A header with opcode 0 and one question.
IMPLIED = Implied(r"^..[\x00-\x07\x80-\x87].\x00\x01.{6}", VIEW_BITS)

_HEADER = struct.Struct(">HHHHHH")
_QUESTION = struct.Struct(">HH")
_RESPONSE = 0x8000
_OPCODE = 0x7800
MAX_NAME_B = 255


@dataclass(frozen=True, slots=True)
class DnsMessage:
    """The first question of a standard query or of the answer to one.

    `name` is in lower case, dotted, without the final dot; `type` is the QTYPE.
    """

    response: bool
    name: bytes
    type: int


def spell_name(name: bytes) -> bytes | None:
    """A name as it stands in a question (section 3.1); None where it cannot."""
    labels = name.split(b".")
    if not all(0 < len(label) < 64 for label in labels):
        return None
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def parse_message(payload: bytes) -> DnsMessage | None:
    """The message in `payload`, None if it is no DNS message with one question."""
    if len(payload) < _HEADER.size:
        return None
    _, flags, questions, _, _, _ = _HEADER.unpack_from(payload)
    if questions != 1 or flags & _OPCODE:
        return None
    labels = []
    position = _HEADER.size
    while True:
        if position >= len(payload) or position > _HEADER.size + MAX_NAME_B:
            return None
        length = payload[position]
        if length == 0:
            break
        # A question's name is never compressed: nothing stands before it to point at.
        if length > 63 or position + 1 + length > len(payload):
            return None
        labels.append(payload[position + 1 : position + 1 + length])
        position += 1 + length
    if position + 1 + _QUESTION.size > len(payload):
        return None
    kind, _ = _QUESTION.unpack_from(payload, position + 1)
    return DnsMessage(bool(flags & _RESPONSE), b".".join(labels).lower(), kind)
