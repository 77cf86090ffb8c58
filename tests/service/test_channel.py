from __future__ import annotations

import socket

import pytest

from engine.service.channel import Channel, memory_file


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
