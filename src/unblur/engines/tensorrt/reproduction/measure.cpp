// Times an engine file as unblur's stopwatch does: one frame after the other, pinned buffers, a CUDA graph.
//   measure ENGINE [PROFILE HEIGHT WIDTH]
// "frame" is wall clock around copy in, engine, copy out and the wait for it; "gpu" is CUDA events around the engine
// alone. Quantiles are interpolated linearly, as numpy does by default.
#include <NvInfer.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <vector>

namespace {

constexpr int kFrames = 300, kWarmUpFrames = 50;
constexpr double kWarmUpMs = 500.0;
using Clock = std::chrono::steady_clock;
using Ms = std::chrono::duration<double, std::milli>;

class Logger : public nvinfer1::ILogger {
    void log(Severity severity, char const* message) noexcept override {
        if (severity <= Severity::kWARNING) std::fprintf(stderr, "%s\n", message);
    }
};

void require(bool done, char const* what) {
    if (done) return;
    std::fprintf(stderr, "measure: %s failed\n", what);
    std::exit(1);
}

void require(cudaError_t status, char const* what) {
    if (status != cudaSuccess) std::fprintf(stderr, "%s: ", cudaGetErrorString(status));
    require(status == cudaSuccess, what);
}

struct Buffer {
    void *host, *device;
    size_t bytes;
};

Buffer make_buffer(nvinfer1::Dims const& shape, nvinfer1::DataType type) {
    bool const is_float = type == nvinfer1::DataType::kFLOAT;
    require(is_float || type == nvinfer1::DataType::kUINT8, "an input or output in float or uint8");
    size_t count = 1;
    for (int32_t k = 0; k < shape.nbDims; ++k) count *= static_cast<size_t>(shape.d[k]);
    Buffer buffer{nullptr, nullptr, count * (is_float ? sizeof(float) : 1)};
    require(cudaMallocHost(&buffer.host, buffer.bytes), "cudaMallocHost");
    require(cudaMalloc(&buffer.device, buffer.bytes), "cudaMalloc");
    std::mt19937 random(0);  // zeros would draw less power than a picture
    for (size_t k = 0; k < count; ++k) {
        if (is_float) static_cast<float*>(buffer.host)[k] = static_cast<float>(random()) / 4294967296.0F - 0.5F;
        else static_cast<uint8_t*>(buffer.host)[k] = static_cast<uint8_t>(random());
    }
    return buffer;
}

double quantile(std::vector<double> const& sorted, double q) {
    double const position = q * static_cast<double>(sorted.size() - 1);
    size_t const below = static_cast<size_t>(position), above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (position - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

void print(char const* what, std::vector<double> ms) {
    std::sort(ms.begin(), ms.end());
    std::printf("%s: count %zu minimum_ms %.4f", what, ms.size(), ms.front());
    for (int percent : {10, 50, 90, 95, 99}) std::printf(" p%d_ms %.4f", percent, quantile(ms, percent / 100.0));
    std::printf("\n");
}

}  // namespace

int main(int argc, char** argv) {
    require(argc == 2 || argc == 5, "usage: measure ENGINE [PROFILE HEIGHT WIDTH]; reading the arguments");
    std::ifstream file(argv[1], std::ios::binary);
    std::vector<char> const data(std::istreambuf_iterator<char>(file), {});
    require(!data.empty(), "reading the engine file");
    Logger logger;
    cudaStream_t stream = nullptr;
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    std::unique_ptr<nvinfer1::IRuntime> runtime(nvinfer1::createInferRuntime(logger));
    require(runtime != nullptr, "createInferRuntime");
    std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime->deserializeCudaEngine(data.data(), data.size()));
    require(engine != nullptr, "deserializeCudaEngine (built by this very release, for this GPU?)");
#ifdef UNBLUR_RTX
    std::unique_ptr<nvinfer1::IRuntimeConfig> config(engine->createRuntimeConfig());
    require(config->setCudaGraphStrategy(nvinfer1::CudaGraphStrategy::kWHOLE_GRAPH_CAPTURE), "setCudaGraphStrategy");
    std::unique_ptr<nvinfer1::IExecutionContext> context(engine->createExecutionContext(config.get()));
#else
    std::unique_ptr<nvinfer1::IExecutionContext> context(engine->createExecutionContext());
#endif
    require(context != nullptr, "createExecutionContext");
    if (argc == 5) require(context->setOptimizationProfileAsync(std::atoi(argv[2]), stream), "choosing the profile");

    require(engine->getNbIOTensors() == 2, "finding one input and one output");
    char const* names[2] = {engine->getIOTensorName(0), engine->getIOTensorName(1)};
    if (engine->getTensorIOMode(names[0]) != nvinfer1::TensorIOMode::kINPUT) std::swap(names[0], names[1]);
    nvinfer1::Dims shape = engine->getTensorShape(names[0]);
    int next = 3;  // open dimensions are height, then width, in both layouts
    for (int32_t k = 0; k < shape.nbDims; ++k)
        if (shape.d[k] < 0) shape.d[k] = argc == 5 && next < 5 ? std::atoi(argv[next++]) : 0;
    require(context->setInputShape(names[0], shape), "setInputShape (a dynamic engine needs PROFILE HEIGHT WIDTH)");
    require(context->inferShapes(0, nullptr) == 0, "inferShapes");
    Buffer const in = make_buffer(shape, engine->getTensorDataType(names[0]));
    Buffer const out = make_buffer(context->getTensorShape(names[1]), engine->getTensorDataType(names[1]));
    require(context->setTensorAddress(names[0], in.device), "setTensorAddress of the input");
    require(context->setTensorAddress(names[1], out.device), "setTensorAddress of the output");
    require(context->enqueueV3(stream), "enqueueV3");  // the first run allocates (and compiles, for RTX)
    require(cudaStreamSynchronize(stream), "the first frame");
#ifdef UNBLUR_RTX
    auto const launch = [&] { require(context->enqueueV3(stream), "enqueueV3"); };
#else
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    require(context->enqueueV3(stream), "enqueueV3 under capture");
    require(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
    require(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    auto const launch = [&] { require(cudaGraphLaunch(executable, stream), "cudaGraphLaunch"); };
#endif
    cudaEvent_t before = nullptr, after = nullptr;
    require(cudaEventCreate(&before) == cudaSuccess && cudaEventCreate(&after) == cudaSuccess, "cudaEventCreate");
    auto const one_frame = [&](bool events) {
        auto const start = Clock::now();
        require(cudaMemcpyAsync(in.device, in.host, in.bytes, cudaMemcpyHostToDevice, stream), "the copy in");
        if (events) require(cudaEventRecord(before, stream), "cudaEventRecord");
        launch();
        if (events) require(cudaEventRecord(after, stream), "cudaEventRecord");
        require(cudaMemcpyAsync(out.host, out.device, out.bytes, cudaMemcpyDeviceToHost, stream), "the copy out");
        require(cudaStreamSynchronize(stream), "a frame");
        return Ms(Clock::now() - start).count();
    };
    auto const begun = Clock::now();
    for (int k = 0; k < kWarmUpFrames || Ms(Clock::now() - begun).count() < kWarmUpMs; ++k) one_frame(false);
    std::vector<double> frame_ms, gpu_ms;
    for (int k = 0; k < kFrames; ++k) frame_ms.push_back(one_frame(false));
    for (float ms = 0.0F; gpu_ms.size() < kFrames;) {
        one_frame(true);
        require(cudaEventElapsedTime(&ms, before, after), "cudaEventElapsedTime");
        gpu_ms.push_back(ms);
    }
    print("frame", frame_ms);
    print("gpu", gpu_ms);
}
