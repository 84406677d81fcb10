# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Certificates by ACME from the real server pebble, and by the own CA, on two gateways with the real nginx; their renewal."""
from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.acme import ADDRESSES, DOMAIN, House, issuer
from tests.support.real_gateway import ROOT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the role makes root's files")  # pebble: script/bootstrap tests
ALIAS, BY_PEBBLE, BY_OWN_CA = "chat.bank.example", "CN=Pebble Intermediate CA", "CN=idc.llm gateway CA"
NAMES = {"gateway_tls_extra_names": [ALIAS, "10.0.0.10", "localhost"]}
LIVES_DAYS = 5 * 365  # what pebble signs


def shown(house):
    """The serial number at each gateway, which is the same where pebble signed."""
    return {name: house.shown(name).serial_number for name in ADDRESSES}


@pytest.fixture(scope="module")
def folder():
    """Not below pytest's own, which nginx's workers cannot enter."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def house(folder):
    """Gateways that had their first run, with an ACME server that wants an external account."""
    (folder / "house").mkdir()
    made = House(folder / "house", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("="))
    made.variables.update(NAMES)
    made.pebble.start()
    try:
        made.first = made.run("--diff", "-vv")
        assert made.first.rc == 0, made.first.output
        yield made
    finally:
        made.close()


@pytest.fixture
def away(house):
    """The ACME server is not there."""
    house.pebble.stop()
    yield
    house.pebble.start()


def test_every_gateway_shows_one_certificate_for_all_names(house):
    found = [house.shown(name) for name in ADDRESSES]
    assert issuer(found[0]).startswith(BY_PEBBLE) and found[0] == found[1]
    names = found[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {DOMAIN, ALIAS} and len(names) == 2
    assert all((house.folder / name / "nginx/idc_llm/own.key").exists() for name in ADDRESSES), "nginx began with the own CA"


def test_keys_are_roots_and_stand_in_no_output(house):
    keys = [house.kept() / "account.key", house.kept() / "server.key"]
    for name in ADDRESSES:
        keys += [house.folder / name / "nginx/idc_llm/server.key", house.folder / name / "nginx/staged/idc_llm/server.key"]
    assert [file.stat().st_mode & 0o777 for file in keys] == [0o600] * len(keys)
    assert house.kept().stat().st_mode & 0o777 == 0o700
    inner = {file.read_text().splitlines()[1] for file in keys}  # what of a key on P-256 is not public stands in its first line
    assert len(inner) == 2 and not any(line in house.first.output for line in inner)
    assert house.pebble.key not in house.first.output


def test_a_second_run_changes_nothing_and_asks_nobody(house):
    asked = house.pebble.asked()
    again = house.run()
    assert (again.rc, again.count("changed")) == (0, 0), again.output
    assert asked > 0 and house.pebble.asked() == asked


@pytest.mark.long
def test_the_timer_has_nothing_to_do_and_says_until_when(house):
    asked = house.pebble.asked()
    done = house.renew()
    assert (done.rc, done.count("changed")) == (0, 0), done.output
    until = f"{house.shown('gw1').not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
    assert all(f"{name}: DNS:{DOMAIN}, DNS:{ALIAS} until {until}, signed by Pebble" in done.text for name in ADDRESSES), done.output
    assert house.pebble.asked() == asked and "gone" not in done.recap


@pytest.mark.long
def test_the_timer_renews_what_is_due(house):
    before, key = shown(house), (house.kept() / "server.key").read_text()
    house.pebble.leads_to("gw2")
    done = house.renew(gateway_tls_renew_days=LIVES_DAYS + 1)
    assert done.rc == 0 and done.count("changed") > 0, done.output
    after = shown(house)
    assert after["gw1"] == after["gw2"] != before["gw1"] and issuer(house.shown("gw1")).startswith(BY_PEBBLE)
    assert (house.kept() / "server.key").read_text() == key
    assert not any((house.folder / name / "challenges").exists() for name in ADDRESSES)
    house.pebble.leads_to("gw1")


@pytest.mark.long
def test_check_mode_says_what_it_would_ask_for(house):
    before, asked = shown(house), house.pebble.asked()
    done = house.renew("--check", gateway_tls_renew_days=LIVES_DAYS + 1)
    assert (done.rc, done.count("changed")) == (0, 0), done.output
    assert f"{house.pebble.directory} would be asked for a certificate for {DOMAIN}, {ALIAS}: it ends 20" in done.text
    assert (shown(house), house.pebble.asked()) == (before, asked)


@pytest.mark.long
@pytest.mark.usefixtures("away")
def test_without_the_acme_server_a_certificate_that_lasts_is_a_warning(house):
    before = shown(house)
    done = house.renew(gateway_tls_renew_days=LIVES_DAYS + 1)
    assert done.rc == 0 and "IDC-GW-014: WARNING" in done.text and "Connection refused" in done.text, done.output
    assert all(f"{name}: DNS:{DOMAIN}" in done.text for name in ADDRESSES) and shown(house) == before


@pytest.mark.long
@pytest.mark.usefixtures("away")
def test_without_the_acme_server_one_that_will_not_do_is_an_error(house):
    before = shown(house)
    done = house.renew(gateway_tls_renew_days=LIVES_DAYS * 4)
    assert done.rc != 0 and "IDC-GW-013" in done.text and "IDC-GW-014" not in done.text, done.output
    assert shown(house) == before


@pytest.mark.long
@pytest.mark.usefixtures("away")
def test_who_lost_the_state_folder_keeps_the_certificate_that_is_shown(house):
    before, kept = shown(house), house.kept()
    kept.rename(house.folder / "lost")
    try:
        done = house.run()
        assert done.rc != 0 and "IDC-GW-013" in done.text and shown(house) == before, done.output
    finally:
        shutil.rmtree(kept)
        (house.folder / "lost").rename(kept)


@pytest.mark.long
def test_an_order_that_the_server_refuses_takes_nothing_away(house):
    before = shown(house)
    house.pebble.leads_to("nobody")
    try:
        done = house.renew(gateway_tls_renew_days=LIVES_DAYS + 1)
    finally:
        house.pebble.leads_to("gw1")
    assert done.rc == 0 and "IDC-GW-014" in done.text and shown(house) == before, done.output
    assert not any((house.folder / name / "challenges").exists() for name in ADDRESSES)


@pytest.mark.long
def test_a_new_key_whose_order_is_refused_locks_nobody_out(house):
    before, key = shown(house), house.kept() / "server.key"
    old = key.read_text()
    key.unlink()
    house.pebble.leads_to("nobody")
    try:
        refused = house.run()
    finally:
        house.pebble.leads_to("gw1")
    assert refused.rc != 0 and "IDC-GW-013" in refused.text and shown(house) == before, refused.output
    done = house.run()
    assert done.rc == 0 and key.read_text() != old and shown(house)["gw1"] != before["gw1"], done.output


@pytest.mark.long
@pytest.mark.parametrize(("change", "code", "words"), [
    ({"gateway_tls_certificate": "a.pem", "gateway_tls_key": "a.key"}, "IDC-GW-011", "both gateway_acme and"),
    ({"gateway_acme": {"directory": "https://localhost/dir", "ca": "nowhere.pem", "eab": {"kid": "x"}}}, "IDC-INV-007",
     "gateway_acme.ca"),
    ({"gateway_acme": {"directry": "https://localhost/dir"}}, "IDC-INV-006", "directory"),
])
def test_wrong_values_are_refused_before_anything_is_changed(house, change, code, words):
    done = house.run(**change)
    assert done.rc != 0 and code in done.text and words in done.text, done.output
    assert done.count("changed") == 0


def test_port_80_shows_challenges_and_nothing_else(house):
    challenges = house.folder / "gw1/challenges"
    challenges.mkdir()
    (challenges / "token").write_text("token.print")
    audit = (house.folder / "gw1/log/audit.log").read_text()
    try:
        assert house.plain("/.well-known/acme-challenge/token") == (200, "token.print")
        assert house.plain("/.well-known/acme-challenge/token", method="POST")[0] == 405
        for path in ("", "other", "../../nginx/nginx.conf", "%2e%2e/etc/engine_key"):
            assert house.plain(f"/.well-known/acme-challenge/{path}")[0] in (400, 403, 404), path
        for path in ("/", "/health", "/v1/models", "/.well-known/acme-challenge../etc/engine_key", "/.well-known/acme-challenge"):
            assert house.plain(path)[0] in (301, 404), path
    finally:
        shutil.rmtree(challenges)
    assert (house.folder / "gw1/log/audit.log").read_text() == audit
    checked = subprocess.run([Path(sys.executable).with_name("gixy"), "--skips", "missing_resolver",
                              house.folder / "gw1/nginx/nginx.conf"], text=True, check=False, capture_output=True)
    assert checked.returncode == 0 and "No issues found" in checked.stdout, checked.stdout


@pytest.mark.long
def test_the_own_ca_is_renewed_by_the_timer_and_stays_until_there_is_another_certificate(folder):
    (folder / "own").mkdir()
    house, one = House(folder / "own"), ("--limit", "gw1")
    try:
        first = house.run(*one, gateway_acme={})
        assert first.rc == 0 and issuer(house.shown("gw1")) == BY_OWN_CA, first.output
        before = house.shown("gw1")
        assert house.renew(*one, gateway_acme={}).count("changed") == 0 and house.shown("gw1") == before
        done = house.renew(*one, gateway_acme={}, gateway_tls_renew_days=398)
        after = house.shown("gw1")
        assert done.rc == 0 and after != before and issuer(after) == BY_OWN_CA, done.output
        refused = house.run(*one)  # the ACME server is not there
        assert refused.rc != 0 and "IDC-GW-013" in refused.text and house.shown("gw1") == after, refused.output
        assert house.plain("/")[0] == 404, "it is ready for the next try"
        house.pebble.start()
        asked = house.pebble.asked()
        early = house.renew(*one)
        assert early.rc != 0 and "IDC-GW-015" in early.text and house.pebble.asked() == asked, early.output
        done = house.run(*one)
        assert done.rc == 0 and issuer(house.shown("gw1")).startswith(BY_PEBBLE), done.output
    finally:
        house.close()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_the_units_of_the_guide(tmp_path):
    guide = (ROOT / "docs/guides/gateway.md").read_text()
    units = dict(re.findall(r"```ini\n# /etc/systemd/system/(idc-llm-certificates\.\w+)\n(.*?)```", guide, re.DOTALL))
    assert sorted(units) == ["idc-llm-certificates.service", "idc-llm-certificates.timer"]
    for name, text in units.items():
        (tmp_path / name).write_text(text.replace("/srv/idc.llm/.venv/bin/ansible-playbook", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", *(tmp_path / name for name in units)], capture_output=True, text=True,
                          check=False)
    assert [line for line in done.stderr.splitlines() if "idc-llm-certificates" in line] == []
