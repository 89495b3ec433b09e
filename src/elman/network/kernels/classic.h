// Whole updates of the classic program (one stream, one tanh layer, softmax, clipped Adagrad), many in one call: weights and sums
// of squares stay in padded arrays of this call's own, and a weight's gradient goes from the registers into its update.
//
// An update has four stages, of tasks that do not wait for each other: the walk forward beside the transposes for the way back; the
// head, some steps at a time; the walk backward beside the update of the head's weights; the update of the others. How they are cut
// does not depend on the number of threads.
#pragma once

#include "product.h"

namespace {

// sums[r][v] += sum over k of a[r * a_row + k * a_step] * b[k][v], rows of b `stride` apart.
template <int R, int V>
ELMAN_INLINE void multiply_rows(vec (&sums)[R][V], const float* a, int64_t a_row, int64_t a_step, const float* b, int64_t stride,
                                int64_t depth) {
  for (int64_t k = 0; k < depth; ++k) {
    vec row[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) row[v] = load(b + k * stride + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const vec x = all(a[r * a_row + k * a_step]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] += x * row[v];
    }
  }
}

class Training {
 public:
  explicit Training(const elman::Classic& call)
      : in(call), hidden(call.hidden), symbols(call.symbols), steps(call.unroll),
        wide(ceil_div(hidden, kLanes) * kLanes), outputs(ceil_div(symbols, kLanes) * kLanes) {
    Cutter measure{nullptr};
    cut(measure);
    Cutter cutter{static_cast<char*>(elman::scratch(elman::kShared, measure.used))};
    std::memset(cutter.base, 0, measure.used);
    cut(cutter);
    copy_in(0, symbols, hidden, wide), copy_in(1, hidden, hidden, wide), copy_in(2, 1, hidden, wide);
    copy_in(3, hidden, symbols, outputs), copy_in(4, 1, symbols, outputs);
    std::memcpy(hiddens, in.state, sizeof(float) * hidden);
  }

  void run(const Team& team) {
    auto work = [&](int worker) {
      for (int64_t i = 0; i < in.updates; ++i) {
        // Stages are so short that a helper without a processor costs more than one with it brings: then the caller goes on alone.
        if (worker > 0 && __atomic_load_n(&alone, __ATOMIC_RELAXED)) return;
        update(i, worker, team.threads);
      }
    };
    on_team(team, work);
    copy_out(0, symbols, hidden, wide), copy_out(1, hidden, hidden, wide), copy_out(2, 1, hidden, wide);
    copy_out(3, hidden, symbols, outputs), copy_out(4, 1, symbols, outputs);
    std::memcpy(in.state, hiddens + (in.updates ? steps * wide : 0), sizeof(float) * hidden);
  }

 private:
  static constexpr int64_t kParts = 4;            // of the steps in the head, of the rows of a matrix that learns
  static constexpr int64_t kSquares = 2 * kParts + 3;
  static constexpr int64_t kTasks[4] = {3, kParts, 2 + kParts, 2 + kParts};
  static constexpr int64_t kWords = 3 + kParts + 2 * (2 + kParts) + 4;

  const elman::Classic& in;
  const int64_t hidden, symbols, steps, wide, outputs;
  float *weights[5], *sums_of_squares[5], *turned_hidden, *turned_output;
  float *hiddens, *d_sums, *logits, *d_hiddens, *d_inputs, *later, *squares, *losses;
  uint8_t* touched;
  int32_t* flags;
  int32_t alone = 0;

  void cut(Cutter& c) {
    const int64_t sizes[5] = {symbols * wide, hidden * wide, wide, hidden * outputs, outputs};
    for (int i = 0; i < 5; ++i) weights[i] = c.take<float>(sizes[i]), sums_of_squares[i] = c.take<float>(sizes[i]);
    turned_hidden = c.take<float>(wide * wide);      // W_h transposed
    turned_output = c.take<float>(outputs * wide);   // W_y transposed
    hiddens = c.take<float>((steps + 1) * wide);     // h before the first step, then after each
    d_sums = c.take<float>(steps * wide);            // of what tanh squashes
    logits = c.take<float>(steps * outputs);         // and then their gradients
    d_hiddens = c.take<float>(steps * wide);         // from the head
    d_inputs = c.take<float>(symbols * wide);
    later = c.take<float>(wide);
    squares = c.take<float>(in.updates * kSquares);  // of the gradient, part by part
    losses = c.take<float>(steps);
    touched = c.take<uint8_t>(symbols);
    flags = c.take<int32_t>(in.updates * kWords);
  }

  void copy_in(int which, int64_t rows, int64_t columns, int64_t stride) {
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(weights[which] + row * stride, in.weights[which] + row * columns, sizeof(float) * columns);
      std::memcpy(sums_of_squares[which] + row * stride, in.sums[which] + row * columns, sizeof(float) * columns);
    }
  }

  void copy_out(int which, int64_t rows, int64_t columns, int64_t stride) const {
    for (int64_t row = 0; row < rows; ++row) {
      std::memcpy(in.weights[which] + row * columns, weights[which] + row * stride, sizeof(float) * columns);
      std::memcpy(in.sums[which] + row * columns, sums_of_squares[which] + row * stride, sizeof(float) * columns);
    }
  }

  int64_t code(int64_t i) const { return smaller(larger(in.codes[i], 0), symbols - 1); }

  void update(int64_t i, int worker, int workers) {
    int32_t* memory = flags + i * kWords;
    auto stage = [&](int64_t number, auto&& task) {
      const bool late = Stage::at(memory, kTasks[number]).run(kTasks[number], worker, workers, task);
      if (late && worker == 0) __atomic_store_n(&alone, 1, __ATOMIC_RELAXED);
      memory += Stage::words(kTasks[number]);
    };
    float* square = squares + i * kSquares;
    stage(0, [&](int64_t task) {
      if (task == 0) walk(i);
      if (task == 1) transpose(turned_hidden, wide, weights[1], wide, hidden, wide);
      if (task == 2) transpose(turned_output, wide, weights[3], outputs, hidden, outputs);
    });
    stage(1, [&](int64_t part) { head(i, part * steps / kParts, (part + 1) * steps / kParts); });
    stage(2, [&](int64_t task) {
      if (task == 0) return walk_back();
      if (task > kParts) return learn<true>(i, 4, 0, 1, nullptr, 0, logits, outputs, square + 1);
      const int64_t part = task - 1;
      learn<false>(i, 3, part * hidden / kParts, (part + 1) * hidden / kParts, hiddens + wide, wide, logits, outputs,
                   square + 3 + part);
    });
    stage(3, [&](int64_t task) {
      if (task == 0) return learn_inputs(i, square + 2);
      if (task > kParts) return learn<true>(i, 2, 0, 1, nullptr, 0, d_sums, wide, square);
      const int64_t part = task - 1;
      learn<false>(i, 1, part * hidden / kParts, (part + 1) * hidden / kParts, hiddens, wide, d_sums, wide,
                   square + 3 + kParts + part);
    });
    if (worker > 0) return;
    float total = 0;
    for (int64_t part = 0; part < kSquares; ++part) total += square[part];
    in.norms[i] = sqrtf(total);
  }

  void walk(int64_t i) {
    if (i) std::memcpy(hiddens, hiddens + steps * wide, sizeof(float) * wide);
    if (in.fresh[i]) std::memset(hiddens, 0, sizeof(float) * wide);
    for (int64_t t = 0; t < steps; ++t) {
      const float* input = weights[0] + code(i * (steps + 1) + t) * wide;
      float* after = hiddens + (t + 1) * wide;
      row_times(hiddens + t * wide, weights[1], t % 2, [&](int64_t unit, vec sum) {
        store(after + unit, tanh(sum + load(input + unit) + load(weights[2] + unit)));
      });
    }
  }

  void head(int64_t i, int64_t first, int64_t end) {
    product(logits, outputs, weights[4], hiddens + wide, wide, weights[3], hidden, first, end);
    for (int64_t t = first; t < end; ++t) losses[t] = softmax(logits + t * outputs, code(i * (steps + 1) + t + 1));
    product(d_hiddens, wide, nullptr, logits, outputs, turned_output, symbols, first, end);
  }

  void walk_back() {
    std::memset(later, 0, sizeof(float) * wide);
    for (int64_t t = steps - 1; t >= 0; --t) {
      float* d = d_sums + t * wide;
      for (int64_t unit = 0; unit < wide; unit += kLanes) {
        const vec h = load(hiddens + (t + 1) * wide + unit);
        store(d + unit, (load(d_hiddens + t * wide + unit) + load(later + unit)) * (1.0f - h * h));
      }
      if (t) row_times(d, turned_hidden, t % 2, [&](int64_t unit, vec sum) { store(later + unit, sum); });
    }
  }

  // One row times a matrix of `hidden` rows. Every other time from the last row to the first: the matrix is somewhat larger than the
  // first-level cache, which then still holds the rows that the time before ended with, and would hold none of them otherwise.
  template <class F>
  ELMAN_INLINE void row_times(const float* a, const float* b, bool upwards, F&& finish) {
    for (int64_t from = 0; from < wide; from += 8 * kLanes)
      with_count<8>(static_cast<int>(smaller(8, (wide - from) / kLanes)), [&](auto vectors) {
        constexpr int V = decltype(vectors)::value;
        vec even[V] = {}, odd[V] = {};
        const int64_t step = upwards ? -1 : 1;
        int64_t k = upwards ? hidden - 1 : 0;
        for (int64_t half = hidden / 2; half > 0; --half, k += 2 * step) {
          const vec x = all(a[k]), y = all(a[k + step]);
          const float *row = b + k * wide + from, *next = row + step * wide;
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) {
            even[v] += x * load(row + v * kLanes);
            odd[v] += y * load(next + v * kLanes);
          }
        }
        if (hidden % 2)
          for (int v = 0; v < V; ++v) even[v] += a[k] * load(b + k * wide + from + v * kLanes);
        for (int v = 0; v < V; ++v) finish(from + v * kLanes, even[v] + odd[v]);
      });
  }

  // to[first .. end, width] = (start +) a[.., depth] b[depth, width]
  void product(float* to, int64_t width, const float* start, const float* a, int64_t a_stride, const float* b, int64_t depth,
               int64_t first, int64_t end) {
    for_tiles(width, first, end, [&](int64_t column, auto vectors, int64_t row, auto rows) {
      constexpr int R = decltype(rows)::value, V = decltype(vectors)::value;
      vec sums[R][V];
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sums[r][v] = start ? load(start + column + v * kLanes) : vec{};
      multiply_rows<R, V>(sums, a + row * a_stride, a_stride, 1, b + column, width, depth);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store(to + (row + r) * width + column + v * kLanes, sums[r][v]);
    });
  }

  template <class F>
  ELMAN_INLINE void for_tiles(int64_t width, int64_t first, int64_t end, F&& tile) {
    in_blocks(0, width / kLanes, kWide, [&](int64_t column, int count) {
      with_count<kWide>(count, [&](auto vectors) {
        in_blocks(first, end, rows_beside(kWide), [&](int64_t row, int several) {
          with_count<rows_beside(kWide)>(several, [&](auto rows) { tile(column * kLanes, vectors, row, rows); });
        });
      });
    });
  }

  // Minus log of the target's share; the row becomes the gradient of the loss.
  float softmax(float* row, int64_t target) {
    for (int64_t s = symbols; s < outputs; ++s) row[s] = -INFINITY;
    float loss;
    const float share = (in.mean ? 1.0f / steps : 1.0f) / exponentials(row, outputs, target, loss);
    for (int64_t s = 0; s < outputs; s += kLanes) store(row + s, load(row + s) * share);
    row[target] -= in.mean ? 1.0f / steps : 1.0f;
    return loss;
  }

  ELMAN_INLINE void adagrad(int64_t i, int which, int64_t at, vec gradient, vec& square) {
    square += gradient * gradient;
    if (in.clip > 0) gradient = least(greatest(gradient, all(-in.clip)), all(in.clip));
    const vec sum = load(sums_of_squares[which] + at) + gradient * gradient;
    store(sums_of_squares[which] + at, sum);
    store(weights[which] + at, load(weights[which] + at) - in.rates[i] * gradient * reciprocal_root(sum + in.epsilon));
  }

  // Rows `first` to `end` of weights[which] from the gradient a^T b over the steps; kOnes: a is ones.
  template <bool kOnes>
  void learn(int64_t i, int which, int64_t first, int64_t end, const float* a, int64_t a_stride, const float* b, int64_t width,
             float* squared) {
    static const float one = 1.0f;
    vec square{};
    for_tiles(width, first, end, [&](int64_t column, auto vectors, int64_t row, auto rows) {
      constexpr int R = decltype(rows)::value, V = decltype(vectors)::value;
      vec sums[R][V] = {};
      if (kOnes)
        multiply_rows<R, V>(sums, &one, 0, 0, b + column, width, steps);
      else
        multiply_rows<R, V>(sums, a + row, 1, a_stride, b + column, width, steps);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) adagrad(i, which, (row + r) * width + column + v * kLanes, sums[r][v], square);
    });
    *squared = sum(square);
  }

  // Only rows of W_x that were read have a gradient; a gradient of zero changes neither weight nor sum. Adds the losses up, too.
  void learn_inputs(int64_t i, float* squared) {
    float loss = 0;
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t symbol = code(i * (steps + 1) + t);
      float* row = d_inputs + symbol * wide;
      for (int64_t unit = 0; unit < wide; unit += kLanes)
        store(row + unit, (touched[symbol] ? load(row + unit) : vec{}) + load(d_sums + t * wide + unit));
      touched[symbol] = 1;
      loss += losses[t];
    }
    in.losses[i] = in.mean ? loss / steps : loss;
    vec square{};
    for (int64_t symbol = 0; symbol < symbols; ++symbol) {
      if (!touched[symbol]) continue;
      touched[symbol] = 0;
      for (int64_t at = symbol * wide; at < (symbol + 1) * wide; at += kLanes) adagrad(i, 0, at, load(d_inputs + at), square);
    }
    *squared = sum(square);
  }
};

void classic(const Team& team, const elman::Classic& call) { Training(call).run(team); }

}  // namespace
