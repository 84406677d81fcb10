"""The plan as a person reads it."""
from __future__ import annotations

import pytest
from ansible_collections.idc.llm.plugins.module_utils._catalogue import metadata_for
from ansible_collections.idc.llm.plugins.module_utils._deployment import parse_deployment
from ansible_collections.idc.llm.plugins.module_utils._fleet import Host, hosts_on_paper
from ansible_collections.idc.llm.plugins.module_utils._plan import Wishes, make_plan
from ansible_collections.idc.llm.plugins.module_utils._plan_view import aligned, layout_text, plan_notes, plan_table, status_rows

WISHES = Wishes(release="1.0", store_root="/store", allow_unaccepted=True)


def cpu_plan():
    """Two replicas on CPU."""
    wanted = parse_deployment({"name": "r1", "model": "org/r1", "revision": "abc", "device": "cpu", "replicas": 2}, 1)
    return make_plan([wanted], [Host(f"n{number}", ("gpu_nodes",), f"10.0.0.{number}") for number in (1, 2)], WISHES)


def gpu_plan():
    """One replica over two hosts."""
    wanted = parse_deployment({"name": "r1", "model": "deepseek-ai/DeepSeek-R1", "revision": "abc", "replicas": 1}, 1)
    return make_plan([wanted], hosts_on_paper("2*hgx-h100-8", []), WISHES, None, {"r1": metadata_for(wanted.model)})


def cells(lines):
    """Rows of a table by its heading: no cell holds a blank."""
    heading = lines[0].split()
    rows = [line.split() for line in lines[1:]]
    assert all(len(row) == len(heading) for row in rows)
    return [dict(zip(heading, row, strict=True)) for row in rows]


def test_the_table_has_a_line_for_each_engine():
    head, other = cells(plan_table(gpu_plan()))
    assert (head["engine"], head["host"], head["gpus"], head["listens-on"]) == ("r1-blue-0", "hgx-h100-8-1", "8", "192.0.2.1:8000")
    assert head["layout"].startswith("TP8+PP2") and head["layout"].endswith("/2hosts") and head["release"] == "1.0"
    assert head["weights/GPU"].endswith("GB") and head["KV/GPU"].endswith("GB") and head["context"] == "163,840"
    assert int(head["KV-tokens"].replace(",", "")) >= 163840 and float(head["at-once"]) >= 1
    assert (other["engine"], other["listens-on"]) == ("r1-blue-0-rank1", "-")


def test_what_is_not_known_is_a_dash():
    row = cells(plan_table(cpu_plan()))[1]
    known = {"engine": "r1-blue-1", "host": "n2", "listens-on": "10.0.0.2:8000", "gpus": "cpu", "release": "1.0"}
    assert row == {**dict.fromkeys(("layout", "weights/GPU", "KV/GPU", "KV-tokens", "context", "at-once"), "-"), **known}


def test_notes_say_what_holds_back_and_warn():
    plan = {**cpu_plan(), "warnings": ["n3 is left out: no facts."]}
    note, warning = plan_notes(plan)
    assert note == "r1: org/r1@abc, 2 replica(s), held back by the CPU. No room for a second slot: change it one by one, " \
        "50% of its capacity serves meanwhile."
    assert warning == "warning: n3 is left out: no facts."


@pytest.mark.parametrize(("layout", "text"), [
    (None, "-"), ((1, 1, 1, False, 1), "1GPU"), ((8, 1, 1, False, 1), "TP8"), ((8, 2, 1, False, 2), "TP8+PP2/2hosts"),
    ((1, 1, 16, True, 2), "DP16+EP/2hosts"), ((8, 1, 1, True, 1), "TP8+EP"),
])
def test_a_layout_in_a_word(layout, text):
    assert layout_text(layout and dict(zip(("tensor", "pipeline", "data", "expert", "nodes"), layout, strict=True))) == text


def known(share=1.0, drained=False, why="", at="2026-01-02T03:04:05Z"):
    return {"drained": drained, "share": share, "why": why, "at": at, "epoch": 1}


def test_status_says_what_a_person_wants_to_know():
    plan = cpu_plan()
    said = {"r1-blue-0": known(), "r1-blue-1": known(drained=True)}
    rows = status_rows(plan, {"r1-blue-0": {"ttft_s": 0.05}, "r1-blue-1": {"failed": True, "msg": "refused"}}, {"g1": said})
    assert [(row["last token"], row["left out"]) for row in rows] == [
        ("now, after 0.050 s", "no"), ("none: refused", "g1 since 2026-01-02T03:04:05Z: drained")]
    rows = status_rows(plan, {}, {"g1": None})
    assert [(row["last token"], row["left out"]) for row in rows] == [("unknown: host not reached", "unknown")] * 2
    lines = aligned(rows)
    assert lines[0].split()[:3] == ["engine", "host", "gpus"] and len(lines) == 3
    assert lines[1].startswith("r1-blue-0  n1") and aligned([]) == []


def test_what_one_of_two_gateways_does_is_named():
    sound = {"r1-blue-0": known(), "r1-blue-1": known()}
    hung = {"r1-blue-0": known(0.0, why="no progress in 31 s: hung"), "r1-blue-1": known()}
    assert [row["left out"] for row in status_rows(cpu_plan(), {}, {"g1": sound, "g2": hung})] == [
        "g2 since 2026-01-02T03:04:05Z: share 0: no progress in 31 s: hung", "no"]
    assert [row["left out"] for row in status_rows(cpu_plan(), {}, {})] == ["unknown"] * 2
    assert [row["left out"] for row in status_rows(cpu_plan(), {}, {"g1": {}})] == ["g1: not in its plan"] * 2
