"""The planner beside vLLM itself, on a machine with GPUs and vLLM: the plan's KV cache against the engine's own log line.

    python3 tests/gpu/measure.py CASES.json WORK

CASES.json: [{"name": …, "models": {"org/name@revision": folder of config and tokenizer}, "deployments": […], "healthy": bool}].
Each case is planned from this machine's own facts; then every engine of the plan is started from the plan's own configuration
(with dummy weights, if the case's engine_args say load-format: dummy) until it logs its KV cache, or answers /health where the
case says so. Prints a table, ends with one line for programs. Changes nothing on the cards.
"""
from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOKENS = re.compile(r"GPU KV cache size: ([\d,]+) tokens")
LOADED = re.compile(r"Model loading took ([\d.]+) GiB")
AVAILABLE = re.compile(r"Available KV cache memory: ([\d.]+) GiB")
PATIENCE_S = 300


def plan(case: dict, work: Path) -> dict:
    """The plan of one case, made by the collection's own modules."""
    for name, folder in case["models"].items():
        path = work / "store" / name.replace("@", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.is_symlink() or path.symlink_to(folder)
    (work / "case.json").write_text(json.dumps({"deployments": case["deployments"], "work": str(work)}))
    subprocess.run([sys.executable, "-m", "ansible.cli.playbook", "-i", "localhost,", "-e", f"@{work}/case.json",
                    "-e", f"ansible_python_interpreter={sys.executable}", str(ROOT / "tests/gpu/plan.yml")], check=True, cwd=ROOT)
    return json.loads((work / "plan.json").read_text())


def start(engine: dict, work: Path) -> tuple[subprocess.Popen, Path]:
    """One engine as the plan says it, its log in a file."""
    config, log = work / f"{engine['name']}.yaml", work / f"{engine['name']}.log"
    config.write_text(json.dumps(engine["config"], indent=1))  # JSON is YAML
    environment = {**os.environ, **engine["environment"], "CUDA_VISIBLE_DEVICES": ",".join(engine["gpus"])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with log.open("w") as file:
        return subprocess.Popen([sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", "--config", str(config)], stdout=file,
                                stderr=subprocess.STDOUT, env=environment, start_new_session=True, cwd=work), log


def healthy(engine: dict) -> bool:
    """Whether /health answers 200."""
    try:
        with urllib.request.urlopen(f"http://{engine['address']}:{engine['port']}/health", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait(engine: dict, process: subprocess.Popen, log: Path, until_healthy: bool) -> dict:
    """What the engine logged of its memory, and after how long."""
    began = time.time()
    while time.time() - began < PATIENCE_S:
        text = log.read_text(errors="replace")
        found = TOKENS.search(text)
        if found and (not until_healthy or healthy(engine)):
            return {"tokens": int(found[1].replace(",", "")), "loaded_gib": float(LOADED.search(text)[1]),
                    "kv_gib": float(AVAILABLE.search(text)[1]), "seconds": round(time.time() - began, 1)}
        if process.poll() is not None:
            break
        time.sleep(1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
    return {"failed": f"no KV cache line after {time.time() - began:.0f} s, exit {process.poll()}:\n{tail}"}


def main() -> int:
    """Run the cases; 1 if one failed."""
    cases, work = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    work.mkdir(parents=True, exist_ok=True)
    rows, worst = [], 0.0
    for case in cases:
        engines = plan(case, work)["engines"]
        started = [(engine, *start(engine, work)) for engine in engines]
        for engine, process, log in started:
            seen = wait(engine, process, log, bool(case.get("healthy")))
            rows.append((case["name"], engine, seen))
        for _engine, process, _log in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # SIGTERM is lost while an engine starts
            process.wait()
        time.sleep(3)
        (work / f"{case['name']}.json").write_text(json.dumps([(row[1], row[2]) for row in rows], indent=1))
        for name, engine, seen in rows[-len(started):]:
            own = engine["memory"]
            if "failed" in seen:
                print(f"{name} {engine['name']}: {seen['failed']}", flush=True)
                worst = float("inf")
                continue
            tokens = (own["kv_tokens"] or 0) / engine["layout"]["data"]
            off = tokens / seen["tokens"] - 1
            worst = max(worst, abs(off))
            print(f"{name:12} {engine['name']:18} {json.dumps(engine['layout'])} weights GiB {own['weights_bytes'] / 2**30:.2f} / "
                  f"{seen['loaded_gib']:.2f}  KV GiB {own['kv_bytes'] / 2**30:.2f} / {seen['kv_gib']:.2f}  tokens {tokens:.0f} / "
                  f"{seen['tokens']}  off {off:+.2%}  after {seen['seconds']} s", flush=True)
    print(f"plan: engines={len(rows)} worst_kv_error={worst:.4f}")
    return int(worst == float("inf"))


if __name__ == "__main__":
    sys.exit(main())
