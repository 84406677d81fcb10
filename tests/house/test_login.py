"""The company's login as its units run; what it decides: tests/integration/test_gateway_login.py."""
from __future__ import annotations

import pytest

from tests.support.fleet import FLEET

pytestmark = pytest.mark.skipif(FLEET != "single", reason="proven on `single`, which has a directory that never answers")


@pytest.fixture
def ask(fleet, on):
    """Status and code of an error, of a caller with a password; asked on the gateway itself."""
    def curl(password):
        url = f"https://127.0.0.1:{fleet.plan['ports']['gateway']}/v1/models"
        said = on("gateways").check_output("curl -sk -u alice:%s -w '\\n%%{http_code} %%header{retry-after}' %s", password, url)
        return said.rpartition("\n")[2], said
    return curl


def test_a_directory_that_does_not_answer_is_503_for_who_has_a_password_and_nothing_for_keys(fleet, on, ask):
    status, said = ask("x")
    assert status.startswith("503 ") and "login_unavailable" in said, said
    said = on("gateways").check_output("journalctl --unit=idc-llm-login --no-pager")
    assert "ldaps://127.0.0.1:9: [Errno 111] Connection refused" in said and "the directory cannot be asked" in said
    assert fleet.call("/v1/models").status == 200
    assert fleet.call("/v1/models", None).status == 401


def test_a_question_starts_the_program_and_only_nginx_may_ask(on, ask):
    gateway = on("gateways")
    gateway.check_output("systemctl stop idc-llm-login.service")
    status, said = ask("y")
    assert status.startswith("503 ") and "directory" in said, said
    assert gateway.check_output("systemctl is-active idc-llm-login.service") == "active"
    socket = gateway.file("/run/idc_llm_login.sock")
    assert (socket.user, socket.group, socket.mode) == ("root", "www-data", 0o660)
    assert gateway.file("/etc/idc_llm/gateway/login_password").mode == 0o600


def test_its_unit_is_well_shut(on):
    text = on("gateways").check_output("systemd-analyze security --no-pager idc-llm-login.service")
    exposure = float(text.rsplit("Overall exposure level", 1)[1].split(":")[1].split()[0])
    print(f"systemd-analyze security: {exposure}")
    assert exposure <= 3.0, text
