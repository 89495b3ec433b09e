// Random calls of the kernels, without Python, for builds that watch memory and threads: `sanitizing.py` compiles and runs it.
//
// Every array is a block of its own and exactly as long as it must be. Results and scratch memory begin as NaN, so that whatever is
// read before it is written shows in a result. Each case runs with 1, 2 and 4 threads and must give the same bits.
#include <sys/mman.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <vector>

// The real way of gathering helpers, on threads of our own; its scratch memory is replaced by one that has no room to spare.
#define scratch scratch_of_the_library
#include "library.cpp"
#undef scratch
#include "stages.h"

namespace {

// Memory ----------------------------------------------------------------------------------------------------------------------

#if defined(ELMAN_GUARD_PAGES)
// The last byte stands before a page that nobody may touch.
struct Block {
  char* pages = nullptr;
  size_t mapped = 0;
  char* data = nullptr;

  Block(size_t bytes, size_t alignment) {
    const size_t page = 4096, held = (bytes + page - 1) / page * page;
    mapped = held + page;
    pages = static_cast<char*>(mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (pages == MAP_FAILED || mprotect(pages + held, page, PROT_NONE)) std::abort();
    data = pages + (held - bytes) / alignment * alignment;
  }
  ~Block() { munmap(pages, mapped); }
#else
struct Block {
  char* data = nullptr;

  Block(size_t bytes, size_t alignment) {
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment < sizeof(void*) ? sizeof(void*) : alignment, bytes)) std::abort();
    data = static_cast<char*>(memory);
  }
  ~Block() { std::free(data); }
#endif
  Block(const Block&) = delete;
};

std::unique_ptr<Block> block_of_nan(size_t bytes, size_t alignment) {
  auto block = std::make_unique<Block>(bytes, alignment);
  std::memset(block->data, 0xff, bytes);
  return block;
}

// Threads ---------------------------------------------------------------------------------------------------------------------

class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 0; i < threads; ++i) workers.emplace_back([this] { serve(); });
  }
  ~Pool() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      closing = true;
    }
    arrived.notify_all();
    for (auto& worker : workers) worker.join();
  }
  void add(XLA_FFI_Task* task, void* data) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      tasks.emplace_back(task, data);
    }
    arrived.notify_one();
  }
  size_t size() const { return workers.size(); }

 private:
  std::vector<std::thread> workers;
  std::deque<std::pair<XLA_FFI_Task*, void*>> tasks;
  std::mutex mutex;
  std::condition_variable arrived;
  bool closing = false;

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    while (true) {
      arrived.wait(lock, [this] { return closing || !tasks.empty(); });
      if (tasks.empty()) return;
      const auto [task, data] = tasks.front();
      tasks.pop_front();
      lock.unlock();
      task(data);
      lock.lock();
    }
  }
};

Pool* pool_of_all = nullptr;

XLA_FFI_Error* schedule(XLA_FFI_ThreadPool_Schedule_Args* call) {
  pool_of_all->add(call->task, call->data);
  return nullptr;
}

// A team as the library gathers it, with as many threads as asked for, whatever this machine has.
struct Crew {
  XLA_FFI_Api api{};
  ffi::DiagnosticEngine diagnostics;
  ffi::ThreadPool pool;
  elman::Helpers helpers;
  elman::Team team;

  static ffi::ThreadPool pool_of(XLA_FFI_Api& api, ffi::DiagnosticEngine& diagnostics) {
    api.XLA_FFI_ThreadPool_Schedule = schedule;
    return *ffi::CtxDecoding<ffi::ThreadPool>::Decode(&api, nullptr, diagnostics);
  }
  explicit Crew(int threads)
      : pool(pool_of(api, diagnostics)), helpers{&pool, threads - 1}, team{threads, &helpers, elman::Helpers::run} {}
};

// Cases -----------------------------------------------------------------------------------------------------------------------

std::string plant;  // what is deliberately done wrong, if anything

// One case: its random numbers, its arrays, and what must be the same whoever computes it.
class Case {
 public:
  explicit Case(uint64_t seed) : random(seed) {}

  int64_t between(int64_t least, int64_t most) { return std::uniform_int_distribution<int64_t>(least, most)(random); }
  bool chance(double share) { return std::uniform_real_distribution<>(0, 1)(random) < share; }
  // Sizes around the widths of vectors and panels, and small ones.
  int64_t size(int64_t most) {
    static const int64_t edges[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 49, 63, 64, 65, 96, 97, 128, 129, 192, 193};
    const int64_t one = chance(0.6) ? edges[between(0, sizeof edges / sizeof *edges - 1)] : between(1, most);
    return one < most ? one : most;
  }

  float* floats(int64_t count, float scale = 0.3f, float offset = 0) {
    auto* data = reinterpret_cast<float*>(hold(count * sizeof(float), 4));
    std::normal_distribution<float> normal(0, 1);
    for (int64_t i = 0; i < count; ++i) data[i] = normal(random) * scale + offset;
    if (plant == "unset" && count) data[count - 1] = NAN;
    return data;
  }
  float* shares(int64_t count) {
    auto* data = reinterpret_cast<float*>(hold(count * sizeof(float), 4));
    for (int64_t i = 0; i < count; ++i) data[i] = std::uniform_real_distribution<float>(0, 1)(random);
    return data;
  }
  int32_t* integers(int64_t count, int64_t least, int64_t most) {
    auto* data = reinterpret_cast<int32_t*>(hold(count * sizeof(int32_t), 4));
    for (int64_t i = 0; i < count; ++i) data[i] = static_cast<int32_t>(between(least, most));
    return data;
  }
  uint8_t* bytes(int64_t count, double share) {
    auto* data = reinterpret_cast<uint8_t*>(hold(count, 1));
    for (int64_t i = 0; i < count; ++i) data[i] = chance(share);
    return data;
  }
  // An array that a kernel fills: what it holds then is compared.
  float* result(int64_t count) {
    int64_t room = count;
    if (plant == "overrun" && count) --room;
    const size_t off = plant == "misalignment" ? 2 : 0;  // the kernel is the first to take it for floats
    return watch(reinterpret_cast<float*>(hold(room * sizeof(float) + off, 4) + off), room);
  }
  float* watch(float* data, int64_t count) {
    results.emplace_back(data, count);
    return data;
  }
  std::vector<float> outcome() const {
    std::vector<float> all;
    for (const auto& [data, count] : results) all.insert(all.end(), data, data + count);
    return all;
  }

 private:
  std::mt19937_64 random;
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<std::pair<const float*, int64_t>> results;

  // Not on a round address: XLA's arrays begin on one, but nothing in the kernels may need it.
  char* hold(size_t bytes, size_t item) {
#if defined(ELMAN_GUARD_PAGES)
    blocks.push_back(block_of_nan(bytes, item));
    return blocks.back()->data;
#else
    const size_t shift = item * between(0, 3);
    blocks.push_back(block_of_nan(bytes + shift, item));
    return blocks.back()->data + shift;
#endif
  }
};

elman::Layer layer_of(Case& c, int64_t batch, int64_t steps, bool keep) {
  elman::Layer layer{};
  layer.cell = static_cast<int>(c.between(0, 3));
  layer.batch = batch, layer.steps = steps, layer.hidden = c.size(200), layer.inputs = c.size(100);
  const int64_t gates = elman::gate_blocks(layer.cell) * layer.hidden, carry = (layer.cell == elman::kLstm ? 2 : 1) * layer.hidden;
  layer.weight_inputs = c.floats(layer.inputs * gates), layer.weight_hidden = c.floats(layer.hidden * gates, 0.1f);
  layer.bias = c.floats(gates);
  if (layer.cell == elman::kGru) layer.bias_candidate = c.floats(layer.hidden);
  if (c.chance(0.5))
    layer.xs = c.floats(steps * batch * layer.inputs);
  else  // a code may count from the end, and one that is out of range may do no harm
    layer.codes = c.integers(steps * batch, -layer.inputs - 3, layer.inputs + 2);
  layer.carry = c.floats(batch * carry);
  if (c.chance(0.4)) layer.lengths = c.integers(batch, 0, steps);
  if (c.chance(0.4)) layer.mask = c.floats(batch * layer.hidden, 0.2f, 1.0f);
  layer.hiddens = c.result(steps * batch * layer.hidden);
  if (keep) layer.gates = c.result(steps * batch * elman::saved_blocks(layer.cell) * layer.hidden);
  layer.last = c.result(batch * carry);
  return layer;
}

// A layer forward and, where `backward`, all its gradients.
void run_layer(Case& c, const elman::Kernels& kernels, const elman::Team& team, bool backward) {
  const elman::Layer layer = layer_of(c, c.chance(0.6) ? c.between(1, 9) : c.between(10, 70), c.between(1, 14), backward);
  kernels.forward(team, layer);
  if (!backward) return;
  const int64_t positions = layer.steps * layer.batch, gates = elman::gate_blocks(layer.cell) * layer.hidden;
  const int64_t carry = (layer.cell == elman::kLstm ? 2 : 1) * layer.hidden;
  elman::LayerGradient gradient{};
  gradient.d_hiddens = c.floats(positions * layer.hidden), gradient.d_last = c.floats(layer.batch * carry);
  gradient.d_gates = c.result(positions * elman::gradient_blocks(layer.cell) * layer.hidden);
  gradient.d_carry = c.result(layer.batch * carry);
  gradient.d_weight_inputs = c.result(layer.inputs * gates), gradient.d_weight_hidden = c.result(layer.hidden * gates);
  gradient.d_bias = c.result(gates);
  if (layer.cell == elman::kGru) gradient.d_bias_candidate = c.result(layer.hidden);
  if (layer.xs) gradient.d_xs = c.result(positions * layer.inputs);
  kernels.backward(team, layer, gradient);
  kernels.weight_gradient(team, layer, gradient);
  if (layer.xs) kernels.input_gradient(team, layer, gradient);
}

void forward(Case& c, const elman::Kernels& kernels, const elman::Team& team) { run_layer(c, kernels, team, false); }
void backward(Case& c, const elman::Kernels& kernels, const elman::Team& team) { run_layer(c, kernels, team, true); }

// The weights of a step are beyond a core's cache: the threads share its units instead of its sequences.
void large(Case& c, const elman::Kernels& kernels, const elman::Team& team) {
  elman::Layer layer{};
  layer.cell = elman::kTanh, layer.batch = 20, layer.steps = 2, layer.hidden = c.between(900, 930), layer.inputs = 3;
  layer.weight_inputs = c.floats(layer.inputs * layer.hidden), layer.weight_hidden = c.floats(layer.hidden * layer.hidden, 0.03f);
  layer.bias = c.floats(layer.hidden), layer.carry = c.floats(layer.batch * layer.hidden);
  layer.codes = c.integers(layer.steps * layer.batch, 0, 2);
  layer.hiddens = c.result(layer.steps * layer.batch * layer.hidden), layer.last = c.result(layer.batch * layer.hidden);
  kernels.forward(team, layer);
}

void head(Case& c, const elman::Kernels& kernels, const elman::Team& team) {
  elman::Head head{};
  head.rows = c.chance(0.5) ? c.between(1, 20) : c.between(21, 260), head.hidden = c.size(200), head.symbols = c.size(260);
  head.hiddens = c.floats(head.rows * head.hidden), head.weight = c.floats(head.hidden * head.symbols);
  head.bias = c.floats(head.symbols), head.targets = c.integers(head.rows, -head.symbols - 3, head.symbols + 2);
  head.losses = c.result(head.rows);
  const bool keep = c.chance(0.7);
  if (keep) head.probabilities = c.result(head.rows * head.symbols);
  kernels.head_forward(team, head);
  if (!keep) return;
  head.d_losses = c.floats(head.rows);
  head.d_logits = c.result(head.rows * head.symbols), head.d_hiddens = c.result(head.rows * head.hidden);
  head.d_weight = c.result(head.hidden * head.symbols), head.d_bias = c.result(head.symbols);
  kernels.head_backward(team, head);
}

void classic(Case& c, const elman::Kernels& kernels, const elman::Team& team) {
  elman::Classic call{};
  call.updates = c.between(0, 5), call.unroll = c.between(1, 30), call.hidden = c.size(130), call.symbols = c.size(90);
  call.codes = c.integers(call.updates * (call.unroll + 1), -2, call.symbols + 1);
  call.fresh = c.bytes(call.updates, 0.3);
  call.rates = c.shares(call.updates);
  call.clip = c.chance(0.5) ? 5.0f : 0.0f, call.epsilon = 1e-8f, call.mean = c.chance(0.5);
  const int64_t sizes[5] = {call.symbols * call.hidden, call.hidden * call.hidden, call.hidden, call.hidden * call.symbols, call.symbols};
  for (int i = 0; i < 5; ++i) {
    call.weights[i] = c.watch(c.floats(sizes[i], 0.1f), sizes[i]);
    call.sums[i] = c.watch(c.shares(sizes[i]), sizes[i]);
  }
  call.state = c.watch(c.floats(call.hidden), call.hidden);
  call.losses = c.result(call.updates), call.norms = c.result(call.updates);
  kernels.classic(team, call);
}

void sample(Case& c, const elman::Kernels& kernels, const elman::Team& team) {
  elman::Sampling call{};
  call.layers = c.chance(0.1) ? elman::kMostLayers : c.between(1, 3);
  call.hidden = c.size(150), call.symbols = c.size(100), call.steps = c.between(1, 40);
  call.weight = c.floats(call.hidden * call.symbols), call.bias = c.floats(call.symbols), call.uniforms = c.shares(call.steps);
  call.sharpness = c.chance(0.5) ? 1.0f : 3.0f;
  call.drawn = c.integers(call.steps + 1, 0, call.symbols - 1);
  const int cell = static_cast<int>(c.between(0, 3));
  const int64_t gates = elman::gate_blocks(cell) * call.hidden, carry = (cell == elman::kLstm ? 2 : 1) * call.hidden;
  for (int64_t i = 0; i < call.layers; ++i) {
    elman::Layer& layer = call.layer[i];
    layer.cell = cell, layer.steps = call.steps, layer.batch = 1, layer.hidden = call.hidden;
    layer.inputs = i ? call.hidden : call.symbols;
    layer.weight_inputs = c.floats(layer.inputs * gates, 0.1f), layer.weight_hidden = c.floats(call.hidden * gates, 0.1f);
    layer.bias = c.floats(gates);
    if (cell == elman::kGru) layer.bias_candidate = c.floats(call.hidden);
    layer.carry = c.floats(carry), layer.last = c.result(carry);
    layer.hiddens = c.result(call.steps * call.hidden);
    if (i)
      layer.xs = call.layer[i - 1].hiddens;
    else
      layer.codes = call.drawn;
  }
  kernels.sample(team, call);
  float* drawn = c.result(call.steps);
  for (int64_t t = 0; t < call.steps; ++t) drawn[t] = static_cast<float>(call.drawn[t + 1]);
}

using Work = void (*)(Case&, const elman::Kernels&, const elman::Team&);
struct Kind {
  const char* name;
  Work work;
  int rarer;  // than the others: one case in so many
};
const Kind kKinds[] = {{"forward", forward, 1}, {"backward", backward, 1}, {"large", large, 40},
                       {"head", head, 1},       {"classic", classic, 1},   {"sample", sample, 1}};

bool finite(const std::vector<float>& values) {
  for (const float value : values)
    if (!(value - value == 0)) return false;
  return true;
}

// Deliberate faults that no argument can bring about ------------------------------------------------------------------------------

// Two calls at a time write into one array.
void race(const elman::Kernels& kernels) {
  Case c(1);
  const elman::Layer layer = layer_of(c, 3, 20, false);
  const elman::Team alone{1, nullptr, nullptr};
  std::thread other([&] { kernels.forward(alone, layer); });
  kernels.forward(alone, layer);
  other.join();
}

// One number behind a piece of scratch memory.
void fence() {
  auto block = block_of_nan(1024, 64);
  Cutter cutter{block->data};
  auto* piece = cutter.take<float>(5);
  cutter.take<float>(5);
  volatile float* behind = piece + 5;
  *behind = 1;
}

const elman::Kernels& kernels_named(const char* name) {
  for (const auto* kernels : elman::kAll)
    if (!std::strcmp(kernels->name, name) && elman::runs_here(*kernels)) return *kernels;
  std::fprintf(stderr, "no such instruction set here: %s\n", name);
  std::exit(2);
}

}  // namespace

// No more than was asked for, and new for every call: what the call before left there is gone.
namespace elman {
void* scratch(Scratch which, size_t bytes) {
  thread_local std::unique_ptr<::Block> blocks[2];
  blocks[which].reset();
  blocks[which] = block_of_nan(bytes, 64);
  return blocks[which]->data;
}
}  // namespace elman

// arguments: instruction set, seed, cases of each kind, [plant]
int main(int count, char** arguments) {
  if (count < 4) return 2;
  const elman::Kernels& kernels = kernels_named(arguments[1]);
  const uint64_t seed = std::strtoull(arguments[2], nullptr, 10);
  const int cases = std::atoi(arguments[3]);
  if (count > 4) plant = arguments[4];
  Pool pool(3);
  pool_of_all = &pool;
  if (plant == "race") race(kernels);
  if (plant == "fence") fence();
  int findings = 0;
  for (const Kind& kind : kKinds) {
    const int several = (cases + kind.rarer - 1) / kind.rarer;
    for (int i = 0; i < several; ++i) {
      std::vector<float> alone;
      for (const int threads : {1, 2, 4}) {
        std::fprintf(stderr, "case: %s %d, %d threads\n", kind.name, i, threads);
        Case c(seed * 1000003 + i);
        Crew crew(threads);
        kind.work(c, kernels, crew.team);
        const std::vector<float> outcome = c.outcome();
        const bool whole = finite(outcome);
        if (!whole) std::fprintf(stderr, "finding: a result is not finite\n"), ++findings;
        if (threads == 1)
          alone = outcome;
        else if (whole && std::memcmp(alone.data(), outcome.data(), sizeof(float) * outcome.size()))
          std::fprintf(stderr, "finding: another result than with one thread\n"), ++findings;
      }
    }
    std::printf("%s %d\n", kind.name, several);
  }
  return findings ? 1 : 0;
}
