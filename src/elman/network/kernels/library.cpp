// What XLA calls: unpacks its buffers, chooses the instruction set, gathers threads. Compiled for the plainest processor.
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "interface.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace elman {

#if defined(__x86_64__)
extern const Kernels kernels_avx512, kernels_avx2;
#endif
extern const Kernels kernels_plain;

namespace {

bool runs_here(const Kernels& kernels) {
#if defined(__x86_64__)
  if (&kernels == &kernels_avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("fma");
  if (&kernels == &kernels_avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return &kernels == &kernels_plain;
}

const Kernels* const kAll[] = {
#if defined(__x86_64__)
    &kernels_avx512, &kernels_avx2,
#endif
    &kernels_plain};

// The widest this processor has, or the one that ELMAN_INSTRUCTION_SET names, if the processor has it.
const Kernels& choose() {
  const char* wanted = std::getenv("ELMAN_INSTRUCTION_SET");
  for (const Kernels* kernels : kAll)
    if (runs_here(*kernels) && (!wanted || !*wanted || !std::strcmp(wanted, kernels->name))) return *kernels;
  for (const Kernels* kernels : kAll)
    if (runs_here(*kernels)) return *kernels;
  return kernels_plain;
}

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

// The most threads one call may use: as many processors as this process may run on, or fewer if ELMAN_THREADS says so.
int most_threads() {
  static const int most = [] {
    cpu_set_t set;
    int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
    const char* wanted = std::getenv("ELMAN_THREADS");
    if (wanted && std::atoi(wanted) > 0 && std::atoi(wanted) < allowed) allowed = std::atoi(wanted);
    return allowed < 1 ? 1 : allowed;
  }();
  return most;
}

constexpr size_t kHugePage = size_t{2} << 20;

struct Block {
  void* memory = nullptr;
  size_t size = 0;
  ~Block() { std::free(memory); }
};

}  // namespace

void* scratch(Scratch which, size_t bytes) {
  thread_local Block blocks[2];
  Block& block = blocks[which];
  if (block.size < bytes) {
    std::free(block.memory);
    const size_t page = bytes < kHugePage ? 4096 : kHugePage;
    block.size = (bytes + page - 1) / page * page;
    block.memory = std::aligned_alloc(page, block.size);
    if (block.memory && page == kHugePage) madvise(block.memory, block.size, MADV_HUGEPAGE);  // a wish; nothing is lost without
    if (!block.memory) {
      block.size = 0;
      throw std::bad_alloc();
    }
  }
  return block.memory;
}

namespace {

// One call's helpers. The gate outlives the call: a helper that comes when the work is over finds it closed and leaves.
struct Gate {
  std::atomic<int> inside{0};
  std::atomic<bool> open{true};
};

struct Helpers {
  ffi::ThreadPool* pool;
  int helpers;

  static void run(void* self, void (*work)(void*, int), void* context) {
    auto* helpers = static_cast<Helpers*>(self);
    auto gate = std::make_shared<Gate>();
    for (int worker = 1; worker <= helpers->helpers; ++worker)
      helpers->pool->Schedule([gate, work, context, worker] {
        gate->inside.fetch_add(1);
        if (gate->open.load()) work(context, worker);
        gate->inside.fetch_sub(1);
      });
    work(context, 0);
    gate->open.store(false);
    for (int spins = 0; gate->inside.load() > 0; ++spins)
      if (spins > 4000) sched_yield();
  }
};

// A team for so many multiply-adds: below some fifty microseconds of work, waking another thread costs more than it brings.
struct Gathering {
  Helpers helpers;
  Team team;

  Gathering(ffi::ThreadPool& pool, double multiplications, int most = 1 << 20) : helpers{&pool, 0}, team{1, &helpers, Helpers::run} {
    int threads = most_threads();
    if (pool.num_threads() < threads) threads = static_cast<int>(pool.num_threads());
    if (most < threads) threads = most;
    if (multiplications < 1e6) threads = 1;
    helpers.helpers = threads < 1 ? 0 : threads - 1;
    team.threads = helpers.helpers + 1;
  }
};

using Floats = ffi::Buffer<ffi::F32>;
using Integers = ffi::Buffer<ffi::S32>;
using Result = ffi::ResultBuffer<ffi::F32>;

template <class B>
auto* or_null(B& buffer) {
  return buffer.element_count() ? buffer.typed_data() : nullptr;
}

ffi::Error refuse(const char* what) { return ffi::Error(ffi::ErrorCode::kInvalidArgument, std::string("elman: ") + what); }

// Fill in what every call on a layer gets: xs as floats [time, batch, inputs] or integers [time, batch].
ffi::Error describe(Layer& layer, int cell, ffi::AnyBuffer& xs, Floats& weight_inputs, Floats& weight_hidden, Floats& carry) {
  const auto shape = xs.dimensions();
  if (shape.size() < 2 || weight_inputs.dimensions().size() != 2 || weight_hidden.dimensions().size() != 2)
    return refuse("shapes of a layer");
  layer.cell = cell;
  layer.steps = shape[0], layer.batch = shape[1];
  layer.inputs = weight_inputs.dimensions()[0], layer.hidden = weight_hidden.dimensions()[0];
  layer.weight_inputs = weight_inputs.typed_data(), layer.weight_hidden = weight_hidden.typed_data();
  layer.carry = carry.typed_data();
  const int64_t gates = gate_blocks(cell) * layer.hidden;
  if (xs.element_type() == ffi::S32 && shape.size() == 2)
    layer.codes = reinterpret_cast<const int32_t*>(xs.untyped_data());
  else if (xs.element_type() == ffi::F32 && shape.size() == 3 && shape[2] == layer.inputs)
    layer.xs = reinterpret_cast<const float*>(xs.untyped_data());
  else
    return refuse("xs must be int32 [time, batch] or float32 [time, batch, inputs]");
  if (static_cast<int64_t>(carry.element_count()) != layer.batch * (cell == kLstm ? 2 : 1) * layer.hidden ||
      weight_inputs.dimensions()[1] != gates || weight_hidden.dimensions()[1] != gates)
    return refuse("shapes of a layer do not fit each other");
  if (layer.steps < 1 || layer.batch < 1 || layer.hidden < 1 || layer.inputs < 1) return refuse("an empty layer");
  return ffi::Error::Success();
}

double multiplications(const Layer& layer) {
  const double width = layer.hidden + (layer.xs ? layer.inputs : 0);
  return static_cast<double>(layer.steps) * layer.batch * gate_blocks(layer.cell) * layer.hidden * width;
}

ffi::Error forward_call(ffi::ThreadPool pool, int32_t cell, ffi::AnyBuffer xs, Floats weight_inputs, Floats weight_hidden,
                        Floats bias, Floats bias_candidate, Floats carry, Integers lengths, Floats mask, Result hiddens,
                        Result gates, Result last) {
  Layer layer{};
  if (auto error = describe(layer, cell, xs, weight_inputs, weight_hidden, carry); error.failure()) return error;
  layer.bias = bias.typed_data(), layer.bias_candidate = or_null(bias_candidate);
  layer.lengths = or_null(lengths), layer.mask = or_null(mask);
  layer.hiddens = hiddens->typed_data(), layer.gates = or_null(*gates), layer.last = last->typed_data();
  Gathering gathering(pool, multiplications(layer));
  kernels().forward(gathering.team, layer);
  return ffi::Error::Success();
}

ffi::Error backward_call(ffi::ThreadPool pool, int32_t cell, Floats weight_hidden, Floats carry, Integers lengths, Floats mask,
                         Floats hiddens, Floats gates, Floats d_hiddens, Floats d_last, Result d_gates, Result d_carry) {
  const auto shape = hiddens.dimensions();
  if (shape.size() != 3) return refuse("hiddens must be [time, batch, hidden]");
  Layer layer{};
  layer.cell = cell;
  layer.steps = shape[0], layer.batch = shape[1], layer.hidden = shape[2];
  layer.weight_hidden = weight_hidden.typed_data(), layer.carry = carry.typed_data();
  layer.lengths = or_null(lengths), layer.mask = or_null(mask);
  layer.hiddens = hiddens.typed_data(), layer.gates = or_null(gates);
  LayerGradient gradient{};
  gradient.d_hiddens = d_hiddens.typed_data(), gradient.d_last = d_last.typed_data();
  gradient.d_gates = d_gates->typed_data(), gradient.d_carry = d_carry->typed_data();
  if (static_cast<int64_t>(gates.element_count()) != layer.steps * layer.batch * saved_blocks(cell) * layer.hidden ||
      d_gates->element_count() != hiddens.element_count() * gradient_blocks(cell) ||
      d_hiddens.element_count() != hiddens.element_count())
    return refuse("shapes of a reverse loop do not fit each other");
  Gathering gathering(pool, multiplications(layer));
  kernels().backward(gathering.team, layer, gradient);
  return ffi::Error::Success();
}

ffi::Error weight_gradient_call(ffi::ThreadPool pool, int32_t cell, ffi::AnyBuffer xs, Floats weight_inputs, Floats weight_hidden,
                                Floats carry, Floats mask, Floats hiddens, Floats d_gates, Result d_weight_inputs,
                                Result d_weight_hidden, Result d_bias, Result d_bias_candidate) {
  Layer layer{};
  if (auto error = describe(layer, cell, xs, weight_inputs, weight_hidden, carry); error.failure()) return error;
  layer.mask = or_null(mask), layer.hiddens = hiddens.typed_data();
  LayerGradient gradient{};
  gradient.d_gates = d_gates.typed_data();
  gradient.d_weight_inputs = d_weight_inputs->typed_data(), gradient.d_weight_hidden = d_weight_hidden->typed_data();
  gradient.d_bias = d_bias->typed_data(), gradient.d_bias_candidate = or_null(*d_bias_candidate);
  Gathering gathering(pool, multiplications(layer));
  kernels().weight_gradient(gathering.team, layer, gradient);
  return ffi::Error::Success();
}

ffi::Error input_gradient_call(ffi::ThreadPool pool, int32_t cell, Floats weight_inputs, Floats d_gates, Result d_xs) {
  const auto shape = d_xs->dimensions();
  if (shape.size() != 3) return refuse("d_xs must be [time, batch, inputs]");
  Layer layer{};
  layer.cell = cell;
  layer.steps = shape[0], layer.batch = shape[1], layer.inputs = shape[2];
  layer.hidden = weight_inputs.dimensions()[1] / gate_blocks(cell);
  layer.weight_inputs = weight_inputs.typed_data();
  LayerGradient gradient{};
  gradient.d_gates = d_gates.typed_data(), gradient.d_xs = d_xs->typed_data();
  Gathering gathering(pool, static_cast<double>(d_xs->element_count()) * weight_inputs.dimensions()[1]);
  kernels().input_gradient(gathering.team, layer, gradient);
  return ffi::Error::Success();
}

void describe(Head& head, Floats& hiddens, Floats& weight, Integers& targets) {
  head.rows = hiddens.dimensions()[0], head.hidden = hiddens.dimensions()[1], head.symbols = weight.dimensions()[1];
  head.hiddens = hiddens.typed_data(), head.weight = weight.typed_data(), head.targets = targets.typed_data();
}

ffi::Error head_forward_call(ffi::ThreadPool pool, Floats hiddens, Floats weight, Floats bias, Integers targets, Result losses,
                             Result probabilities) {
  Head head{};
  describe(head, hiddens, weight, targets);
  head.bias = bias.typed_data(), head.losses = losses->typed_data(), head.probabilities = or_null(*probabilities);
  Gathering gathering(pool, static_cast<double>(head.rows) * head.hidden * head.symbols);
  kernels().head_forward(gathering.team, head);
  return ffi::Error::Success();
}

ffi::Error head_backward_call(ffi::ThreadPool pool, Floats hiddens, Floats weight, Floats probabilities, Integers targets,
                              Floats d_losses, Result d_hiddens, Result d_weight, Result d_bias, Result d_logits) {
  Head head{};
  describe(head, hiddens, weight, targets);
  head.probabilities = const_cast<float*>(probabilities.typed_data()), head.d_losses = d_losses.typed_data();
  head.d_hiddens = d_hiddens->typed_data(), head.d_weight = d_weight->typed_data(), head.d_bias = d_bias->typed_data();
  head.d_logits = d_logits->typed_data();
  Gathering gathering(pool, 2.0 * head.rows * head.hidden * head.symbols);
  kernels().head_backward(gathering.team, head);
  return ffi::Error::Success();
}

// Arrays that are updated in place come as arguments and as results that share their memory.
ffi::Error classic_call(ffi::ThreadPool pool, int32_t mean, float clip, float epsilon, Integers count, Integers codes, ffi::Buffer<ffi::U8> fresh,
                        Floats rates, ffi::RemainingArgs, ffi::RemainingRets results) {
  if (results.size() != 13 || codes.dimensions().size() != 2) return refuse("the classic update takes eleven arrays in place");
  float* arrays[13];
  for (size_t i = 0; i < 13; ++i) {
    auto buffer = results.get<Floats>(i);
    if (!buffer) return refuse("the classic update is for float32");
    arrays[i] = (*buffer)->typed_data();
  }
  Classic call{};
  const int64_t updates = codes.dimensions()[0];
  call.updates = count.typed_data()[0], call.unroll = codes.dimensions()[1] - 1;
  if (call.updates < 0 || call.updates > updates) return refuse("more updates than there are batches");
  call.hidden = (*results.get<Floats>(2))->element_count(), call.symbols = (*results.get<Floats>(4))->element_count();
  call.codes = codes.typed_data(), call.fresh = fresh.typed_data(), call.rates = rates.typed_data();
  call.clip = clip, call.epsilon = epsilon, call.mean = mean != 0;
  for (int i = 0; i < 5; ++i) call.weights[i] = arrays[i], call.sums[i] = arrays[5 + i];
  call.state = arrays[10], call.losses = arrays[11], call.norms = arrays[12];
  for (int64_t i = call.updates; i < updates; ++i) call.losses[i] = call.norms[i] = 0;
  // Two threads: a walk over the steps beside what does not wait for it. More would only meet after every stage.
  Gathering gathering(pool, 4.0 * call.unroll * call.hidden * (call.hidden + call.symbols), 2);
  kernels().classic(gathering.team, call);
  return ffi::Error::Success();
}

// Arguments behind the named ones: W_x, W_h, b and the candidate's bias of each layer.
ffi::Error sample_call(ffi::ThreadPool pool, int32_t cell, float sharpness, Floats weight, Floats bias, Floats carry, Integers symbol, Floats uniforms,
                       ffi::RemainingArgs layers, ffi::ResultBuffer<ffi::S32> symbols, Result last) {
  Sampling sampling{};
  sampling.layers = layers.size() / 4, sampling.steps = uniforms.element_count();
  sampling.hidden = weight.dimensions()[0], sampling.symbols = weight.dimensions()[1];
  sampling.weight = weight.typed_data(), sampling.bias = bias.typed_data(), sampling.uniforms = uniforms.typed_data();
  sampling.sharpness = sharpness;
  if (sampling.layers < 1 || sampling.layers > kMostLayers || sampling.steps < 1) return refuse("no layers or steps, or too many");
  const int64_t width = carry.element_count() / sampling.layers;
  // The states of a chunk's steps and its symbols, for this call alone.
  const std::unique_ptr<float[]> states(new float[sampling.layers * sampling.steps * sampling.hidden]);
  const std::unique_ptr<int32_t[]> drawn(new int32_t[sampling.steps + 1]);
  drawn[0] = symbol.typed_data()[0];
  sampling.drawn = drawn.get();
  for (int64_t i = 0; i < sampling.layers; ++i) {
    const float* arrays[4];
    for (int64_t k = 0; k < 4; ++k) {
      auto buffer = layers.get<Floats>(4 * i + k);
      if (!buffer) return refuse("sampling is for float32");
      arrays[k] = or_null(*buffer);
      if (k == 0 && i == 0) sampling.layer[0].inputs = buffer->dimensions()[0];
    }
    Layer& layer = sampling.layer[i];
    layer.cell = cell, layer.steps = sampling.steps, layer.batch = 1, layer.hidden = sampling.hidden;
    layer.weight_inputs = arrays[0], layer.weight_hidden = arrays[1], layer.bias = arrays[2], layer.bias_candidate = arrays[3];
    layer.carry = carry.typed_data() + i * width, layer.last = last->typed_data() + i * width;
    layer.hiddens = states.get() + i * sampling.steps * sampling.hidden;
    if (i == 0)
      layer.codes = drawn.get();
    else
      layer.xs = sampling.layer[i - 1].hiddens, layer.inputs = sampling.hidden;
  }
  // One thread for each quarter of a megabyte of weights: below that meeting after every step costs more than it brings.
  const double weights = 4.0 * gate_blocks(cell) * sampling.hidden * sampling.hidden * sampling.layers;
  Gathering gathering(pool, 1e9, static_cast<int>(weights / (256 << 10)));
  kernels().sample(gathering.team, sampling);
  std::memcpy(symbols->typed_data(), drawn.get() + 1, sizeof(int32_t) * sampling.steps);
  return ffi::Error::Success();
}

}  // namespace
}  // namespace elman

#define ELMAN_EXPORT extern "C" __attribute__((visibility("default")))

ELMAN_EXPORT const char* elman_instruction_set() { return elman::kernels().name; }
ELMAN_EXPORT int elman_runs_here(const char* name) {
  for (const auto* kernels : elman::kAll)
    if (!std::strcmp(name, kernels->name)) return elman::runs_here(*kernels);
  return 0;
}
ELMAN_EXPORT int elman_threads() { return elman::most_threads(); }

using elman::Floats;
using elman::Integers;
using elman::Result;

#pragma GCC visibility push(default)
XLA_FFI_DEFINE_HANDLER_SYMBOL(elman_forward, elman::forward_call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int32_t>("cell")
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Arg<Integers>()
                                  .Arg<Floats>()
                                  .Ret<Floats>().Ret<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(elman_backward, elman::backward_call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int32_t>("cell")
                                  .Arg<Floats>().Arg<Floats>()
                                  .Arg<Integers>()
                                  .Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Ret<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(elman_weight_gradient, elman::weight_gradient_call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int32_t>("cell")
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Ret<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(elman_input_gradient, elman::input_gradient_call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int32_t>("cell")
                                  .Arg<Floats>().Arg<Floats>()
                                  .Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(elman_head_forward, elman::head_forward_call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Arg<Integers>()
                                  .Ret<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(elman_head_backward, elman::head_backward_call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Arg<Integers>()
                                  .Arg<Floats>()
                                  .Ret<Floats>().Ret<Floats>().Ret<Floats>().Ret<Floats>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(elman_classic, elman::classic_call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int32_t>("mean")
                                  .Attr<float>("clip")
                                  .Attr<float>("epsilon")
                                  .Arg<Integers>().Arg<Integers>()
                                  .Arg<ffi::Buffer<ffi::U8>>()
                                  .Arg<Floats>()
                                  .RemainingArgs()
                                  .RemainingRets());
XLA_FFI_DEFINE_HANDLER_SYMBOL(elman_sample, elman::sample_call,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<int32_t>("cell")
                                  .Attr<float>("sharpness")
                                  .Arg<Floats>().Arg<Floats>().Arg<Floats>()
                                  .Arg<Integers>()
                                  .Arg<Floats>()
                                  .RemainingArgs()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Ret<Floats>());
#pragma GCC visibility pop
