"""Headers that stand in for NvInfer.h and the CUDA runtime, so that a compiler can hold a C++ program to the names.

Each member function is written beside the name that TensorRT's Python bindings have for it; the snapshots of those
names then vouch for the C++ ones. The bodies do the least that lets the program run.
"""

from __future__ import annotations

from pathlib import Path

# C++ member -> (its declaration and body, class and name in Python).
RUNTIME = {
    "deserializeCudaEngine": ("ICudaEngine* deserializeCudaEngine(void const*, std::size_t) "
                              "{ return new ICudaEngine; }", "Runtime.deserialize_cuda_engine"),
}  # fmt: skip
ENGINE = {
    "createExecutionContext": ("IExecutionContext* createExecutionContext() { return new IExecutionContext; }\n"
                               "IExecutionContext* createExecutionContext(IRuntimeConfig*) { return nullptr; }",
                               "ICudaEngine.create_execution_context"),
    "createRuntimeConfig": ("IRuntimeConfig* createRuntimeConfig() { return nullptr; }",
                            "ICudaEngine.create_runtime_config"),
    "getNbIOTensors": ("int32_t getNbIOTensors() const { return 2; }", "ICudaEngine.num_io_tensors"),
    "getIOTensorName": ('char const* getIOTensorName(int32_t k) const { return k ? "x" : "y"; }',
                        "ICudaEngine.get_tensor_name"),
    "getTensorIOMode": ("TensorIOMode getTensorIOMode(char const* n) const { return *n == 'x' ? TensorIOMode::kINPUT : "
                        "TensorIOMode::kOUTPUT; }", "ICudaEngine.get_tensor_mode"),
    "getTensorShape": ("Dims getTensorShape(char const*) const { return {4, {1, 3, -1, -1}}; }",
                       "ICudaEngine.get_tensor_shape"),
    "getTensorDataType": ("DataType getTensorDataType(char const*) const { return DataType::kFLOAT; }",
                          "ICudaEngine.get_tensor_dtype"),
}  # fmt: skip
CONTEXT = {
    "setOptimizationProfileAsync": ("bool setOptimizationProfileAsync(int32_t k, cudaStream_t) { return k == 0; }",
                                    "IExecutionContext.set_optimization_profile_async"),
    "setInputShape": ("bool setInputShape(char const*, Dims const& s) "
                      "{ shape = s; return s.d[2] == 48 && s.d[3] == 64; }", "IExecutionContext.set_input_shape"),
    "inferShapes": ("int32_t inferShapes(int32_t, char const**) { return 0; }", "IExecutionContext.infer_shapes"),
    "getTensorShape": ("Dims getTensorShape(char const*) const { return shape; }",
                       "IExecutionContext.get_tensor_shape"),
    "setTensorAddress": ("bool setTensorAddress(char const*, void* p) { return p != nullptr; }",
                         "IExecutionContext.set_tensor_address"),
    "enqueueV3": ("bool enqueueV3(cudaStream_t) { return true; }", "IExecutionContext.execute_async_v3"),
}  # fmt: skip
CONFIG = {
    "setCudaGraphStrategy": ("bool setCudaGraphStrategy(CudaGraphStrategy) { return true; }",
                             "RuntimeConfig.cuda_graph_strategy"),
}  # fmt: skip
ENUMS = {
    "DataType": {"kFLOAT": "FLOAT", "kUINT8": "UINT8"},
    "TensorIOMode": {"kINPUT": "INPUT", "kOUTPUT": "OUTPUT"},
    "CudaGraphStrategy": {"kWHOLE_GRAPH_CAPTURE": "WHOLE_GRAPH_CAPTURE"},
}
MEMBERS = {**RUNTIME, **ENGINE, **CONTEXT, **CONFIG}
RTX_ONLY = {"createRuntimeConfig", "setCudaGraphStrategy"}

_CUDA = """#pragma once
#include <cstdlib>
#include <cstring>
enum cudaError_t { cudaSuccess };
struct Opaque;
using cudaStream_t = Opaque*; using cudaGraph_t = Opaque*; using cudaGraphExec_t = Opaque*; using cudaEvent_t = Opaque*;
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
constexpr unsigned cudaStreamNonBlocking = 1;
inline char const* cudaGetErrorString(cudaError_t) { return "error"; }
inline cudaError_t cudaMallocHost(void** p, std::size_t n) { *p = std::malloc(n); return cudaSuccess; }
inline cudaError_t cudaMalloc(void** p, std::size_t n) { *p = std::malloc(n); return cudaSuccess; }
inline cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t n, cudaMemcpyKind, cudaStream_t) {
    std::memcpy(to, from, n); return cudaSuccess; }
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned) { return cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) { return cudaSuccess; }
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*) { return cudaSuccess; }
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long) { return cudaSuccess; }
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventCreate(cudaEvent_t*) { return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
inline cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) {
    static int k = 0; *ms = static_cast<float>(k++); return cudaSuccess; }
"""


def write_stubs(folder: Path) -> None:
    """NvInfer.h and cuda_runtime_api.h. Events count 0, 1, 2, ... milliseconds, so that quantiles are known."""

    def members(table: dict[str, tuple[str, str]]) -> str:
        return "\n".join(declaration for declaration, _ in table.values())

    enums = "\n".join(f"enum class {name} {{ {', '.join(values)} }};" for name, values in ENUMS.items())
    (folder / "cuda_runtime_api.h").write_text(_CUDA)
    (folder / "NvInfer.h").write_text(f"""#pragma once
#include <cstddef>
#include <cstdint>
#include "cuda_runtime_api.h"
namespace nvinfer1 {{
{enums}
struct Dims {{ int32_t nbDims; int64_t d[8]; }};
struct ILogger {{
    enum class Severity {{ kINTERNAL_ERROR, kERROR, kWARNING, kINFO, kVERBOSE }};
    virtual void log(Severity, char const*) noexcept = 0;
    virtual ~ILogger() = default;
}};
struct IRuntimeConfig {{ {members(CONFIG)} }};
struct IExecutionContext {{ Dims shape{{}};
{members(CONTEXT)} }};
struct ICudaEngine {{
{members(ENGINE)} }};
struct IRuntime {{ {members(RUNTIME)} }};
inline IRuntime* createInferRuntime(ILogger&) {{ return new IRuntime; }}
}}
""")
