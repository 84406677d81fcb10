# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A double of a model hub, with the faces of Hugging Face and ModelScope, that the real clients download from.

    commit = make_model(root, "org/name", {"config.json": b"{}", "model.safetensors": 4 << 20})
    with Hub(root, tokens=["…"]) as hub:
        hub.fault("model.safetensors", cut=1 << 20)       # the first download of it breaks after 1 MiB
        …                                                  # HF_ENDPOINT or MODELSCOPE_ENDPOINT is hub.url
        assert hub.sent("model.safetensors") == 4 << 20    # each byte once

For benches: ``python -m tests.support.hub ROOT --port 8000``. It serves files with sendfile.
"""
from __future__ import annotations

from ._models import Store, make_model, move
from ._reply import Fault, Request
from ._server import Hub

__all__ = ["Fault", "Hub", "Request", "Store", "make_model", "move"]
