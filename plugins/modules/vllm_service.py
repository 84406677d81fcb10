#!/usr/bin/python
# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One vLLM engine as a systemd service or a container: its files, its state, and the proof that it answers."""
from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_service
short_description: Configure, start and prove one vLLM engine under systemd or Docker
version_added: "0.1.0"
author:
  - The idc.llm founders (@idc-llm)
description:
  - Writes the engine's C(--config) file and its environment, points its C(current) link at a release, owns the template
    unit C(idc-vllm@.service), and starts, stops or removes the engine.
  - A running engine is restarted exactly when something it was started with differs from what is wanted now
    (configuration, environment, key, unit, release), also when an earlier run was interrupted between writing and
    restarting.
  - Before anything is written or restarted, O(config) and O(environment) are held against what the release itself
    understands (its C(arguments.json), which the role C(vllm) writes at install; vLLM is not imported). Unknown or dead
    options and E(VLLM_*) variables, wrong types, choices that do not exist, and names that circulate for other engines
    are all reported at once, with what to write instead. They fail in check mode, too.
  - Ready means that C(/health) says 200 and that a completion of a few tokens came back, before and after O(warmup).
    When the engine dies instead, the error holds the reason found in its journal, and what to do about it.
  - What gave a token is kept beside the engine's files (C(good.json), for root alone). When a changed configuration,
    environment, key, unit or release does not become ready, the last good one is put back, started and proven, and the
    module fails and says both. The next run with the same values tries them anew, so that a cause outside of them
    (a full disk, a card in use) can be mended without changing them; RV(would_restart) says so beforehand. Parts of
    a replica across hosts (C(nnodes) or C(data-parallel-address) in O(config)) are not put back.
  - An engine that runs but does not listen yet ignores SIGTERM and serves nobody; it is ended with SIGKILL, its whole
    group. systemd ends any other stop after the drain time and 15 s.
  - One run at a time works on an engine; a second one fails at once and names the process of the first. Check mode
    neither waits nor hinders.
  - An unchanged running engine is asked for a token once. If none comes, the module fails and leaves the engine as it
    is.
  - With O(runtime=docker) the engine is the container C(idc-vllm-NAME); C(container.json) stands for the unit, and the
    container's log for the journal. A changed engine is a new container; the one before it stays, stopped, for its log
    (C(idc-vllm-NAME-before)). Nothing is ever pulled. C(docker inspect) shows the environment, the key too, to root and
    members of the group C(docker).
  - In check mode a host on which nothing is installed yet is no error; RV(pending) says what is not there yet.
extends_documentation_fragment:
  - idc.llm._common
options:
  name:
    description: Name of the engine, which is the systemd instance. Lower-case letters, digits and dashes.
    type: str
    required: true
  state:
    description:
      - V(started) brings the engine to the wanted configuration, up, enabled at boot and proven.
      - V(restarted) does the same and restarts an unchanged engine, too.
      - V(stopped) stops the engine and disables it; its files stay. vLLM itself gives requests in flight the drain time,
        but answers new ones with 500 meanwhile.
      - V(drained) does what V(stopped) does once no request runs or waits, by the engine's own metrics, so that nothing
        is cut. Take it out of the gateways first. After O(drain_timeout) it is stopped all the same, with a warning that
        says how many requests were left; vLLM then gives these the drain time it was started with. Where that is 0 the
        engine is left running and the module fails.
      - V(absent) does what V(stopped) does and removes the engine's files and links. The template unit stays, other
        engines may use it.
    type: str
    choices: [started, stopped, drained, restarted, absent]
    default: started
  release:
    description:
      - Installed release to run, a folder under C(releases) in O(root). Needed to start.
      - With O(runtime=docker) the name of the release that O(image) holds; its list of arguments lies in
        C(releases/RELEASE-docker), named by the image's id.
    type: str
  runtime:
    description:
      - Who runs the engine. V(docker) needs a daemon here, and the Docker SDK for Python (C(python3-docker) 5.0 or newer).
      - An engine that is there is taken down with its own, whatever stands here; a start with the other one is refused.
    type: str
    choices: [systemd, docker]
    default: systemd
  image:
    description:
      - Image that is on the host, with C(vllm) on its C(PATH); its entrypoint does not matter. By a digest, an id, or a
        tag other than C(latest). Needed to start with O(runtime=docker).
    type: str
  folders:
    description:
      - Folders of the host that the container may read, at their own paths. Empty means C(model) of O(config).
      - Name the mount point of the models. The daemon does not try again where a folder is not there at boot.
    type: list
    elements: path
    default: []
  ipc:
    description: Whether the container has a C(/dev/shm) of its own or the host's.
    type: str
    choices: [private, host]
    default: private
  limit_memlock:
    description: Bytes that the engine's processes may lock in memory, as RDMA does; V(-1) for no limit.
    type: int
    default: -1
  limit_nofile:
    description: Files that each of the engine's processes may have open.
    type: int
    default: 1048576
  shm_size:
    description: Size of a private C(/dev/shm), in bytes or with a unit, such as V(16g). Only what is used takes memory.
    type: bytes
    default: 16g
  config:
    description:
      - Options of C(vllm serve), by their dashed names without the leading dashes. Needed to start.
      - An option without a value (null) is not given to vLLM.
      - Values are real booleans, numbers, lists and mappings. A switch is turned off with V(false), which is written as
        C(no-x), because vLLM passes over C(false) in its file.
      - Secrets, GPUs and what takes HTTP away are refused (C(api-key), C(hf-token), C(device-ids), C(uds), C(grpc)).
      - The module adds C(shutdown-timeout) from O(drain_timeout) where it is not given.
    type: dict
    default: {}
  environment:
    description:
      - Environment variables of the engine. Nothing secret belongs here.
      - E(VLLM_*) variables must be known to the release. Others are passed on, but for a few that do harm or nothing.
    type: dict
    default: {}
  api_key:
    description: Key that clients of the engine send; reaches it as E(VLLM_API_KEY) through a file only root can read.
    type: str
  gpus:
    description: UUIDs of the cards that the engine may see. Empty leaves the choice to vLLM, or means a CPU build.
    type: list
    elements: str
    default: []
  served_model:
    description: Name to ask for in the proof. Without it the first C(served-model-name) of O(config), or its C(model).
    type: str
  root:
    description: Folder of C(releases) and C(deployments).
    type: path
    default: /opt/idc_llm
  config_dir:
    description: Folder with one folder per engine.
    type: path
    default: /etc/idc_llm/engines
  user:
    description: User that the engine runs as; its home, also of the caches of a container, is under C(/var/lib).
    type: str
    default: vllm
  group:
    description: Group that may read the engine's configuration.
    type: str
    default: vllm
  ready_timeout:
    description: Seconds that the engine may take from its start to the first token.
    type: int
    default: 600
  probe_timeout:
    description: Seconds that one proof request may take.
    type: int
    default: 60
  drain_timeout:
    description:
      - Seconds that requests in flight get before a stop; systemd waits 15 s longer.
      - With O(state=drained) the seconds to wait for an idle engine.
    type: int
    default: 120
  warmup:
    description:
      - Prompts to send after a start, before the engine counts as ready; how many words each has. Without them the first
        users wait for kernels to be compiled. One that the engine refuses, as too long for its context, ends them.
      - Empty sends none.
    type: list
    elements: int
    default: [32, 256, 1024]
  planned_memory:
    description: C(memory) of the engine in the plan. Errors about memory show it beside what vLLM says.
    type: dict
  wait:
    description:
      - Whether to wait for, and ask for, a token.
      - Engines without an HTTP port (C(headless) in O(config)) are never asked.
    type: bool
    default: true
seealso:
  - module: idc.llm.llm_probe
"""

EXAMPLES = r"""
- name: Run one engine on two cards
  idc.llm.vllm_service:
    name: deepseek-blue-0
    release: "0.32.0"
    config:
      model: /var/lib/idc_llm/store/deepseek-ai/DeepSeek-R1/abc
      served-model-name: deepseek
      host: 10.0.0.11
      port: 8000
      tensor-parallel-size: 2
    environment:
      VLLM_HOST_IP: 10.0.0.11
      HF_HUB_OFFLINE: "1"
    gpus: [GPU-11111111-2222-3333-4444-555555555555, GPU-66666666-7777-8888-9999-000000000000]
    api_key: "{{ idc_llm_secrets.engine_key }}"

- name: Stop an engine that no gateway sends anything to any more
  idc.llm.vllm_service:
    name: deepseek-blue-0
    state: drained
    drain_timeout: 600

- name: Run one engine as a container
  idc.llm.vllm_service:
    name: deepseek-blue-0
    runtime: docker
    image: vllm/vllm-openai:v0.33.0
    folders: [/var/lib/idc_llm/store]
    release: "0.33.0"
    config:
      model: /var/lib/idc_llm/store/deepseek-ai/DeepSeek-R1/abc
      served-model-name: deepseek
      host: 10.0.0.11
      port: 8000

- name: Take an engine away
  idc.llm.vllm_service:
    name: deepseek-green-0
    state: absent
"""

RETURN = r"""
action:
  description: What was done to the service, or would be in check mode.
  returned: success
  type: str
  choices: [none, start, restart, stop]
  sample: restart
would_restart:
  description:
    - Whether the running engine is restarted for this, in check mode would be, so that a playbook can take it out of the
      gateways before.
  returned: success, with O(state=started) and O(state=restarted)
  type: bool
  sample: true
drained:
  description:
    - Whether the engine had no request left when it was stopped; in check mode, whether it has none now. True also where
      nothing ran or listened, and for an engine without an HTTP port, whose head has the requests.
  returned: success, with O(state=drained)
  type: bool
  sample: true
running:
  description: Requests that ran when the engine was last looked at; null where its metrics did not answer.
  returned: success, with O(state=drained)
  type: int
  sample: 0
waiting:
  description: Requests that waited then; null where its metrics did not answer.
  returned: success, with O(state=drained)
  type: int
  sample: 0
changed_files:
  description: Paths that were written or removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/idc_llm/engines/tiny-blue-0/config.yaml]
pending:
  description:
    - What is not there yet; sentences. Anything but empty is an error outside check mode.
    - Also that the options are not validated yet, because the release is not installed.
  returned: success
  type: list
  elements: str
  sample: []
ready_s:
  description: Seconds from the start of the service to the first proven token.
  returned: when the engine was started or restarted, and waited for
  type: float
  sample: 34.2
warmed:
  description: How many warm-up prompts were answered.
  returned: when the engine was asked
  type: int
  sample: 3
rolled_back:
  description: Whether the last good configuration runs again and gave a token; false when it was tried in vain.
  returned: failure, where there was a last good configuration to go back to
  type: bool
  sample: true
fault:
  description:
    - Kind of the fault that was found in the journal; empty for one that is not known.
    - One of C(gpu_memory), C(host_memory), C(kv_memory), C(gpu_in_use), C(port), C(disk), C(driver), C(fabric), C(no_gpu),
      C(interface), C(library), C(option), C(context), C(path), C(permission), C(nccl).
  returned: failure, when the engine did not become ready
  type: str
  sample: gpu_memory
probe:
  description: The proof; see the return values of M(idc.llm.llm_probe).
  returned: when the engine was asked
  type: dict
  sample: {status: 200, text: Hello, ttft_s: 0.05, total_s: 0.11, completion_tokens: 8, tokens_per_s: 130.0}
error:
  description: The error in parts.
  returned: failure
  type: dict
  contains:
    code:
      description: Stable code of the error.
      type: str
      sample: IDC-ENG-007
    what:
      description: What was seen.
      type: str
    why:
      description: What it means.
      type: str
    remedy:
      description: How to mend it.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.idc.llm.plugins.module_utils._engine import Container, Spec, check
from ansible_collections.idc.llm.plugins.module_utils._engine_host import EngineHost
from ansible_collections.idc.llm.plugins.module_utils._engine_life import WARMUP, Proof
from ansible_collections.idc.llm.plugins.module_utils._errors import IdcError

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["started", "stopped", "drained", "restarted", "absent"], "default": "started"},
    "release": {"type": "str"},
    "runtime": {"type": "str", "choices": ["systemd", "docker"], "default": "systemd"},
    "image": {"type": "str"},
    "folders": {"type": "list", "elements": "path", "default": []},
    "ipc": {"type": "str", "choices": ["private", "host"], "default": "private"},
    "limit_memlock": {"type": "int", "default": -1},
    "limit_nofile": {"type": "int", "default": 1048576},
    "shm_size": {"type": "bytes", "default": "16g"},
    "config": {"type": "dict", "default": {}},
    "environment": {"type": "dict", "default": {}},
    "api_key": {"type": "str", "no_log": True},
    "gpus": {"type": "list", "elements": "str", "default": []},
    "served_model": {"type": "str"},
    "root": {"type": "path", "default": "/opt/idc_llm"},
    "config_dir": {"type": "path", "default": "/etc/idc_llm/engines"},
    "user": {"type": "str", "default": "vllm"},
    "group": {"type": "str", "default": "vllm"},
    "ready_timeout": {"type": "int", "default": 600},
    "probe_timeout": {"type": "int", "default": 60},
    "drain_timeout": {"type": "int", "default": 120},
    "warmup": {"type": "list", "elements": "int", "default": list(WARMUP)},
    "planned_memory": {"type": "dict"},
    "wait": {"type": "bool", "default": True},
    "lang": {"type": "str", "choices": ["en", "zh"], "default": "en"},
}
REQUIRED_IF = [("state", "started", ("release", "config")), ("state", "restarted", ("release", "config"))]


def main() -> None:
    """Read the arguments, observe, decide, apply, prove, report."""
    module = AnsibleModule(argument_spec=ARGUMENTS, required_if=REQUIRED_IF, supports_check_mode=True)
    given = module.params
    container = Container(given["image"] or "", given["ipc"], int(given["shm_size"]), tuple(given["folders"]))
    spec = Spec(
        name=given["name"],
        release=given["release"] or "",
        config=given["config"],
        environment=given["environment"],
        api_key=given["api_key"] or "",
        gpus=tuple(given["gpus"]),
        root=given["root"].rstrip("/"),
        config_dir=given["config_dir"].rstrip("/"),
        user=given["user"],
        group=given["group"],
        drain_timeout=given["drain_timeout"],
        memlock_bytes=given["limit_memlock"],
        nofile=given["limit_nofile"],
        container=container if given["runtime"] == "docker" else None,
    )
    host = EngineHost(module.run_command, module.get_bin_path, dry=module.check_mode)
    try:
        check(spec)
        if given["state"] in ("stopped", "drained", "absent"):
            result = host.take_down(spec, given["state"])
        else:
            result = host.bring_up(spec, given["state"], Proof(
                wait=given["wait"],
                model=given["served_model"] or "",
                ready_timeout=given["ready_timeout"],
                probe_timeout=given["probe_timeout"],
                warmup=tuple(given["warmup"]),
                memory=given["planned_memory"],
            ))
    except IdcError as error:
        more = {key: error.details[key] for key in ("fault", "rolled_back") if key in error.details}
        module.fail_json(**error.as_result(given["lang"]), **more)
    for warning in result.pop("told", []):
        module.warn(warning.render(given["lang"]))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
