"""Real BitTorrent clients in network namespaces, with and without the blocker between them."""
