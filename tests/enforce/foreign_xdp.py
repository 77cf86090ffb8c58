"""Somebody else's XDP program: attaches one that passes everything, and ends.

python foreign_xdp.py INTERFACE
"""

from __future__ import annotations

import os
import sys

import bcc

from engine.enforce.kernel_headers import kernel_source

with kernel_source() as headers:
    if headers is not None:
        os.environ["BCC_KERNEL_SOURCE"] = str(headers)
    module = bcc.BPF(text="int somebody_else(struct xdp_md *ctx) { return XDP_PASS; }")
module.attach_xdp(sys.argv[1], module.load_func("somebody_else", bcc.BPF.XDP))
