# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's report: what is kept of hosts, what stands side by side, and the page."""
from __future__ import annotations

import json
from copy import deepcopy
from html.parser import HTMLParser

import pytest
from ansible_collections.idc.llm.plugins.filter import acceptance as filters
from ansible_collections.idc.llm.plugins.module_utils._acceptance import verdict
from ansible_collections.idc.llm.plugins.module_utils._acceptance_fleet import (
    KINDS,
    Cell,
    cell,
    common,
    fleet,
    host_row,
    matrix,
    threshold,
)
from ansible_collections.idc.llm.plugins.module_utils._acceptance_report import report
from ansible_collections.idc.llm.plugins.module_utils._acceptance_words import LABELS, WANTED, WORDS
from ansible_collections.idc.llm.plugins.module_utils._gpu import Gpu, NvmlView

SITE = {"site": "llm.example", "customer": "Bank <b>& Sons</b>", "contractor": "House"}
LINK = {"generation": 5, "lanes": 16, "generation_max": 5, "lanes_max": 16}


def seen(name, date="2026-11-30T06:10:42Z", driver="580.159.04", **wrong):
    """(fact, verdict) of a host of two H200, one of which may be wrong."""
    gpus = tuple(Gpu(index=at, uuid=f"GPU-{name}-{at}", serial=f"16540{at}", name="NVIDIA H200", pci_device_id="0x2335",
                     healthy=True, pci_address=f"0000:1{at}:00.0", pcie={"width": 16, "width_max": 16}) for at in range(2))
    rows = [{"index": gpu.index, "uuid": gpu.uuid, "wrong": 0, "slowed": [], "pcie": LINK, "matmul_tflops": 670.0 + gpu.index,
             "memory_gbs": 4243.4, "to_gpu_gbs": 55.1, "from_gpu_gbs": 55.3} for gpu in gpus]
    rows[1].update(wrong)
    measured = {"torch": "2.11.0", "cuda": "13.0", "nccl": "2.28.9", "gpus": rows, "disk": {"gbs": 3.2, "by": "fio-3.33"},
                "all_reduce": {"gpus": 2, "bytes": 1, "busbw_gbs": 320.7, "wrong": 0},
                "dcgm": {"level": 1, "not_run": "there is no dcgmi"}}
    view = NvmlView("ok", driver_version=driver, gpus=gpus)
    return {"gpus": [vars(gpu) for gpu in gpus]}, verdict(view, None, date, measured)


def row(name, **words):
    machine = {"system_vendor": "Maker", "product_name": "HGX", "product_serial": f"S-{name}"}
    return host_row(name, *seen(name, **words), machine, "0.33.0")


def page(*rows, lang="en", names=None):
    return report(fleet(names or [one["name"] for one in rows], {one["name"]: one for one in rows}, None, SITE), lang)


class Page(HTMLParser):
    """Tags that are open, and all text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_a_host_s_row():
    found = row("gpu1")
    assert (found["accepted"], found["measured"], found["machine"], found["serial"]) == (True, True, "Maker HGX", "S-gpu1")
    assert found["versions"] == {"driver": "580.159.04", "cuda": "13.0", "nccl": "2.28.9", "torch": "2.11.0", "engine": "0.33.0",
                                 "dcgm": None}
    assert found["gpus"][1] == {"index": 1, "name": "H200 SXM", "uuid": "GPU-gpu1-1", "serial": "165401",
                                "pci_address": "0000:11:00.0"}
    bare = host_row("gpu1", {}, {}, {"product_name": "NA", "product_serial": "NA"}, "")
    assert (bare["machine"], bare["serial"], bare["accepted"], bare["gpus"]) == ("", "", False, [])


def test_who_was_not_reached_keeps_what_was_known_and_who_never_was_is_no_pass():
    first = fleet(["a", "b"], {"a": row("a"), "b": row("b", date="2026-12-01T00:00:00Z")}, None, SITE)
    assert (first["accepted"], first["date"], first["customer"]) == (True, "2026-12-01T00:00:00Z", SITE["customer"])
    again = fleet(["a", "b"], {"a": row("a")}, json.loads(json.dumps(first)), SITE)
    assert again == first, "writing it again changes nothing"
    more = fleet(["a", "c"], {}, first, SITE)
    assert [(one["name"], one["accepted"]) for one in more["hosts"]] == [("a", True), ("c", None)] and not more["accepted"]
    for kept in (None, [], {"schema": 0, "hosts": [{"name": "a", "accepted": True}]}):
        assert not fleet(["a"], {}, kept, SITE)["accepted"]
    assert fleet([], {}, None, {}) == {"schema": 1, "site": "", "customer": "", "contractor": "", "accepted": False, "date": None,
                                       "hosts": []}


def test_checks_of_a_kind_stand_in_one_cell():
    def figure(index, value, ok=True, least=603.0):
        return {"name": f"GPU {index}: bf16", "ok": ok, "observed": f"{value:g}", "wanted": "x", "kind": "k", "value": value,
                "least": least, "run": True}

    plain = {**figure(0, 0), "value": None, "least": None, "observed": "fine"}
    assert cell([]) == Cell()
    assert cell([figure(0, 670.5), figure(1, 655.0)]) == Cell("ok", "655 – 670.5", (603.0,), "x")
    assert cell([figure(0, 4243.4), figure(1, 4243.4)]).text == "4243"
    bad = cell([figure(0, 670), figure(1, 500, False), figure(2, 400, False)])
    assert (bad.state, bad.text) == ("failed", "GPU 1: 500; GPU 2: 400")
    assert cell([plain, plain]).text == "fine"
    assert cell([{**plain, "run": False, "observed": "not run: x"}]).state == "not_run"
    assert threshold([cell([figure(0, 1)]), cell([figure(0, 1, least=576.5)])]) == "≥ 576.5 – 603"
    assert threshold([cell([figure(0, 1, least=0.0)])]) is None and threshold([cell([plain])]) is None


def test_rows_stand_in_order_and_none_is_lost():
    rows = [row("a"), row("b")]
    kinds = [kind for kind, _cells in matrix(rows)]
    assert kinds == [kind for kind in KINDS if kind in kinds] and set(kinds) == {check["kind"] for check in rows[0]["checks"]}
    odd = deepcopy(rows)
    odd[1]["checks"][0]["kind"] = "of tomorrow"
    assert matrix(odd)[-1][0] == "of tomorrow" and matrix(odd)[-1][1][0].state == "none"


def test_versions_that_all_have_are_said_once():
    rows = [row("a"), row("b", driver="595.1"), {"name": "c", "accepted": None}]
    assert common(rows) == {"cuda": "13.0", "nccl": "2.28.9", "torch": "2.11.0", "engine": "0.33.0"} and common(rows[2:]) == {}
    text = page(*rows)
    assert text.count("CUDA 13.0") == 1 and "driver 580.159.04" in text and "driver 595.1" in text


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_page_is_whole_and_needs_and_runs_nothing(lang):
    found = Page(page(row("gpu1"), row("gpu2", wrong=3), names=["gpu1", "gpu2", "gpu3"], lang=lang))
    assert found.open == [] and not {"script", "link", "img", "iframe", "object"} & {tag for tag, _attrs in found.tags}
    assert not [attrs for _tag, attrs in found.tags if {"src", "href", "onload", "onclick"} & set(attrs)]
    assert "size: A4" in "".join(found.texts) and dict(found.tags)["html"] == {"lang": "zh-CN" if lang == "zh" else "en"}


def test_words_from_outside_are_text():
    bad = row("gpu1", slowed=["<script>alert(1)</script>"])
    bad["machine"] = "<img src=x>"
    bad["drift"] = ["<i>slow</i>"]
    text = page(bad)
    for raw in ("<script", "<img", "<i>", "<b>& Sons"):
        assert raw not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "Bank &lt;b&gt;&amp; Sons&lt;/b&gt;" in text


def test_what_a_customer_reads():
    text = "".join(Page(page(row("gpu1"), row("gpu2", wrong=3, memory_gbs=3000.0), names=["gpu1", "gpu2", "gpu3"])).texts)
    for words in ("Acceptance report", "Not accepted", "Accepted: 1 of 3 hosts", "Maker HGX, S-gpu1", "2 × H200 SXM",
                  "No verdict", "✗ GPU 1: 3 wrong of a product", "≥ 3816", "✗ GPU 1: 3000", "– not run", "IDC-ACC-003",
                  "Replace the card that is named", "gpu3 has no verdict", "IDC-ACC-009", "GPU-gpu2-1", "165401", "Signature",
                  "Customer: Bank", "2026-11-30 06:10 UTC"):
        assert words in text, words
    good = "".join(Page(page(row("gpu1"))).texts)
    assert "Accepted: 1 of 1 hosts." in good and "Not accepted" not in good and "IDC-ACC" not in good


def test_the_same_in_chinese():
    slower = row("gpu2", wrong=3)
    slower["drift"] = ["GPU 1: GPU memory, GB/s: 3900, was 4241.6", "disk of the store, read, GB/s: 1, was 2"]
    text = "".join(Page(page(row("gpu1"), slower, lang="zh")).texts)
    for words in ("验收报告", "未通过", "2 台主机中有 1 台通过验收", "显存带宽",
                  "GPU 1: 显存带宽，GB/s: 3900，上次 4241.6", "模型存储磁盘读取，GB/s: 1，上次 2",
                  "3 个乘积结果错误", "请更换所指出的卡", "签字", "甲方: Bank"):
        assert words in text, words
    for words in ("Not accepted", "Signature", "Threshold", "wrong of a product"):
        assert words not in text, words


def test_every_word_is_there_in_both_languages():
    for table in (LABELS, WANTED, WORDS):
        assert all(len(texts) == 2 and all(texts) for texts in table.values())
    assert set(KINDS) <= set(LABELS)


# --- filters ----------------------------------------------------------------------------------------------------------


def hostvars():
    found = {}
    for name in ("gpu1", "gpu2"):
        fact, judged = seen(name)
        found[name] = {"ansible_facts": {"idc_llm_gpu": {**fact, "acceptance": None, "acceptance_now": judged, "idle": True,
                                                         "rdma": [],
                                                         "acceptance_gpus": judged["gpu_uuids"], "nccl": {}},
                                         "product_name": "HGX", "default_ipv4": {"address": f"10.0.0.{name[-1]}"}}}
    return found


def test_the_report_of_what_ansible_knows():
    known = hostvars()
    known["gpu2"]["vllm_release"] = "0.34.0"
    found = filters.acceptance_fleet(known, ["gpu1", "gpu2", "gpu3"], ["gpu1", "gpu2"], "", "0.33.0", SITE)
    assert [one["accepted"] for one in found["hosts"]] == [True, True, None]
    assert [one["versions"]["engine"] for one in found["hosts"][:2]] == ["0.33.0", "0.34.0"]
    kept = json.dumps(found)
    assert filters.acceptance_fleet(known, ["gpu1", "gpu2", "gpu3"], [], kept, "0.33.0", SITE) == found
    assert filters.acceptance_fleet(known, ["gpu1"], [], "{", "", None)["hosts"] == [{"name": "gpu1", "accepted": None}]
    assert filters.acceptance_report(found, "zh").startswith("<!DOCTYPE html>")


def test_pairs_of_what_ansible_knows():
    known = hostvars()
    (one,), = filters.acceptance_rounds(known, ["gpu1", "gpu2", "gone"], ["gpu1", "gpu2"], port=31000)
    assert (one["meet"], one["world"], one["first"]) == ("tcp://10.0.0.1:31000", 4, {"gpu1": 0, "gpu2": 2})
    known["gpu2"].update(idc_llm_address="10.9.9.9", __acceptance_engines={"stdout": "idc-vllm@a.service"})
    assert filters.acceptance_rounds(known, ["gpu1", "gpu2"], ["gpu1", "gpu2"]) == []
    assert set(filters.acceptance_alone(known, ["gpu1", "gpu2"], ["gpu1", "gpu2"])) == {"gpu1", "gpu2"}
    said = {"rc": 0, "stdout": '{"gpus": 4, "bytes": 1, "busbw_gbs": 3.5, "wrong": 0}'}
    assert filters.acceptance_pair(said, one, "gpu2") == {
        "pairs": {"gpu1": {"gpus": 4, "bytes": 1, "busbw_gbs": 3.5, "wrong": 0, "wire_gbs": 0.0}}}
    broken = filters.acceptance_pair({"rc": 1, "stdout": "", "stderr": "connection refused"}, one, "gpu1")
    assert broken == {"pairs": {"gpu2": {"error": "connection refused", "wire_gbs": 0.0}}}
    assert filters.acceptance_spanning([{"tensor_parallel": 4}], known, {"gpu_nodes": ["gpu1", "gpu2"]}, "") == ["gpu1", "gpu2"]
    assert filters.acceptance_spanning([{"tensor_parallel": 2}, "odd"], known, {"gpu_nodes": ["gpu1", "gpu2"]}, "{}") == []


def test_what_was_skipped_says_nothing_but_why():
    said = {"gpus": {"skipped": True}, "disk": {"rc": 0, "stdout": '{"gbs": 2.0}'}, "dcgm": {"skipped": True}}
    assert filters.acceptance_measured(said, 1) == {"disk": {"gbs": 2.0}}
    why = "there is no dcgmi"
    assert filters.acceptance_measured(said, 1, {"dcgm": why})["dcgm"] == {"level": 1, "not_run": why}
    assert filters.acceptance_errors(None, "gpu1", "zh")[0].startswith("IDC-ACC-009: gpu1")
