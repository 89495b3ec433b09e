// One layer over time, forward and backward. The weights are packed once into panels that stay in the cache over all steps; each
// group of sequences is walked by its own thread, or, where the weights are too large for one core's cache or the sequences too
// few, the units of a step are shared and the threads meet after every step.
#pragma once

#include "cells.h"
#include "product.h"

namespace {

using elman::Layer;
using elman::LayerGradient;

// How the work of a step is shared: `groups` of sequences, each step of a group in `parts` of its panels.
struct Sharing {
  int64_t groups, parts;
};

ELMAN_INLINE Sharing share(int threads, int64_t batch, int64_t panels, int64_t weights) {
  if (threads == 1) return {1, 1};
  // A core's second-level cache holds about a million bytes; beyond a few of them every step reads the weights from further away,
  // and sharing them halves that. Below four sequences each, sharing units keeps the products whole.
  const bool large = weights * 4 > (int64_t{3} << 20);
  if (batch < 4 * threads || (large && batch < 32 * threads)) return {1, smaller(threads, panels)};
  return {threads, 1};
}

// Whether the sequences are one group with any number of threads: `share` cuts no fewer than four for each of two.
ELMAN_INLINE bool never_cut(int64_t batch) { return batch < 8; }

template <class Step>
void walk(Sharing sharing, int64_t phases, int32_t* memory, int worker, int workers, Step&& step) {
  if (sharing.parts == 1) {
    Stage::at(memory, sharing.groups).run(sharing.groups, worker, workers, [&](int64_t group) {
      for (int64_t phase = 0; phase < phases; ++phase) step(phase, group, 0);
    });
    return;
  }
  for (int64_t phase = 0; phase < phases; ++phase)
    Stage::at(memory + phase * Stage::words(sharing.parts), sharing.parts)
        .run(sharing.parts, worker, workers, [&](int64_t part) { step(phase, 0, part); });
}

ELMAN_INLINE int64_t walk_words(Sharing sharing, int64_t phases) {
  return sharing.parts == 1 ? Stage::words(sharing.groups) : phases * Stage::words(sharing.parts);
}

// Forward ---------------------------------------------------------------------------------------------------------------------

template <int C>
struct Forward {
  static constexpr int kVectors = kPanelVectors<C>;
  static constexpr int64_t kUnits = kGated<C> ? kLanes : kVectors * kLanes;  // in one panel
  static constexpr int kRows = rows_beside(kVectors);
  static constexpr int kBlocks = C == kGru ? 3 : C == kLstm ? 4 : 1;

  const Layer& in;
  const int64_t hidden = in.hidden, batch = in.batch, gates = kBlocks * hidden, carry_width = C == kLstm ? 2 * hidden : hidden;
  const int64_t panels = ceil_div(hidden, kUnits), unit_vectors = ceil_div(hidden, kLanes);
  const int64_t width = unit_vectors * kLanes;                   // units, up to whole vectors
  const int64_t panel_floats = kVectors * kLanes;                // columns of one panel
  const int64_t padded = kGated<C> ? width * kBlocks : width;    // columns of all panels
  const int64_t stride = width + 16;                             // of a row of state: not a power of two
  int64_t chunk = 0;                                             // steps whose input product is computed at once
  Sharing sharing{1, 1};
  float *packed_hidden, *packed_inputs, *packed_bias, *packed_candidate, *states, *memories, *projected;
  int32_t* flags;

  explicit Forward(const Layer& layer) : in(layer) {}

  int vectors_of(int64_t panel) const {
    return kGated<C> ? kVectors : static_cast<int>(smaller(kVectors, unit_vectors - panel * kVectors));
  }

  void cut(Cutter& cutter) {
    packed_hidden = cutter.take<float>(padded * hidden);
    packed_inputs = cutter.take<float>(in.xs ? padded * in.inputs : 0);
    packed_bias = cutter.take<float>(padded);
    packed_candidate = cutter.take<float>(C == kGru ? width : 0);
    states = cutter.take<float>(2 * batch * stride);
    memories = cutter.take<float>(C == kLstm ? batch * stride : 0);
    projected = cutter.take<float>(chunk * batch * padded);
    flags = cutter.take<int32_t>(Stage::words(panels + batch) + walk_words(sharing, in.steps));
  }

  void run(const Team& team) {
    sharing = share(team.threads, batch, panels, padded * hidden);
    if (in.xs) {
      const int64_t rows = ceil_div(batch, sharing.groups);
      chunk = smaller(in.steps, larger(1, ceil_div(96, rows)));
    }
    Cutter measure{nullptr};
    cut(measure);
    Cutter cutter{static_cast<char*>(elman::scratch(elman::kShared, measure.used))};
    cut(cutter);
    std::memset(flags, 0, sizeof(int32_t) * (Stage::words(panels + batch) + walk_words(sharing, in.steps)));
    auto work = [&](int worker) {
      Stage::at(flags, panels + batch).run(panels + batch, worker, team.threads, [&](int64_t task) {
        task < panels ? pack_panel(task) : begin(task - panels);
      });
      walk(sharing, in.steps, flags + Stage::words(panels + batch), worker, team.threads,
           [&](int64_t t, int64_t group, int64_t part) {
             step(t, group * batch / sharing.groups, (group + 1) * batch / sharing.groups, part * panels / sharing.parts,
                  (part + 1) * panels / sharing.parts);
           });
    };
    on_team(team, work);
    finish();
  }

  // The carry behind the last step.
  void finish() const {
    for (int64_t b = 0; b < batch; ++b) {
      std::memcpy(in.last + b * carry_width, in.hiddens + ((in.steps - 1) * batch + b) * hidden, sizeof(float) * hidden);
      if (C == kLstm) std::memcpy(in.last + b * carry_width + hidden, memories + b * stride, sizeof(float) * hidden);
    }
  }

  void pack_panel(int64_t panel) {
    const int vectors = vectors_of(panel);
    for (int v = 0; v < vectors; ++v) {
      const int64_t unit = kGated<C> ? panel * kLanes : (panel * kVectors + v) * kLanes;
      const int count = static_cast<int>(smaller(kLanes, hidden - unit));
      const int64_t column = kGated<C> ? v * hidden + unit : unit;
      const int64_t at = panel * panel_floats;
      for (int64_t k = 0; k < hidden; ++k)
        store(packed_hidden + at * hidden + (k * vectors + v) * kLanes, load(in.weight_hidden + k * gates + column, count));
      for (int64_t k = 0; in.xs && k < in.inputs; ++k)
        store(packed_inputs + at * in.inputs + (k * vectors + v) * kLanes, load(in.weight_inputs + k * gates + column, count));
      store(packed_bias + at + v * kLanes, load(in.bias + column, count));
      if (C == kGru && v == 0) store(packed_candidate + unit, load(in.bias_candidate + unit, count));
    }
  }

  // The state before the first step, as the product and the memory take it.
  void begin(int64_t b) {
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int count = static_cast<int>(smaller(kLanes, hidden - unit));
      vec h = load(in.carry + b * carry_width + unit, count);
      if (in.mask) h *= load(in.mask + b * hidden + unit, count);
      store(states + b * stride + unit, h);
      if (C == kLstm) store(memories + b * stride + unit, load(in.carry + b * carry_width + hidden + unit, count));
    }
  }

  void step(int64_t t, int64_t first_row, int64_t end_row, int64_t first_panel, int64_t end_panel) {
    if (in.xs && t % chunk == 0) project(t, first_row, end_row, first_panel, end_panel);
    for (int64_t panel = first_panel; panel < end_panel; ++panel)
      with_count<kVectors>(vectors_of(panel), [&](auto vectors) {
        in_blocks(first_row, end_row, kRows, [&](int64_t row, int count) {
          with_count<kRows>(count, [&](auto rows) { tile<decltype(rows)::value, decltype(vectors)::value>(t, row, panel); });
        });
      });
  }

  // x W_x + b of the next `chunk` steps, for these rows and panels.
  void project(int64_t t, int64_t first_row, int64_t end_row, int64_t first_panel, int64_t end_panel) {
    const int64_t rows = end_row - first_row, slots = smaller(chunk, in.steps - t) * rows;
    for (int64_t panel = first_panel; panel < end_panel; ++panel)
      with_count<kVectors>(vectors_of(panel), [&](auto vectors) {
        constexpr int V = decltype(vectors)::value;
        in_blocks(0, slots, kRows, [&](int64_t slot, int count) {
          with_count<kRows>(count, [&](auto several) {
            constexpr int R = decltype(several)::value;
            const float* x[R];
            vec sums[R][V];
            for (int r = 0; r < R; ++r) {
              x[r] = in.xs + ((t + (slot + r) / rows) * batch + first_row + (slot + r) % rows) * in.inputs;
              for (int v = 0; v < V; ++v) sums[r][v] = load(packed_bias + panel * panel_floats + v * kLanes);
            }
            multiply<R, V>(sums, x, packed_inputs + panel * panel_floats * in.inputs, in.inputs, never_cut(batch));
            for (int r = 0; r < R; ++r) {
              float* to = projected_at(t + (slot + r) / rows, first_row + (slot + r) % rows, panel);
              for (int v = 0; v < V; ++v) store(to + v * kLanes, sums[r][v]);
            }
          });
        });
      });
  }

  float* projected_at(int64_t t, int64_t row, int64_t panel) const {
    return projected + ((t % chunk) * batch + row) * padded + panel * panel_floats;
  }

  // What does not wait for the step before, one vector of it.
  ELMAN_INLINE vec input_part(int64_t t, int64_t row, int64_t panel, int v, int count) const {
    if (in.xs) return load(projected_at(t, row, panel) + v * kLanes);
    int64_t code = in.codes[t * batch + row];
    if (code < 0) code += in.inputs;
    code = smaller(larger(code, 0), in.inputs - 1);
    const int64_t column = kGated<C> ? v * hidden + panel * kLanes : (panel * kVectors + v) * kLanes;
    return load(in.weight_inputs + code * gates + column, count) + load(packed_bias + panel * panel_floats + v * kLanes);
  }

  template <int R, int V>
  ELMAN_INLINE void tile(int64_t t, int64_t row, int64_t panel) {
    const float* before = states + (t % 2) * batch * stride;
    float* after = states + ((t + 1) % 2) * batch * stride;
    const int64_t first_unit = panel * kUnits;
    const int tail = static_cast<int>(smaller(kLanes, hidden - first_unit));
    const float* a[R];
    vec sums[R][V];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      a[r] = before + (row + r) * stride;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        if (C == kGru && v == 2)
          sums[r][v] = load(packed_candidate + first_unit);
        else
          sums[r][v] = input_part(t, row + r, panel, v,
                                  kGated<C> ? tail : static_cast<int>(smaller(kLanes, hidden - first_unit - v * kLanes)));
      }
    }
    for (int r = 0; r < R; ++r) {
      const int64_t at = t * batch + row + r;
      for (int v = 0; v < (kGated<C> ? 1 : V); ++v) prefetch_to_write(in.hiddens + at * hidden + first_unit + v * kLanes);
      for (int g = 0; in.gates && g < kSaved<C>; ++g) prefetch_to_write(in.gates + (at * kSaved<C> + g) * hidden + first_unit);
    }
    multiply<R, V>(sums, a, packed_hidden + panel * panel_floats * hidden, hidden, never_cut(batch));
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const int64_t b = row + r, at = t * batch + b;
      const bool held = in.lengths && t >= in.lengths[b];
      const float* previous = t ? in.hiddens + (at - batch) * hidden : in.carry + b * carry_width;
      constexpr int unit_count = kGated<C> ? 1 : V;
#pragma GCC unroll 4
      for (int v = 0; v < unit_count; ++v) {
        const int64_t unit = first_unit + v * kLanes;
        const int count = static_cast<int>(smaller(kLanes, hidden - unit));
        vec h;
        if constexpr (C == kTanh) {
          h = in.cell == kRelu ? greatest(sums[r][v], vec{}) : tanh(sums[r][v]);
        } else if constexpr (C == kGru) {
          const vec reset = sigmoid(sums[r][0]), keep = sigmoid(sums[r][1]), recurrent = sums[r][2];
          const vec candidate = tanh(input_part(t, b, panel, 2, count) + reset * recurrent);
          h = candidate + keep * (load(previous + unit, count) - candidate);
          if (in.gates) {
            float* saved = in.gates + at * 4 * hidden + unit;
            store(saved, reset, count);
            store(saved + hidden, keep, count);
            store(saved + 2 * hidden, candidate, count);
            store(saved + 3 * hidden, recurrent, count);
          }
        } else {
          const vec input = sigmoid(sums[r][0]), forget = sigmoid(sums[r][1]), candidate = tanh(sums[r][2]);
          const vec output = sigmoid(sums[r][3]);
          float* memory_at = memories + b * stride + unit;
          const vec old = load(memory_at);
          const vec memory = held ? old : forget * old + input * candidate;
          h = output * tanh(memory);
          store(memory_at, memory);
          if (in.gates) {
            float* saved = in.gates + at * 5 * hidden + unit;
            store(saved, input, count);
            store(saved + hidden, forget, count);
            store(saved + 2 * hidden, candidate, count);
            store(saved + 3 * hidden, output, count);
            store(saved + 4 * hidden, memory, count);
          }
        }
        if (held) h = load(previous + unit, count);
        store(in.hiddens + at * hidden + unit, h, count);
        if (in.mask) h *= load(in.mask + b * hidden + unit, count);
        store(after + b * stride + unit, h);
      }
    }
  }
};

// Backward --------------------------------------------------------------------------------------------------------------------

// Phase s takes step t = steps - 1 - s; the last phase, one behind the first step, leaves the gradient of the carry.
template <int C>
struct Backward {
  static constexpr int kRows = rows_beside(kWide);
  static constexpr int kGates = C == kGru ? 3 : C == kLstm ? 4 : 1;  // blocks that went through W_h

  const Layer& in;
  const LayerGradient& out;
  const int64_t hidden = in.hidden, batch = in.batch, depth = kGates * hidden, gradients = kGradients<C> * hidden;
  const int64_t carry_width = C == kLstm ? 2 * hidden : hidden;
  const Panels panels{hidden};
  const int64_t stride = ceil_div(hidden, kLanes) * kLanes;
  const bool direct = C == kGru || in.lengths;
  Sharing sharing{1, 1};
  float *packed, *directs, *memories;
  int32_t* flags;

  Backward(const Layer& layer, const LayerGradient& gradient) : in(layer), out(gradient) {}

  void cut(Cutter& cutter) {
    packed = cutter.take<float>(panels.floats(depth));
    directs = cutter.take<float>(direct ? batch * stride : 0);
    memories = cutter.take<float>(C == kLstm ? batch * stride : 0);
    flags = cutter.take<int32_t>(Stage::words(panels.count() + batch) + walk_words(sharing, in.steps + 1));
  }

  void run(const Team& team) {
    sharing = share(team.threads, batch, panels.count(), hidden * depth);
    Cutter measure{nullptr};
    cut(measure);
    Cutter cutter{static_cast<char*>(elman::scratch(elman::kShared, measure.used))};
    cut(cutter);
    const int64_t first = panels.count() + batch;
    std::memset(flags, 0, sizeof(int32_t) * (Stage::words(first) + walk_words(sharing, in.steps + 1)));
    auto work = [&](int worker) {
      Stage::at(flags, first).run(first, worker, team.threads, [&](int64_t task) {
        task < panels.count() ? pack_transposed(packed + Panels::offset(task, depth), in.weight_hidden, depth, depth, panels, task)
                              : begin(task - panels.count());
      });
      walk(sharing, in.steps + 1, flags + Stage::words(first), worker, team.threads,
           [&](int64_t phase, int64_t group, int64_t part) {
             step(in.steps - 1 - phase, group * batch / sharing.groups, (group + 1) * batch / sharing.groups,
                  part * panels.count() / sharing.parts, (part + 1) * panels.count() / sharing.parts);
           });
    };
    on_team(team, work);
  }

  void begin(int64_t b) {
    for (int64_t unit = 0; unit < hidden; unit += kLanes) {
      const int count = static_cast<int>(smaller(kLanes, hidden - unit));
      if (direct) store(directs + b * stride + unit, vec{});
      if (C == kLstm) store(memories + b * stride + unit, load(out.d_last + b * carry_width + hidden + unit, count));
    }
  }

  void step(int64_t t, int64_t first_row, int64_t end_row, int64_t first_panel, int64_t end_panel) {
    for (int64_t panel = first_panel; panel < end_panel; ++panel)
      with_count<kWide>(panels.vectors(panel), [&](auto vectors) {
        in_blocks(first_row, end_row, kRows, [&](int64_t row, int count) {
          with_count<kRows>(count, [&](auto rows) { tile<decltype(rows)::value, decltype(vectors)::value>(t, row, panel); });
        });
      });
  }

  template <int V>
  ELMAN_INLINE void request(int64_t at, int64_t unit) {
    for (int v = 0; v < V; ++v, unit += kLanes) {
      prefetch(out.d_hiddens + at * hidden + unit);
      for (int g = 0; g < kSaved<C>; ++g) prefetch(in.gates + (at * kSaved<C> + g) * hidden + unit);
      for (int g = 0; g < kGradients<C>; ++g) prefetch_to_write(out.d_gates + at * gradients + g * hidden + unit);
    }
  }

  template <int R, int V>
  ELMAN_INLINE void tile(int64_t t, int64_t row, int64_t panel) {
    vec sums[R][V] = {};
    if (t + 1 < in.steps) {
      const float* a[R];
      for (int r = 0; r < R; ++r) {
        a[r] = out.d_gates + ((t + 1) * batch + row + r) * gradients;
        if (t >= 0) request<V>(t * batch + row + r, panel * kPanel);
      }
      multiply<R, V>(sums, a, packed + Panels::offset(panel, depth), depth, never_cut(batch));
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const int64_t b = row + r, at = t * batch + b;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const int64_t unit = panel * kPanel + v * kLanes;
        const int count = static_cast<int>(smaller(kLanes, hidden - unit));
        Unit u;
        u.d_hidden = sums[r][v];
        if (in.mask) u.d_hidden *= load(in.mask + b * hidden + unit, count);
        if (t + 1 == in.steps) u.d_hidden = load(out.d_last + b * carry_width + unit, count);
        if (direct) u.d_hidden += load(directs + b * stride + unit);
        if (C == kLstm) u.d_memory = load(memories + b * stride + unit);
        if (t < 0) {
          store(out.d_carry + b * carry_width + unit, u.d_hidden, count);
          if (C == kLstm) store(out.d_carry + b * carry_width + hidden + unit, u.d_memory, count);
          continue;
        }
        u.d_hidden += load(out.d_hiddens + at * hidden + unit, count);
        if (in.lengths && t >= in.lengths[b]) {  // the state was held
          for (int g = 0; g < kGradients<C>; ++g) store(out.d_gates + at * gradients + g * hidden + unit, vec{}, count);
          store(directs + b * stride + unit, u.d_hidden);
          continue;
        }
        vec hidden_now{}, previous{}, previous_memory{}, saved[5] = {};
        if (C == kTanh) hidden_now = load(in.hiddens + at * hidden + unit, count);
        if (C == kGru)
          previous = t ? load(in.hiddens + (at - batch) * hidden + unit, count) : load(in.carry + b * carry_width + unit, count);
        for (int g = 0; g < kSaved<C>; ++g) saved[g] = load(in.gates + (at * kSaved<C> + g) * hidden + unit, count);
        if (C == kLstm)
          previous_memory = t ? load(in.gates + ((at - batch) * 5 + 4) * hidden + unit, count)
                              : load(in.carry + b * carry_width + hidden + unit, count);
        backward_unit<C>(u, in.cell, hidden_now, previous, previous_memory, saved);
        for (int g = 0; g < kGradients<C>; ++g)
          store(out.d_gates + at * gradients + g * hidden + unit, u.d_gates[g], count);
        if (direct) store(directs + b * stride + unit, u.d_direct);
        if (C == kLstm) store(memories + b * stride + unit, u.d_memory);
      }
    }
  }
};

template <template <int> class Pass, class... Arguments>
void for_cell(int cell, const Team& team, const Arguments&... arguments) {
  if (cell == kTanh || cell == kRelu) Pass<kTanh>(arguments...).run(team);  // tells them apart where it squashes
  if (cell == kGru) Pass<kGru>(arguments...).run(team);
  if (cell == kLstm) Pass<kLstm>(arguments...).run(team);
}

void forward(const Team& team, const Layer& layer) { for_cell<Forward>(layer.cell, team, layer); }

void backward(const Team& team, const Layer& layer, const LayerGradient& gradient) {
  for_cell<Backward>(layer.cell, team, layer, gradient);
}

}  // namespace
