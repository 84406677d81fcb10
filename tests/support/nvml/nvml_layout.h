/* Copyright (c) 2026, The idc.llm founders
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * NVML's return codes and structures as nvidia-ml-py declares them; a test compares each size. The name in each
 * LAYOUT is pynvml's class.
 */
#include <stdint.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, INSUFFICIENT_SIZE = 7, TIMEOUT = 10,
       INSUFFICIENT_RESOURCES = 23, VERSION_MISMATCH = 25, UNKNOWN = 999 };

#define VERSIONED(type, version) ((uint32_t)sizeof(type) | (uint32_t)(version) << 24)
#define XID_CRITICAL_ERROR 8u

struct pci_info { char legacy[16]; uint32_t domain, bus, device, id, subsystem; char address[32]; };
struct memory_v1 { uint64_t total, free, used; };
struct memory_v2 { uint32_t version; uint64_t total, reserved, free, used; };
struct process { uint32_t pid; uint64_t memory; uint32_t gpu_instance, compute_instance; };
struct attributes { uint32_t of[8]; uint64_t memory_mb; };
struct histogram { uint32_t of[5]; };
struct utilization { uint32_t gpu, memory; };
struct temperature_v1 { uint32_t version, sensor; int32_t celsius; };
struct repair { uint32_t version, channel, tpc; };
struct fabric_v1 { uint8_t cluster[16]; uint32_t status, clique, state; };
struct fabric_v2 { uint32_t version; uint8_t cluster[16]; uint32_t status, clique, state, mask; };
struct fabric_v3 { uint32_t version; uint8_t cluster[16]; uint32_t status, clique, state, mask; uint8_t summary; };
struct event { void *device; uint64_t type, data; uint32_t gpu_instance, compute_instance; };
struct field { uint32_t id, scope; int64_t timestamp, latency; uint32_t type, code;
               union { double real; uint64_t whole; } value; };

/* LAYOUT(our structure, pynvml's class): printed by the test that compares them */
#define LAYOUTS \
    LAYOUT(pci_info, nvmlPciInfo_t) LAYOUT(memory_v1, c_nvmlMemory_t) LAYOUT(memory_v2, c_nvmlMemory_v2_t) \
    LAYOUT(process, c_nvmlProcessInfo_v3_t) LAYOUT(attributes, c_nvmlDeviceAttributes) \
    LAYOUT(histogram, c_nvmlRowRemapperHistogramValues) LAYOUT(utilization, c_nvmlUtilization_t) \
    LAYOUT(temperature_v1, c_nvmlTemperature_v1_t) LAYOUT(repair, c_nvmlRepairStatus_t) \
    LAYOUT(fabric_v1, c_nvmlGpuFabricInfo_t) LAYOUT(fabric_v2, c_nvmlGpuFabricInfo_v2_t) \
    LAYOUT(fabric_v3, c_nvmlGpuFabricInfo_v3_t) LAYOUT(event, c_nvmlEventData_t) LAYOUT(field, c_nvmlFieldValue_t)
