"""What `btblocker bans`, `ban`, `unban` and `allow` ask of a running blocker, and its answers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from engine.config import MAX_BAN_S, Network, parse_network
from engine.enforce.bans import MANUAL
from engine.enforce.enforcement import Enforcement
from engine.enforce.target import parse_target, target_text
from engine.errors import InputError
from engine.service.control import Deferred
from engine.service.events import Events

_Request = dict[str, Any]
_MAX_REASON = 200

_log = logging.getLogger(__name__)


class BanRequests:
    """Answers requests about bans, on the daemon's own thread."""

    def __init__(self, enforcement: Enforcement, events: Events) -> None:
        self._enforcement = enforcement
        self._events = events
        self.handlers: dict[str, Callable[[_Request], _Request | Deferred]] = {
            "bans": self._list,
            "ban": self._ban,
            "unban": self._unban,
            "allowed": self._list_allowed,
            "allow": self._allow,
            "disallow": self._disallow,
        }

    def _list(self, _request: _Request) -> Deferred:
        self._enforcement.bans.read_driver()
        bans = list(self._enforcement.bans)
        # A million of them take seconds to write down, which nobody else should wait for.
        return lambda: {"bans": [ban.as_json() for ban in bans]}

    def _ban(self, request: _Request) -> Deferred:
        """Ban each of `bans`: {address, duration_s, reason}, the last two if need be."""
        answer: _Request = {"banned": [], "refused": []}
        for wanted in _list_of(request, "bans", dict):
            address = wanted.get("address")
            try:
                ban = self._enforcement.ban(
                    _target(address), _duration_s(wanted), _reason(wanted.get("reason"))
                )
                self._events.banned_by_hand(ban)
                answer["banned"].append(ban.as_json())
            except InputError as error:
                answer["refused"].append({"address": address, "why": str(error)})
        return self._when_kept(answer)

    def _unban(self, request: _Request) -> Deferred:
        answer: _Request = {"unbanned": [], "refused": []}
        for address in _list_of(request, "addresses", str):
            try:
                target = _target(address)
                self._events.unbanned_by_hand(self._enforcement.unban(target))
                answer["unbanned"].append(target_text(target))
            except InputError as error:
                answer["refused"].append({"address": address, "why": str(error)})
        return self._when_kept(answer)

    def _list_allowed(self, _request: _Request) -> _Request:
        return {
            "allowed": [
                {"network": _shown(network), "since": None if since is None else round(since, 3)}
                for network, since in self._enforcement.allowed()
            ]
        }

    def _allow(self, request: _Request) -> Deferred:
        networks = [_network(text) for text in _list_of(request, "networks", str)]
        lifted = self._enforcement.allow(networks)
        shown = [_shown(network) for network in networks]
        _log.info("allowed by hand: %s", ", ".join(shown))
        self._events.exempted(lifted)
        return self._when_kept({"allowed": shown, "lifted": len(lifted)})

    def _disallow(self, request: _Request) -> Deferred:
        networks = [_network(text) for text in _list_of(request, "networks", str)]
        for network in networks:
            self._enforcement.disallow(network)
            _log.info("no longer allowed: %s", _shown(network))
        return self._when_kept({"disallowed": [_shown(network) for network in networks]})

    def _when_kept(self, answer: _Request) -> Deferred:
        """Answer when the operator's word is on the disk: `kept_in` is the file, null for none."""
        state = self._enforcement.state
        return lambda: {**answer, "kept_in": str(state.file) if state.flush() else None}


def _list_of(request: _Request, name: str, kind: type) -> list[Any]:
    found = request.get(name)
    if not isinstance(found, list) or not all(isinstance(item, kind) for item in found):
        raise InputError(f"`{name}` is missing, or of the wrong kind")
    return found


def _target(address: object) -> bytes:
    try:
        return parse_target(str(address))
    except ValueError as error:
        raise InputError(str(error)) from error


def _network(text: str) -> Network:
    try:
        return parse_network(text)
    except ValueError as error:
        raise InputError(str(error)) from error


def _shown(network: Network) -> str:
    """A network, and one that is a single address without its length."""
    return str(network.network_address if network.num_addresses == 1 else network)


def _duration_s(wanted: _Request) -> int | None:
    duration_s = wanted.get("duration_s")
    if duration_s is not None and (
        not isinstance(duration_s, int) or not 1 <= duration_s <= MAX_BAN_S
    ):
        raise InputError(f"a ban lasts a whole number of seconds, 1 to {MAX_BAN_S}")
    return duration_s


def _reason(reason: object) -> str:
    text = str(reason or MANUAL)
    if len(text) > _MAX_REASON or not text.isprintable():
        raise InputError(f"a reason is at most {_MAX_REASON} printable characters")
    return text
