# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The shell of gpu_facts: one key, documented fields, verdict kept."""
from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args
from ansible_collections.idc.llm.plugins.module_utils import _gpu
from ansible_collections.idc.llm.plugins.modules import gpu_facts


def gathered(capsys, **arguments):
    """The facts that the module returns."""
    with patch_module_args(arguments), pytest.raises(SystemExit) as done:
        gpu_facts.main()
    result = json.loads(capsys.readouterr().out)
    assert (done.value.code, result["changed"], list(result["ansible_facts"])) == (0, False, ["idc_llm_gpu"])
    return result["ansible_facts"]["idc_llm_gpu"]


def test_a_host_without_gpu_is_a_success(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gpu_facts, "load_binding", lambda _path: None)
    facts = gathered(capsys, acceptance_file=str(tmp_path / "none.json"))
    assert (facts["state"], facts["gpus"], facts["acceptance"]) == ("no_binding", [], None)
    assert facts["acceptance_now"]["accepted"] is False


def test_the_documentation_names_every_fact():
    contains = yaml.safe_load(gpu_facts.RETURN)["ansible_facts"]["contains"]["idc_llm_gpu"]["contains"]
    assert set(gpu_facts.gather("/nowhere", "/nowhere", "now")) == set(contains)
    assert set(_gpu.Gpu(index=0).__dataclass_fields__) == set(contains["gpus"]["contains"])
    assert set(_gpu.PciDevice.__dataclass_fields__) == set(contains["pci_devices"]["contains"])
    assert set(contains["acceptance_now"]["contains"]) == set(gpu_facts.gather("/x", "/x", "now")["acceptance_now"])


def test_the_verdict_of_the_file_is_read_and_its_date_kept(tmp_path):
    file = tmp_path / "acceptance.json"
    first = gpu_facts.gather("/nowhere", str(file), "first")["acceptance_now"]
    file.write_text(json.dumps(first))
    facts = gpu_facts.gather("/nowhere", str(file), "second")
    assert facts["acceptance"] == facts["acceptance_now"] == first


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "\x00"])
def test_a_verdict_that_cannot_be_read_is_null(tmp_path, text):
    file = tmp_path / "acceptance.json"
    if text is not None:
        file.write_text(text)
    assert gpu_facts.read_verdict(str(file)) is None


def test_cards_without_a_driver_are_seen(tmp_path):
    card = tmp_path / "bus/pci/devices/0000:06:00.0"
    card.mkdir(parents=True)
    for name, value in (("vendor", "0x10de"), ("device", "0x2335"), ("class", "0x030200")):
        (card / name).write_text(value + "\n")
    facts = gpu_facts.gather("/nowhere", "/nowhere", "now", sysfs=str(tmp_path))
    assert facts["pci_devices"] == [
        {"vendor": "nvidia", "vendor_id": "0x10de", "device_id": "0x2335", "address": "0000:06:00.0"}
    ]
