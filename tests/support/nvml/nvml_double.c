/* Copyright (c) 2026, The idc.llm founders
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A double of libnvidia-ml.so.1: NVML's symbols, answered from a table. It knows layouts and nothing about GPUs.
 *
 * The table (environment variable IDC_NVML_MACHINE) is text, one answer a line, written by _table.py:
 *     SCOPE FUNCTION[ ARGUMENTS] <tab> return code <tab> values separated by a blank
 * SCOPE is "-" for the system, an index for a GPU, "index.n" for a MIG device. Where the arguments have no line of
 * their own, "SCOPE FUNCTION" answers, then "SCOPE *"; else the call is NOT_SUPPORTED.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nvml_layout.h"

struct row { char *key; int code; const char *value; };
struct device { char scope[24]; };
struct eventset { int used; int count; struct { struct device *device; uint64_t types; int told; } of[64]; };

static struct row *rows;
static size_t row_count;
static struct device devices[256];
static struct eventset sets[16];
static int started;
static __thread char scratch[256];

#define ARGS(...) (snprintf(scratch, sizeof scratch, __VA_ARGS__), scratch)
#define SYSTEM (&devices[0])
#define EXPORT __attribute__((visibility("default")))

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct row *)a)->key, ((const struct row *)b)->key);
}

/* Reads the table once; false where there is none. */
static int table(void)
{
    const char *path = getenv("IDC_NVML_MACHINE");
    char *line = NULL, *tab;
    size_t size = 0, room = 0;
    FILE *stream;

    if (rows)
        return 1;
    strcpy(devices[0].scope, "-");
    stream = path ? fopen(path, "r") : NULL;
    if (!stream)
        return 0;
    while (getline(&line, &size, stream) > 0) {
        line[strcspn(line, "\n")] = 0;
        if (!(tab = strchr(line, '\t')))
            continue;
        if (row_count == room)
            rows = realloc(rows, (room = room ? 2 * room : 1024) * sizeof *rows);
        *tab = 0;
        rows[row_count].key = strdup(line);
        rows[row_count].code = (int)strtol(tab + 1, &tab, 10);
        rows[row_count++].value = strdup(*tab ? tab + 1 : tab);
    }
    free(line);
    fclose(stream);
    qsort(rows, row_count, sizeof *rows, by_key);
    return rows != NULL;
}

static const struct row *find(const char *scope, const char *function, const char *arguments)
{
    char key[512];
    struct row wanted = { key, 0, NULL };

    snprintf(key, sizeof key, *arguments ? "%s %s %s" : "%s %s", scope, function, arguments);
    return rows ? bsearch(&wanted, rows, row_count, sizeof *rows, by_key) : NULL;
}

static const struct row *answer(const struct device *device, const char *function, const char *arguments)
{
    static const struct row refused = { NULL, NOT_SUPPORTED, "" };
    const struct row *row = find(device->scope, function, arguments);

    if (!row && *arguments)
        row = find(device->scope, function, "");
    if (!row)
        row = find(device->scope, "*", "");
    return row ? row : &refused;
}

/* The answer, or an error before there is one: not started, or a handle that is none of ours. */
static int ask(struct device *device, const char *function, const char *arguments, const struct row **row)
{
    if (!started)
        return UNINITIALIZED;
    if (device < devices || device >= devices + 256 || !device->scope[0])
        return INVALID_ARGUMENT;
    *row = answer(device, function, arguments);
    return (*row)->code;
}

static uint64_t number(const char **text)
{
    char *end;
    uint64_t value = **text == '-' ? (uint64_t)strtoll(*text, &end, 10) : strtoull(*text, &end, 10);

    *text = end;
    return value;
}

/* Numbers into the pointers that follow: width 4 or 8 bytes each. */
static int numbers(int width, struct device *device, const char *function, const char *arguments, int count, ...)
{
    const struct row *row = NULL;
    const char *text;
    va_list list;
    void *to;
    int code = ask(device, function, arguments, &row), i;

    if (code)
        return code;
    text = row->value;
    va_start(list, count);
    for (i = 0; i < count && !code; i++) {
        uint64_t value = number(&text);
        if (!(to = va_arg(list, void *)))
            code = INVALID_ARGUMENT;
        else if (width == 8)
            *(uint64_t *)to = value;
        else
            *(uint32_t *)to = (uint32_t)value;
    }
    va_end(list);
    return code;
}

static int words(struct device *device, const char *function, const char *arguments, char *to, uint32_t size)
{
    const struct row *row = NULL;
    int code = ask(device, function, arguments, &row);

    if (code)
        return code;
    if (!to)
        return INVALID_ARGUMENT;
    if (strlen(row->value) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(to, row->value);
    return SUCCESS;
}

/* A handle whose scope is the answer. */
static int handle(struct device *from, const char *function, const char *arguments, struct device **to)
{
    const struct row *row = NULL;
    int code = ask(from, function, arguments, &row), i;

    if (code)
        return code;
    if (!to)
        return INVALID_ARGUMENT;
    for (i = 1; i < 256; i++) {
        if (!devices[i].scope[0])
            snprintf(devices[i].scope, sizeof devices[i].scope, "%s", row->value);
        if (!strcmp(devices[i].scope, row->value)) {
            *to = &devices[i];
            return SUCCESS;
        }
    }
    return INSUFFICIENT_RESOURCES;
}

#define WORDS(name) EXPORT int name(struct device *d, char *to, uint32_t size) { return words(d, #name, "", to, size); }
#define UINT(name) EXPORT int name(struct device *d, uint32_t *a) { return numbers(4, d, #name, "", 1, a); }
#define UINT2(name) EXPORT int name(struct device *d, uint32_t *a, uint32_t *b) { return numbers(4, d, #name, "", 2, a, b); }
#define U64(name) EXPORT int name(struct device *d, uint64_t *a) { return numbers(8, d, #name, "", 1, a); }
#define UINT_OF(name) EXPORT int name(struct device *d, uint32_t of, uint32_t *a) \
    { return numbers(4, d, #name, ARGS("%u", of), 1, a); }

/* system */

EXPORT int nvmlInitWithFlags(uint32_t flags)
{
    const struct row *row;

    (void)flags;
    if (!table())
        return UNKNOWN;
    row = answer(SYSTEM, "nvmlInit", "");
    started += !row->code;
    return row->code;
}

EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT int nvmlShutdown(void)
{
    if (!started)
        return UNINITIALIZED;
    started--;
    return SUCCESS;
}

EXPORT const char *nvmlErrorString(int code)
{
    const struct row *row = table() ? find("-", "nvmlErrorString", ARGS("%d", code)) : NULL;

    return row ? row->value : "Unknown Error";
}

EXPORT int nvmlSystemGetDriverVersion(char *to, uint32_t size) { return words(SYSTEM, __func__, "", to, size); }
EXPORT int nvmlSystemGetNVMLVersion(char *to, uint32_t size) { return words(SYSTEM, __func__, "", to, size); }
EXPORT int nvmlSystemGetCudaDriverVersion(uint32_t *to) { return numbers(4, SYSTEM, __func__, "", 1, to); }
EXPORT int nvmlSystemGetCudaDriverVersion_v2(uint32_t *to) { return numbers(4, SYSTEM, __func__, "", 1, to); }
EXPORT int nvmlDeviceGetCount_v2(uint32_t *to) { return numbers(4, SYSTEM, __func__, "", 1, to); }

/* handles */

EXPORT int nvmlDeviceGetHandleByIndex_v2(uint32_t index, struct device **to)
{
    return handle(SYSTEM, __func__, ARGS("%u", index), to);
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **to)
{
    return uuid ? handle(SYSTEM, __func__, ARGS("%s", uuid), to) : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *address, struct device **to)
{
    return address ? handle(SYSTEM, __func__, ARGS("%s", address), to) : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(struct device *d, uint32_t index, struct device **to)
{
    return handle(d, __func__, ARGS("%u", index), to);
}

EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(struct device *d, struct device **to)
{
    return handle(d, __func__, "", to);
}

/* what a device is and how it does */

WORDS(nvmlDeviceGetUUID)
WORDS(nvmlDeviceGetName)
WORDS(nvmlDeviceGetSerial)
WORDS(nvmlDeviceGetVbiosVersion)
WORDS(nvmlDeviceGetBoardPartNumber)
UINT(nvmlDeviceGetIndex)
UINT(nvmlDeviceGetMinorNumber)
UINT(nvmlDeviceGetArchitecture)
UINT(nvmlDeviceGetNumaNodeId)
UINT(nvmlDeviceGetMaxMigDeviceCount)
UINT(nvmlDeviceIsMigDeviceHandle)
UINT(nvmlDeviceGetGpuInstanceId)
UINT(nvmlDeviceGetComputeInstanceId)
UINT(nvmlDeviceGetRetiredPagesPendingStatus)
UINT(nvmlDeviceGetPowerManagementLimit)
UINT(nvmlDeviceGetPowerManagementDefaultLimit)
UINT(nvmlDeviceGetEnforcedPowerLimit)
UINT(nvmlDeviceGetPowerUsage)
UINT(nvmlDeviceGetCurrPcieLinkGeneration)
UINT(nvmlDeviceGetCurrPcieLinkWidth)
UINT(nvmlDeviceGetMaxPcieLinkGeneration)
UINT(nvmlDeviceGetMaxPcieLinkWidth)
UINT(nvmlDeviceGetGpuMaxPcieLinkGeneration)
UINT(nvmlDeviceGetPcieReplayCounter)
UINT(nvmlDeviceGetPersistenceMode)
UINT(nvmlDeviceGetComputeMode)
UINT(nvmlDeviceGetPerformanceState)
UINT(nvmlDeviceGetVirtualizationMode)
UINT2(nvmlDeviceGetCudaComputeCapability)
UINT2(nvmlDeviceGetMigMode)
UINT2(nvmlDeviceGetEccMode)
UINT2(nvmlDeviceGetPowerManagementLimitConstraints)
U64(nvmlDeviceGetCurrentClocksEventReasons)
U64(nvmlDeviceGetCurrentClocksThrottleReasons)
U64(nvmlDeviceGetSupportedEventTypes)
UINT_OF(nvmlDeviceGetClockInfo)
UINT_OF(nvmlDeviceGetMaxClockInfo)
UINT_OF(nvmlDeviceGetTemperature)
UINT_OF(nvmlDeviceGetNvLinkState)
UINT_OF(nvmlDeviceGetNvLinkVersion)
UINT_OF(nvmlDeviceGetNvLinkRemoteDeviceType)

EXPORT int nvmlDeviceGetRemappedRows(struct device *d, uint32_t *a, uint32_t *b, uint32_t *pending, uint32_t *failed)
{
    return numbers(4, d, __func__, "", 4, a, b, pending, failed);
}

EXPORT int nvmlDeviceGetTotalEccErrors(struct device *d, uint32_t type, uint32_t counter, uint64_t *to)
{
    return numbers(8, d, __func__, ARGS("%u %u", type, counter), 1, to);
}

EXPORT int nvmlDeviceGetMemoryErrorCounter(struct device *d, uint32_t type, uint32_t counter, uint32_t at, uint64_t *to)
{
    return numbers(8, d, __func__, ARGS("%u %u %u", type, counter, at), 1, to);
}

EXPORT int nvmlDeviceGetNvLinkCapability(struct device *d, uint32_t link, uint32_t capability, uint32_t *to)
{
    return numbers(4, d, __func__, ARGS("%u %u", link, capability), 1, to);
}

EXPORT int nvmlDeviceGetNvLinkErrorCounter(struct device *d, uint32_t link, uint32_t counter, uint64_t *to)
{
    return numbers(8, d, __func__, ARGS("%u %u", link, counter), 1, to);
}

static int other(struct device *d)
{
    return d >= devices + 1 && d < devices + 256 && d->scope[0];
}

EXPORT int nvmlDeviceGetTopologyCommonAncestor(struct device *d, struct device *to, uint32_t *level)
{
    return other(to) ? numbers(4, d, __func__, ARGS("%s", to->scope), 1, level) : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceGetP2PStatus(struct device *d, struct device *to, uint32_t index, uint32_t *status)
{
    return other(to) ? numbers(4, d, __func__, ARGS("%s %u", to->scope, index), 1, status) : INVALID_ARGUMENT;
}

#include "nvml_structs.h"
