# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub as a program of its own, until it is ended: ``python -m tests.support.hub ROOT --port 8000``.

    python -m tests.support.hub ROOT --make org/name=8x512MiB

makes a model first: a config.json and that many shards. Then it prints ``hub=…``, ``cdn=…`` and, with --make, ``commit=…``.
"""
from __future__ import annotations

import argparse
import contextlib
import re
import signal
import threading
from pathlib import Path

from . import Hub, make_model


def main() -> None:
    """Read the command line, serve, end on SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.hub", description="A double of a model hub.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cdn-host", help="address of the storage face (default: 127.0.0.2, or the host's own)")
    parser.add_argument("--cdn-port", type=int, default=0)
    parser.add_argument("--no-redirect", action="store_true", help="serve LFS files from the hub itself")
    parser.add_argument("--log", type=argparse.FileType("a"), help="file for one JSON line a request")
    parser.add_argument("--make", metavar="ORG/NAME=NxM", help="make this model of N shards of M MiB before serving")
    args = parser.parse_args()
    made = re.fullmatch(r"([\w.-]+/[\w.-]+)=(\d+)x(\d+)(?:MiB)?", args.make) if args.make else None
    if args.make and not made:
        parser.error("--make wants something like org/name=8x512MiB")
    commit = ""
    if made:
        model, shards, size = made.group(1), int(made.group(2)), int(made.group(3)) << 20
        names = [f"model-{n:05}-of-{shards:05}.safetensors" for n in range(1, shards + 1)]
        commit = make_model(args.root, model, {"config.json": b"{}\n", **dict.fromkeys(names, size)})
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    options = {"host": args.host, "port": args.port, "cdn_host": args.cdn_host, "cdn_port": args.cdn_port}
    with args.log or contextlib.nullcontext(), Hub(args.root, redirect=not args.no_redirect, journal=args.log, **options) as hub:
        print(f"hub={hub.url}\ncdn={hub.cdn_url}" + (f"\ncommit={commit}" if commit else ""), flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
