"""An XdpFilter in a process of its own, so that it lives in a namespace and can be killed.

    python xdp_process.py INTERFACE[,INTERFACE] MODE

Prints one JSON object when it is attached (or could not be), then one for each line of
JSON it reads: [method, *arguments], addresses as hexadecimal digits. Ends, and closes the
filter, with standard input.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from ipaddress import ip_network
from typing import Any

from engine.enforce.xdp import XdpFilter, XdpMode
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
    try:
        with XdpFilter(interfaces, mode) as xdp:
            say({"attachments": [asdict(attachment) for attachment in xdp.attachments]})
            for line in sys.stdin:
                say(answer(xdp, *json.loads(line)))
    except BtblockerError as refusal:
        say({"refusal": str(refusal), "exit_code": refusal.exit_code})


main()
