"""Speed beside its limits: `python -m tools.bench` measures on this machine, as root.

Everything runs in network namespaces made for it: a client, a router and a server, with
the queue in the router's FORWARD chain. What is compared is measured in the same run,
in turn, and medians are reported, because machines have moods.
"""
