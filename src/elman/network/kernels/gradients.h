// The gradients of a layer's weights and inputs: products over all steps and sequences at once, after the reverse loop.
#pragma once

#include "product.h"

namespace {

using elman::kGru;
using elman::kLstm;
using elman::Layer;
using elman::LayerGradient;

// Several transposed products as one pool of tasks.
template <int Most>
struct Products {
  TransposedProduct product[Most];
  int count = 0;

  void add(const TransposedProduct& p) { product[count++] = p; }

  void run(const Team& team) {
    int64_t tasks = 0;
    for (int i = 0; i < count; ++i) {
      product[i].plan(team.threads);
      tasks += product[i].tasks();
    }
    auto* flags = static_cast<int32_t*>(elman::scratch(elman::kShared, sizeof(int32_t) * Stage::words(tasks)));
    std::memset(flags, 0, sizeof(int32_t) * Stage::words(tasks));
    auto work = [&](int worker) {
      auto* memory =
          static_cast<float*>(elman::scratch(elman::kPrivate, sizeof(float) * TransposedProduct::scratch_floats()));
      Stage::at(flags, tasks).run(tasks, worker, team.threads, [&](int64_t task) {
        int i = 0;
        while (task >= product[i].tasks()) task -= product[i++].tasks();
        product[i].run(task, memory);
      });
    };
    on_team(team, work);
  }
};

void weight_gradient(const Team& team, const Layer& in, const LayerGradient& out) {
  const int64_t hidden = in.hidden, depth = in.steps * in.batch;
  const int64_t gates = elman::gate_blocks(in.cell) * hidden, stride = elman::gradient_blocks(in.cell) * hidden;
  const int64_t carry = in.cell == kLstm ? 2 * hidden : hidden;
  // The h that met W_h: the carry before the first step, then every hidden state but the last.
  Rows before{in.hiddens, hidden, hidden, out.d_weight_hidden, gates, in.carry, carry, in.batch, in.mask, in.batch};
  const Rows inputs{in.xs, in.inputs, in.inputs, out.d_weight_inputs, gates, nullptr, 0, 0, nullptr, 1};
  Products<3> products;
  // `from`: the first column of d_gates; `to`: the first column of the input weights' gradient.
  auto add = [&](int64_t from, int64_t columns, int64_t to, bool recurrent, bool projected) {
    TransposedProduct p;
    p.b = out.d_gates + from;
    p.stride = stride, p.columns = columns, p.depth = depth;
    if (recurrent) {
      p.rows[p.kinds] = before;
      p.rows[p.kinds++].result = out.d_weight_hidden + from;
    }
    if (projected && in.xs) {
      p.rows[p.kinds] = inputs;
      p.rows[p.kinds++].result = out.d_weight_inputs + to;
    }
    if (projected && !in.xs) {
      p.codes = in.codes;
      p.scattered = out.d_weight_inputs + to, p.scattered_stride = gates, p.symbols = in.inputs;
    }
    p.column_sums = projected ? out.d_bias + to : out.d_bias_candidate;
    products.add(p);
  };
  if (in.cell == kGru) {
    add(0, 2 * hidden, 0, true, true);
    add(2 * hidden, hidden, 0, true, false);
    add(3 * hidden, hidden, 2 * hidden, false, true);
  } else {
    add(0, gates, 0, true, true);
  }
  products.run(team);
}

// d_xs = the gates' gradients times the transpose of W_x.
void input_gradient(const Team& team, const Layer& in, const LayerGradient& out) {
  constexpr int kRows = rows_beside(kWide);
  const int64_t hidden = in.hidden, depth = elman::gate_blocks(in.cell) * hidden, rows = in.steps * in.batch;
  const int64_t stride = elman::gradient_blocks(in.cell) * hidden;
  // The GRU's d_gates hold n before W_h behind n after it: two stretches of columns.
  const int64_t first = in.cell == kGru ? 2 * hidden : depth, skipped = in.cell == kGru ? hidden : 0;
  const Panels panels{in.inputs};
  const int64_t chunk = 8 * kRows, chunks = ceil_div(rows, chunk);
  Cutter measure{nullptr};
  measure.take<float>(panels.floats(depth));
  measure.take<int32_t>(Stage::words(panels.count()) + Stage::words(chunks));
  Cutter cutter{static_cast<char*>(elman::scratch(elman::kShared, measure.used))};
  float* packed = cutter.take<float>(panels.floats(depth));
  auto* flags = cutter.take<int32_t>(Stage::words(panels.count()) + Stage::words(chunks));
  std::memset(flags, 0, sizeof(int32_t) * (Stage::words(panels.count()) + Stage::words(chunks)));
  auto work = [&](int worker) {
    Stage::at(flags, panels.count()).run(panels.count(), worker, team.threads, [&](int64_t panel) {
      pack_transposed(packed + Panels::offset(panel, depth), in.weight_inputs, depth, depth, panels, panel);
    });
    Stage::at(flags + Stage::words(panels.count()), chunks).run(chunks, worker, team.threads, [&](int64_t task) {
      rows_times_panels(
          task * chunk, smaller(rows, (task + 1) * chunk), [&](int64_t row) { return out.d_gates + row * stride; }, packed, panels,
          depth, first, skipped, [](int64_t) { return vec{}; },
          [&](int64_t row, int64_t column, vec sum) {
            store(out.d_xs + row * in.inputs + column, sum, static_cast<int>(smaller(kLanes, in.inputs - column)));
          });
    });
  };
  on_team(team, work);
}

}  // namespace
