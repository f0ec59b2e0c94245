/* A CUDA runtime, driver and cuBLAS that keep count of memory and compute nothing.

   Loaded before the real ones it lets PyTorch's own allocator and operators run where there is no
   GPU: every allocation is PyTorch's, no number that comes out of a kernel means anything, and
   nothing here says how long a card would take. One device of STUB_BYTES, compute capability 8.9,
   20 multiprocessors, as an RTX 4050 Laptop has. cuDNN is not imitated. */

#define _GNU_SOURCE
#include <driver_types.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 2097152UL
#define KNOWN 1000000
#define OUT_OF_MEMORY 2
#define DEVICE_TO_HOST 2
#define DEVICE_TO_DEVICE 3
#define READ_BY_THE_HOST 65536

typedef unsigned long long u64;

static size_t in_use = 300UL << 20;
static struct { void *at; size_t size; } taken[KNOWN];
static size_t handles[KNOWN];
static int takes, created, anything[1024];

/* How often the host waited for the device, and how often more memory was pinned. */
static struct { void *at; size_t size; } pinned[KNOWN];
static int pins, waits;
int stub_pins(void) { return pins; }
int stub_waits(void) { return waits; }

static int is_pinned(const void *at) {
    for (int i = 0; i < pins; i++)
        if ((char *)at >= (char *)pinned[i].at && (char *)at < (char *)pinned[i].at + pinned[i].size)
            return 1;
    return 0;
}

static size_t total(void) {
    static size_t bytes;
    if (!bytes) bytes = strtoull(getenv("STUB_BYTES"), NULL, 10);
    return bytes;
}

static size_t pages(size_t size) { return (size + PAGE - 1) / PAGE * PAGE; }

/* Addresses with zeros behind them, which no physical memory backs before they are written. */
static void *space(size_t size) {
    char *at = mmap(NULL, size + PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) abort();
    return (void *)pages((size_t)at);
}

/* -- memory: the runtime's for native segments, the driver's for expandable ones */

int cudaMalloc(void **at, size_t size) {
    size = pages(size);
    *at = NULL;
    if (in_use + size > total() || takes == KNOWN) return OUT_OF_MEMORY;
    in_use += size;
    *at = space(size);
    taken[takes].at = *at;
    taken[takes++].size = size;
    return 0;
}

int cudaFree(void *at) {
    for (int i = 0; at && i < takes; i++)
        if (taken[i].at == at) {
            in_use -= taken[i].size;
            munmap(at, taken[i].size);
            taken[i].at = NULL;
        }
    return 0;
}

int cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    *total_bytes = total();
    *free_bytes = total() - in_use;
    return 0;
}

int cudaHostAlloc(void **at, size_t size, unsigned flags) {
    *at = pinned[pins].at = space(size);
    pinned[pins++].size = size;
    return 0;
}

static int reserve(u64 *at, size_t size, size_t align, u64 hint, u64 flags) {
    *at = (u64)space(size);
    return 0;
}

static int create(u64 *handle, size_t size, void *properties, u64 flags) {
    if (in_use + size > total() || created + 1 == KNOWN) return OUT_OF_MEMORY;
    in_use += size;
    handles[*handle = ++created] = size;
    return 0;
}

static int release(u64 handle) { in_use -= handles[handle]; return 0; }

/* -- what a device is asked */

int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }

int cudaGetDeviceProperties(struct cudaDeviceProp *it, int device) {
    memset(it, 0, sizeof *it);
    strcpy(it->name, "a driver that computes nothing");
    it->totalGlobalMem = total();
    it->major = 8;
    it->minor = 9;
    it->multiProcessorCount = 20;
    it->maxThreadsPerMultiProcessor = 1536;
    it->warpSize = 32;
    it->maxThreadsPerBlock = it->maxThreadsDim[0] = it->maxThreadsDim[1] = 1024;
    it->maxThreadsDim[2] = 64;
    it->maxGridSize[0] = 2147483647;
    it->maxGridSize[1] = it->maxGridSize[2] = 65535;
    it->sharedMemPerBlock = 49152;
    it->sharedMemPerBlockOptin = 101376;
    it->sharedMemPerMultiprocessor = 102400;
    it->regsPerBlock = it->regsPerMultiprocessor = 65536;
    it->maxBlocksPerMultiProcessor = 24;
    return 0;
}

int cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device) {
    switch (attribute) {
    case cudaDevAttrWarpSize: *value = 32; break;
    case cudaDevAttrMultiProcessorCount: *value = 20; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = 1536; break;
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 49152; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 101376; break;
    case cudaDevAttrComputeCapabilityMajor: *value = 8; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 9; break;
    default: *value = 1;
    }
    return 0;
}

int cudaFuncGetAttributes(struct cudaFuncAttributes *it, const void *function) {
    memset(it, 0, sizeof *it);
    it->maxThreadsPerBlock = 1024;
    it->numRegs = 32;
    it->ptxVersion = it->binaryVersion = 86; /* what is loaded on 8.9: none is built for 8.9 */
    return 0;
}

int cudaPointerGetAttributes(struct cudaPointerAttributes *it, const void *at) {
    memset(it, 0, sizeof *it);
    it->type = is_pinned(at) ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    it->devicePointer = (void *)at;
    return 0;
}

int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
    int *blocks, const void *function, int size, size_t shared, unsigned flags) {
    *blocks = 2;
    return 0;
}

const char *cudaGetErrorString(int error) { return error == OUT_OF_MEMORY ? "out of memory" : "?"; }
const char *cudaGetErrorName(int error) { return cudaGetErrorString(error); }

/* -- streams, events, copies */

int cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
    *least = 0;
    *greatest = -5;
    return 0;
}

int cudaStreamIsCapturing(void *stream, int *status) { *status = 0; return 0; }
int cudaStreamGetCaptureInfo(void *stream, int *status) { *status = 0; return 0; }
/* No time passes on a device that computes nothing. */
int cudaEventElapsedTime(float *milliseconds, void *from, void *to) { *milliseconds = 0; return 0; }
int cudaEventCreate(void **event) { *event = anything; return 0; }
int cudaEventCreateWithFlags(void **event, unsigned flags) { *event = anything; return 0; }
int cudaStreamSynchronize(void *stream) { waits++; return 0; }
int cudaDeviceSynchronize(void) { waits++; return 0; }
int cudaEventSynchronize(void *event) { waits++; return 0; }

int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
    waits++;
    memcpy(to, from, size);
    return 0;
}

/* What the host may read afterwards is copied; whole tensors on the device are not. With STUB_ZEROS
   the host reads zeros: a loss that is not finite would end a training run. From and to memory that
   is not pinned the host waits for the copy. */
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream) {
    if (kind != DEVICE_TO_DEVICE) waits += !is_pinned(kind == DEVICE_TO_HOST ? to : from);
    if (kind == DEVICE_TO_HOST && getenv("STUB_ZEROS")) memset(to, 0, size);
    else if (kind != DEVICE_TO_DEVICE || size < READ_BY_THE_HOST) memcpy(to, from, size);
    return 0;
}

/* -- cuBLAS */

/* Each thread has a handle of its own, and each handle a workspace. */
int cublasCreate_v2(void **handle) { *handle = malloc(64); return 0; }
int cublasGetMathMode(void *handle, int *mode) { *mode = 0; return 0; }
int cublasGetPointerMode_v2(void *handle, int *mode) { *mode = 0; return 0; }
int cublasLtMatmulPreferenceCreate(void **it) { *it = anything; return 0; }
int cublasLtMatrixLayoutCreate(void **it) { *it = anything; return 0; }
int cublasLtMatmulDescCreate(void **it) { *it = anything; return 0; }
size_t cublasLtGetVersion(void) { return 130100; }

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *matmul, void *a, void *b, void *c, void *d,
                                   void *preference, int asked, void *results, int *found) {
    *found = 1;
    return 0;
}

/* -- the driver, by name and through the runtime */

static int done(void) { return 0; }
static int granularity(size_t *bytes, void *properties, int option) { *bytes = PAGE; return 0; }
static int attribute(int *value, int which, int device) { *value = 1; return 0; }
static int words(int error, const char **text) { *text = cudaGetErrorString(error); return 0; }

int cuInit(unsigned flags) { return 0; }
int cuGetErrorString(int error, const char **text) { return words(error, text); }
int cuCtxGetCurrent(void **context) { *context = anything; return 0; }
int cuCtxSetCurrent(void *context) { return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = anything; return 0; }

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = 0;
    *active = 1;
    return 0;
}

int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                     u64 flags, int *status) {
    static const struct { const char *name; void *function; } known[] = {
        {"cuMemAddressReserve", reserve}, {"cuMemCreate", create}, {"cuMemRelease", release},
        {"cuGetErrorString", words}, {"cuDeviceGetAttribute", attribute},
        {"cuMemGetAllocationGranularity", granularity},
        {"cuDevicePrimaryCtxGetState", cuDevicePrimaryCtxGetState},
    };
    *function = done;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(name, known[i].name)) *function = known[i].function;
    if (status) *status = 0;
    return 0;
}

/* -- NVML: that there is a card, and its memory; all else is not supported */

#define NVML_NOT_SUPPORTED 3
#define NVML_NOT_FOUND 6

struct nvml_memory { unsigned version; u64 total, reserved, free, used; };

int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **it) { *it = anything; return 0; }
int nvmlDeviceGetPowerUsage(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetTemperature(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetClockInfo(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetPerformanceState(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetComputeRunningProcesses_v3(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemoteDeviceType(void) { return NVML_NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void) { return NVML_NOT_SUPPORTED; }
int nvmlSystemGetCudaDriverVersion_v2(void) { return NVML_NOT_SUPPORTED; }
const char *nvmlErrorString(int error) { return "not supported by a driver that computes nothing"; }

/* PyTorch asks these two for the words of its out-of-memory error. */
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **it) { *it = anything; return 0; }

int nvmlDeviceGetComputeRunningProcesses(void *it, unsigned *count, void *processes) {
    *count = 0;
    return 0;
}

int nvmlSystemGetDriverVersion(char *text, unsigned size) {
    strncpy(text, "580.0", size);
    return 0;
}

int nvmlDeviceGetHandleByUUID(const char *id, void **it) {
    *it = anything;
    return strncmp(id, "GPU-", 4) ? NVML_NOT_FOUND : 0;
}

/* Answers that the card belongs to no fabric: state 0, after version, cluster, status and clique.
   PyTorch 2.13 takes no refusal. */
struct nvml_fabric { unsigned version; unsigned char cluster[16]; int status; unsigned clique;
                     unsigned char state; };
int nvmlDeviceGetGpuFabricInfoV(void *it, struct nvml_fabric *found) {
  found->status = 0, found->clique = 0, found->state = 0;
  return 0;
}

int nvmlDeviceGetMemoryInfo_v2(void *it, struct nvml_memory *memory) {
    memory->total = total();
    memory->used = in_use;
    memory->free = total() - in_use;
    memory->reserved = 0;
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *it, u64 *three) {
    three[0] = total();
    three[1] = total() - in_use;
    three[2] = in_use;
    return 0;
}
