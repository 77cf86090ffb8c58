from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from engine.inspect.judgement import Detection
from engine.inspect.packet import Endpoint
from engine.language.form import Ban as SignatureBan
from engine.service.channel import Channel, memory_file, start_process
from engine.service.messages import Ask, Ban, Counters, Detected
from engine.service.sinks import AppendFile


@pytest.fixture
def ends() -> tuple[Channel, Channel]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Channel(one), Channel(other)


def test_messages_stay_apart_and_files_come_at_their_beginning(
    ends: tuple[Channel, Channel],
) -> None:
    one, other = ends
    with memory_file("test") as file:
        file.write(b"content")
        file.flush()
        assert one.send("first")
        assert one.send(("second", 2), file)
    assert other.receive() == ("first", None)
    message, received = other.receive()
    assert message == ("second", 2)
    assert received is not None
    with received:
        assert received.read() == b"content"


def test_what_was_said_is_heard_though_the_speaker_has_left_without_listening(
    ends: tuple[Channel, Channel],
) -> None:
    one, other = ends
    assert one.send("never read")
    assert other.send("last words")
    other.close()
    assert one.receive(1.0) == ("last words", None)
    with pytest.raises(EOFError):
        one.receive(1.0)


def test_nothing_to_hear_is_no_end(ends: tuple[Channel, Channel]) -> None:
    one, _other = ends
    for timeout_s in (0.0, 0.01):
        with pytest.raises(TimeoutError):
            one.receive(timeout_s)


def test_who_does_not_read_keeps_nobody_waiting(ends: tuple[Channel, Channel]) -> None:
    one, _other = ends
    sent = 0
    while one.send(bytes(1000)):
        sent += 1
    assert sent > 10


class _Calls:
    """A pickle of it asks whoever reads it for a call."""

    def __init__(self, function: object, *arguments: object) -> None:
        self._call = function, arguments

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self._call


@pytest.mark.parametrize(
    "message",
    [
        _Calls(os.system, "exit 1"),
        _Calls(AppendFile, Path("/nosuch/file")),
        _Calls(start_process, "engine.service.worker"),
        _Calls(getattr, Ask(), "__class__"),
        _Calls(exec, "1"),
        _Calls(Ban, 1),
        (Ask(), [_Calls(print, "x")]),
    ],
    ids=["system", "AppendFile", "start_process", "getattr", "exec", "Ban", "print inside"],
)
def test_what_is_received_calls_nothing(ends: tuple[Channel, Channel], message: object) -> None:
    one, other = ends
    assert one.send(message)
    with pytest.raises(EOFError):
        other.receive()
    ends_at = (Endpoint(bytes(4), 1), Endpoint(bytes(16), 2))
    ban = SignatureBan.model_validate({"of": "remote", "for": "2h"})
    detection = Detection("a.b", 1, "block", "udp", *ends_at, 1, 1, ban=ban)
    for whole in (Ban(bytes(4), 1), Counters(packets=1), Detected((detection,), b"x")):
        one.send(whole)
        assert other.receive() == (whole, None)


def test_bytes_that_are_no_message_are_an_end() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one:
        for data in (b"\xff", b"\x80\x04", b"cos\nsystem\n(S'exit 1'\ntR.", b"I1\n"):
            one.send(data)
            with pytest.raises(EOFError):
                Channel(other).receive()
