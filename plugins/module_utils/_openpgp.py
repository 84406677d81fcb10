# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of OpenPGP public keys, so that a host needs no gpg to know a repository's key. Private to this collection.

RFC 9580, sections 4.2 (packets), 5.5.4 (fingerprints of versions 4 and 6) and 6.2 (ASCII armour).
"""
from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Iterator, List, Tuple

PUBLIC_KEY = 6
_ARMOUR = re.compile(rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.S)


def fingerprints(data: bytes) -> List[str]:
    """Of each primary key in a file, armoured or binary, in order; none where the file is no key.

    Subkeys are left out: what binds them to a primary key is its signature, which the package manager checks.
    """
    found = []
    for block in _blocks(data):
        try:
            found += [_fingerprint(body) for tag, body in _packets(block) if tag == PUBLIC_KEY]
        except (IndexError, ValueError):
            return []
    return found


def _blocks(data: bytes) -> List[bytes]:
    armoured = _ARMOUR.findall(data)
    if not armoured:
        return [data]
    blocks = []
    for text in armoured:
        body = re.split(rb"\r?\n\r?\n", text, maxsplit=1)[-1]  # behind the headers
        lines = [line for line in body.split() if not line.startswith(b"=")]  # the last one may be a checksum
        try:
            blocks.append(base64.b64decode(b"".join(lines), validate=True))
        except binascii.Error:
            return []
    return blocks


def _packets(data: bytes) -> Iterator[Tuple[int, bytes]]:
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise ValueError("no packet")
        if head & 0x40:
            tag, (size, at) = head & 0x3F, _new_length(data, at + 1)
        else:
            tag, octets = head >> 2 & 0xF, 1 << (head & 3)
            if octets == 8:
                raise ValueError("a packet without a length")
            size, at = int.from_bytes(data[at + 1:at + 1 + octets], "big"), at + 1 + octets
        if at + size > len(data):
            raise ValueError("cut off")
        yield tag, data[at:at + size]
        at += size


def _new_length(data: bytes, at: int) -> Tuple[int, int]:
    first = data[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2
    if first == 255:
        return int.from_bytes(data[at + 1:at + 5], "big"), at + 5
    raise ValueError("a partial length")


def _fingerprint(body: bytes) -> str:
    if body[0] == 4:
        return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # SHA-1 by definition
    if body[0] == 6:
        return hashlib.sha256(b"\x9b" + len(body).to_bytes(4, "big") + body).hexdigest().upper()
    raise ValueError(f"version {body[0]}")
