"""An XdpFilter in a process of its own, so that it lives in a namespace and can be killed.

    python xdp_process.py INTERFACE[,INTERFACE] MODE [BANNED]

Prints one JSON object when it is attached (or could not be), then one for each line of
JSON it reads: [method, *arguments], addresses as hexadecimal digits. Ends, and closes the
filter, with standard input. With BANNED it keeps its links, as queue 0's, and bans that address
before it attaches.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from ipaddress import ip_network
from typing import Any

from engine.enforce.attachment import XdpMode
from engine.enforce.pins import Pins
from engine.enforce.xdp import XdpFilter
from engine.errors import BtblockerError


def answer(xdp: XdpFilter, method: str, *arguments: Any) -> Any:
    match method:
        case "ban":
            return xdp.ban(bytes.fromhex(arguments[0]), arguments[1])
        case "unban":
            return xdp.unban(bytes.fromhex(arguments[0]))
        case "banned":
            return [[ban.address.hex(), *ban[1:]] for ban in xdp.banned()]
        case "allow_only":
            networks, let_alone = (list(map(ip_network, texts)) for texts in arguments)
            return xdp.allow_only(networks, let_alone)
        case "counters":
            return asdict(xdp.counters())
        case "close_in_child":
            child = os.fork()
            if child == 0:
                xdp.close()
                os._exit(0)
            return os.waitpid(child, 0)[1]
    raise ValueError(method)


def say(thing: Any) -> None:
    print(json.dumps(thing), flush=True)


def main() -> None:
    interfaces, mode = sys.argv[1].split(","), XdpMode(sys.argv[2])
    banned = bytes.fromhex(sys.argv[3]) if len(sys.argv) > 3 else None
    try:
        with XdpFilter(mode, pins=Pins(0), keep=banned is not None) as xdp:
            if banned is not None:
                xdp.ban(banned, time.monotonic_ns() + 600 * 10**9)
            for interface in dict.fromkeys(interfaces):
                xdp.attach(interface)
            say({"attachments": [asdict(attachment) for attachment in xdp.attachments]})
            for line in sys.stdin:
                say(answer(xdp, *json.loads(line)))
    except BtblockerError as refusal:
        say({"refusal": str(refusal), "exit_code": refusal.exit_code})


main()
