# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the three faces share: who may read which model, and signed addresses on the storage behind them."""
from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from ._models import Commit, File, Store
from ._reply import Ask, Reply


@dataclass(frozen=True)
class Guard:
    """Who may read a model: ``gated`` shows its card and list to all, ``private`` shows nothing; to others than these."""

    kind: str
    tokens: frozenset[str]


@dataclass
class Site:
    """What the faces know. ``redirect`` sends LFS files to ``cdn_url``; without it the hub serves them itself, as mirrors do."""

    store: Store
    url: str = ""
    cdn_url: str = ""
    tokens: frozenset[str] = frozenset()
    guards: dict[str, Guard] = field(default_factory=dict)
    redirect: bool = True
    page: int = 1000
    list_cap: int = 3000
    signed_for: float = 3600.0
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    def knows(self, token: str) -> bool:
        """Whether a token is anybody's."""
        return token in self.tokens or any(token in guard.tokens for guard in self.guards.values())

    def lets(self, model: str, token: str) -> bool:
        """Whether the token's owner may read the model."""
        guard = self.guards.get(model)
        return not guard or token in guard.tokens

    def signed(self, face: str, model: str, commit: Commit, file: File) -> str:
        """An address of the file's bytes on the storage, good for ``signed_for`` seconds."""
        query = {
            "response-content-disposition": f'attachment; filename="{file.path.rsplit("/", 1)[-1]}"',
            "key": f"{face}/{model}/{commit.id}/{file.path}",
            "Expires": f"{time.time() + self.signed_for:.3f}",
        }
        path = f"/repos/{file.sha256[:2]}/{file.sha256[2:4]}/{file.sha256}"
        query["Signature"] = self._signature(path, query["key"], query["Expires"])
        return f"{self.cdn_url}{path}?{urlencode(query, quote_via=quote)}"

    def stored(self, ask: Ask) -> Reply:
        """The storage's answer: the bytes to whoever has a good address, and to nobody who also shows a token.

        Like the real ones its ETag is no sha256 of the content, although it looks like one on Hugging Face's.
        """
        key, expires = ask.query.get("key", ""), ask.query.get("Expires", "0")
        path = "/" + "/".join(ask.path)
        if not hmac.compare_digest(ask.query.get("Signature", ""), self._signature(path, key, expires)):
            return _denied(403, "SignatureDoesNotMatch")
        if float(expires) < time.time():
            return _denied(403, "AccessDenied", "Request has expired")
        if ask.token:
            return _denied(400, "InvalidArgument", "Only one auth mechanism allowed")
        face, org, name, commit_id, file_path = key.split("/", 4)
        commit = self.store.commit(f"{org}/{name}", commit_id)
        file = commit.find(file_path) if commit else None
        if not commit or not file:
            return _denied(404, "NoSuchKey")
        headers = {"Content-Type": "application/octet-stream", "ETag": f'"{hashlib.sha256(file.sha256.encode()).hexdigest()}"'}
        if face == "modelscope":
            headers |= {"ETag": f'"{hashlib.md5(file.sha256.encode()).hexdigest().upper()}-1"', "X-Linked-ETag": f'"{file.sha256}"'}
        return content(commit, file, f"{org}/{name}", "cdn", headers)

    def _signature(self, *parts: str) -> str:
        return hmac.new(self.secret, "\n".join(parts).encode(), hashlib.sha256).hexdigest()


def content(commit: Commit, file: File, model: str, face: str, headers: dict[str, str], ranges: bool = True) -> Reply:
    """A file's bytes."""
    place = commit.folder / file.path
    return Reply(200, headers, b"", place, file.size, ranges, face=face, model=model, file=file.path)


def _denied(status: int, code: str, message: str = "") -> Reply:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message or code}</Message></Error>'
    return Reply(status, {"Content-Type": "application/xml"}, text.encode(), face="cdn")
