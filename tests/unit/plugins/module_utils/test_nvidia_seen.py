# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts of dpkg, rpm, apt and OpenPGP, read."""
from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.idc.llm.plugins.module_utils._nvidia_seen import (
    parse_archives,
    parse_dpkg,
    parse_offers,
    parse_policy,
    parse_rpm,
    parse_stream,
)
from ansible_collections.idc.llm.plugins.module_utils._openpgp import fingerprints


def test_dpkgs_rows():
    text = ("libcuda1\t580.178.04-1\tii \nnvidia-smi\t535.1-1\trc \nnvidia-persistenced\t580.178.04-1\thi \nhalf\t1-1\tiU \n"
            "none\t\tun \n")
    rows = parse_dpkg(text, "nvidia-persistenced\nlibcuda1:amd64\n")
    assert rows == [{"name": "libcuda1", "version": "580.178.04-1", "held": True, "whole": True},
                    {"name": "nvidia-persistenced", "version": "580.178.04-1", "held": True, "whole": True},
                    {"name": "half", "version": "1-1", "held": False, "whole": False}]


def test_rpms_rows():
    lock = "# by hand\nnvidia-driver-cuda-3:580.178.04-1.el9.*\n"
    names = ("nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-driver")
    rows = parse_rpm("".join(f"{name}\t3:580.178.04-1.el9\n" for name in names), lock)
    assert [row["held"] for row in rows] == [True, False, False] and rows[0]["version"] == "3:580.178.04-1.el9"


@pytest.mark.parametrize(("state", "stream"), [("enabled", "580-open"), ("", ""), ("disabled", "")])
def test_the_stream_that_is_enabled(state, stream):
    assert parse_stream(f"[nvidia-driver]\nname=nvidia-driver\nstream=580-open\nprofiles=\nstate={state}\n") == stream
    assert parse_stream("") == ""


def test_candidates():
    text = ("linux-headers-6.1.0-1-amd64:\n  Installed: (none)\n  Candidate: 6.1.1-1\n  Version table:\n     6.1.1-1 500\n"
            "gone:\n  Installed: 1\n  Candidate: (none)\n")
    assert parse_policy(text) == {"linux-headers-6.1.0-1-amd64": "6.1.1-1"}


def test_what_repositories_offer():
    text = ("libcuda1:\n  Installed: 580.159.04-1\n  Candidate: 580.159.04-1\n  Version table:\n"
            "     580.190.01-1 500 (phased 10%)\n        500 file:/srv/nvidia  Packages\n"
            "     580.178.04-1 1000\n       1000 file:/srv/nvidia  Packages\n        500 https://a/b  Packages\n"
            " *** 580.159.04-1 100\n        100 /var/lib/dpkg/status\n"
            "gone:\n  Installed: 1\n  Candidate: 1\n  Version table:\n *** 1 100\n        100 /var/lib/dpkg/status\n")
    assert parse_offers(text) == {"libcuda1": ["580.190.01-1", "580.178.04-1"], "gone": []}
    assert parse_offers("") == {}


def test_sources_of_apt_in_both_forms():
    one = ("# deb http://no/ x y\ndeb [arch=amd64 signed-by=/k.gpg] http://a/debian bookworm main contrib\n"
           "deb-src http://a/ bookworm main\n")
    two = ("Types: deb\nURIs: http://b/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /l.gpg\n\n"
           "Types: deb-src\nURIs: x\n")
    assert parse_archives([one, two, two + "Enabled: no\n"]) == [
        {"uris": ["http://a/debian"], "suites": ["bookworm"], "components": ["main", "contrib"], "signed": "/k.gpg"},
        {"uris": ["http://b/debian"], "suites": ["trixie", "trixie-updates"], "components": ["main"], "signed": "/l.gpg"},
        {"uris": ["http://b/debian"], "suites": ["trixie", "trixie-updates"], "components": ["main"], "signed": "/l.gpg"}]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of gpg's with two keys, made now."""
    if not shutil.which("gpg"):
        pytest.skip("no gpg to compare with")
    folder = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    for name, kind in (("one@example.internal", "ed25519"), ("two@example.internal", "rsa2048")):
        gpg(folder, "--quick-gen-key", "--passphrase", "", name, kind, "sign", "never")
    yield folder
    subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False, capture_output=True)
    shutil.rmtree(folder)


def gpg(folder, *words):
    return subprocess.run(["gpg", "--batch", "--quiet", "--homedir", folder, *words], check=True, capture_output=True).stdout


def test_fingerprints_are_gpgs(home):
    rows = gpg(home, "--list-keys", "--with-colons").decode().splitlines()
    wanted = [row.split(":")[9] for row in rows if row.startswith("fpr")]
    assert len(wanted) == 2
    assert fingerprints(gpg(home, "--armor", "--export")) == wanted
    assert fingerprints(gpg(home, "--export")) == wanted
    assert fingerprints(gpg(home, "--armor", "--export", "one@example.internal")) == wanted[:1]


@pytest.mark.parametrize("data", [b"", b"<html>404</html>",
                                  b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!!\n-----END PGP PUBLIC KEY BLOCK-----\n",
                                  b"\x99\x01\x0d\x04cut"])
def test_what_is_no_key_has_no_fingerprint(data):
    assert fingerprints(data) == []
