"""btblocker: BitTorrent stopped inline, with NFQUEUE, Hyperscan and XDP."""
