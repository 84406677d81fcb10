"""The series that only the collection knows: volumes, store, acceptance, plan, audit log, restarts; and the gateway's."""

from __future__ import annotations

import json
import os

from ansible_collections.idc.llm.plugins.module_utils import _agent_gateway_series as gateway
from ansible_collections.idc.llm.plugins.module_utils import _agent_textfile as agent


def test_a_volume_is_open_or_not_and_one_half_made_is_neither(tmp_path):
    mapper = tmp_path / "mapper"
    mapper.mkdir()
    (mapper / "idc_models").touch()
    for name, state in (("models", "ready"), ("scratch", "ready"), ("new", "making")):
        (tmp_path / f"{name}.json").write_text(json.dumps({"name": name, "state": state}))
    (tmp_path / "torn.json").write_text("{")
    assert agent.volumes(str(tmp_path), str(mapper)) == [({"volume": "models"}, 1.0), ({"volume": "scratch"}, 0.0)]
    assert agent.volumes(str(tmp_path / "none"), str(mapper)) == []


def test_a_model_is_verified_while_all_its_files_were_right_when_read_last(tmp_path):
    folder = tmp_path / "org/r1/a"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    wanted = {"org/r1": str(folder), "org/gone": str(tmp_path / "org/gone/b")}
    verified, times = agent.stores(str(tmp_path), wanted)
    assert verified == [({"model": "org/gone"}, 0.0), ({"model": "org/r1"}, 1.0)]
    assert times == [({"model": "org/r1"}, os.stat(folder / "manifest.json").st_mtime)]
    notes = {
        "org/r1/a/x": {"at": 50.0, "problem": ""},
        "org/r1/a/y": {"at": 40.0, "problem": ""},
        "org/r1/ab/z": {"at": 1.0, "problem": "bad"},
    }
    (tmp_path / ".verify.json").write_text(json.dumps({"files": notes}))
    assert agent.stores(str(tmp_path), wanted)[1] == [({"model": "org/r1"}, 40.0)], "the one that waits longest"
    notes["org/r1/a/y"]["problem"] = "its sha256 is …"
    (tmp_path / ".verify.json").write_text(json.dumps({"files": notes}))
    assert agent.stores(str(tmp_path), wanted)[0][1] == ({"model": "org/r1"}, 0.0)


def test_what_cannot_be_read_has_no_series(tmp_path):
    own = agent.Settings(
        str(tmp_path),
        luks_dir=str(tmp_path / "no"),
        acceptance_file=str(tmp_path / "no"),
        audit_file=str(tmp_path / "no"),
        audit_kept=str(tmp_path / "kept"),
        upstreams_file=str(tmp_path / "no"),
        gpu_expected=3,
    )
    text = "".join(one.text() for one in agent.series(own, lambda units: ""))
    assert [line for line in text.splitlines() if not line.startswith("#")] == ["idc_llm_gpu_expected 3"]


def test_acceptance_is_its_verdict(tmp_path):
    file = tmp_path / "acceptance.json"
    for verdict in (True, False):
        file.write_text(json.dumps({"accepted": verdict}))
        assert agent.accepted(str(file)) == [({}, float(verdict))]


def test_restarts_are_systemds_own_count():
    shown = "NRestarts=2\nId=nginx.service\n\nId=idc-llm-textfile.timer\n\nId=idc-vllm@r1-blue-0.service\nNRestarts=0\n"
    assert agent.restarts(shown) == [({"unit": "idc-vllm@r1-blue-0.service"}, 0.0), ({"unit": "nginx.service"}, 2.0)]


def test_the_file_is_what_the_exporter_reads(tmp_path):
    config = tmp_path / "textfile.json"
    reserved = [{"engine": 'e"1', "deployment": "r1", "gpu": "GPU-a", "index": "0", "share": 0.92}]
    config.write_text(json.dumps({"metrics_dir": str(tmp_path), "gpu_expected": 8, "reserved": reserved}))
    assert agent.main(["--config", str(config)]) == 0
    text = (tmp_path / "idc_llm_host.prom").read_text()
    assert 'idc_llm_plan_gpu_memory_share{engine="e\\"1",deployment="r1",gpu="GPU-a",index="0"} 0.92\n' in text
    assert "# TYPE idc_llm_gpu_expected gauge\nidc_llm_gpu_expected 8\n" in text
    config.write_text("{}")
    assert agent.main(["--config", str(config)]) == 1


def audit(log, *rows):
    with log.open("a") as out:
        for tenant, status in rows:
            out.write(json.dumps({"tenant": tenant, "deployment": "r1", "status": str(status)}) + "\n")


def counts(log, kept):
    return {(row["tenant"], row["code"]): value for row, value in gateway.requests(str(log), str(kept))}


def test_requests_are_counted_from_the_first_look_on_and_never_twice(tmp_path):
    log, kept = tmp_path / "audit.log", tmp_path / "kept.json"
    audit(log, ("old", 200))
    assert counts(log, kept) == {}, "what was before the first look is history"
    audit(log, ("a", 200), ("a", 502), ("b", 200))
    assert counts(log, kept) == {("a", "200"): 1, ("a", "502"): 1, ("b", "200"): 1}
    assert counts(log, kept) == {("a", "200"): 1, ("a", "502"): 1, ("b", "200"): 1}
    with log.open("a") as out:
        out.write('{"tenant": "a", "deploy')  # nginx is at it
    assert counts(log, kept)[("a", "200")] == 1
    with log.open("a") as out:
        out.write('ment": "r1", "status": "200"}\nno line of ours\n')
    assert counts(log, kept)[("a", "200")] == 2


def test_a_log_that_cannot_be_read_is_told_and_costs_nothing_else(tmp_path, capsys):
    log, kept = tmp_path / "audit.log", tmp_path / "kept.json"
    assert counts(log, kept) == {} and capsys.readouterr().err == "", "nobody has asked yet"
    log.mkdir()  # what is none cannot be read by root either
    kept.write_text(json.dumps({"inode": 1, "offset": 0, "counts": []}))
    assert counts(log, kept) == {} and "requests are not counted" in capsys.readouterr().err


def test_nothing_is_lost_when_the_log_is_rotated(tmp_path):
    log, kept = tmp_path / "audit.log", tmp_path / "kept.json"
    audit(log)
    log.touch()
    counts(log, kept)
    audit(log, ("a", 200))
    counts(log, kept)
    audit(log, ("a", 200))
    log.rename(tmp_path / "audit.log-20261130")
    audit(log, ("a", 200))
    assert counts(log, kept) == {("a", "200"): 3}
    log.write_text("")
    counts(log, kept)
    audit(log, ("b", 429))
    assert counts(log, kept) == {("a", "200"): 3, ("b", "429"): 1}


def test_a_tenant_too_many_is_counted_with_others(monkeypatch):
    monkeypatch.setattr(gateway, "MOST_SERIES", 1)
    line = b'{"tenant": "%s", "deployment": "d", "status": "200"}\n'
    assert gateway.counted(line % b"a" + line % b"b" + line % b"c" + line % b"a", {}) == {("a", "d", "200"): 2, gateway.OTHER: 2}


def test_whom_prober_and_operator_take_out(tmp_path):
    file, states = tmp_path / "engines.json", tmp_path / "engines"
    states.mkdir()
    file.write_text(json.dumps({"upstreams": [{"deployment": "r1", "servers": [{"engine": name} for name in ("a", "b", "c")]}]}))
    (states / "a.json").write_text(json.dumps({"share": 0, "drained": False}))
    (states / "b.json").write_text(json.dumps({"share": 1.0, "drained": True}))
    shares, drained = gateway.engines(str(file), str(states))
    assert [value for _labels, value in shares] == [0, 1, 1] and [value for _labels, value in drained] == [0, 1, 0]
    assert shares[0][0] == {"deployment": "r1", "engine": "a"}
