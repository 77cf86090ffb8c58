"""The process that packets go through: a queue and an inspector, and nothing else to wait for.

What a detection leads to is the daemon's work; here only the packet's verdict is. When the
daemon is gone, the worker ends, and the rules' `--queue-bypass` lets packets pass.
"""

from __future__ import annotations

import contextlib
import gc
import pickle
import selectors
import signal
import time
from collections import deque
from itertools import islice
from typing import Any, BinaryIO

from engine.compiler.pieces import Assembly
from engine.compiler.ruleset import RuleSet
from engine.enforce.banned import BannedAddresses
from engine.errors import UnavailableError
from engine.inspect.inspector import Inspector
from engine.inspect.judgement import ACCEPTED, SETTLED, Verdict
from engine.inspect.oneway import OneWayFlows
from engine.privileges import Capability, drop_privileges
from engine.service.channel import Channel
from engine.service.logs import logging_to_stderr
from engine.service.messages import (
    AllBans,
    Allow,
    Ask,
    Ban,
    Counters,
    Detected,
    Dropped,
    Failed,
    Load,
    Loaded,
    Start,
    Tagged,
)
from engine.service.offload import Offload
from engine.sources.nfqueue import PacketQueue, load_binding

# Detections that wait to be told while the daemon is busy.
MAX_UNTOLD = 4096
_FORGET_BANS_S = 60.0
# In one message.
_TARGETS_AT_ONCE = 1000


class Worker:
    """Judges the packets of one queue until the daemon closes the channel."""

    def __init__(self, channel: Channel, start: Start, ruleset: RuleSet) -> None:
        """Bind the queue. Raises UnavailableError."""
        self._channel = channel
        self._offload = Offload(start.mark_bits)
        self._inspector = Inspector(
            ruleset, max_flows=start.max_flows, settles_every=start.offload_after
        )
        if start.of_several:
            self._inspector.tags.tell = self._tell_tag
        self._enforces = not start.monitor_only
        self._sends_packets = start.sends_packets
        self._bans = BannedAddresses()
        self._one_way = OneWayFlows()
        self._untold: deque[Detected] = deque()
        self._unreported = 0
        self._assembly: Assembly | None = None
        self._ends = False
        self._queue = PacketQueue(start.queue_num, self._judge, fail_open=start.fail_open)

    def run(self) -> None:
        """Until the daemon is gone, or wants no more."""
        self._channel.send(Loaded())
        next_cleanup = time.monotonic() + _FORGET_BANS_S
        with self._queue as queue, selectors.DefaultSelector() as selector:
            selector.register(queue, selectors.EVENT_READ, queue.drain)
            selector.register(self._channel, selectors.EVENT_READ, self._hear)
            while not self._ends:
                for key, _ in selector.select(self._patience_s()):
                    key.data()
                self._assemble()
                self._tell()
                if time.monotonic() >= next_cleanup:
                    next_cleanup = time.monotonic() + _FORGET_BANS_S
                    self._bans.forget_expired()
            # Packets that still wait when the rules are gone get their verdict, too.
            queue.drain()
            self._tell()

    def _patience_s(self) -> float:
        if self._assembly is not None:
            return 0.0
        return 0.01 if self._untold else _FORGET_BANS_S

    # --- the packet path

    def _judge(self, datagram: bytes, now_s: float) -> bool:
        """Whether to drop a packet; the queue gives the verdict."""
        known = self._bans.judge(datagram)
        if known is not None:
            return known
        judgement = self._inspector.inspect(datagram, now_s)
        if judgement is ACCEPTED:
            return False
        if judgement is SETTLED:
            self._offload.release(datagram)
            return False
        self._one_way.note(judgement.detections)
        detections = judgement.detections or self._one_way.answered(datagram)
        if detections:
            packet = datagram if self._sends_packets else b""
            self._report(Detected(detections, packet))
        if judgement.verdict is not Verdict.DROP or not self._enforces:
            return False
        # Who has not answered yet must be heard.
        if not self._one_way.waits_for(datagram):
            self._offload.refuse(datagram, at_once=bool(detections))
        return True

    def _report(self, detected: Detected) -> None:
        if self._untold or not self._channel.send(detected):
            if len(self._untold) == MAX_UNTOLD:
                self._unreported += len(self._untold.popleft().detections)
            self._untold.append(detected)

    def _tell_tag(self, host: bytes, name: str, expires_s: float) -> None:
        # One that gets lost is told again with the next packet that renews it.
        self._channel.send(Tagged(host, name, expires_s))

    def _tell(self) -> None:
        while self._untold and self._channel.send(self._untold[0]):
            self._untold.popleft()

    def _tell_dropped(self) -> None:
        dropped = self._bans.dropped
        told = dict(islice(dropped.items(), _TARGETS_AT_ONCE))
        if told and self._channel.send(Dropped(told)):
            for target in told:
                del dropped[target]

    # --- what the daemon says

    def _hear(self) -> None:
        try:
            message, file = self._channel.receive()
        except EOFError:
            self._ends = True
            return
        match message:
            case Load():
                assert file is not None
                self._assembly = Assembly(file)
            case Ban(target, until_ns):
                self._bans.set(target, until_ns)
            case AllBans():
                assert file is not None
                with file:
                    self._bans.replace(pickle.load(file))
            case Tagged(host, name, expires_s):
                self._inspector.tags.learn(host, name, expires_s)
            case Allow():
                assert file is not None
                with file:
                    self._bans.allow_only(pickle.load(file))
            case Ask():
                self._tell()
                self._tell_dropped()
                self._channel.send(self._counters())

    def _assemble(self) -> None:
        """Take in one more piece of a new RuleSet, and swap it in with the last."""
        if self._assembly is None:
            return
        ruleset = self._assembly.next()
        if ruleset is not None:
            self._inspector.ruleset = ruleset
            self._assembly = None
            # It has come to stay, so no search for garbage need look through its many objects.
            gc.freeze()
            self._channel.send(Loaded())

    def _counters(self) -> Counters:
        queue = self._queue
        return Counters(
            packets=queue.packets,
            dropped=queue.dropped,
            errors=queue.errors,
            flows=self._inspector.flows,
            unreported=self._unreported,
            released=self._offload.released,
            refused=self._offload.refused,
            latency=queue.latency,
        )


def _first_ruleset(file: BinaryIO) -> RuleSet:
    assembly = Assembly(file)
    with file:
        while (ruleset := assembly.next()) is None:
            pass
    gc.collect()
    gc.freeze()
    return ruleset


def main() -> None:
    """Work for the parent. The first two messages are `Start` and `Load`."""
    # A Ctrl-C or a service manager's signal reaches every process; the parent answers it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    channel = Channel.to_parent()
    with contextlib.suppress(EOFError):
        start, _ = _expect(channel, Start)
        _, file = _expect(channel, Load)
        assert file is not None
        ruleset = _first_ruleset(file)
        # All that is imported has been by now: nobody may be unable to read where we are installed.
        load_binding()
        # The kernel asks for it with every verdict.
        drop_privileges({Capability.NET_ADMIN})
        with logging_to_stderr(start.log_level):
            _work(channel, start, ruleset)


def _work(channel: Channel, start: Start, ruleset: RuleSet) -> None:
    try:
        worker = Worker(channel, start, ruleset)
    except UnavailableError as error:
        channel.send(Failed(str(error)))
        return
    worker.run()


def _expect(channel: Channel, kind: type) -> tuple[Any, BinaryIO | None]:
    message, file = channel.receive()
    assert isinstance(message, kind)
    return message, file
