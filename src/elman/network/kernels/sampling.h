// One stream of samples: step, head, softmax and draw in one loop, each symbol the next step's input. The layers are those of
// `recurrence.h`, packed once and walked one step at a time; where a core's cache is small for the weights, two or more share each step.
#pragma once

#include <new>

#include "head.h"
#include "recurrence.h"

namespace {

using elman::Sampling;

template <int C>
class Sampler {
 public:
  Sampler(const Sampling& sampling, int threads) : in(sampling), parts(threads) {
    for (int64_t i = 0; i < in.layers; ++i) {
      Forward<C>* layer = new (places[i]) Forward<C>(in.layer[i]);
      layer->chunk = in.layer[i].xs ? 1 : 0;
    }
    Cutter measure{nullptr};
    cut(measure);
    Cutter cutter{static_cast<char*>(elman::scratch(elman::kShared, measure.used))};
    cut(cutter);
  }

  void run(const Team& team) {
    for (int64_t i = 0; i < in.layers; ++i) {
      for (int64_t panel = 0; panel < at(i).panels; ++panel) at(i).pack_panel(panel);
      at(i).begin(0);
    }
    for (int64_t panel = 0; panel < panels.count(); ++panel)
      pack(packed + Panels::offset(panel, in.hidden), in.weight, in.symbols, in.hidden, panels, panel);
    for (int64_t s = 0; s < width; ++s) bias[s] = s < in.symbols ? in.bias[s] : -INFINITY;
    std::memset(flags, 0, sizeof(int32_t) * in.steps * words());
    auto work = [&](int worker) {
      for (int64_t t = 0; t < in.steps; ++t) {
        // A step is a few microseconds: a helper without a processor costs more than one with it brings.
        if (worker > 0 && __atomic_load_n(&alone, __ATOMIC_RELAXED)) return;
        step(t, worker, team.threads);
      }
    };
    on_team(team, work);
    for (int64_t i = 0; i < in.layers; ++i) at(i).finish();
  }

 private:
  const Sampling& in;
  const int64_t parts;  // of the units of a step
  int32_t* flags;
  int32_t alone = 0;
  const Panels panels{in.symbols};
  const int64_t width = ceil_div(in.symbols, kLanes) * kLanes;
  float *packed, *bias, *weights;
  alignas(Forward<C>) char places[elman::kMostLayers][sizeof(Forward<C>)];

  Forward<C>& at(int64_t i) { return *std::launder(reinterpret_cast<Forward<C>*>(places[i])); }

  void cut(Cutter& cutter) {
    for (int64_t i = 0; i < in.layers; ++i) at(i).cut(cutter);
    packed = cutter.take<float>(panels.floats(in.hidden));
    bias = cutter.take<float>(width);
    weights = cutter.take<float>(width);
    flags = cutter.take<int32_t>(in.steps * words());
  }

  int64_t words() const { return in.layers * Stage::words(parts) + Stage::words(1); }

  void step(int64_t t, int worker, int workers) {
    int32_t* memory = flags + t * words();
    bool late = false;
    for (int64_t i = 0; i < in.layers; ++i, memory += Stage::words(parts))
      late |= Stage::at(memory, parts).run(parts, worker, workers, [&](int64_t part) {
        at(i).step(t, 0, 1, part * at(i).panels / parts, (part + 1) * at(i).panels / parts);
      });
    late |= Stage::at(memory, 1).run(1, worker, workers, [&](int64_t) {
      in.drawn[t + 1] = draw(in.layer[in.layers - 1].hiddens + t * in.hidden, in.uniforms[t]);
    });
    if (late && worker == 0) __atomic_store_n(&alone, 1, __ATOMIC_RELAXED);
  }

  // The symbol at which the cumulative softmax passes `uniform`, as `elman.text.sampling.draw` finds it.
  int32_t draw(const float* hidden, float uniform) {
    const float* a[1] = {hidden};
    for (int64_t panel = 0; panel < panels.count(); ++panel)
      with_count<kWide>(panels.vectors(panel), [&](auto vectors) {
        constexpr int V = decltype(vectors)::value;
        vec sums[1][V];
        for (int v = 0; v < V; ++v) sums[0][v] = load(bias + panel * kPanel + v * kLanes);
        multiply<1, V>(sums, a, packed + Panels::offset(panel, in.hidden), in.hidden);
        for (int v = 0; v < V; ++v) store(weights + panel * kPanel + v * kLanes, sums[0][v] * in.sharpness);
      });
    const float top = largest(weights, width);
    for (int64_t s = 0; s < width; s += kLanes) store(weights + s, exp_of_negative(load(weights + s) - top));
    float total = 0;
    for (int64_t s = 0; s < in.symbols; ++s) weights[s] = total += weights[s];
    constexpr float kBelowOne = 1.0f - 1.1920929e-7f;  // rounding must not lift the product below to the total
    const float threshold = (uniform < kBelowOne ? uniform : kBelowOne) * total;
    int64_t symbol = 0;
    while (symbol < in.symbols - 1 && weights[symbol] <= threshold) ++symbol;
    return static_cast<int32_t>(symbol);
  }
};

void sample(const Team& team, const Sampling& sampling) {
  for_cell<Sampler>(sampling.layer[0].cell, team, sampling, team.threads);
}

}  // namespace
