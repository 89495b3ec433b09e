// The categorical head: product, log-softmax, loss, and their gradients, without an array of logits in between.
#pragma once

#include "gradients.h"

namespace {

using elman::Head;

ELMAN_INLINE int64_t target_of(const Head& in, int64_t row) {
  const int64_t target = in.targets[row];
  return smaller(larger(target < 0 ? target + in.symbols : target, 0), in.symbols - 1);
}

void head_forward(const Team& team, const Head& in) {
  constexpr int kRows = rows_beside(kWide);
  const Panels panels{in.symbols};
  const int64_t width = ceil_div(in.symbols, kLanes) * kLanes, chunk = 8 * kRows, chunks = ceil_div(in.rows, chunk);
  Cutter measure{nullptr}, cutter{nullptr};
  float *packed = nullptr, *bias = nullptr;
  int32_t* flags = nullptr;
  auto cut = [&](Cutter& c) {
    packed = c.take<float>(panels.floats(in.hidden));
    bias = c.take<float>(width);
    flags = c.take<int32_t>(Stage::words(panels.count()) + Stage::words(chunks));
  };
  cut(measure);
  cutter.base = static_cast<char*>(elman::scratch(elman::kShared, measure.used));
  cut(cutter);
  std::memset(flags, 0, sizeof(int32_t) * (Stage::words(panels.count()) + Stage::words(chunks)));
  for (int64_t s = 0; s < width; ++s) bias[s] = s < in.symbols ? in.bias[s] : -INFINITY;  // no symbol: probability 0

  auto finish = [&](float* logits, int64_t row) {
    const float whole = exponentials(logits, width, target_of(in, row), in.losses[row]);
    if (!in.probabilities) return;
    const float share = 1.0f / whole;
    for (int64_t s = 0; s < width; s += kLanes)
      store(in.probabilities + row * in.symbols + s, load(logits + s) * share,
            static_cast<int>(smaller(kLanes, in.symbols - s)));
  };

  auto work = [&](int worker) {
    Stage::at(flags, panels.count()).run(panels.count(), worker, team.threads, [&](int64_t panel) {
      pack(packed + Panels::offset(panel, in.hidden), in.weight, in.symbols, in.hidden, panels, panel);
    });
    auto* logits = static_cast<float*>(elman::scratch(elman::kPrivate, sizeof(float) * chunk * width));
    Stage::at(flags + Stage::words(panels.count()), chunks).run(chunks, worker, team.threads, [&](int64_t task) {
      const int64_t first = task * chunk, end = smaller(in.rows, first + chunk);
      rows_times_panels(
          first, end, [&](int64_t row) { return in.hiddens + row * in.hidden; }, packed, panels, in.hidden, in.hidden, 0,
          [&](int64_t column) { return load(bias + column); },
          [&](int64_t row, int64_t column, vec sum) { store(logits + (row - first) * width + column, sum); });
      for (int64_t row = first; row < end; ++row) finish(logits + (row - first) * width, row);
    });
  };
  on_team(team, work);
}

void head_backward(const Team& team, const Head& in) {
  constexpr int kRows = rows_beside(kWide);
  const Panels panels{in.hidden};
  const int64_t chunk = 8 * kRows, chunks = ceil_div(in.rows, chunk), depth = in.symbols;
  TransposedProduct product;
  product.b = in.d_logits, product.stride = in.symbols, product.columns = in.symbols, product.depth = in.rows;
  product.rows[0] = {in.hiddens, in.hidden, in.hidden, in.d_weight, in.symbols, nullptr, 0, 0, nullptr, 1};
  product.kinds = 1;
  product.column_sums = in.d_bias;
  product.plan(team.threads);
  const int64_t words = Stage::words(panels.count()) + Stage::words(chunks) + Stage::words(product.tasks());
  float* packed = nullptr;
  int32_t* flags = nullptr;
  auto cut = [&](Cutter& c) {
    packed = c.take<float>(panels.floats(depth));
    flags = c.take<int32_t>(words);
  };
  Cutter measure{nullptr}, cutter{nullptr};
  cut(measure);
  cutter.base = static_cast<char*>(elman::scratch(elman::kShared, measure.used));
  cut(cutter);
  std::memset(flags, 0, sizeof(int32_t) * words);
  auto work = [&](int worker) {
    auto* memory = static_cast<float*>(elman::scratch(elman::kPrivate, sizeof(float) * TransposedProduct::scratch_floats()));
    Stage::at(flags, panels.count()).run(panels.count(), worker, team.threads, [&](int64_t panel) {
      pack_transposed(packed + Panels::offset(panel, depth), in.weight, depth, depth, panels, panel);
    });
    int32_t* next = flags + Stage::words(panels.count());
    Stage::at(next, chunks).run(chunks, worker, team.threads, [&](int64_t task) {
      const int64_t first = task * chunk, end = smaller(in.rows, first + chunk);
      for (int64_t row = first; row < end; ++row) {
        const float* p = in.probabilities + row * depth;
        float* d = in.d_logits + row * depth;
        const float scale = in.d_losses[row];
        for (int64_t s = 0; s < depth; ++s) d[s] = p[s] * scale;
        d[target_of(in, row)] -= scale;
      }
      rows_times_panels(
          first, end, [&](int64_t row) { return in.d_logits + row * depth; }, packed, panels, depth, depth, 0,
          [](int64_t) { return vec{}; },
          [&](int64_t row, int64_t column, vec sum) {
            store(in.d_hiddens + row * in.hidden + column, sum, static_cast<int>(smaller(kLanes, in.hidden - column)));
          });
    });
    next += Stage::words(chunks);
    Stage::at(next, product.tasks()).run(product.tasks(), worker, team.threads, [&](int64_t task) { product.run(task, memory); });
  };
  on_team(team, work);
}

}  // namespace
