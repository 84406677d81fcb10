/* Copyright (c) 2026, The idc.llm founders
 * GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The calls that fill structures; the second half of nvml_double.c.
 */

static int pci(struct device *d, const char *function, const char *arguments, struct pci_info *to)
{
    struct pci_info found;
    int code = numbers(4, d, function, arguments, 5, &found.domain, &found.bus, &found.device, &found.id, &found.subsystem);

    if (code)
        return code;
    if (!to)
        return INVALID_ARGUMENT;
    snprintf(found.legacy, sizeof found.legacy, "%04X:%02X:%02X.0", found.domain & 0xffff, found.bus & 0xff, found.device & 0x1f);
    snprintf(found.address, sizeof found.address, "%08X:%02X:%02X.0", found.domain, found.bus & 0xff, found.device & 0x1f);
    *to = found;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPciInfo_v3(struct device *d, struct pci_info *to) { return pci(d, __func__, "", to); }

EXPORT int nvmlDeviceGetNvLinkRemotePciInfo_v2(struct device *d, uint32_t link, struct pci_info *to)
{
    return pci(d, __func__, ARGS("%u", link), to);
}

EXPORT int nvmlDeviceGetMemoryInfo(struct device *d, struct memory_v1 *to)
{
    return to ? numbers(8, d, __func__, "", 3, &to->total, &to->free, &to->used) : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceGetMemoryInfo_v2(struct device *d, struct memory_v2 *to)
{
    if (!to || to->version != VERSIONED(struct memory_v2, 2))
        return to ? VERSION_MISMATCH : INVALID_ARGUMENT;
    return numbers(8, d, __func__, "", 4, &to->total, &to->reserved, &to->free, &to->used);
}

EXPORT int nvmlDeviceGetAttributes_v2(struct device *d, struct attributes *to)
{
    struct { uint64_t of[9]; } all;
    int code = numbers(8, d, __func__, "", 9, all.of, all.of + 1, all.of + 2, all.of + 3, all.of + 4, all.of + 5,
                       all.of + 6, all.of + 7, all.of + 8), i;

    if (code || !to)
        return code ? code : INVALID_ARGUMENT;
    for (i = 0; i < 8; i++)
        to->of[i] = (uint32_t)all.of[i];
    to->memory_mb = all.of[8];
    return SUCCESS;
}

EXPORT int nvmlDeviceGetRowRemapperHistogram(struct device *d, struct histogram *to)
{
    return to ? numbers(4, d, __func__, "", 5, to->of, to->of + 1, to->of + 2, to->of + 3, to->of + 4) : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceGetUtilizationRates(struct device *d, struct utilization *to)
{
    return to ? numbers(4, d, __func__, "", 2, &to->gpu, &to->memory) : INVALID_ARGUMENT;
}

EXPORT int nvmlDeviceGetTemperatureV(struct device *d, struct temperature_v1 *to)
{
    if (!to || to->version != VERSIONED(struct temperature_v1, 1))
        return to ? VERSION_MISMATCH : INVALID_ARGUMENT;
    return numbers(4, d, __func__, ARGS("%u", to->sensor), 1, &to->celsius);
}

EXPORT int nvmlDeviceGetRepairStatus(struct device *d, struct repair *to)
{
    if (!to || to->version != VERSIONED(struct repair, 1))
        return to ? VERSION_MISMATCH : INVALID_ARGUMENT;
    return numbers(4, d, __func__, "", 2, &to->channel, &to->tpc);
}

/* state status clique mask summary, then the cluster's uuid as 32 hexadecimal digits */
static int fabric(struct device *d, const char *function, const char *arguments, struct fabric_v3 *to)
{
    const struct row *row = NULL;
    int code = ask(d, function, arguments, &row), i;
    const char *text;
    unsigned digits;

    if (code)
        return code;
    text = row->value;
    to->state = (uint32_t)number(&text);
    to->status = (uint32_t)number(&text);
    to->clique = (uint32_t)number(&text);
    to->mask = (uint32_t)number(&text);
    to->summary = (uint8_t)number(&text);
    text += strspn(text, " ");
    memset(to->cluster, 0, sizeof to->cluster);
    for (i = 0; i < 16 && sscanf(text + 2 * i, "%2x", &digits) == 1; i++)
        to->cluster[i] = (uint8_t)digits;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetGpuFabricInfo(struct device *d, struct fabric_v1 *to)
{
    struct fabric_v3 found;
    int code = fabric(d, __func__, "", &found);

    if (code || !to)
        return code ? code : INVALID_ARGUMENT;
    memcpy(to->cluster, found.cluster, sizeof to->cluster);
    to->status = found.status;
    to->clique = found.clique;
    to->state = found.state;
    return SUCCESS;
}

/* The caller's structure is of the version that its first word says, and no larger. */
EXPORT int nvmlDeviceGetGpuFabricInfoV(struct device *d, void *to)
{
    struct fabric_v3 found;
    uint32_t version = to ? *(uint32_t *)to : 0;
    int third = version == VERSIONED(struct fabric_v3, 3), code;

    if (!to)
        return INVALID_ARGUMENT;
    if (!third && version != VERSIONED(struct fabric_v2, 2))
        return VERSION_MISMATCH;
    if ((code = fabric(d, __func__, third ? "3" : "2", &found)))
        return code;
    found.version = version;
    memcpy(to, &found, sizeof(struct fabric_v2));
    if (third)
        ((struct fabric_v3 *)to)->summary = found.summary;
    return SUCCESS;
}

/* "SCOPE FUNCTION" holds how many there are, "SCOPE FUNCTION n" each. */
static int processes(struct device *d, const char *function, uint32_t *count, struct process *to)
{
    const struct row *row = NULL;
    int code = ask(d, function, "", &row);
    uint32_t there, i, room = count ? *count : 0;
    const char *text;

    if (code || !count)
        return code ? code : INVALID_ARGUMENT;
    *count = there = (uint32_t)atoi(row->value);
    if (there > room)
        return INSUFFICIENT_SIZE;
    if (there && !to)
        return INVALID_ARGUMENT;
    for (i = 0; i < there; i++) {
        text = answer(d, function, ARGS("%u", i))->value;
        to[i].pid = (uint32_t)number(&text);
        to[i].memory = number(&text);
        to[i].gpu_instance = (uint32_t)number(&text);
        to[i].compute_instance = (uint32_t)number(&text);
    }
    return SUCCESS;
}

#define PROCESSES(name) EXPORT int name(struct device *d, uint32_t *n, struct process *to) { return processes(d, #name, n, to); }
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3)
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3)

/* The call succeeds; each field has a return code of its own: "SCOPE field ID LINK" -> type value. */
EXPORT int nvmlDeviceGetFieldValues(struct device *d, int count, struct field *to)
{
    const struct row *row = NULL;
    int code = ask(d, __func__, "", &row), i;

    if (code)
        return code;
    if (!to || count < 1)
        return INVALID_ARGUMENT;
    for (i = 0; i < count; i++) {
        const char *text;
        row = answer(d, "field", ARGS("%u %u", to[i].id, to[i].scope));
        text = row->value;
        to[i].timestamp = to[i].latency = 0;
        to[i].code = (uint32_t)row->code;
        to[i].type = (uint32_t)number(&text);
        to[i].value.whole = 0;
        if (row->code == SUCCESS && to[i].type == 0)
            to[i].value.real = strtod(text, NULL);
        else if (row->code == SUCCESS)
            to[i].value.whole = number(&text);
    }
    return SUCCESS;
}

/* events: only Xid errors happen here, each once for every set that wants them */

static int known(struct eventset *set)
{
    return set >= sets && set < sets + 16 && set->used;
}

EXPORT int nvmlEventSetCreate(struct eventset **to)
{
    int i;

    if (!started || !to)
        return started ? INVALID_ARGUMENT : UNINITIALIZED;
    for (i = 0; i < 16; i++) {
        if (!sets[i].used) {
            memset(&sets[i], 0, sizeof sets[i]);
            sets[i].used = 1;
            *to = &sets[i];
            return SUCCESS;
        }
    }
    return INSUFFICIENT_RESOURCES;
}

EXPORT int nvmlDeviceRegisterEvents(struct device *d, uint64_t types, struct eventset *set)
{
    int code = numbers(4, d, __func__, "", 0);

    if (code)
        return code;
    if (!known(set) || set->count == 64)
        return INVALID_ARGUMENT;
    set->of[set->count].device = d;
    set->of[set->count++].types = types;
    return SUCCESS;
}

EXPORT int nvmlEventSetWait_v2(struct eventset *set, struct event *to, uint32_t milliseconds)
{
    int i;

    (void)milliseconds;
    if (!started || !known(set) || !to)
        return started ? INVALID_ARGUMENT : UNINITIALIZED;
    for (i = 0; i < set->count; i++) {
        const struct row *row = find(set->of[i].device->scope, "xid", ARGS("%d", set->of[i].told));
        if (row && set->of[i].types & XID_CRITICAL_ERROR) {
            set->of[i].told++;
            to->device = set->of[i].device;
            to->type = XID_CRITICAL_ERROR;
            to->data = strtoull(row->value, NULL, 10);
            to->gpu_instance = to->compute_instance = 0xffffffffu;
            return SUCCESS;
        }
    }
    return TIMEOUT;
}

EXPORT int nvmlEventSetFree(struct eventset *set)
{
    if (!known(set))
        return INVALID_ARGUMENT;
    set->used = 0;
    return SUCCESS;
}
