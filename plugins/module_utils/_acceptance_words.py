# Copyright (c) 2026, The idc.llm founders
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words of the acceptance report in two languages, and how it looks. Private to this collection."""
from __future__ import annotations

from typing import Dict, Sequence

# kind of check: (English, Chinese) of its name, then of what is wanted where that is no figure
LABELS: Dict[str, Sequence[str]] = {
    "driver": ("Driver answers", "驱动响应"), "present": ("GPUs present", "GPU 在位"), "health": ("GPUs healthy", "GPU 健康"),
    "measured": ("GPUs measured", "已测量的 GPU"), "results": ("Results are right", "计算结果正确"),
    "clocks": ("Clocks under load", "负载下的时钟"), "pcie_lanes": ("PCIe lanes", "PCIe 通道数"), "pcie": ("PCIe under load", "负载下的 PCIe 链路"),
    "matmul_tflops": ("bf16 matmul, TFLOP/s", "bf16 矩阵乘法，TFLOP/s"), "memory_gbs": ("GPU memory, GB/s", "显存带宽，GB/s"),
    "to_gpu_gbs": ("Host to GPU, GB/s", "主机到 GPU，GB/s"), "from_gpu_gbs": ("GPU to host, GB/s", "GPU 到主机，GB/s"),
    "peers": ("GPUs reach each other", "GPU 互访"), "peer_gbs": ("GPU to GPU, GB/s", "GPU 之间，GB/s"),
    "busbw_gbs": ("All-reduce in the host, bus bandwidth, GB/s", "主机内 all-reduce 总线带宽，GB/s"),
    "nccl_tests": ("nccl-tests all_reduce_perf, GB/s", "nccl-tests all_reduce_perf，GB/s"), "nvbandwidth": ("nvbandwidth", "nvbandwidth"),
    "nvbandwidth_to_gpu_gbs": ("nvbandwidth, host to GPU, GB/s", "nvbandwidth，主机到 GPU，GB/s"),
    "nvbandwidth_from_gpu_gbs": ("nvbandwidth, GPU to host, GB/s", "nvbandwidth，GPU 到主机，GB/s"),
    "nvbandwidth_peer_gbs": ("nvbandwidth, GPU to GPU, GB/s", "nvbandwidth，GPU 之间，GB/s"),
    "dcgm": ("NVIDIA diagnosis (dcgmi diag)", "NVIDIA 诊断（dcgmi diag）"), "disk": ("Disk of the store, read, GB/s", "模型存储磁盘读取，GB/s"),
    "pairs": ("All-reduce with another host, GB/s", "与另一台主机的 all-reduce，GB/s"),
}
WANTED: Dict[str, Sequence[str]] = {
    "driver": ("answers", "有响应"), "present": ("at least 1", "至少 1 块"), "health": ("all", "全部"), "measured": ("all", "全部"),
    "results": ("0 wrong", "0 个错误"), "clocks": ("not slowed", "未降频"), "nvbandwidth": ("all passed", "全部通过"),
    "dcgm": ("all passed", "全部通过"), "peers": ("over NVLink", "经 NVLink 互访"),
}
# what checks say, word by word; all else they say stays as it is: it comes from the driver and from programs
SAID = (("not healthy", "不健康"), ("healthy", "健康"), ("not slowed", "未降频"), ("hardware slowdown", "硬件降频"), ("software thermal", "软件温控"),
        ("hardware thermal", "硬件过热"), ("power brake", "供电制动"), ("wrong of a product", "个乘积结果错误"), ("wrong", "个错误"),
        (r"(\d+) of (\d+) tests passed", r"\2 项测试中 \1 项通过"), ("tests passed", "项测试通过"), ("not measured", "未测量"), ("not run", "未运行"), ("there is no", "没有"),
        (r"all (\d+) ways", r"全部 \1 个方向"), (r"GPU (\d+) and (\d+) by way of the host", r"GPU \1 与 \2 经主机中转"))
WORDS: Dict[str, Sequence[str]] = {
    "title": ("Acceptance report: GPU servers", "GPU 服务器验收报告"), "accepted": ("Accepted", "通过"), "refused": ("Not accepted", "未通过"),
    "nothing": ("No verdict", "无结论"), "all": ("Accepted: {total} of {total} hosts.", "全部 {total} 台主机通过验收。"),
    "some": ("Accepted: {good} of {total} hosts. A host that is not accepted serves nothing.",
             "{total} 台主机中有 {good} 台通过验收。未通过的主机不提供服务。"),
    "site": ("Site", "站点"), "date": ("Date of the last verdict", "最近结论日期"), "gpus": ("GPUs", "GPU"), "hosts": ("Hosts", "主机"),
    "host": ("Host", "主机"), "server": ("Server, serial number", "服务器，序列号"), "versions": ("Other versions", "其他版本"),
    "everywhere": ("Versions", "版本"), "as_all": ("as above", "同上"),
    "verdict": ("Verdict", "结论"), "checks": ("Checks", "检查项"), "check": ("Check", "检查项"), "wanted": ("Threshold", "阈值"),
    "seen": ("Seen", "实测"), "threshold": ("threshold", "阈值"),
    "faults": ("What keeps hosts from being accepted", "未通过的原因"), "remedy": ("Remedy", "处理办法"),
    "drift": ("Slower than in the last accepted measurement", "比上次通过时慢"), "none": ("none", "无"),
    "cards": ("GPUs by serial number", "GPU 序列号清单"), "serial": ("Serial number", "序列号"), "any": ("reported", "仅报告"),
    "unmeasured": ("health alone", "仅检查健康"), "customer": ("Customer", "甲方"), "contractor": ("Contractor", "乙方"),
    "name": ("Name", "姓名"), "signature": ("Signature", "签字"), "day": ("Date", "日期"), "card": ("Card", "型号"),
    "gpu": ("GPU", "GPU"), "uuid": ("UUID", "UUID"), "pci": ("PCI", "PCI"),
    "note": ("Figures of GPUs: slowest – fastest of the host. Each must reach 0.9 of what is expected of the card, and of the median of the host's "
             "other cards. GB is 10⁹ bytes. \"Not run\" is no verdict.",
             "GPU 的数值为该主机中最慢 – 最快。每块卡须达到该型号预期值的 0.9，并达到同机其他卡中位数的 0.9。GB 为 10⁹ 字节。「未运行」不构成结论。"),
}
STYLE = """
@page { size: A4; margin: 12mm 13mm }
* { box-sizing: border-box }
body { font: 8.2pt/1.3 "Helvetica Neue", Arial, "Noto Sans", "Noto Sans CJK SC", "Microsoft YaHei", sans-serif; color: #1a1a1a;
       max-width: 184mm; margin: 6mm auto; -webkit-print-color-adjust: exact; print-color-adjust: exact }
@media print { body { margin: 0 auto } }
h1 { font-size: 17pt; margin: 0 0 1mm; font-weight: 600 }
h2 { font-size: 10pt; margin: 3.2mm 0 1mm; font-weight: 600; break-after: avoid }
header { display: flex; justify-content: space-between; align-items: flex-start; border-bottom: .6mm solid #1a1a1a; padding-bottom: 2.5mm }
dl { display: grid; grid-template-columns: auto 1fr; gap: 0 3mm; margin: 0 } dt { color: #555 } dd { margin: 0 }
.seal { border: .7mm solid; border-radius: 1.5mm; padding: 1.6mm 5mm; font-size: 14pt; font-weight: 700; white-space: nowrap }
.ok { color: #14692f } .failed { color: #a8141b } .not_run, .none { color: #666 }
p { margin: 1.5mm 0 0 }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
th, td { border: .2mm solid #b9b9b9; padding: .5mm 1.3mm; text-align: left; vertical-align: top; overflow-wrap: anywhere }
th { background: #eef0f2; font-weight: 600 } tr { break-inside: avoid } td.failed { background: #fbeaea; font-weight: 600 }
ul { margin: 0; padding-left: 5mm } .small { font-size: 7pt; color: #555 }
.cards { font-size: 7.2pt } .cards td { padding: .25mm 1.2mm } code { font-family: Consolas, "DejaVu Sans Mono", monospace; font-size: 6.8pt }
.sign { display: grid; grid-template-columns: 1fr 1fr; gap: 12mm; margin-top: 5mm; break-inside: avoid }
.sign div div { border-bottom: .25mm solid #1a1a1a; height: 8.5mm; display: flex; align-items: flex-end; color: #555 }
.sign b { display: block } .annex { break-before: page }
"""
