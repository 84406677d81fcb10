# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""libtorrent in full mesh, as the peer that distribute.py compares with. ``torrent.py CONFIG`` in one node of the lab:
{torrent, folder, address, others: [address], seed, result}; ``torrent.py make FOLDER FILE`` writes the torrent."""
from __future__ import annotations

import json
import os
import sys
import time

import libtorrent as lt

PORT = 6881


def make(folder: str, target: str) -> None:
    storage = lt.file_storage()
    lt.add_files(storage, folder)
    torrent = lt.create_torrent(storage)
    lt.set_piece_hashes(torrent, folder.rpartition("/")[0])
    with open(target, "wb") as out:
        out.write(lt.bencode(torrent.generate()))


def main() -> None:
    if sys.argv[1] == "make":
        make(sys.argv[2], sys.argv[3])
        return
    with open(sys.argv[1], encoding="utf-8") as stream:
        config = json.load(stream)
    session = lt.session({
        "listen_interfaces": f"{config['address']}:{PORT}", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
        "enable_natpmp": False, "unchoke_slots_limit": 8, "aio_threads": 2, "hashing_threads": 1,
    })
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(config["torrent"])
    params.save_path = config["folder"]
    if config["seed"]:
        params.flags |= lt.torrent_flags.seed_mode
    begin = time.time()
    handle = session.add_torrent(params)
    again = 0.0
    while not handle.status().is_seeding or config["seed"]:
        if time.time() >= again and not config["seed"]:
            for address in config["others"]:
                handle.connect_peer((address, PORT))
            again = time.time() + 2.0
        time.sleep(0.05)
    with open(config["result"] + ".new", "w", encoding="utf-8") as out:
        json.dump({"begin": begin, "end": time.time(), "count": {}, "have": params.ti.num_files()}, out)
    os.rename(config["result"] + ".new", config["result"])
    while True:
        time.sleep(1)


if __name__ == "__main__":
    main()
