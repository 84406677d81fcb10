# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine's files on the disk, whole or not at all, and the lock of the one who works on them. Private to this collection."""
from __future__ import annotations

import fcntl
import grp
import hashlib
import os
import pwd
import re
import tempfile
from contextlib import contextmanager
from typing import Iterator

from ansible_collections.idc.llm.plugins.module_utils._engine import File
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError


@contextmanager
def locked(path: str, engine: str) -> Iterator[None]:
    """Be the only one at work on an engine; refuses at once with IDC-ENG-020. The kernel ends the lock with its process.

    The file stays: to remove it would let two hold a lock of one name.
    """
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(handle, 32).decode("ascii", "replace").strip() or "?"
            raise IdcError("IDC-ENG-020", engine=engine, pid=holder, path=path) from error
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode("ascii"))
        yield
    finally:
        os.close(handle)


def read(path: str) -> str:
    """A file's text, "" when it is not there."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def sha256(path: str) -> str:
    """Of a file's bytes, "" when it is not there."""
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return ""


def link_target(path: str) -> str:
    """Where a link leads, "" when it is none."""
    return os.readlink(path) if os.path.islink(path) else ""


def _ids(file: File) -> tuple[int, int]:
    return pwd.getpwnam(file.owner).pw_uid, grp.getgrnam(file.group).gr_gid


def same(file: File) -> bool:
    """Text, owner and mode are as wanted."""
    try:
        info = os.lstat(file.path)
        return read(file.path) == file.text and (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (
            *_ids(file), file.mode)
    except (FileNotFoundError, NotADirectoryError, KeyError):
        return False


def write(file: File) -> None:
    """Put a file in place whole: never half written, never readable by more than its mode says."""
    uid, gid = _ids(file)
    folder = os.path.dirname(file.path)
    if not os.path.isdir(folder):
        os.makedirs(folder, mode=0o755)
        if not file.mode & 0o007:
            os.chmod(folder, 0o750)
            os.chown(folder, uid, gid)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".idc-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(file.text)
            stream.flush()
            os.fchown(stream.fileno(), uid, gid)
            os.fchmod(stream.fileno(), file.mode)
            os.fsync(stream.fileno())
        os.replace(temporary, file.path)
    except BaseException:
        os.unlink(temporary)
        raise


def point(link: str, target: str) -> None:
    """Turn a link to a release in one step."""
    os.makedirs(os.path.dirname(link), mode=0o755, exist_ok=True)
    temporary = link + ".new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)


def diff(file: File) -> dict[str, str]:
    """Before and after of one file; environment files with secrets masked, digests left out."""
    before, after = read(file.path), file.shown
    if file.path.endswith("/env"):
        before = re.sub(r'^(\w*(?:KEY|TOKEN|SECRET|PASSWORD)\w*)=.*$', r'\1="********"', before, flags=re.M)
    elif file.path.endswith("/digest"):
        before = after = ""
    return entry(file.path, before, after)


def entry(path: str, before: str, after: str) -> dict[str, str]:
    """One place in Ansible's diff."""
    return {"before_header": path, "after_header": path, "before": before, "after": after}


def line(text: str) -> str:
    """A text as a line, nothing as nothing."""
    return text + "\n" if text else ""
