# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images for engines under Docker, made from the fleet's own base image: a stand-in in seconds, the real vLLM in minutes.

Their entrypoint is ``false``: an engine that depends on an image's entrypoint does not start.
"""
from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MEDIA = Path(os.environ.get("IDC_LLM_CACHE", Path.home() / ".cache/idc_llm")) / "media"
BASE = "idc-llm-fleet"
REAL = "idc-llm-vllm"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_INSTALL = (
    "apt-get update -q && apt-get install -q -y --no-install-recommends libnuma1 && python3 -m venv /opt/vllm && /opt/vllm/bin/pip"
    " install --no-index --find-links=/wheels --require-hashes --no-deps --no-cache-dir --disable-pip-version-check --quiet"
    " --requirement=/wheels/requirements.txt"
)


def base(client: Any) -> str:
    """The fleet's Debian 12, "" where script/bootstrap fleet has not made it yet."""
    tags = [tag for image in client.images.list(BASE) for tag in image.tags if ":bookworm-" in tag]
    return sorted(tags)[-1] if tags else ""


@contextlib.contextmanager
def stand_in(client: Any) -> Iterator[str]:
    """An image whose ``vllm`` is ``engine_program``, and whose first Python says it is release 1.0; it is gone afterwards."""
    tag = f"idc-llm-stand-in:{secrets.token_hex(6)}"
    files = {
        "Dockerfile": f'FROM {base(client)}\nCOPY vllm python3 openai_server.py /usr/local/bin/\n'
                      'ENV PYTHONDONTWRITEBYTECODE=1\nENTRYPOINT ["false"]\n',
        "vllm": "#!/usr/bin/python3\n" + (HERE / "engine_program.py").read_text(),
        "python3": '#!/bin/sh\ncat >/dev/null\necho \'{"schema": 1, "vllm": "1.0+test"}\' >"$2"\n',
        "openai_server.py": (HERE / "openai_server.py").read_text(),
    }
    folder = io.BytesIO()
    with tarfile.open(fileobj=folder, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755
            archive.addfile(entry, io.BytesIO(text.encode()))
    folder.seek(0)
    client.images.build(fileobj=folder, custom_context=True, tag=tag, rm=True, pull=False)
    try:
        yield tag
    finally:
        if client.images.list(tag):
            client.images.remove(tag, force=True)


def real(client: Any) -> str:
    """The release that lies as wheels in the media folder as an image; made once for each list of wheels."""
    wheels = MEDIA / "wheels"
    listed = (wheels / "requirements.txt").read_text()
    release = next(line.split("==")[1].split("+")[0].split()[0] for line in listed.splitlines() if line.startswith("vllm=="))
    tag = f"{REAL}:{release}-{hashlib.sha256(listed.encode()).hexdigest()[:12]}"
    if client.images.list(tag):
        return tag
    made = client.containers.run(base(client), ["-c", _INSTALL], entrypoint="sh", detach=True, network_mode="host",
                                 volumes={str(wheels): {"bind": "/wheels", "mode": "ro"}})
    try:
        rc = made.wait(timeout=1800)["StatusCode"]
        assert rc == 0, made.logs(tail=30).decode()
        made.commit(*tag.split(":"), changes=f'ENV PATH=/opt/vllm/bin:{_PATH}\nENTRYPOINT ["false"]\nCMD []')
    finally:
        made.remove(force=True, v=True)
    return tag
