# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one catalogue of errors: stable code, what was seen, why it matters, how to mend it; English and Chinese.

Private to this collection. docs/errors.md is generated from it (``script/docs``).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Text:
    """One language's three sentences; ``{name}`` places are filled from the error's details."""

    what: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Entry:
    """One error in every language."""

    en: Text
    zh: Text


@dataclass(frozen=True)
class Said:
    """A detail that differs by language, for a ``{name}`` place."""

    en: str
    zh: str


class IdcError(Exception):
    """An error of the catalogue with its details: ``IdcError("IDC-INV-001", deployment="x")``."""

    def __init__(self, code: str, **details: Any) -> None:
        self.code = code
        self.details = details
        super().__init__(self.render("en"))

    def text(self, lang: str = "en") -> Text:
        """The three sentences in one language, places filled."""
        lang = lang if lang in LANGUAGES else "en"
        text: Text = getattr(CATALOGUE[self.code], lang)
        details = {name: getattr(value, lang) if isinstance(value, Said) else value for name, value in self.details.items()}
        return Text(*(part.format(**details) for part in (text.what, text.why, text.remedy)))

    def render(self, lang: str = "en") -> str:
        """One line for a person: code, what, why, remedy."""
        text = self.text(lang)
        return f"{self.code}: {text.what} {text.why} {text.remedy}"

    def as_result(self, lang: str = "en") -> dict[str, Any]:
        """Keyword arguments for ``fail_json``: msg and the parts."""
        text = self.text(lang)
        return {
            "msg": self.render(lang),
            "error": {"code": self.code, "what": text.what, "why": text.why, "remedy": text.remedy},
        }


CATALOGUE: dict[str, Entry] = {
    # INV: the inventory
    "IDC-INV-001": Entry(
        en=Text("{where} is {observed}.", "It has to be a list of deployments, each a mapping.",
                "Write at least name, model and revision; inventories/prod shows one."),
        zh=Text("{where} 的值是 {observed}。", "这里需要部署列表，每一项是一个映射。", "至少写明 name、model、revision；示例见 inventories/prod。")),
    "IDC-INV-002": Entry(
        en=Text("Deployment {deployment} has no {key}.", "Nothing can be planned without it.", "Add {key}: to it in idc_llm_deployments."),
        zh=Text("部署 {deployment} 缺少 {key}。", "没有它无法规划。", "请在 idc_llm_deployments 中补上 {key}:。")),
    "IDC-INV-003": Entry(
        en=Text("Deployment {deployment} has an unknown key {key}.", "It would be without effect.", "Did you mean: {nearest}?"),
        zh=Text("部署 {deployment} 有未知的键 {key}。", "它不会起任何作用。", "是否想写：{nearest}？")),
    "IDC-INV-004": Entry(
        en=Text("Deployment {deployment}: {key} is {observed}.", "Wanted: {wanted}.", "Correct it in idc_llm_deployments."),
        zh=Text("部署 {deployment}：{key} 的值是 {observed}。", "应为：{wanted}。", "请在 idc_llm_deployments 中改正。")),
    "IDC-INV-005": Entry(
        en=Text("Deployment {deployment}: engine_args says {key}.", "The plan sets this option itself; two places could disagree.",
                "Remove it and use the deployment's own key."),
        zh=Text("部署 {deployment}：engine_args 中写了 {key}。", "该选项由规划设置；两处可能不一致。", "请删除它，改用部署自己的键。")),
    "IDC-INV-006": Entry(
        en=Text("Unknown name {name}.", "It would be without effect.", "Did you mean: {nearest}?"),
        zh=Text("未知的名称 {name}。", "它不会起任何作用。", "是否想写：{nearest}？")),
    "IDC-INV-007": Entry(
        en=Text("{name} is {observed}.", "Wanted: {wanted}.", "Correct it in the inventory."),
        zh=Text("{name} 的值是 {observed}。", "应为：{wanted}。", "请在清单中改正。")),
    "IDC-INV-008": Entry(
        en=Text("The group {group} has no host.", "Engines need gpu_nodes and requests come in through gateways.",
                "Add at least one host to {group} in hosts.yml; one host may be in several groups."),
        zh=Text("组 {group} 中没有主机。", "引擎需要 gpu_nodes，请求经由 gateways 进入。", "请在 hosts.yml 的 {group} 中至少加入一台主机；一台主机可以属于多个组。")),
    "IDC-INV-009": Entry(
        en=Text("{host} is in {one} and in {other}.", "These groups exclude each other.", "Take it out of one of them in hosts.yml."),
        zh=Text("{host} 同时属于 {one} 和 {other}。", "这两个组互斥。", "请在 hosts.yml 中把它从其中一个移出。")),
    "IDC-INV-010": Entry(
        en=Text("Deployment {deployment} names the host {host}.", "It is not in gpu_nodes.", "Did you mean: {nearest}?"),
        zh=Text("部署 {deployment} 指定了主机 {host}。", "它不在 gpu_nodes 中。", "是否想写：{nearest}？")),
    "IDC-INV-011": Entry(
        en=Text("Two deployments are named {deployment}.", "The name chooses the engine, so it has to be unique.", "Rename one of them."),
        zh=Text("有两个部署都叫 {deployment}。", "名称用来选择引擎，必须唯一。", "请给其中一个改名。")),
    "IDC-INV-012": Entry(
        en=Text("Deployments {one} and {other} both want port {port} on {hosts}.", "A port belongs to one engine.",
                "Change one of the ports, or leave port out: the plan then gives free ones."),
        zh=Text("部署 {one} 和 {other} 都要使用 {hosts} 上的端口 {port}。", "一个端口只能属于一个引擎。", "请改掉其中一个，或不写 port，由规划分配空闲端口。")),
    "IDC-INV-013": Entry(
        en=Text("idc_llm_secrets is not set or not a mapping.", "Without keys nobody could use the endpoint.",
                "Fill in group_vars/all/secrets.vault beside the inventory and encrypt it with ansible-vault; inventories/prod shows how it looks."),
        zh=Text("idc_llm_secrets 未设置或不是映射。", "没有密钥，谁也无法使用该端点。", "请填写清单旁的 group_vars/all/secrets.vault 并用 ansible-vault 加密；格式见 inventories/prod。")),
    "IDC-INV-014": Entry(
        en=Text("idc_llm_secrets.tenants is empty or not a mapping.", "Every request needs a key that belongs to a tenant.",
                "Add tenants: with a name and keys: [...] for each."),
        zh=Text("idc_llm_secrets.tenants 为空或不是映射。", "每个请求都需要属于某个租户的密钥。", "请添加 tenants:，每个租户写名称和 keys: [...]。")),
    "IDC-INV-015": Entry(
        en=Text("A key of {owner} is {length} characters long.", "Wanted: at least {wanted}.", "Make a new one: openssl rand -hex 24."),
        zh=Text("{owner} 的一个密钥长度为 {length} 个字符。", "至少应为 {wanted} 个。", "请重新生成：openssl rand -hex 24。")),
    "IDC-INV-016": Entry(
        en=Text("The tenants {one} and {other} share a key.", "A key says who is asking.", "Give each a key of its own: openssl rand -hex 24."),
        zh=Text("租户 {one} 和 {other} 使用同一个密钥。", "密钥表明请求者是谁。", "请给每个租户各自的密钥：openssl rand -hex 24。")),
    "IDC-INV-017": Entry(
        en=Text("Tenant {tenant} names the deployment {deployment}.", "There is none of that name.", "Did you mean: {nearest}?"),
        zh=Text("租户 {tenant} 指定了部署 {deployment}。", "没有这个名称的部署。", "是否想写：{nearest}？")),
    "IDC-INV-018": Entry(
        en=Text("A key of {owner} has characters that a header or nginx cannot carry.", "Wanted: {wanted}.",
                "Make a new one: openssl rand -hex 24."),
        zh=Text("{owner} 的一个密钥含有请求头或 nginx 无法使用的字符。", "应为：{wanted}。", "请重新生成：openssl rand -hex 24。")),
    "IDC-INV-019": Entry(
        en=Text("The secrets in {path} could not be read: {observed}", "Keys, tokens and passphrases live there.",
                "Give the vault password: --vault-password-file FILE, or --ask-vault-pass."),
        zh=Text("无法读取 {path} 中的机密：{observed}", "密钥、令牌和口令都在其中。", "请提供保险库口令：--vault-password-file FILE 或 --ask-vault-pass。")),
    "IDC-INV-020": Entry(
        en=Text("idc_llm_plan_profile is {observed}, and this is not playbooks/plan.yml.",
                "It plans on paper, for hardware that is not there.", "Leave it out, or run playbooks/plan.yml."),
        zh=Text("设置了 idc_llm_plan_profile（{observed}），但当前不是 playbooks/plan.yml。", "它用于为尚不存在的硬件做纸面规划。",
                "请去掉它，或运行 playbooks/plan.yml。")),
    "IDC-INV-021": Entry(
        en=Text("The deployment {deployment} is a canary of {of}.", "There is no deployment of that name that is no canary itself.",
                "Did you mean: {nearest}?"),
        zh=Text("部署 {deployment} 是 {of} 的金丝雀。", "没有这个名称且自身不是金丝雀的部署。", "是否想写：{nearest}？")),
    "IDC-INV-022": Entry(
        en=Text("{host}: what is given to the role {role} has not the form that it wants: {observed}.",
                "Its variables cannot be read so; nothing was changed.", "Correct it: roles/{role}/README.md lists each variable with its type."),
        zh=Text("{host}：给角色 {role} 的变量形式不符：{observed}。", "无法按此读取其变量；未做任何更改。", "请改正：roles/{role}/README.md 列出了每个变量及其类型。")),
    # HOST: one host's state
    "IDC-HOST-001": Entry(
        en=Text("{host} has Python {observed}.", "ansible-core {core} needs at least {wanted} on a managed host.",
                "Install the package python3 there (RHEL 8's family: python3.12), or set ansible_python_interpreter to a newer one."),
        zh=Text("{host} 上的 Python 是 {observed}。", "ansible-core {core} 要求受管主机至少为 {wanted}。",
                "请在该主机安装软件包 python3（RHEL 8 系列：python3.12），或把 ansible_python_interpreter 指向更新的版本。")),
    "IDC-HOST-002": Entry(
        en=Text("{host} runs {observed}.", "This version installs packages on: {wanted}.", "Use a host of that family, or leave this one out."),
        zh=Text("{host} 运行的是 {observed}。", "本版本只在以下系统安装软件包：{wanted}。", "请使用该系列的主机，或不要包含这台。")),
    "IDC-HOST-003": Entry(
        en=Text("{host} is run by {observed}, not by systemd.", "Engines and exporters are systemd services.", "Use a host that boots systemd."),
        zh=Text("{host} 由 {observed} 管理，而不是 systemd。", "引擎和导出器都是 systemd 服务。", "请使用以 systemd 启动的主机。")),
    "IDC-HOST-004": Entry(
        en=Text("{host}: the address {observed} is not on the host.", "It has: {wanted}; engines and exporters could not listen.",
                "Set idc_llm_address of {host} to one of them."),
        zh=Text("{host}：地址 {observed} 不在该主机上。", "主机有：{wanted}；引擎和导出器将无法监听。", "请把 {host} 的 idc_llm_address 设为其中之一。")),
    "IDC-HOST-005": Entry(
        en=Text("{host}: the engine's wheels are not there: {path} is missing.", "The release is installed from that folder and nothing else.",
                "Fill it with script/wheels on a connected machine and carry it over, or correct idc_llm_sources.wheels."),
        zh=Text("{host}：没有引擎的 wheel 包：缺少 {path}。", "引擎版本只从该目录安装。", "请在联网机器上用 script/wheels 填充并带过来，或改正 idc_llm_sources.wheels。")),
    "IDC-HOST-006": Entry(
        en=Text("{host}: no copy of {deployment}'s model: none of {paths} exists.", "Its sources are folders on the host only.",
                "Mount or copy the model there with its manifest.json, or correct sources of {deployment}."),
        zh=Text("{host}：没有 {deployment} 的模型：{paths} 都不存在。", "它的来源只有主机上的目录。", "请把模型连同 manifest.json 挂载或复制过去，或改正 {deployment} 的 sources。")),
    # PLAN: which engine runs where
    "IDC-PLAN-001": Entry(
        en=Text("{deployment}: {placed} of {wanted} replicas found a place.", "Seen: {observed}.",
                "Lower replicas, add hosts, or free some: GPUs of failed or missing acceptance and unhealthy ones do not count."),
        zh=Text("{deployment}：{wanted} 个副本中只有 {placed} 个有位置。", "现状：{observed}。",
                "请减少 replicas、增加主机或腾出资源：验收未通过或缺失的主机以及不健康的 GPU 不计入。")),
    "IDC-PLAN-002": Entry(
        en=Text("{deployment}: no host here can be cut into {wanted} GPUs as tensor {tensor} x pipeline {pipeline} x data {data}.",
                "Seen: {observed}. Across hosts a replica takes all GPUs of several equal ones.",
                "Lower the parallel sizes, leave them out (the planner then chooses), or add hosts."),
        zh=Text("{deployment}：没有主机能按张量 {tensor} x 流水线 {pipeline} x 数据 {data} 分出 {wanted} 块 GPU。",
                "现状：{observed}。跨主机的副本要占用若干台相同主机的全部 GPU。", "请减小并行规模，或不设置（由规划器选择），或增加主机。")),
    "IDC-PLAN-003": Entry(
        en=Text("{path} could not be read: {observed}.", "It keeps the last plan, so that engines stay where they are.",
                "Restore it from a backup; or remove it: the plan is then made anew and engines may move."),
        zh=Text("无法读取 {path}：{observed}。", "其中保存上一次的规划，使引擎保持原位。", "请从备份恢复；或删除它：规划将重新生成，引擎可能移动。")),
    "IDC-PLAN-004": Entry(
        en=Text("{path} could not be written: {observed}.", "The plan is kept there for the next run.",
                "Make its folder writable for you, or set idc_llm_state_dir to one that is."),
        zh=Text("无法写入 {path}：{observed}。", "规划保存在那里供下次使用。", "请使该目录对当前用户可写，或把 idc_llm_state_dir 设为可写目录。")),
    "IDC-PLAN-005": Entry(
        en=Text("{deployment} needs {weights} of weights; {host} has {gpus} × {memory} = {total} GB.",
                "Hosts of this kind: {hosts}; a part of each GPU also goes to activations and the KV cache.", "{near}"),
        zh=Text("{deployment} 的权重需要 {weights}；{host} 有 {gpus} × {memory} = {total} GB。",
                "此类主机共 {hosts} 台；每块 GPU 还要留出激活值和 KV 缓存的空间。", "{near}")),
    "IDC-PLAN-006": Entry(
        en=Text("{deployment} asks for max_model_len {wanted}, the model reads at most {longest} tokens.",
                "vLLM would refuse to start, or answer nonsense beyond that.", "Set max_model_len to at most {longest}, or leave it out."),
        zh=Text("{deployment} 要求 max_model_len {wanted}，而该模型最多只能读 {longest} 个词元。",
                "vLLM 会拒绝启动，或在超出后输出无意义内容。", "请把 max_model_len 设为不超过 {longest}，或不设置。")),
    "IDC-PLAN-007": Entry(
        en=Text("{deployment} asks for tensor_parallel {tensor}, the model has {heads} attention heads and {kv_heads} KV heads.",
                "Each GPU of a tensor-parallel group takes an equal number of heads.", "Use one of {sizes}, or leave it out."),
        zh=Text("{deployment} 要求 tensor_parallel {tensor}，而该模型有 {heads} 个注意力头、{kv_heads} 个 KV 头。",
                "张量并行组内每块 GPU 必须分到相同数量的头。", "请改用 {sizes} 之一，或不设置。")),
    "IDC-PLAN-008": Entry(
        en=Text("{deployment} names GPU {gpu}, which none of its hosts has.", "Seen: {observed}.",
                "Correct gpus, by index or uuid as gpu_facts gives them."),
        zh=Text("{deployment} 指定了 GPU {gpu}，但其主机上都没有。", "实际看到：{observed}。", "请按 gpu_facts 给出的序号或 uuid 改正 gpus。")),
    "IDC-PLAN-009": Entry(
        en=Text("{deployment} may only run on {hosts}, and nothing is known of them yet.", "They were never reached: {observed}.",
                "Bring one of them within reach and run again, or let it run elsewhere."),
        zh=Text("{deployment} 只允许运行在 {hosts}，而这些主机的情况尚未知晓。", "从未连上：{observed}。", "请使其中一台可达后重试，或允许在别处运行。")),
    "IDC-PLAN-010": Entry(
        en=Text("{deployment} cannot be planned: of its model ({architecture}) {missing} is not known.",
                "Without it nobody can say whether it fits.",
                "Give metadata: the path of a folder with config.json and the safetensors index, or fix tensor_parallel and the like."),
        zh=Text("无法规划 {deployment}：其模型（{architecture}）缺少 {missing}。", "缺少它就无法判断能否放下。",
                "请给出 metadata：含 config.json 和 safetensors 索引的目录路径，或指定 tensor_parallel 等。")),
    "IDC-PLAN-011": Entry(
        en=Text("{deployment} fits on {host} ({gpus}) with {weights} of weights per GPU ({layout}), but leaves {left} for KV cache: "
                "too little for one sequence of {context} tokens.",
                "The longest that fits is {longest} tokens.", "Lower max_model_len to that. {near}"),
        zh=Text("{deployment} 能放进 {host}（{gpus}），每块 GPU 权重 {weights}（{layout}），但只剩 {left} 用于 KV 缓存，"
                "不够一个 {context} 词元的序列。", "最长可容纳 {longest} 个词元。", "请把 max_model_len 降到该值。{near}")),
    "IDC-PLAN-012": Entry(
        en=Text("{deployment} cannot run on {host}: {what} needs compute capability {wanted}.", "{card} has {observed}.",
                "Use newer cards, or a checkpoint in another format (BF16, AWQ, INT8)."),
        zh=Text("{deployment} 无法在 {host} 上运行：{what} 需要计算能力 {wanted}。", "{card} 为 {observed}。",
                "请使用更新的显卡，或其他格式（BF16、AWQ、INT8）的权重。")),
    "IDC-PLAN-013": Entry(
        en=Text("{deployment} keeps {wanted} in its host's own memory, {host} has {observed}.",
                "Its Engram tables are read from there, beside the GPUs.", "Use a host with more memory."),
        zh=Text("{deployment} 需要 {wanted} 主机内存，而 {host} 只有 {observed}。", "其 Engram 表存放在主机内存中。", "请使用内存更大的主机。")),
    "IDC-PLAN-014": Entry(
        en=Text("idc_llm_plan_profile names {observed}, which is no hardware profile.", "Known: {known}.",
                "Write one of them, or how many of each: 4*hgx-h100-8,2*l40s-4."),
        zh=Text("idc_llm_plan_profile 中的 {observed} 不是硬件配置名。", "已知：{known}。", "请写其中之一，或各自数量：4*hgx-h100-8,2*l40s-4。")),
    "IDC-PLAN-015": Entry(
        en=Text("{deployment} asks for pipeline_parallel {pipeline}, the model has {layers} layers.", "Each stage needs a layer.",
                "Use at most {layers}, or leave it out."),
        zh=Text("{deployment} 要求 pipeline_parallel {pipeline}，而该模型只有 {layers} 层。", "每个阶段至少要有一层。", "请不超过 {layers}，或不设置。")),
    "IDC-PLAN-016": Entry(
        en=Text("{deployment}: the weights are stored as {method}, which vLLM does not read.", "It reads: {known}.",
                "Use a checkpoint in one of these formats."),
        zh=Text("{deployment}：权重以 {method} 格式存放，vLLM 无法读取。", "可读取：{known}。", "请使用上述格式之一的权重。")),
    "IDC-PLAN-017": Entry(
        en=Text("{deployment} asks for {wanted} of KV cache per GPU (kv-cache-memory-bytes); {host} has {observed} left beside its weights.",
                "vLLM would run out of memory while it starts.", "Lower it, or leave it out."),
        zh=Text("{deployment} 要求每块 GPU {wanted} 的 KV 缓存（kv-cache-memory-bytes）；{host} 除权重外只剩 {observed}。",
                "vLLM 启动时会显存不足。", "请调低该值，或不设置。")),
    # GPU: driver and companions
    "IDC-GPU-001": Entry(
        en=Text("{host}: NVIDIA's packages of branch {branch} for {system} are not known.", "Names are never guessed. Known for this branch: {known}.",
                "Choose another nvidia_stack_branch; or install the driver yourself and set nvidia_stack_enabled: false; or add the row to "
                "_nvidia_table.py with its source."),
        zh=Text("{host}：不知道 {system} 上分支 {branch} 的 NVIDIA 软件包名称。", "名称从不猜测。该分支已知的系统：{known}。",
                "请选择其他 nvidia_stack_branch；或自行安装驱动并设置 nvidia_stack_enabled: false；或在 _nvidia_table.py 中加入该行并注明来源。")),
    "IDC-GPU-002": Entry(
        en=Text("{host}: the package of {part} is not known for {system}, branch {branch}.", "It is needed: {reason}.",
                "Name it: nvidia_stack_packages: {{{part}: NAME}}; or set nvidia_stack_fabric: absent where the host does without."),
        zh=Text("{host}：不知道 {system} 分支 {branch} 上 {part} 的软件包名称。", "需要它，因为{reason}。",
                "请写明：nvidia_stack_packages: {{{part}: 名称}}；主机不需要时设置 nvidia_stack_fabric: absent。")),
    "IDC-GPU-003": Entry(
        en=Text("{host}: the driver packages of {system}'s own archive are not known.", "nvidia_stack_source: distribution is known for {known}.",
                "Use nvidia_stack_source: nvidia or local."),
        zh=Text("{host}：不知道 {system} 自带软件源中的驱动包。", "nvidia_stack_source: distribution 已知的系统：{known}。",
                "请使用 nvidia_stack_source: nvidia 或 local。")),
    "IDC-GPU-004": Entry(
        en=Text("{host} has a driver that NVIDIA's installer (.run) put there.", "Packages and that installer overwrite each other's files.",
                "Remove it with nvidia-uninstall and reboot, or set nvidia_stack_enabled: false to keep it."),
        zh=Text("{host} 上有用 NVIDIA 安装程序（.run）安装的驱动。", "软件包和该安装程序会互相覆盖文件。",
                "请用 nvidia-uninstall 卸载并重启；若要保留，请设置 nvidia_stack_enabled: false。")),
    "IDC-GPU-005": Entry(
        en=Text("{host} has {count} cards of {vendor} and none of NVIDIA.", "This collection serves on NVIDIA's. Missing here: {missing}.",
                "Take the host out of gpu_nodes, or set nvidia_stack_enabled: false on it for models on its CPU."),
        zh=Text("{host} 有 {count} 块 {vendor} 的卡，没有 NVIDIA 的卡。", "本集合只在 NVIDIA 的卡上提供服务。这里缺少：{missing}。",
                "请把该主机移出 gpu_nodes；若只在其 CPU 上运行模型，请对它设置 nvidia_stack_enabled: false。")),
    "IDC-GPU-006": Entry(
        en=Text("{host} boots with Secure Boot, and its firmware does not know the key that DKMS signs the module with.",
                "The kernel would refuse the module after the next boot.",
                "On the host: `dkms generate_mok`, then `mokutil --import /var/lib/dkms/mok.pub` (Ubuntu: `update-secureboot-policy --enroll-key`), reboot, "
                "confirm at its console; or switch Secure Boot off. Then run again."),
        zh=Text("{host} 启用了 Secure Boot，而其固件中没有 DKMS 用来签名模块的密钥。", "下次启动后内核会拒绝加载该模块。",
                "在主机上执行 `dkms generate_mok`，再执行 `mokutil --import /var/lib/dkms/mok.pub`（Ubuntu：`update-secureboot-policy --enroll-key`），重启并在控制台确认；"
                "或关闭 Secure Boot。然后重新运行。")),
    "IDC-GPU-007": Entry(
        en=Text("{host}: the kernel {kernel} has no headers, and no repository offers {package}.", "DKMS builds the module against them.",
                "Upgrade the kernel and boot it (an old one's headers are withdrawn with it), or bring {package} into a repository that the host knows."),
        zh=Text("{host}：内核 {kernel} 没有头文件，也没有软件源提供 {package}。", "DKMS 编译模块时需要它。",
                "请升级内核并重启（旧内核的头文件会随之下架），或把 {package} 放入主机可用的软件源。")),
    "IDC-GPU-008": Entry(
        en=Text("{host}: {package} is {observed}, wanted: {wanted}, which is older.", "A driver is not taken back by accident.",
                "Correct nvidia_stack_version, or set nvidia_stack_allow_downgrade: true."),
        zh=Text("{host}：{package} 的版本是 {observed}，要求的 {wanted} 更旧。", "不会意外降级驱动。",
                "请改正 nvidia_stack_version，或设置 nvidia_stack_allow_downgrade: true。")),
    "IDC-GPU-009": Entry(
        en=Text("{host}: {packages} would change while the engines {engines} run.",
                "Programs that start after it would find a library that does not fit the loaded module.",
                "Run playbooks/drivers.yml: it drains a host, changes its driver, reboots it and lets it serve again, one after the other."),
        zh=Text("{host}：引擎 {engines} 正在运行，而 {packages} 将被更改。", "此后启动的程序会遇到与已加载模块不匹配的库。",
                "请运行 playbooks/drivers.yml：它逐台排空主机、更换驱动、重启，再恢复服务。")),
    "IDC-GPU-010": Entry(
        en=Text("{host}: the driver's parts differ: packages {userland}, loaded module {module}, Fabric Manager {fabric_manager}, NVML {nvml}.",
                "They work together only at one version; Fabric Manager ends at once beside another.",
                "Look at what moved it (apt's or dnf's history), then run site.yml, or playbooks/drivers.yml where engines run: it brings all "
                "of them to one version."),
        zh=Text("{host}：驱动各部分版本不一致：软件包 {userland}，已加载模块 {module}，Fabric Manager {fabric_manager}，NVML {nvml}。",
                "它们只有版本相同才能协同工作；版本不同时 Fabric Manager 会立即退出。",
                "请查明是什么改动了它（apt 或 dnf 的历史记录），然后运行 site.yml；有引擎运行时运行 playbooks/drivers.yml：它会把各部分统一到同一版本。")),
    "IDC-GPU-011": Entry(
        en=Text("{host}: the key from {place} has the fingerprint {observed}, wanted: {wanted}.", "Whoever holds that key could bring any package to the host.",
                "Find out why it differs. A mirror that signs itself is said with nvidia_stack_key_fingerprint."),
        zh=Text("{host}：来自 {place} 的密钥指纹是 {observed}，应为 {wanted}。", "持有该密钥者可向主机提供任意软件包。",
                "请查明原因。自行签名的镜像请用 nvidia_stack_key_fingerprint 指定。")),
    "IDC-GPU-012": Entry(
        en=Text("{host}: the fingerprint of the key {file} is not known.", "A key is not trusted because it lies beside the packages.",
                "Look it up at a place that you trust, and set nvidia_stack_key_fingerprint."),
        zh=Text("{host}：不知道密钥 {file} 的指纹。", "不能因为密钥与软件包放在一起就信任它。", "请从可信处查得后设置 nvidia_stack_key_fingerprint。")),
    "IDC-GPU-013": Entry(
        en=Text("{host}: Fabric Manager does not run, and NVSwitches join the GPUs.", "Without it they do not compute at all.",
                "Look at `journalctl -u nvidia-fabricmanager`; HGX B200 and B300 need ib_umad and nvlsm as well."),
        zh=Text("{host}：Fabric Manager 没有运行，而 GPU 由 NVSwitch 互联。", "没有它，GPU 完全无法计算。",
                "请查看 `journalctl -u nvidia-fabricmanager`；HGX B200、B300 还需要 ib_umad 和 nvlsm。")),
    "IDC-GPU-014": Entry(
        en=Text("WARNING: {host} has to reboot: {reasons}.", "Until then its GPUs serve nothing.",
                "Set nvidia_stack_allow_reboot: true, or reboot it yourself; where engines run, use playbooks/drivers.yml."),
        zh=Text("警告：{host} 需要重启：{reasons}。", "在此之前其 GPU 无法提供服务。",
                "请设置 nvidia_stack_allow_reboot: true 或自行重启；有引擎运行时请用 playbooks/drivers.yml。")),
    "IDC-GPU-015": Entry(
        en=Text("{host}: the {observed} kernel modules are loaded, nvidia_stack_modules says {wanted}.", "Somebody else's packages win.",
                "See `dkms status` and `modinfo nvidia`, remove the other modules, reboot."),
        zh=Text("{host}：加载的是 {observed} 内核模块，而 nvidia_stack_modules 为 {wanted}。", "其他来源的软件包占了先。",
                "请查看 `dkms status` 和 `modinfo nvidia`，移除另一种模块并重启。")),
    "IDC-GPU-016": Entry(
        en=Text("{host}: the card {card}, handed to this {virtual} machine, has no window on its memory (largest: {observed} MiB).",
                "The driver cannot use it so.",
                "Give the machine room above 4 GiB for PCI (OVMF with a large 64-bit MMIO window; hypervisor: 64bitMMIO), then boot it anew."),
        zh=Text("{host}：直通给该 {virtual} 虚拟机的卡 {card} 没有显存窗口（最大 {observed} MiB）。", "驱动无法这样使用它。",
                "请为虚拟机在 4 GiB 以上留出 PCI 空间（OVMF 的 64 位 MMIO 窗口；虚拟化平台的 64bitMMIO），然后重新启动。")),
    "IDC-GPU-017": Entry(
        en=Text("{host}: a setting of a GPU did not hold: {observed}",
                "Wanted: what nvidia_stack_power_limit, nvidia_stack_clocks_mhz and nvidia_stack_mig say.",
                "Compare with `nvidia-smi -q -d POWER,SUPPORTED_CLOCKS` and `nvidia-smi mig -lgip` on the host. MIG changes while nothing runs on the GPU."),
        zh=Text("{host}：GPU 的一项设置未生效：{observed}", "应为 nvidia_stack_power_limit、nvidia_stack_clocks_mhz、nvidia_stack_mig 所指定的值。",
                "请在主机上对照 `nvidia-smi -q -d POWER,SUPPORTED_CLOCKS` 和 `nvidia-smi mig -lgip`。只有 GPU 空闲时才能更改 MIG。")),
    "IDC-GPU-018": Entry(
        en=Text("{host}: {what} is {observed}, wanted: at least {wanted}.", "The engine's torch {torch} asks for it.",
                "Take a newer nvidia_stack_branch, or a release of the engine that fits this driver."),
        zh=Text("{host}：{what} 为 {observed}，至少应为 {wanted}。", "引擎的 torch {torch} 有此要求。",
                "请使用更新的 nvidia_stack_branch，或与该驱动相配的引擎版本。")),
    "IDC-GPU-019": Entry(
        en=Text("ADVICE for {host}: the IOMMU translates what the GPUs address.", "GPUs reach each other and RDMA cards slower so, or not at all.",
                "Boot with iommu=pt: nvidia_stack_allow_iommu: true writes it for GRUB, the next boot uses it."),
        zh=Text("建议（{host}）：IOMMU 正在转换 GPU 的地址。", "GPU 之间以及与 RDMA 网卡的访问会变慢甚至失败。",
                "请以 iommu=pt 启动：nvidia_stack_allow_iommu: true 会为 GRUB 写入，下次启动生效。")),
    "IDC-GPU-020": Entry(
        en=Text("ADVICE for {host}: ACS of {count} PCIe bridges above GPUs sends their traffic up to the root: {bridges}.",
                "GPUs under one switch reach each other slower so.",
                "On bare metal, nvidia_stack_allow_acs: true switches it off at each boot. Leave it where the host hands cards to virtual machines."),
        zh=Text("建议（{host}）：GPU 上方 {count} 个 PCIe 桥的 ACS 把流量送往根端口：{bridges}。", "同一交换机下的 GPU 互访会变慢。",
                "物理机上可设置 nvidia_stack_allow_acs: true，每次启动时关闭它。若主机要把卡直通给虚拟机，请保留。")),
    "IDC-GPU-021": Entry(
        en=Text("{host} has {card}, and nvidia_stack_modules is {observed}.", "That card needs the {wanted} kernel modules.",
                "Set nvidia_stack_modules: {wanted}."),
        zh=Text("{host} 装有 {card}，而 nvidia_stack_modules 为 {observed}。", "该卡需要 {wanted} 内核模块。", "请设置 nvidia_stack_modules: {wanted}。")),
    "IDC-GPU-022": Entry(
        en=Text("{host}: there is no module nvidia for the kernel {kernel}.", "The driver's packages are there, but DKMS built nothing for it.",
                "See `dkms status` and /var/lib/dkms/nvidia*/*/build/make.log on the host."),
        zh=Text("{host}：内核 {kernel} 没有 nvidia 模块。", "驱动软件包已安装，但 DKMS 没有为它编译出模块。",
                "请在主机上查看 `dkms status` 和 /var/lib/dkms/nvidia*/*/build/make.log。")),
    "IDC-GPU-023": Entry(
        en=Text("{host}: the driver is loaded and gives no answer: {observed}", "All versions fit each other.",
                "Look at `dmesg` (NVRM, Xid) and `nvidia-smi` on the host."),
        zh=Text("{host}：驱动已加载但没有应答：{observed}", "各部分版本一致。", "请在主机上查看 `dmesg`（NVRM、Xid）和 `nvidia-smi`。")),
    "IDC-GPU-024": Entry(
        en=Text("WARNING: {host} has a newer kernel {kernel} without the module nvidia {version}.", "It will be without GPUs after its next boot.",
                "Install that kernel's headers (DKMS builds the module then), or hold the kernel."),
        zh=Text("警告：{host} 装有更新的内核 {kernel}，但没有 nvidia {version} 模块。", "下次启动后将无法使用 GPU。",
                "请安装该内核的头文件（DKMS 随即编译模块），或锁定内核版本。")),
    "IDC-GPU-025": Entry(
        en=Text("{host} has to reboot ({reasons}), and the engines {engines} run.", "A host is rebooted only when the gateways send it nothing any more.",
                "Run playbooks/drivers.yml: it drains the host before."),
        zh=Text("{host} 需要重启（{reasons}），而引擎 {engines} 正在运行。", "只有网关不再向主机发送请求时才会重启它。",
                "请运行 playbooks/drivers.yml：它会先排空主机。")),
    "IDC-GPU-026": Entry(
        en=Text("{host} has booted, and still: {reasons}.", "A reboot should have ended that.",
                "nouveau: see whether the initramfs was made anew (`lsinitramfs`). The module: `dmesg`, `dkms status`, Secure Boot."),
        zh=Text("{host} 已重启，但仍然：{reasons}。", "重启本应解决该问题。",
                "nouveau：请检查 initramfs 是否已重新生成（`lsinitramfs`）。模块：请查看 `dmesg`、`dkms status`、Secure Boot。")),
    "IDC-GPU-027": Entry(
        en=Text("WARNING: {host} is given no {part}: its package is not known for {system}.",
                "Nothing of the house needs it: acceptance measures with the engine's torch.",
                "Name it in nvidia_stack_packages, or set nvidia_stack_dcgm_enabled: false."),
        zh=Text("警告：{host} 未安装 {part}：不知道它在 {system} 上的软件包名称。", "本系统不依赖它：验收使用引擎自带的 torch 测量。",
                "请在 nvidia_stack_packages 中写明，或设置 nvidia_stack_dcgm_enabled: false。")),
    "IDC-GPU-028": Entry(
        en=Text("This run reaches no host of gpu_nodes: {observed}.", "Only their drivers are changed.", "Name some of them with --limit: {known}."),
        zh=Text("本次运行未涉及 gpu_nodes 中的任何主机：{observed}。", "只会更换这些主机的驱动。", "请用 --limit 指定其中的主机：{known}。")),
    "IDC-GPU-029": Entry(
        en=Text("{host}: the repositories offer no {package} {wanted}.", "They have: {observed}.",
                "Correct nvidia_stack_version, or bring that version into a repository that the host knows."),
        zh=Text("{host}：软件源中没有 {package} {wanted}。", "现有版本：{observed}。", "请改正 nvidia_stack_version，或把该版本放入主机可用的软件源。")),
    "IDC-GPU-030": Entry(
        en=Text("{host} runs the engines {engines}, which the plan does not have.", "Nobody would drain them, nor start them again.",
                "Run site.yml first: it plans them or takes them away."),
        zh=Text("{host} 上运行着计划中没有的引擎 {engines}。", "没有人会排空它们，也不会再启动它们。", "请先运行 site.yml：它会把它们纳入计划或移除。")),
    "IDC-GPU-031": Entry(
        en=Text("{host} has the driver that it had, and serves again: {observed}",
                "The change failed before it changed anything. Later hosts were not touched.",
                "Mend what it names, then run the playbook again."),
        zh=Text("{host} 仍使用原有驱动，并已恢复服务：{observed}", "更改在生效之前就失败了。后面的主机未被改动。", "请解决所述问题后重新运行该剧本。")),
    "IDC-GPU-032": Entry(
        en=Text("{host} does not serve as it should: {observed}", "If it was drained, it stays so. Later hosts were not touched.",
                "Mend what it names, then run the playbook again: it goes on where it ended."),
        zh=Text("{host} 没有正常提供服务：{observed}", "若已排空，则保持排空。后面的主机未被改动。", "请解决所述问题后重新运行该剧本：它会从中断处继续。")),
    "IDC-GPU-033": Entry(
        en=Text("{host}: the module {module} does not build for the kernel {kernel}: {observed}", "This kernel is newer than the module's sources know.",
                "Take another version (nvidia_stack_version), NVIDIA's own packages (nvidia_stack_source: nvidia), a kernel that it builds for, or, "
                "where the card works with them, nvidia_stack_modules: proprietary. The whole log: /var/lib/dkms/nvidia*/*/build/make.log."),
        zh=Text("{host}：模块 {module} 无法针对内核 {kernel} 编译：{observed}", "该内核比模块源码所支持的更新。",
                "请改用其他版本（nvidia_stack_version）、NVIDIA 官方软件包（nvidia_stack_source: nvidia）、可编译的内核，"
                "或在卡支持时使用 nvidia_stack_modules: proprietary。完整日志：/var/lib/dkms/nvidia*/*/build/make.log。")),
    "IDC-GPU-034": Entry(
        en=Text("While {host} is drained, nothing answers for {deployments}.", "No other host of the plan has a replica of it that runs.",
                "Take fewer hosts at once (hosts_at_once), start or plan a replica elsewhere, or, in a quiet hour, add -e allow_interruption=true."),
        zh=Text("{host} 排空期间，{deployments} 将无人应答。", "计划中没有其他主机运行着它的副本。",
                "请减少同时处理的主机数（hosts_at_once），在别处启动或规划副本，或在业务空闲时加上 -e allow_interruption=true。")),
    "IDC-GPU-035": Entry(
        en=Text("{host} does not work {seconds} s after its boot was asked for: {observed}",
                "Firmware, an initramfs without a driver, or a passphrase may hold it; eight GPUs take their time (nvidia_stack_reboot_timeout_s).",
                "Look at its console (BMC). When it answers, run the same playbook again: it goes on where it ended."),
        zh=Text("要求重启 {seconds} 秒后，{host} 仍不可用：{observed}",
                "可能停在固件、缺少驱动的 initramfs 或口令提示处；八卡服务器启动较慢（nvidia_stack_reboot_timeout_s）。",
                "请查看其控制台（BMC）。恢复应答后重新运行同一剧本：它会从中断处继续。")),
    "IDC-FETCH-001": Entry(
        en=Text(
            "The {name} {value!r} cannot be used, wanted {wanted}.",
            "It becomes folders of the store.",
            "Write it as the hub shows it.",
        ),
        zh=Text(
            "{name} 的取值 {value!r} 不可用，应为 {wanted}。",
            "它将成为模型库中的目录名。",
            "请按模型仓库显示的写法填写。",
        ),
    ),
    "IDC-FETCH-002": Entry(
        en=Text(
            "Source number {number} cannot be used: {problem}.",
            "Sources are hf, modelscope (each maybe with +https://endpoint), file:///folder and http(s)://host/folder with a "
            "manifest.json.",
            "Correct that entry of sources; a token goes into its own option.",
        ),
        zh=Text(
            "第 {number} 个来源不可用：{problem}。",
            "来源只能是 hf、modelscope（均可附加 +https://地址）、file:///目录，或含 manifest.json 的 http(s)://主机/目录。",
            "请修改 sources 中的该条目；令牌请填写在专用选项中。",
        ),
    ),
    "IDC-FETCH-003": Entry(
        en=Text(
            "No source lists the files of {model} {revision} in a usable way. Seen: {reasons}.",
            "Without sizes and sha256 nothing can be proven, so nothing was fetched.",
            "Check the addresses, the token and that the folder with manifest.json is mounted or served.",
        ),
        zh=Text(
            "没有任何来源能以可用的方式列出 {model} {revision} 的文件。实际情况：{reasons}。",
            "缺少文件大小和 sha256 就无法校验，因此未下载任何内容。",
            "请检查地址、令牌，以及含 manifest.json 的目录是否已挂载或已提供服务。",
        ),
    ),
    "IDC-FETCH-004": Entry(
        en=Text(
            "{path} has {free} free, wanted {needed} for the files and {spare} to spare.",
            "The fetch would fill the disk and stop half-way; nothing was fetched.",
            "Free at least {short}, move the store to a larger disk, or lower min_free.",
        ),
        zh=Text(
            "{path} 剩余 {free}，文件需要 {needed}，另需预留 {spare}。",
            "继续下载会写满磁盘并中途停止；未下载任何内容。",
            "请至少释放 {short}，或将模型库移至更大的磁盘，或减小 min_free。",
        ),
    ),
    "IDC-FETCH-005": Entry(
        en=Text(
            "{count} file(s) of {model} {revision} could not be had with the right bytes: {files}. Seen: "
            "{reasons}.",
            "A model is published only when each file matches its sha256; nothing was published.",
            "Repair or add a source and run again: the files already proven are kept.",
        ),
        zh=Text(
            "{model} {revision} 有 {count} 个文件未能获得正确内容：{files}。实际情况：{reasons}。",
            "只有每个文件都与其 sha256 一致时才会发布模型；本次未发布任何内容。",
            "请修复或增加来源后重新运行：已校验的文件会保留。",
        ),
    ),
    "IDC-FETCH-006": Entry(
        en=Text(
            "Another run holds {lock} of {model} {revision}: {holder}; waited {waited} s.",
            "Two runs in one folder would spoil each other's files.",
            "Wait until it has ended, or raise lock_timeout.",
        ),
        zh=Text(
            "另一个任务正持有 {model} {revision} 的锁 {lock}：{holder}；已等待 {waited} 秒。",
            "两个任务同时写入同一目录会互相破坏文件。",
            "请等待其结束，或增大 lock_timeout。",
        ),
    ),
    "IDC-FETCH-007": Entry(
        en=Text(
            "{model} {revision} is not in the store: {path} has no readable manifest.json.",
            "There is nothing to verify.",
            "Run state present first.",
        ),
        zh=Text(
            "模型库中没有 {model} {revision}：{path} 下没有可读的 manifest.json。",
            "没有可校验的内容。",
            "请先以 state present 运行。",
        ),
    ),
    "IDC-FETCH-008": Entry(
        en=Text(
            "{count} of {total} files of {model} {revision} are wrong: {files}.",
            "Their size or sha256 is not what the manifest says; an engine would load damaged weights.",
            "Delete those files and run state present, which brings only them again; look at the disk's health.",
        ),
        zh=Text(
            "{model} {revision} 的 {total} 个文件中有 {count} 个不正确：{files}。",
            "其大小或 sha256 与清单不符；引擎会加载已损坏的权重。",
            "请删除这些文件后以 state present 运行，仅重新获取它们；并检查磁盘健康状况。",
        ),
    ),
    "IDC-FETCH-009": Entry(
        en=Text(
            "The store cannot be written: {path}: {reason}.",
            "Nothing was published.",
            "Run as root, and check the folder's owner, the mount and the disk.",
        ),
        zh=Text(
            "无法写入模型库：{path}：{reason}。",
            "未发布任何内容。",
            "请以 root 运行，并检查目录属主、挂载和磁盘。",
        ),
    ),
    "IDC-FETCH-010": Entry(
        en=Text(
            "The plan puts {model} {revision} at {seen}, the store's root wants {wanted}.",
            "Engines would look for the weights in another folder than the one they are in.",
            "Give model_store_root and the plan the same root.",
        ),
        zh=Text(
            "计划将 {model} {revision} 放在 {seen}，而按模型库根目录应为 {wanted}。",
            "引擎会到另一个目录查找权重。",
            "请让 model_store_root 与计划使用同一根目录。",
        ),
    ),
    "IDC-FETCH-011": Entry(
        en=Text(
            "{count} file(s) that describe {place} cannot be used: {files}. Seen: {reasons}.",
            "config.json, the index and the headers of the weights say what the model needs; without them nothing can be "
            "planned.",
            "Repair or add a source; state verified finds all damaged files of a store.",
        ),
        zh=Text(
            "{place} 有 {count} 个描述模型的文件不可用：{files}。实际情况：{reasons}。",
            "config.json、索引和权重文件头说明模型的需求；缺少它们就无法规划。",
            "请修复或增加来源；state verified 可找出模型库中所有损坏的文件。",
        ),
    ),
    "IDC-FETCH-012": Entry(
        en=Text(
            "{place} has no {missing}.",
            "Metadata is made of config.json and of each safetensors file that the index names.",
            "Bring the missing file, and list it in manifest.json where there is one.",
        ),
        zh=Text(
            "{place} 缺少 {missing}。",
            "元数据由 config.json 以及索引列出的每个 safetensors 文件得出。",
            "请补齐缺少的文件；若有 manifest.json，请将其列入。",
        ),
    ),
    "IDC-FETCH-013": Entry(
        en=Text(
            "The metadata of {place} cannot be used: {key} is {seen}, wanted {wanted}.",
            "The planner reckons memory from it.",
            "Write it as model_fetch returns it with state listed and metadata true, or name the model's folder instead.",
        ),
        zh=Text(
            "{place} 的元数据不可用：{key} 为 {seen}，应为 {wanted}。",
            "规划器据此计算显存。",
            "请按 model_fetch（state listed 且 metadata true）返回的格式填写，或改为指定模型目录。",
        ),
    ),
    "IDC-FETCH-014": Entry(
        en=Text(
            "{path} cannot be read as metadata of a model: {problem}.",
            "The planner reckons memory from it.",
            "Name a folder with config.json, or a JSON file in the form that model_fetch returns.",
        ),
        zh=Text(
            "无法将 {path} 作为模型元数据读取：{problem}。",
            "规划器据此计算显存。",
            "请指定含 config.json 的目录，或格式与 model_fetch 返回值相同的 JSON 文件。",
        ),
    ),
    "IDC-FETCH-015": Entry(
        en=Text("{model} {revision} is refused. Seen: {reasons}.",
                "The model is gated or private, and the token is missing, wrong or not yet granted access; or a redirect is forbidden.",
                "Accept the model's terms on its page with the token's account, then give the token; or name a mirror in sources."),
        zh=Text("访问 {model} {revision} 被拒绝。实际情况：{reasons}。",
                "该模型需要授权或为私有，而令牌缺失、错误或尚未获准；也可能是重定向被禁止。",
                "请用令牌所属账号在模型页面接受条款，再提供令牌；或在 sources 中改用镜像。")),
    "IDC-FETCH-016": Entry(
        en=Text("No source knows {model} {revision}. Seen: {reasons}.",
                "The name or the revision is another there, or the model is private and the token is missing.",
                "Compare both with the model's page; hubs count commits apart, so a commit of one is unknown to the other."),
        zh=Text("没有来源认识 {model} {revision}。实际情况：{reasons}。", "名称或版本在那里不同，或该模型为私有而缺少令牌。",
                "请与模型页面核对两者；各平台的提交号互不相通。")),
    "IDC-FETCH-017": Entry(
        en=Text("The name of a source of {model} {revision} cannot be resolved. Seen: {reasons}.",
                "DNS does not answer, or does not know the name.", "Check /etc/resolv.conf of this host, the name, and "
                                                                   "https_proxy if there is a proxy."),
        zh=Text("无法解析 {model} {revision} 的来源名称。实际情况：{reasons}。", "DNS 没有应答，或不知道该名称。",
                "请检查本机 /etc/resolv.conf、名称，以及使用代理时的 https_proxy。")),
    "IDC-FETCH-018": Entry(
        en=Text("TLS with a source of {model} {revision} failed. Seen: {reasons}.",
                "Without a verified certificate anyone could be answering.", "Give the certificate authority in "
                                                                             "ca_path, and check this host's clock."),
        zh=Text("与 {model} {revision} 的来源建立 TLS 失败。实际情况：{reasons}。", "证书未经验证，应答者可能是任何人。",
                "请在 ca_path 指定证书颁发机构，并检查本机时钟。")),
    "IDC-FETCH-019": Entry(
        en=Text("The disk is full: {path}: {reason}.", "Something else filled it during the fetch; nothing was published, and what came is kept.",
                "Free space or raise the quota, then run again: it goes on where it stopped."),
        zh=Text("磁盘已满：{path}：{reason}。", "下载期间空间被其他内容占满；未发布任何内容，已下载的部分会保留。",
                "请释放空间或提高配额后重新运行，将从中断处继续。")),
    "IDC-FETCH-020": Entry(
        en=Text("The store may not be written: {path}: {reason}.", "Nothing was published.",
                "Run as root (become: true), and check the folder's owner and that the mount is not read-only."),
        zh=Text("没有写入模型库的权限：{path}：{reason}。", "未发布任何内容。", "请以 root 运行（become: true），并检查目录属主以及挂载是否为只读。")),
    "IDC-FETCH-021": Entry(
        en=Text("The lock {lock} of {model} {revision} was taken over by another run.",
                "This host gave no sign of life for {stale} s, so it counted as dead; nothing was published by this run.",
                "Run again; if it happens again, look at the load of this host and of the file server."),
        zh=Text("{model} {revision} 的锁 {lock} 已被另一个任务接管。", "本机有 {stale} 秒没有活动迹象，因此被视为已停止；本次未发布任何内容。",
                "请重新运行；若再次发生，请检查本机和文件服务器的负载。")),
    "IDC-FETCH-022": Entry(
        en=Text("include and exclude leave none of the {count} files of {model} {revision}.", "There would be nothing to fetch.",
                "Correct the patterns: * also stands for slashes, and without include all files are wanted."),
        zh=Text("include 和 exclude 排除了 {model} {revision} 的全部 {count} 个文件。", "将没有可下载的内容。",
                "请修改匹配模式：* 也匹配斜杠；不写 include 表示需要全部文件。")),
    "IDC-FETCH-023": Entry(
        en=Text("{option} cannot be used: {problem}.", "It would be asked for files of the model.", "Write it as http://host:port or https://host."),
        zh=Text("{option} 不可用：{problem}。", "将向它请求模型文件。", "请写成 http://主机:端口 或 https://主机。")),
    "IDC-FETCH-024": Entry(
        en=Text("Every source has wrong bytes for {count} file(s) of {model} {revision}: {files}. Seen: {reasons}.",
                "They are not what the list of files promises; the wrong bytes were deleted, and nothing was published.",
                "Add a source with the right files and run again: the files already proven are kept."),
        zh=Text("{model} {revision} 有 {count} 个文件在所有来源中内容都不正确：{files}。实际情况：{reasons}。",
                "它们与文件清单不符；错误内容已删除，未发布任何内容。", "请增加内容正确的来源后重新运行：已校验的文件会保留。")),
    "IDC-FETCH-030": Entry(
        en=Text("{host} has only one half of a certificate for its store.",
                "Wanted: model_store_tls_certificate and model_store_tls_key together, or neither.", "Set the other one too, or remove this one."),
        zh=Text("{host} 的模型库证书只给出了一半。", "model_store_tls_certificate 和 model_store_tls_key 应同时设置，或都不设置。",
                "请补上另一项，或去掉这一项。")),
    "IDC-LUKS-001": Entry(
        en=Text("This host has no device mapper (/dev/mapper/control is missing), wanted for {devices}.",
                "LUKS volumes cannot be opened without it; nothing was touched.",
                "Load the kernel module dm_mod, or use a host or virtual machine whose kernel has it (a container does not)."),
        zh=Text("本机没有 device mapper（缺少 /dev/mapper/control），而 {devices} 需要它。", "没有它就无法打开 LUKS 卷；未改动任何内容。",
                "请加载内核模块 dm_mod，或改用内核支持它的主机或虚拟机（容器不支持）。")),
    "IDC-LUKS-002": Entry(
        en=Text("The kernel of this host has no dm-crypt, wanted for {devices}.", "LUKS volumes cannot be opened without it; nothing was touched.",
                "Install the kernel's module package that holds dm_crypt, or a kernel built with it."),
        zh=Text("本机内核没有 dm-crypt，而 {devices} 需要它。", "没有它就无法打开 LUKS 卷；未改动任何内容。",
                "请安装包含 dm_crypt 的内核模块包，或使用支持它的内核。")),
    "IDC-LUKS-004": Entry(
        en=Text("Volume {volume}: {device} is not there.", "A by-id name belongs to one disk; another disk has another name. Nothing was touched.",
                "Look at ls -l /dev/disk/by-id on the host, and correct luks_storage_volumes or bring the disk back."),
        zh=Text("卷 {volume}：{device} 不存在。", "by-id 名称只属于一块磁盘，换了磁盘名称也会变。未改动任何内容。",
                "请在主机上查看 ls -l /dev/disk/by-id，改正 luks_storage_volumes 或装回磁盘。")),
    "IDC-LUKS-005": Entry(
        en=Text("Volume {volume}: {device} holds {found}.", "Formatting would destroy it; nothing was touched.",
                "If it may be wiped, say so for this very disk: luks_storage_allow_format: [{device}]."),
        zh=Text("卷 {volume}：{device} 上有 {found}。", "格式化会毁掉它；未改动任何内容。",
                "如果确实可以清除，请针对这块磁盘写明：luks_storage_allow_format: [{device}]。")),
    "IDC-LUKS-006": Entry(
        en=Text("{device} is in use: {users}.", "A disk in use is never formatted, whatever luks_storage_allow_format says; nothing was touched.",
                "Take it out of use on the host first, or name another disk."),
        zh=Text("{device} 正在使用：{users}。", "正在使用的磁盘绝不会被格式化，无论 luks_storage_allow_format 怎么写；未改动任何内容。",
                "请先在主机上停止使用它，或指定另一块磁盘。")),
    "IDC-LUKS-007": Entry(
        en=Text("Volume {volume}: on {device} is {observed}, and this volume was made as {wanted}.",
                "It may be another disk, or another one's data; nothing was touched.",
                "Bring the right disk back. To give the volume up, run playbooks/decommission.yml, or remove its record "
                "in /etc/idc_llm/luks on the host."),
        zh=Text("卷 {volume}：{device} 上是 {observed}，而该卷创建时是 {wanted}。", "这可能是另一块磁盘，或别人的数据；未改动任何内容。",
                "请装回正确的磁盘。若要放弃该卷，请运行 playbooks/decommission.yml，或删除主机 /etc/idc_llm/luks 中它的记录。")),
    "IDC-LUKS-008": Entry(
        en=Text("Volume {volume} is encrypted with {observed}, wanted {wanted}.", "A cipher is fixed when a volume is formatted; nothing was touched.",
                "Set luks_storage_cipher back for this host, or decommission the volume and make it anew."),
        zh=Text("卷 {volume} 的加密方式是 {observed}，期望 {wanted}。", "加密算法在格式化时确定；未改动任何内容。",
                "请为该主机改回 luks_storage_cipher，或退役该卷后重新创建。")),
    "IDC-LUKS-009": Entry(
        en=Text("The recovery passphrase does not open slot {slot} of volume {volume} on {device}.",
                "Without it nothing is changed: a volume whose passphrase nobody has can be lost.",
                "Correct idc_llm_secrets.luks.recovery. For a new passphrase put the old one in recovery_previous and "
                "run playbooks/rotate_keys.yml, also to end a rotation that was cut short."),
        zh=Text("恢复口令打不开 {device} 上卷 {volume} 的密钥槽 {slot}。", "没有它就不做任何改动：没人知道口令的卷可能会丢失。",
                "请改正 idc_llm_secrets.luks.recovery。若要换新口令，请把旧口令写入 recovery_previous 并运行 playbooks/rotate_keys.yml；轮换中断后也这样续完。")),
    "IDC-LUKS-010": Entry(
        en=Text("The key file {path} would lie on a disk that is not encrypted.", "Who takes the disks would have the key, too; nothing was touched.",
                "Use tang or tpm2 in luks_storage_unlock, encrypt the root file system, or accept it with luks_storage_allow_plain_keyfile: true."),
        zh=Text("密钥文件 {path} 会位于未加密的磁盘上。", "拿走磁盘的人也就拿到了密钥；未改动任何内容。",
                "请在 luks_storage_unlock 中使用 tang 或 tpm2，或加密根文件系统，或用 luks_storage_allow_plain_keyfile: true 明确接受。")),
    "IDC-LUKS-011": Entry(
        en=Text("Memory of this host may be written to a disk in the clear: {places}.",
                "The volumes' keys are in memory while they are open; nothing was touched.",
                "Turn it off (swapoff and /etc/fstab, kdump-tools), encrypt it, or accept it with luks_storage_allow_plain_memory: true."),
        zh=Text("本机内存可能以明文写入磁盘：{places}。", "卷打开时其密钥就在内存中；未改动任何内容。",
                "请将其关闭（swapoff 与 /etc/fstab、kdump-tools）或加密，或用 luks_storage_allow_plain_memory: true 明确接受。")),
    "IDC-LUKS-012": Entry(
        en=Text("{mount} cannot be a volume's mount point: {observed}.", "What lies below a mount is hidden by it; nothing was touched.",
                "Move it away, or name another folder in luks_storage_volumes."),
        zh=Text("{mount} 不能作为卷的挂载点：{observed}。", "挂载会遮住目录中原有的内容；未改动任何内容。",
                "请先移走它，或在 luks_storage_volumes 中换一个目录。")),
    "IDC-LUKS-013": Entry(
        en=Text("This host cannot encrypt with {cipher}: {observed}", "A volume of it could not be opened; nothing was touched.",
                "Use a kernel that has the cipher, or another luks_storage_cipher."),
        zh=Text("本机无法使用 {cipher} 加密：{observed}", "这样的卷将无法打开；未改动任何内容。",
                "请使用支持该算法的内核，或换一个 luks_storage_cipher。")),
    "IDC-LUKS-014": Entry(
        en=Text("The thumbprint of a Tang server is not known: {servers}.", "A key is only given to a server that is "
                                                                            "known to be the right one; nothing was "
                                                                            "touched.",
                "Bring the server up, or write its thumbprint into luks_storage_tang.servers (tang-show-keys PORT, on the server)."),
        zh=Text("不知道 Tang 服务器的指纹：{servers}。", "密钥只能绑定到确认无误的服务器；未改动任何内容。",
                "请启动该服务器，或把指纹写入 luks_storage_tang.servers（在服务器上运行 tang-show-keys PORT）。")),
    "IDC-LUKS-015": Entry(
        en=Text("This host has no TPM2 (/dev/tpmrm0 is missing).", "luks_storage_unlock names tpm2; nothing was touched.",
                "Turn the TPM on in the firmware, or take tpm2 out of luks_storage_unlock."),
        zh=Text("本机没有 TPM2（缺少 /dev/tpmrm0）。", "luks_storage_unlock 中写了 tpm2；未改动任何内容。",
                "请在固件中启用 TPM，或从 luks_storage_unlock 中去掉 tpm2。")),
    "IDC-LUKS-016": Entry(
        en=Text("This playbook needs a word of consent.", "It changes or destroys keys; nothing was touched.",
                "If that is what you want: -e 'idc_llm_confirm=\"{wanted}\"'."),
        zh=Text("该 playbook 需要明确的确认。", "它会更改或销毁密钥；未改动任何内容。",
                "如果确实需要：-e 'idc_llm_confirm=\"{wanted}\"'。")),
    "IDC-LUKS-017": Entry(
        en=Text("Volume {volume} holds {observed}, wanted {wanted}.", "A volume that was in use is never formatted again; nothing was touched.",
                "Set its filesystem back, or decommission the volume and make it anew."),
        zh=Text("卷 {volume} 中是 {observed}，期望 {wanted}。", "用过的卷绝不会被重新格式化；未改动任何内容。",
                "请改回 filesystem，或退役该卷后重新创建。")),
    "IDC-LUKS-018": Entry(
        en=Text("Volume {volume}: slot {slot} ({kind}) does not unlock it.", "It is not proven, so no other slot was removed.",
                "See what the host says (clevis luks unlock -t {slot} -d {device}), mend it, and run again."),
        zh=Text("卷 {volume}：密钥槽 {slot}（{kind}）无法解锁。", "它未经验证，因此没有移除任何其他密钥槽。",
                "请查看主机的提示（clevis luks unlock -t {slot} -d {device}），修复后重新运行。")),
    "IDC-LUKS-019": Entry(
        en=Text("Volume {volume}: {device} has no LUKS header, and it was made as {wanted}.",
                "Its header is damaged, or it is another disk; nothing was touched.",
                "Restore the header from its backup (docs/guides/luks.md), or bring the right disk back."),
        zh=Text("卷 {volume}：{device} 上没有 LUKS 头，而它创建时是 {wanted}。", "头部已损坏，或者这是另一块磁盘；未改动任何内容。",
                "请从备份恢复头部（docs/guides/luks.md），或装回正确的磁盘。")),
    "IDC-LUKS-020": Entry(
        en=Text("The root file system of this host is not encrypted.", "What lies there (engine keys, configuration, logs) leaves with the disk.",
                "Install the system on an encrypted disk where that matters; the volumes are not affected."),
        zh=Text("本机的根文件系统没有加密。", "其中的内容（引擎密钥、配置、日志）会随磁盘一起外流。",
                "如有要求，请把系统装在加密磁盘上；这些卷不受影响。")),
    "IDC-LUKS-021": Entry(
        en=Text("{device} reads {disk} MiB/s, and one core decrypts {cipher} MiB/s ({name}).",
                "Reading weights with few streams is slower than the disk by that much.",
                "Choose aes-xts-plain64 on a processor with AES instructions, and see that its kernel module for them is loaded."),
        zh=Text("{device} 的读取速度为 {disk} MiB/s，而单核解密速度为 {cipher} MiB/s（{name}）。", "并发较少时，读取权重会因此慢于磁盘。",
                "请在带 AES 指令的处理器上使用 aes-xts-plain64，并确认相应内核模块已加载。")),
    "IDC-LUKS-022": Entry(
        en=Text("There is no key to sign the record with: {path}.", "A disk is not destroyed without a signed record; nothing was touched.",
                "Name a private key on the controller in luks_storage_record_key, or run site.yml once, which makes the own CA."),
        zh=Text("没有用于签署记录的密钥：{path}。", "没有签名记录就不会销毁磁盘；未改动任何内容。",
                "请在 luks_storage_record_key 中指定控制机上的私钥，或先运行一次 site.yml 以生成自有 CA。")),
    "IDC-LUKS-023": Entry(
        en=Text("Volume {volume}: {device} still shows {observed}.", "It is not proven to be unreadable, so that no record was written.",
                "Run the playbook again; if that does not help, the disk has to be destroyed."),
        zh=Text("卷 {volume}：{device} 上仍有 {observed}。", "未能证明其不可读，因此没有写记录。",
                "请重新运行该 playbook；若仍无效，该磁盘必须销毁。")),
    "IDC-LUKS-024": Entry(
        en=Text("Volume {volume}: nobody owns the key slots {slots}.", "They may be a person's, or left by a run that was killed.",
                "playbooks/rotate_keys.yml removes them; leave them if they are wanted."),
        zh=Text("卷 {volume}：密钥槽 {slots} 没有归属。", "它们可能是某个人添加的，或是中断的运行留下的。",
                "playbooks/rotate_keys.yml 会移除它们；如果需要则请保留。")),
    "IDC-LUKS-025": Entry(
        en=Text("The recovery passphrase of volume {volume} is neither the new one nor the old one in slot 0.", "A rotation before this one was cut short.",
                "Set recovery and recovery_previous as they were then, end that rotation, and begin the new one after it."),
        zh=Text("卷 {volume} 的密钥槽 0 既不是新恢复口令，也不是旧恢复口令。", "之前的一次轮换没有完成。",
                "请把 recovery 和 recovery_previous 改回当时的值，先续完那次轮换，再开始新的。")),
    "IDC-LUKS-026": Entry(
        en=Text("Volume {volume} was being decommissioned on this host.", "Its keys may be gone; nothing was touched.",
                "End it with playbooks/decommission.yml, and take the volume out of luks_storage_volumes."),
        zh=Text("卷 {volume} 在本机上的退役尚未完成。", "其密钥可能已被销毁；未改动任何内容。",
                "请运行 playbooks/decommission.yml 续完，并从 luks_storage_volumes 中去掉该卷。")),
    "IDC-LUKS-027": Entry(
        en=Text("Volume {volume} would not open by itself now: slot {slot} ({kind}) gives no key.", "After a reboot it would wait.",
                "Bring the Tang servers up, or see what clevis luks unlock -t {slot} -d {device} says on the host."),
        zh=Text("卷 {volume} 现在无法自行打开：密钥槽 {slot}（{kind}）没有给出密钥。", "重启后它会一直等待。",
                "请启动 Tang 服务器，或在主机上查看 clevis luks unlock -t {slot} -d {device} 的输出。")),
    "IDC-LUKS-028": Entry(
        en=Text("Volume {volume}: lsblk does not list {device} ({path}).", "Whether it is in use cannot be seen; nothing was touched.",
                "Look at lsblk on the host, and name the disk by another of its names in /dev/disk/by-id."),
        zh=Text("卷 {volume}：lsblk 中没有 {device}（{path}）。", "无法判断它是否正在使用；未改动任何内容。",
                "请在主机上查看 lsblk，并改用该磁盘在 /dev/disk/by-id 中的另一个名称。")),
    "IDC-LUKS-029": Entry(
        en=Text("Volume {volume}: the volume group {group} also has other disks: {devices}.",
                "It is another one's, or the list of disks was changed; nothing was touched.",
                "Put the list of disks back as it was, or rename that group (vgrename) on the host."),
        zh=Text("卷 {volume}：卷组 {group} 中还有其他磁盘：{devices}。", "它属于别人，或者磁盘列表被改过；未改动任何内容。",
                "请恢复原来的磁盘列表，或在主机上给该卷组改名（vgrename）。")),
    "IDC-LUKS-030": Entry(
        en=Text("Volume {volume}: {device} belongs to volume {other}.", "A record on the host or the disk's own label "
                                                                        "says so, and luks_storage_allow_format does "
                                                                        "not overrule it; nothing was touched.",
                "Give the old volume up with playbooks/decommission.yml, or wipe the disk by hand and remove the record "
                "in /etc/idc_llm/luks. A volume keeps its name."),
        zh=Text("卷 {volume}：{device} 属于卷 {other}。", "主机上的记录或磁盘自身的标签这样写着，luks_storage_allow_format 不能越过它；未改动任何内容。",
                "请用 playbooks/decommission.yml 退役旧卷，或手动清除磁盘并删除 /etc/idc_llm/luks 中的记录。卷不能改名。")),
    "IDC-LUKS-031": Entry(
        en=Text("{device} and {other} are the same disk, or one is a part of the other.", "One would overwrite the other; nothing was touched.",
                "Name each disk once in luks_storage_volumes: ls -l /dev/disk/by-id shows what the names lead to."),
        zh=Text("{device} 和 {other} 是同一块磁盘，或其中一个是另一个的一部分。", "一个会覆盖另一个；未改动任何内容。",
                "luks_storage_volumes 中每块磁盘只写一次：ls -l /dev/disk/by-id 会显示名称指向哪里。")),
    "IDC-LUKS-032": Entry(
        en=Text("Volume {volume}: what is open as {mapper} does not stand on {device}.", "It is another one's data; nothing was touched.",
                "Close it on the host (cryptsetup close {mapper}) if it is not wanted, or give the volume another name."),
        zh=Text("卷 {volume}：以 {mapper} 打开的设备不在 {device} 上。", "那是别人的数据；未改动任何内容。",
                "如果不需要它，请在主机上将其关闭（cryptsetup close {mapper}），或给该卷换一个名称。")),
    "IDC-LUKS-033": Entry(
        en=Text("A header cannot be encrypted to luks_storage_backup_recipient: {observed}",
                "A volume without a backup of its header can be lost; nothing was touched.",
                "Write the public key as age-keygen printed it (age1…)."),
        zh=Text("无法用 luks_storage_backup_recipient 加密头部：{observed}", "没有头部备份的卷可能会丢失；未改动任何内容。",
                "请按 age-keygen 输出的原样填写公钥（age1…）。")),
    "IDC-LUKS-034": Entry(
        en=Text("Volume {volume}: its destruction was begun, its header is gone, and {device} holds {observed}.",
                "The disk was used for something else since; nothing was touched.",
                "If that may be lost, take it off the disk by hand (wipefs) and run again; else remove the volume's "
                "record in /etc/idc_llm/luks on the host."),
        zh=Text("卷 {volume}：销毁已开始且头部已不存在，而 {device} 上有 {observed}。", "该磁盘后来被用于其他用途；未改动任何内容。",
                "如果可以丢弃其内容，请手动清除（wipefs）后重新运行；否则请删除主机 /etc/idc_llm/luks 中该卷的记录。")),
    "IDC-LUKS-035": Entry(
        en=Text("Volume {volume}: the controller keeps the backup of header {wanted}, and {device} has {observed}.",
                "The host has no record of the volume, as after a new installation; its data may still be on the disk, and nothing was touched.",
                "Restore the header from its backup (docs/guides/luks.md), or bring the right disk back. If the volume is given up, move its "
                "note NAME.json and its backups out of luks/HOST in the state folder on the controller."),
        zh=Text("卷 {volume}：控制机保存着头部 {wanted} 的备份，而 {device} 上是 {observed}。",
                "主机上没有该卷的记录（例如重装系统之后）；数据可能仍在磁盘上，未改动任何内容。",
                "请从备份恢复头部（docs/guides/luks.md），或装回正确的磁盘。若要放弃该卷，请把控制机状态目录 luks/主机名 中它的 NAME.json 和备份移走。")),
    "IDC-LUKS-036": Entry(
        en=Text("Volume {volume} was made to be mounted at {wanted}, and the inventory says {observed}.",
                "It would be mounted at both, and stay so after it is given up; nothing was touched.",
                "Set mount back. To move it, stop what uses it, unmount it, take its line out of /etc/fstab, run chattr -i on the old folder and "
                "change mount in /etc/idc_llm/luks/{volume}.json on the host."),
        zh=Text("卷 {volume} 创建时挂载于 {wanted}，而清单中是 {observed}。", "否则它会同时挂载在两处，退役后也是如此；未改动任何内容。",
                "请改回 mount。若要移动：停止使用者，卸载，删除 /etc/fstab 中的行，对旧目录执行 chattr -i，并修改主机上 /etc/idc_llm/luks/{volume}.json 中的 mount。")),
    # ENG: the engine and its service
    "IDC-ENG-001": Entry(
        en=Text(
            "The release {release} is not installed: {path} is missing.",
            "The unit would start nothing.",
            "Run the role's install stage (--tags vllm_install) with vllm_release {release}.",
        ),
        zh=Text(
            "发行版 {release} 未安装：缺少 {path}。",
            "单元无法启动任何程序。",
            "请以 vllm_release {release} 运行角色的安装阶段（--tags vllm_install）。",
        ),
    ),
    "IDC-ENG-002": Entry(
        en=Text(
            "The model path {path} does not exist on this host.",
            "vLLM would notice after half a minute and blame a repository name.",
            "Fetch the model first (--tags model_store) or correct model in the plan.",
        ),
        zh=Text(
            "本机上不存在模型路径 {path}。",
            "vLLM 要半分钟后才会发现，并误报为仓库名错误。",
            "请先拉取模型（--tags model_store），或改正规划中的 model。",
        ),
    ),
    "IDC-ENG-003": Entry(
        en=Text(
            "The model folder {path} holds no weights; wanted {wanted}.",
            "vLLM would end after half a minute with a message that hides the cause.",
            "Fetch the model again (--tags model_store).",
        ),
        zh=Text(
            "模型目录 {path} 中没有权重文件；应有 {wanted}。",
            "vLLM 会在半分钟后退出，且报错掩盖了真正原因。",
            "请重新拉取模型（--tags model_store）。",
        ),
    ),
    "IDC-ENG-004": Entry(
        en=Text(
            "The port {port} on {host} is already taken by another process.",
            "The engine {engine} could not listen there.",
            "See who it is with ss -ltnp, stop it, or give the deployment another port.",
        ),
        zh=Text(
            "{host} 上的端口 {port} 已被其他进程占用。",
            "引擎 {engine} 无法监听该端口。",
            "用 ss -ltnp 查看是谁，停止它，或为部署换一个端口。",
        ),
    ),
    "IDC-ENG-005": Entry(
        en=Text(
            "The engine {engine} should listen on {host}, which is no address of this host ({detail}).",
            "It could not be reached by anyone.",
            "Correct idc_llm_address of this host.",
        ),
        zh=Text(
            "引擎 {engine} 应监听 {host}，但它不是本机地址（{detail}）。",
            "任何人都无法访问它。",
            "请改正该主机的 idc_llm_address。",
        ),
    ),
    "IDC-ENG-006": Entry(
        en=Text(
            "{field} is {seen!r}.",
            "Wanted: {wanted}.",
            "Correct it in the deployment or in the call.",
        ),
        zh=Text(
            "{field} 的值是 {seen!r}。",
            "应为：{wanted}。",
            "请在部署或调用处改正。",
        ),
    ),
    "IDC-ENG-007": Entry(
        en=Text(
            "The engine {engine} died while starting: {reason}.",
            "{keeper} keeps trying, and each try will end the same way until the cause is gone.",
            "Mend that and run again; the whole story: {log}.",
        ),
        zh=Text(
            "引擎 {engine} 在启动时退出：{reason}。",
            "{keeper} 会不断重试，但原因消除前每次结果都一样。",
            "请解决后重新运行；完整日志：{log}。",
        ),
    ),
    "IDC-ENG-008": Entry(
        en=Text(
            "The engine {engine} is up but gave no token ({timeout} s are allowed): {last} Last in its journal: {reason}.",
            "It may still be loading, or it hangs.",
            "If it is loading, raise vllm_ready_timeout_s; else read {log}.",
        ),
        zh=Text(
            "引擎 {engine} 已启动但没有给出任何 token（允许 {timeout} 秒）：{last} 日志最后一条：{reason}。",
            "它可能仍在加载，也可能已挂起。",
            "若仍在加载，请调大 vllm_ready_timeout_s；否则查看 {log}。",
        ),
    ),
    "IDC-ENG-009": Entry(
        en=Text(
            "The engine {engine} runs but does not answer: {last} Last in its journal: {reason}.",
            "Nothing in its configuration changed, so it was left as it is.",
            "Read {log}; restart it with state restarted when no request is worth keeping.",
        ),
        zh=Text(
            "引擎 {engine} 在运行但没有应答：{last} 日志最后一条：{reason}。",
            "其配置没有变化，因此保持原状。",
            "查看 {log}；若没有需要保留的请求，可用 state restarted 重启。",
        ),
    ),
    "IDC-ENG-010": Entry(
        en=Text(
            "{tool} was not found on this host.",
            "Engines are services of systemd.",
            "Use a host that is run by systemd.",
        ),
        zh=Text(
            "本机未找到 {tool}。",
            "引擎是 systemd 服务。",
            "请使用由 systemd 管理的主机。",
        ),
    ),
    "IDC-ENG-011": Entry(
        en=Text(
            "{command} ended with code {rc}: {detail}.",
            "The engine is not in the state that was asked for.",
            "Mend that and run again; see also {log}.",
        ),
        zh=Text(
            "{command} 以代码 {rc} 结束：{detail}。",
            "引擎未达到要求的状态。",
            "请解决后重新运行；另见 {log}。",
        ),
    ),
    "IDC-ENG-012": Entry(
        en=Text(
            "The user or group {name} does not exist on this host.",
            "The engine may not run as root.",
            "Run the role's install stage (--tags vllm_install), which creates it.",
        ),
        zh=Text(
            "本机不存在用户或组 {name}。",
            "引擎不能以 root 运行。",
            "请运行角色的安装阶段（--tags vllm_install），它会创建该用户。",
        ),
    ),
    "IDC-ENG-013": Entry(
        en=Text("vLLM {release} is not installed on {host}, and {list} does not offer it.",
                "Wanted there: a line vllm==… of that version, and for wheels in a folder the files beside it.",
                "Fill a folder with script/wheels on a connected machine, carry it over and name it in idc_llm_sources.wheels; or name "
                "an index (pip, pip_list) or an archive (archive, archive_sha256) there."),
        zh=Text("{host} 上没有安装 vLLM {release}，{list} 中也没有提供。",
                "应有一行该版本的 vllm==…；若用 wheel 目录，文件应放在旁边。",
                "请在联网机器上用 script/wheels 填充目录并带过来，再写入 idc_llm_sources.wheels；或在其中指定索引（pip、pip_list）"
                "或归档（archive、archive_sha256）。")),
    "IDC-ENG-014": Entry(
        en=Text("{python} on {host} is {seen}.", "vLLM needs Python {wanted} or newer.",
                "Install a newer one and name it in vllm_python, or in vllm_pythons for this release alone. Ubuntu 22.04 has 3.10: put "
                "python3.11 and python3.11-venv (universe) into vllm_packages and /usr/bin/python3.11 into vllm_python, or carry in an archive "
                "made with a Python that lies at the same path on these hosts."),
        zh=Text("{host} 上的 {python}：{seen}。", "vLLM 需要 Python {wanted} 或更新。",
                "请安装更新的 Python 并写入 vllm_python，或只为该版本写入 vllm_pythons。Ubuntu 22.04 自带 3.10：请把 python3.11 和 "
                "python3.11-venv（universe）写入 vllm_packages，把 /usr/bin/python3.11 写入 vllm_python；或带入一个归档，"
                "其 Python 在这些主机上位于同一路径。")),
    "IDC-ENG-015": Entry(
        en=Text("{count} of the settings of the engine {engine} are wrong for vLLM {version}: {problems}.",
                "It would end at its start, run as if they had not been said, or run badly; nothing was changed.",
                "Correct engine_args and environment of its deployment; {path} on the host has every name."),
        zh=Text("引擎 {engine} 的设置中有 {count} 处不适用于 vLLM {version}：{problems}。",
                "引擎会在启动时退出、当作没有设置，或运行不良；未做任何更改。", "请改正其部署的 engine_args 和 environment；主机上的 {path} 列有全部名称。")),
    "IDC-ENG-016": Entry(
        en=Text("{path} is of no use: {observed}.", "Without it nobody can say whether this release understands the engine's options.",
                "Remove it if it is there, and run the role's install stage (--tags vllm_install): it lists the arguments again and "
                "reinstalls nothing."),
        zh=Text("{path} 无法使用：{observed}。", "没有它就无法判断该版本是否支持引擎的选项。",
                "如文件存在请删除，然后运行角色的安装阶段（--tags vllm_install）：只会重新列出参数，不会重新安装。")),
    "IDC-ENG-017": Entry(
        en=Text("The options of the engine {engine} are not validated yet: release {release} is not installed.",
                "What a release understands is known once it is there.", "Run the role's install stage (--tags vllm_install)."),
        zh=Text("引擎 {engine} 的选项尚未验证：版本 {release} 未安装。", "安装之后才知道该版本支持什么。",
                "请运行角色的安装阶段（--tags vllm_install）。")),
    "IDC-ENG-018": Entry(
        en=Text("What was wanted of the engine {engine} did not work, and its last good configuration runs again. {first}",
                "The files, the key and the release {release} that gave a token last were put back and gave one now.",
                "Mend the cause and run again: each run tries what is wanted anew, and the engine answers nobody meanwhile; drain it at the "
                "gateways first. The whole story: {log}."),
        zh=Text("引擎 {engine} 的新配置不可用，已恢复运行上一次可用的配置。{first}",
                "上一次给出过 token 的文件、密钥和版本 {release} 已放回，并且刚刚再次给出了 token。",
                "请排除原因后重新运行：每次运行都会重新尝试新配置，期间该引擎不应答；请先在网关上排空它。完整日志：{log}。")),
    "IDC-ENG-019": Entry(
        en=Text("What was wanted of the engine {engine} did not work, and its last good configuration does not run either. {first} "
                "Then, with release {release}: {second}",
                "The engine gives no answers. Both fail, so the cause is likely outside its configuration: the cards, the driver, the store, "
                "a full disk.",
                "Look there first (playbooks/status.yml, nvidia-smi, df -h), then at {log}; run again when it is mended."),
        zh=Text("引擎 {engine} 的新配置不可用，上一次可用的配置也无法运行。{first} 随后使用版本 {release}：{second}",
                "引擎没有应答。两者都失败，原因很可能不在其配置：GPU、驱动、模型库或磁盘已满。",
                "请先检查这些（playbooks/status.yml、nvidia-smi、df -h），再看 {log}；排除后重新运行。")),
    "IDC-ENG-020": Entry(
        en=Text("Another run is at work on the engine {engine}: process {pid} holds {path}.",
                "Two at once would write over each other and restart it twice.",
                "Wait until that process has ended (ps -fp {pid}) and run again; nothing was changed."),
        zh=Text("另一个任务正在处理引擎 {engine}：进程 {pid} 持有 {path}。", "两个任务同时进行会互相覆盖并重启两次。",
                "请等待该进程结束（ps -fp {pid}）后重新运行；未做任何更改。")),
    "IDC-ENG-021": Entry(
        en=Text("The engine {engine} was not idle after {timeout} s: {seen}.",
                "It was stopped all the same; vLLM let these requests go on for at most {rest} s, and cut what took longer.",
                "Drain it at the gateways first, so that no new request comes in, or raise vllm_drain_timeout_s."),
        zh=Text("引擎 {engine} 在 {timeout} 秒后仍未空闲：{seen}。", "仍然停止了它；vLLM 让这些请求最多再运行 {rest} 秒，更久的会被中断。",
                "请先在网关上排空它，使新请求不再进入，或调大 vllm_drain_timeout_s。")),
    "IDC-ENG-022": Entry(
        en=Text("The engine {engine} was not idle after {timeout} s: {seen}.",
                "It was left running: its shutdown-timeout is 0, so a stop would cut these requests at once.",
                "Drain it at the gateways first, raise vllm_drain_timeout_s, or stop it with state stopped where no request is worth keeping."),
        zh=Text("引擎 {engine} 在 {timeout} 秒后仍未空闲：{seen}。", "保持其运行：它的 shutdown-timeout 为 0，停止会立即中断这些请求。",
                "请先在网关上排空它，调大 vllm_drain_timeout_s；若请求都不需要保留，可用 state stopped 停止。")),
    "IDC-ENG-023": Entry(
        en=Text("{python} on this host has no Docker SDK ({detail}).", "Engines with runtime docker are driven through it.",
                "Install python3-docker, or let the role vllm do it (--tags vllm_install); where Ansible uses another Python there "
                "(ansible_python_interpreter), the SDK belongs to that one."),
        zh=Text("本机的 {python} 没有 Docker SDK（{detail}）。", "runtime 为 docker 的引擎通过它来管理。",
                "请安装 python3-docker，或由 vllm 角色安装（--tags vllm_install）；若 Ansible 在该主机使用另一个 Python（ansible_python_interpreter），"
                "SDK 须装在那个 Python 中。")),
    "IDC-ENG-024": Entry(
        en=Text("The Docker daemon does not answer at {socket}: {detail}.", "Engines with runtime docker run there.",
                "Start it (systemctl enable --now docker), and let the play become root, who may talk to it."),
        zh=Text("Docker 守护进程在 {socket} 没有应答：{detail}。", "runtime 为 docker 的引擎由它运行。",
                "请启动它（systemctl enable --now docker），并让 play 以 root 身份运行。")),
    "IDC-ENG-025": Entry(
        en=Text("The image {image} is not on this host.", "Nothing is pulled: what runs here was carried in and checked.",
                "Name its archive in vllm_image_archive and run the role's install stage (--tags vllm_install), or docker load it."),
        zh=Text("本机没有镜像 {image}。", "不会拉取任何镜像：这里运行的都是带入并经过检查的。",
                "请在 vllm_image_archive 中指定其归档并运行角色的安装阶段（--tags vllm_install），或用 docker load 载入。")),
    "IDC-ENG-026": Entry(
        en=Text("Release {release} on {host} was made from another list than {list} is now: {count} lines differ.",
                "It cannot be made anew in its place, for these run from it or would go back to it: {users}. Nothing was changed.",
                "Name the new one {another} (vllm_release, or release of a deployment): it is made beside, and the engines move to it when "
                "they are restarted. Or put the former list back."),
        zh=Text("{host} 上的版本 {release} 由另一份列表安装，与现在的 {list} 相差 {count} 行。",
                "不能原地重建，因为以下仍在使用它或会回退到它：{users}。未做任何更改。",
                "请把新的命名为 {another}（vllm_release，或部署的 release）：它会装在旁边，引擎重启时转到它。或恢复原来的列表。")),
    "IDC-ENG-027": Entry(
        en=Text("{host}: {variable} is not usable: {seen}.", "Wanted: {wanted}. Nothing was changed.", "Correct it and run again."),
        zh=Text("{host}：{variable} 不可用：{seen}。", "应为：{wanted}。未做任何更改。", "请改正后重新运行。")),
    "IDC-ENG-028": Entry(
        en=Text("{archive} does not fit {host}: {what} is {seen}, wanted: {wanted}.",
                "A virtual environment holds the paths and the Python that it was made with; nothing was unpacked.",
                "Make the archive with script/archive on a host of the same system, vllm_root and vllm_python, name its sha256 in "
                "vllm_archive_sha256, or install from wheels or an index."),
        zh=Text("{archive} 不适合 {host}：{what}为 {seen}，应为：{wanted}。", "虚拟环境中写有制作时的路径和 Python；未解包任何内容。",
                "请在系统、vllm_root 和 vllm_python 都相同的主机上用 script/archive 制作归档，把 sha256 写入 vllm_archive_sha256，"
                "或改用 wheel 或索引安装。")),
    "IDC-ENG-029": Entry(
        en=Text("The kernel of {host} lets nobody set packet filter rules: {detail}.",
                "Without them whoever reaches this host reaches its engines' ports; no engine was started.",
                "Give the container CAP_NET_ADMIN, or load the module nf_tables; where another firewall guards these ports, set "
                "vllm_firewall_enabled: false."),
        zh=Text("{host} 的内核不允许设置包过滤规则：{detail}。", "没有规则时，能访问该主机的人都能访问引擎端口；未启动任何引擎。",
                "请给容器 CAP_NET_ADMIN 权限，或加载 nf_tables 模块；若已有其他防火墙保护这些端口，可设置 vllm_firewall_enabled: false。")),
    "IDC-ENG-031": Entry(
        en=Text("Release {release} on {host} has flashinfer-python {version}, but not {missing}.",
                "vLLM then compiles kernels on the host when an engine starts, for minutes and with nvcc and ninja, or does without FlashInfer.",
                "Add them to the list of packages with their hashes (script/wheels --kernels) and install under a new name. This role does not "
                "run vllm download-kernels, which would take the same packages from the internet without hashes."),
        zh=Text("{host} 上的版本 {release} 有 flashinfer-python {version}，但没有 {missing}。",
                "引擎启动时 vLLM 会用 nvcc 和 ninja 在主机上编译数分钟，或不使用 FlashInfer。",
                "请把它们连同哈希加入软件包列表（script/wheels --kernels），并以新名称安装。本角色不运行 vllm download-kernels，"
                "它会从互联网获取同样的包而不校验哈希。")),
    # PROBE: the request that proves a token
    "IDC-PROBE-001": Entry(
        en=Text(
            "Nothing answers at {url}: {detail}.",
            "The server is down, still loading, or a firewall is in between.",
            "Look at the service there and at the address.",
        ),
        zh=Text(
            "{url} 没有应答：{detail}。",
            "服务器未运行、仍在加载，或中间有防火墙。",
            "请检查该处的服务和地址。",
        ),
    ),
    "IDC-PROBE-002": Entry(
        en=Text(
            "TLS with {url} failed: {detail}.",
            "Without a verified certificate anyone could be answering.",
            "Give the certificate authority in ca_path and, if the name differs, the certificate's name in server_name.",
        ),
        zh=Text(
            "与 {url} 的 TLS 连接失败：{detail}。",
            "证书未经验证，应答者可能是任何人。",
            "请在 ca_path 指定证书颁发机构；名称不同时在 server_name 指定证书中的名称。",
        ),
    ),
    "IDC-PROBE-003": Entry(
        en=Text(
            "{url} refused the key with status {status}: {detail}.",
            "The key is missing, wrong, or not allowed to use {model}.",
            "Compare api_key with the tenant's key in the vault.",
        ),
        zh=Text(
            "{url} 以状态码 {status} 拒绝了密钥：{detail}。",
            "密钥缺失、错误，或无权使用 {model}。",
            "请将 api_key 与保险库中该租户的密钥核对。",
        ),
    ),
    "IDC-PROBE-004": Entry(
        en=Text(
            "{url} does not know {model} (status {status}): {detail}.",
            "The deployment has another name there, or the path is not let through.",
            "Ask GET /v1/models there and compare the name.",
        ),
        zh=Text(
            "{url} 不认识 {model}（状态码 {status}）：{detail}。",
            "部署在那里用了别的名称，或路径未放行。",
            "请在那里请求 GET /v1/models 并核对名称。",
        ),
    ),
    "IDC-PROBE-005": Entry(
        en=Text(
            "{url} answered with status {status}: {detail}.",
            "The engine behind it is broken, full or shutting down.",
            "Read the engine's journal.",
        ),
        zh=Text(
            "{url} 返回状态码 {status}：{detail}。",
            "其后的引擎故障、已满或正在关闭。",
            "请查看引擎日志。",
        ),
    ),
    "IDC-PROBE-006": Entry(
        en=Text(
            "{url} answered for {model} with status {status}, but without any text.",
            "An engine that gives no token serves nobody.",
            "Read the engine's journal; try another prompt or more max_tokens.",
        ),
        zh=Text(
            "{url} 对 {model} 返回状态码 {status}，但没有任何文本。",
            "不产生 token 的引擎毫无用处。",
            "请查看引擎日志；换一个提示或增大 max_tokens 再试。",
        ),
    ),
    "IDC-PROBE-007": Entry(
        en=Text(
            "{url} is too slow: {detail}.",
            "It is outside the limit that was asked for.",
            "Look at the queue and at the cards, or change the limit.",
        ),
        zh=Text(
            "{url} 太慢：{detail}。",
            "超出了要求的上限。",
            "请检查排队和显卡情况，或调整上限。",
        ),
    ),
    "IDC-PROBE-008": Entry(
        en=Text(
            "{url} did not finish in time: {detail}.",
            "The engine hangs, is overloaded or is still warming up.",
            "Read the engine's journal; raise timeout if the time is to be expected.",
        ),
        zh=Text(
            "{url} 未能按时完成：{detail}。",
            "引擎挂起、过载或仍在预热。",
            "请查看引擎日志；若属正常耗时，请调大 timeout。",
        ),
    ),
    "IDC-PROBE-009": Entry(
        en=Text(
            "The answer of {url} broke off: {detail}.",
            "The engine died or was stopped while answering.",
            "Read the engine's journal.",
        ),
        zh=Text(
            "{url} 的应答中断：{detail}。",
            "引擎在应答时崩溃或被停止。",
            "请查看引擎日志。",
        ),
    ),
    "IDC-PROBE-010": Entry(
        en=Text(
            "{url} refused the request with status {status}: {detail}.",
            "Wanted: 200.",
            "Correct what the server names.",
        ),
        zh=Text(
            "{url} 以状态码 {status} 拒绝了请求：{detail}。",
            "应为 200。",
            "请改正服务器指出的问题。",
        ),
    ),
    "IDC-PROBE-011": Entry(
        en=Text(
            "The address {url} can't be asked: {detail}.",
            "No request was sent.",
            "Correct url or api_key.",
        ),
        zh=Text(
            "无法请求地址 {url}：{detail}。",
            "没有发出任何请求。",
            "请改正 url 或 api_key。",
        ),
    ),
    "IDC-PROBE-012": Entry(
        en=Text("{option} is {observed}.", "Wanted: {wanted}. Nothing was asked.", "Correct it in the task."),
        zh=Text("{option} 的值是 {observed}。", "应为：{wanted}。没有发出任何请求。", "请在任务中改正。")),
    "IDC-PROBE-013": Entry(
        en=Text("The answer of {url} for {model} is not what was expected: {detail}.", "Whoever relies on its form would fail.",
                "Look at the deployment and at the prompt, or correct expect."),
        zh=Text("{url} 对 {model} 的应答不符合预期：{detail}。", "依赖其格式的调用方会失败。", "请检查部署和提示，或改正 expect。")),
    "IDC-PROBE-014": Entry(
        en=Text("{model} at {url} misses its objectives: {detail}.", "Its users notice; all figures are in the result.",
                "Look at error_samples, the queue and the cards; add a replica or lower the concurrency, or change slo."),
        zh=Text("{url} 上的 {model} 未达到目标：{detail}。", "用户会察觉到；全部数据在结果中。",
                "请检查 error_samples、排队和显卡；增加副本或降低并发，或调整 slo。")),
    "IDC-PROBE-015": Entry(
        en=Text("{model} at {url} is worse than its baseline: {detail}.", "The figures are ratios, new to old.",
                "Compare release, configuration and cards with those of the baseline's date; if the change is wanted, save a new baseline."),
        zh=Text("{url} 上的 {model} 比基线差：{detail}。", "数值为新旧之比。",
                "请将发行版、配置和显卡与基线日期时的情况比较；若变化符合预期，请保存新的基线。")),
    "IDC-PROBE-016": Entry(
        en=Text("{model} at {url} gives other answers than its baseline: {detail}.",
                "Greedy answers to the same prompts differ by more than the engine's own noise: other weights, another precision, or a wrong kernel.",
                "Compare revision, release, quantisation and engine options; if the change is wanted, save a new baseline."),
        zh=Text("{url} 上的 {model} 的应答与基线不同：{detail}。",
                "同样的提示，贪心解码的应答差异超过引擎自身的噪声：权重不同、精度不同，或内核出错。",
                "请比较修订、发行版、量化和引擎选项；若变化符合预期，请保存新的基线。")),
    "IDC-PROBE-017": Entry(
        en=Text("The baseline {path} can't be used: {detail}.", "Only the same questions can be compared.",
                "Save one with baseline_save and the options of this task, while the engine is well."),
        zh=Text("无法使用基线 {path}：{detail}。", "只有同样的问题才能比较。", "请在引擎正常时，用本任务的选项通过 baseline_save 保存一个。")),
    "IDC-PROBE-018": Entry(
        en=Text("{path} can't be written: {detail}.", "The baseline or the metric would be lost.",
                "Make the folder, or name another path."),
        zh=Text("无法写入 {path}：{detail}。", "基线或指标会丢失。", "请创建该目录，或指定其他路径。")),
    # ACC: acceptance of the hardware
    "IDC-ACC-001": Entry(
        en=Text("{host} is not accepted: {observed}.", "Its driver does not answer, or its GPUs are missing or not healthy.",
                "Reset or replace the GPU that is named, or mend the driver (nvidia-smi -q says more); the next run looks again."),
        zh=Text("{host} 未通过验收：{observed}。", "驱动没有响应，或 GPU 缺失、不健康。",
                "请复位或更换所指出的 GPU，或修复驱动（详见 nvidia-smi -q）；下次运行会重新检查。")),
    "IDC-ACC-002": Entry(
        en=Text("{host} is not accepted: {observed}.", "A measurement that breaks off proves nothing.",
                "Look at the kernel's log for Xid messages, mend what it names, and run playbooks/acceptance.yml --limit {host} again."),
        zh=Text("{host} 未通过验收：{observed}。", "中断的测量不能证明任何事。",
                "请查看内核日志中的 Xid 消息并修复，然后重新运行 playbooks/acceptance.yml --limit {host}。")),
    "IDC-ACC-003": Entry(
        en=Text("{host} is not accepted: {observed}.", "The same sum gave another result: answers computed there cannot be trusted.",
                "Replace the card that is named, and run playbooks/acceptance.yml --limit {host} -e acceptance_again=true."),
        zh=Text("{host} 未通过验收：{observed}。", "同样的计算得出了不同的结果：其计算结果不可信。",
                "请更换所指出的卡，然后运行 playbooks/acceptance.yml --limit {host} -e acceptance_again=true。")),
    "IDC-ACC-004": Entry(
        en=Text("{host} is not accepted: {observed}.", "Under load the hardware slows its clocks for heat or power.",
                "Look at fans, air flow and power supplies, and run playbooks/acceptance.yml --limit {host} -e acceptance_again=true."),
        zh=Text("{host} 未通过验收：{observed}。", "在负载下，硬件因过热或供电而降频。",
                "请检查风扇、风道和电源，然后运行 playbooks/acceptance.yml --limit {host} -e acceptance_again=true。")),
    "IDC-ACC-005": Entry(
        en=Text("{host} is not accepted: {observed}.", "It is slower than its kind, or than the site asks for.",
                "Mend it and run playbooks/acceptance.yml --limit {host} -e acceptance_again=true, or write what the site is content with into "
                "acceptance_thresholds."),
        zh=Text("{host} 未通过验收：{observed}。", "它比同类硬件慢，或低于站点的要求。",
                "请修复后运行 playbooks/acceptance.yml --limit {host} -e acceptance_again=true，或把站点可以接受的数值写入 acceptance_thresholds。")),
    "IDC-ACC-006": Entry(
        en=Text("{host} is not accepted: {observed}.", "A PCIe link has fewer lanes or an older generation than card and slot can do.",
                "Reseat the card or its riser, look at the slot's settings in the firmware, and run playbooks/acceptance.yml --limit {host} "
                "-e acceptance_again=true; a slot that is made so: acceptance_thresholds with pcie_lanes and pcie_generation."),
        zh=Text("{host} 未通过验收：{observed}。", "PCIe 链路的通道数或代数低于卡和插槽的能力。",
                "请重新插紧卡或转接板，检查固件中插槽的设置，然后运行 playbooks/acceptance.yml --limit {host} -e acceptance_again=true；"
                "若插槽本来如此，请在 acceptance_thresholds 中写明 pcie_lanes 和 pcie_generation。")),
    "IDC-ACC-007": Entry(
        en=Text("{host} is not accepted: {observed}.", "NVIDIA's own diagnosis found a fault, or did not end.",
                "Mend what it names, and run playbooks/acceptance.yml --limit {host} -e acceptance_again=true; nvidia-dcgm.service has to run. "
                "Without dcgmi: acceptance_dcgm_level: 0."),
        zh=Text("{host} 未通过验收：{observed}。", "NVIDIA 自带的诊断发现了故障，或没有完成。",
                "请修复它指出的问题，然后运行 playbooks/acceptance.yml --limit {host} -e acceptance_again=true；nvidia-dcgm.service 必须在运行。"
                "不使用 dcgmi：acceptance_dcgm_level: 0。")),
    "IDC-ACC-008": Entry(
        en=Text("{host} is not accepted: {observed}.", "With none of its neighbours it reaches half of what its network ports carry.",
                "Look at cables, the switch and NCCL_IB_HCA, and that a packet filter lets the hosts speak to each other; then run "
                "playbooks/acceptance.yml -e acceptance_again=true. What the site is content with: acceptance_thresholds, pair_busbw_gbs."),
        zh=Text("{host} 未通过验收：{observed}。", "它与任何相邻主机之间都达不到其网口能力的一半。",
                "请检查线缆、交换机和 NCCL_IB_HCA，并确认包过滤器允许主机互通；然后运行 playbooks/acceptance.yml -e acceptance_again=true。"
                "站点可以接受的数值写入 acceptance_thresholds 的 pair_busbw_gbs。")),
    "IDC-ACC-009": Entry(
        en=Text("{host} has no verdict.", "It was not reached, or has not been looked at yet.",
                "Run playbooks/acceptance.yml --limit {host} once it can be reached."),
        zh=Text("{host} 没有验收结论。", "未能连接到它，或尚未检查过它。", "请在可以连接后运行 playbooks/acceptance.yml --limit {host}。")),
    "IDC-ACC-010": Entry(
        en=Text("{host} is not accepted: {observed}.", "NVLink joins these GPUs, and the driver does not let them read each other's memory.",
                "nvidia-smi topo -p2p r says why. In a virtual machine the hypervisor has to hand over NVSwitches, or a partition of them, with the "
                "cards; on bare metal look at nvidia-fabricmanager.service and at ACS. Then run playbooks/acceptance.yml --limit {host} "
                "-e acceptance_again=true."),
        zh=Text("{host} 未通过验收：{observed}。", "这些 GPU 由 NVLink 相连，但驱动不允许它们互访显存。",
                "nvidia-smi topo -p2p r 会给出原因。虚拟机中，虚拟化层须将 NVSwitch（或其分区）与卡一起直通；物理机请检查 nvidia-fabricmanager.service 和 ACS。"
                "然后运行 playbooks/acceptance.yml --limit {host} -e acceptance_again=true。")),
    # GW: the gateway
    "IDC-GW-001": Entry(
        en=Text("{host} has no whole source for its certificate.",
                "Wanted: gateway_tls_certificate and gateway_tls_key together, or gateway_ca_dir alone.", "Set one of the two."),
        zh=Text("{host} 没有完整的证书来源。", "应同时给出 gateway_tls_certificate 和 gateway_tls_key，或只给出 gateway_ca_dir。", "请设置其中一种。")),
    "IDC-GW-002": Entry(
        en=Text("These tenants have a name that nginx cannot carry: {tenants}.", "Wanted: letters, digits, dot, dash, underscore.",
                "Rename them in idc_llm_secrets."),
        zh=Text("以下租户的名称 nginx 无法使用：{tenants}。", "应只含字母、数字、点、连字符和下划线。", "请在 idc_llm_secrets 中改名。")),
    "IDC-GW-003": Entry(
        en=Text("{count} API keys (the engines' key counts too) have a form that a header cannot carry, or stand there twice.",
                "Wanted: up to 200 letters, digits and any of . _ ~ + / = -, each once.", "Make new ones: openssl rand -hex 24."),
        zh=Text("有 {count} 个 API 密钥（包括引擎密钥）的形式无法放入请求头，或重复出现。",
                "应为至多 200 个字母、数字及 . _ ~ + / = - 字符，且互不相同。", "请重新生成：openssl rand -hex 24。")),
    "IDC-GW-004": Entry(
        en=Text("The limits of tenant {tenant} hold {name}, which the gateway does not know.",
                "Known: requests_per_minute, burst, concurrent_requests, body_max_kib, and deployments with the same for one of them.",
                "Did you mean {nearest}?"),
        zh=Text("租户 {tenant} 的限额中有 {name}，网关不认识。",
                "可用：requests_per_minute、burst、concurrent_requests、body_max_kib，以及 deployments（对单个部署给出同样的项）。",
                "是否应为 {nearest}？")),
    "IDC-GW-005": Entry(
        en=Text("gateway_audit_keep_days is {days}.", "Wanted: 184 or more; laws ask for six months of it.",
                "Set 190, or gateway_audit_allow_short_retention: true where yours does not."),
        zh=Text("gateway_audit_keep_days 为 {days}。", "应不少于 184 天：法规要求审计日志保存六个月。",
                "请设为 190；若贵方确无此要求，请设 gateway_audit_allow_short_retention: true。")),
    "IDC-GW-006": Entry(
        en=Text("Tenants must show a certificate, and gateway_client_ca is empty: {tenants}.", "Nobody could say which certificates are good.",
                "Set gateway_client_ca to the PEM file of the CA that signs theirs, or take mtls out of their require."),
        zh=Text("以下租户须出示证书，但 gateway_client_ca 为空：{tenants}。", "无法判断哪些证书有效。",
                "请将 gateway_client_ca 设为签发其证书的 CA 的 PEM 文件，或从其 require 中去掉 mtls。")),
    "IDC-GW-007": Entry(
        en=Text("gateway_trusted_proxies holds {seen}, which is no address or network.", "Its word about a caller's address would count.",
                "Write addresses or networks, as 10.0.0.7 or 10.0.0.0/24."),
        zh=Text("gateway_trusted_proxies 中的 {seen} 不是地址或网段。", "其转告的客户端地址会被采信。",
                "请填写地址或网段，如 10.0.0.7 或 10.0.0.0/24。")),
    "IDC-GW-008": Entry(
        en=Text("gateway_virtual_address is {seen}.", "Wanted: an address with the mask of its network.", "Write it as 10.0.0.10/24."),
        zh=Text("gateway_virtual_address 为 {seen}。", "应为带子网掩码长度的地址。", "请写成 10.0.0.10/24 的形式。")),
    "IDC-GW-009": Entry(
        en=Text("Tenants want a login that gateway_login does not describe ({missing}): {tenants}.", "Nobody could say who belongs to them.",
                "Describe it in gateway_login, or take it out of their require."),
        zh=Text("以下租户要求的登录方式（{missing}）未在 gateway_login 中说明：{tenants}。", "无法判断谁属于这些租户。",
                "请在 gateway_login 中说明，或从其 require 中去掉该方式。")),
    "IDC-GW-010": Entry(
        en=Text("gateway_login.ldap.bind_dn is {account}, and idc_llm_secrets.login_password is empty.", "The directory would refuse every search.",
                "Put the account's password into idc_llm_secrets.login_password, or take bind_dn away where anybody may search."),
        zh=Text("gateway_login.ldap.bind_dn 为 {account}，但 idc_llm_secrets.login_password 为空。", "目录会拒绝所有查询。",
                "请在 idc_llm_secrets.login_password 中填写该账户的密码；若目录允许匿名查询，请去掉 bind_dn。")),
    "IDC-GW-011": Entry(
        en=Text("{host} has both gateway_acme and gateway_tls_certificate.", "A gateway shows one certificate.", "Take one of the two away."),
        zh=Text("{host} 同时设置了 gateway_acme 和 gateway_tls_certificate。", "一个网关只使用一份证书。", "请去掉其中一项。")),
    "IDC-GW-012": Entry(
        en=Text("gateway_acme has no name to ask for: gateway_domain is {domain}.", "By ACME names are signed, no addresses and not localhost.",
                "Set idc_llm_domain (for the role alone: gateway_domain) to the name that callers use."),
        zh=Text("gateway_acme 没有可申请证书的域名：gateway_domain 为 {domain}。", "ACME 只为域名签发证书，不包括 IP 地址和 localhost。",
                "请将 idc_llm_domain（单独使用角色时为 gateway_domain）设为调用方使用的域名。")),
    "IDC-GW-013": Entry(
        en=Text("{directory} gave no certificate for {names}: {observed}",
                "One is needed now ({reason}). The gateways go on with the certificate that they have.",
                "See that the controller reaches the ACME server, that the names lead to the gateways, and that the ACME server reaches "
                "their port 80; then run again."),
        zh=Text("{directory} 未能为 {names} 签发证书：{observed}", "现在就需要证书（{reason}）。网关继续使用现有证书。",
                "请确认控制机能访问 ACME 服务器、域名解析到网关、ACME 服务器能访问网关的 80 端口，然后重新运行。")),
    "IDC-GW-014": Entry(
        en=Text("WARNING: {directory} gave no certificate for {names}: {observed}",
                "The one in use is good until {until}; a new one is wanted ({reason}).",
                "Mend it before then: the controller must reach the ACME server, the names must lead to the gateways, and the ACME server "
                "must reach their port 80. The next run asks again."),
        zh=Text("警告：{directory} 未能为 {names} 签发证书：{observed}", "现用证书有效期至 {until}；需要新证书（{reason}）。",
                "请在此之前排除故障：控制机须能访问 ACME 服务器，域名须解析到网关，ACME 服务器须能访问网关的 80 端口。下次运行会再次申请。")),
    "IDC-GW-015": Entry(
        en=Text("nginx on {host} does not use the key {wanted}.", "That is the key of the certificates that the inventory names now; this playbook "
                "renews, and brings no first one.", "Run site.yml, which changes the configuration as well."),
        zh=Text("{host} 上的 nginx 没有使用密钥 {wanted}。", "这是清单现在指定的证书所用的密钥；本 playbook 只负责续期，不负责首次部署。",
                "请运行 site.yml，它会同时更新配置。")),
    "IDC-GW-016": Entry(
        en=Text("{host} has nginx {version}, which speaks no HTTP/3, and gateway_http3 is true.", "It would not start with that configuration.",
                "Set gateway_http3: false, or use a distribution whose nginx is built with it (Debian 13)."),
        zh=Text("{host} 上的 nginx {version} 不支持 HTTP/3，而 gateway_http3 为 true。", "使用该配置 nginx 将无法启动。",
                "请设置 gateway_http3: false，或使用 nginx 带有 HTTP/3 的发行版（Debian 13）。")),
    "IDC-GW-017": Entry(
        en=Text("gateway_ocsp_stapling is true, and the certificate of {host} names no OCSP responder.", "There is nothing to staple.",
                "Set gateway_ocsp_stapling: false, or bring a certificate (gateway_tls_certificate, gateway_acme) of a CA that has a responder."),
        zh=Text("gateway_ocsp_stapling 为 true，但 {host} 的证书未指明 OCSP 响应服务器。", "没有可供装订的内容。",
                "请设置 gateway_ocsp_stapling: false，或使用带有 OCSP 响应服务器的 CA 签发的证书（gateway_tls_certificate、gateway_acme）。")),

    # MON: watching
    "IDC-MON-001": Entry(
        en=Text("Receiver {receiver} of alarms: {key} is {observed}.", "Wanted: {wanted}. Alertmanager would not start, or tell nobody.",
                "Mend it in monitoring_alert_receivers, or under idc_llm_secrets.alerts."),
        zh=Text("告警接收方 {receiver}：{key} 的值是 {observed}。", "应为：{wanted}。否则 Alertmanager 无法启动，或通知不到任何人。",
                "请修改 monitoring_alert_receivers 或 idc_llm_secrets.alerts。")),
    "IDC-MON-002": Entry(
        en=Text("idc_llm_secrets.alerts has {receiver}, and monitoring_alert_receivers has no such name.", "The secret would be without effect.",
                "Did you mean: {nearest}?"),
        zh=Text("idc_llm_secrets.alerts 中有 {receiver}，而 monitoring_alert_receivers 中没有这个名称。", "该密钥不会起作用。", "是否想写：{nearest}？")),
    "IDC-MON-003": Entry(
        en=Text("Receiver {receiver} of alarms has no {key}.", "A receiver of kind {kind} cannot be told anything without it.",
                "Add it under idc_llm_secrets.alerts.{receiver}, in the encrypted file: whoever knows it can write there."),
        zh=Text("告警接收方 {receiver} 缺少 {key}。", "类型为 {kind} 的接收方没有它就无法通知。",
                "请在加密文件的 idc_llm_secrets.alerts.{receiver} 下补上；知道它的人都能向该处发消息。")),
    "IDC-MON-004": Entry(
        en=Text("{host} has no package {package} to install.", "exporters_gpu wants it, and it comes from NVIDIA's repository, which the host does not know.",
                "Let the role nvidia_stack set the repository up, or set exporters_gpu: nvitop (or none) for this host."),
        zh=Text("{host} 上没有可安装的软件包 {package}。", "exporters_gpu 需要它；它来自 NVIDIA 的软件源，而该主机没有配置。",
                "请用角色 nvidia_stack 配置软件源，或为该主机设置 exporters_gpu: nvitop（或 none）。")),
    "IDC-MON-005": Entry(
        en=Text("{host} cannot guard the ports of what watches it: {detail}",
                "Without rules whoever reaches this host reads its metrics; no exporter was started.",
                "Give the container CAP_NET_ADMIN, or load the module nf_tables; where another firewall guards these ports, set "
                "exporters_firewall_enabled: false."),
        zh=Text("{host} 无法保护监控端口：{detail}", "没有规则时，任何能访问该主机的人都能读取指标；未启动任何 exporter。",
                "请给容器 CAP_NET_ADMIN，或加载 nf_tables 模块；若已有其他防火墙保护这些端口，请设置 exporters_firewall_enabled: false。")),
    "IDC-MON-006": Entry(
        en=Text("{variable} is {observed}.", "exporters_tls is true and needs a password of at least 16 characters, which Prometheus shows the exporters.",
                "Put one under idc_llm_secrets.exporters_password, in the encrypted file, or set exporters_tls: false."),
        zh=Text("{variable} 的值是 {observed}。", "exporters_tls 为 true，需要至少 16 个字符的密码，供 Prometheus 访问 exporter 时使用。",
                "请在加密文件的 idc_llm_secrets.exporters_password 中写入密码，或设置 exporters_tls: false。")),
    "IDC-MON-007": Entry(
        en=Text("{host} has no package grafana to install.", "monitoring_grafana is true, and Debian has no Grafana.",
                "Name a .deb on the controller in idc_llm_sources.grafana, or set up a repository that has it."),
        zh=Text("{host} 上没有可安装的软件包 grafana。", "monitoring_grafana 为 true，而 Debian 不提供 Grafana。",
                "请在 idc_llm_sources.grafana 中写明控制机上的 .deb 文件，或配置提供它的软件源。")),
    "IDC-MON-008": Entry(
        en=Text("{name} is {observed}.", "Wanted: {wanted}. Logs would go nowhere.", "Mend it in the inventory."),
        zh=Text("{name} 的值是 {observed}。", "应为：{wanted}。否则日志无法送达。", "请在清单中修改。")),
    "IDC-MON-009": Entry(
        en=Text("Grafana's password is {length} characters long.", "monitoring_grafana is true and needs one of at least {wanted}.",
                "Put one under idc_llm_secrets.grafana_password, in the encrypted file, or set monitoring_grafana: false."),
        zh=Text("Grafana 的密码长度为 {length} 个字符。", "monitoring_grafana 为 true，密码至少需要 {wanted} 个字符。",
                "请在加密文件的 idc_llm_secrets.grafana_password 中写入密码，或设置 monitoring_grafana: false。")),
    "IDC-MON-010": Entry(
        en=Text("No receiver gets alarms of severity page.", "They are seen by whoever looks at Prometheus; nobody is told.",
                "Name one in monitoring_alert_receivers; docs/guides/watching.md shows how."),
        zh=Text("没有任何接收方会收到 page 级别的告警。", "只有查看 Prometheus 的人才能看到；不会通知任何人。",
                "请在 monitoring_alert_receivers 中配置一个；写法见 docs/guides/watching.md。")),
    "IDC-MON-011": Entry(
        en=Text("The controller cannot make a hash by bcrypt: {observed}.",
                "exporters_tls is true, and exporters take their password as such a hash; libcrypt.so.1 or libcrypt.so.2 makes it.",
                "Install it on the controller (Debian, Ubuntu: libcrypt1; RHEL, Fedora: libxcrypt), or set exporters_tls: false."),
        zh=Text("控制机无法生成 bcrypt 哈希：{observed}。",
                "exporters_tls 为 true，exporter 只接受这种哈希形式的密码；它由 libcrypt.so.1 或 libcrypt.so.2 生成。",
                "请在控制机上安装它（Debian、Ubuntu：libcrypt1；RHEL、Fedora：libxcrypt），或设置 exporters_tls: false。")),
}
