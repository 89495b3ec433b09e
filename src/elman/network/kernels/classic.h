// Whole updates of the classic program (one stream, one tanh layer, softmax, clipped Adagrad), many in one call: weights and sums
// of squares stay in padded arrays of this call's own, and a weight's gradient goes from the registers into its update.
#pragma once

#include <math.h>

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

  void run() {
    for (int64_t i = 0; i < in.updates; ++i) update(i);
    copy_out(0, symbols, hidden, wide), copy_out(1, hidden, hidden, wide), copy_out(2, 1, hidden, wide);
    copy_out(3, hidden, symbols, outputs), copy_out(4, 1, symbols, outputs);
    std::memcpy(in.state, hiddens, sizeof(float) * hidden);
  }

 private:
  const elman::Classic& in;
  const int64_t hidden, symbols, steps, wide, outputs;
  float *weights[5], *sums_of_squares[5], *turned_hidden, *turned_output;
  float *hiddens, *d_sums, *logits, *d_hiddens, *d_inputs, *later;
  uint8_t* touched;
  float rate = 0;
  vec square{};

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
    touched = c.take<uint8_t>(symbols);
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

  void update(int64_t i) {
    const int64_t first = i * (steps + 1);
    rate = in.rates[i];
    square = vec{};
    if (in.fresh[i]) std::memset(hiddens, 0, sizeof(float) * wide);
    transpose(turned_hidden, wide, weights[1], wide, hidden, wide);
    transpose(turned_output, wide, weights[3], outputs, hidden, outputs);
    for (int64_t t = 0; t < steps; ++t) walk(t, weights[0] + code(first + t) * wide);
    product(logits, outputs, weights[4], hiddens + wide, weights[3], outputs, hidden);
    float loss = 0;
    for (int64_t t = 0; t < steps; ++t) loss += softmax(logits + t * outputs, code(first + t + 1));
    in.losses[i] = in.mean ? loss / steps : loss;
    product(d_hiddens, wide, nullptr, logits, turned_output, wide, symbols);
    std::memset(later, 0, sizeof(float) * wide);
    for (int64_t t = steps - 1; t >= 0; --t) walk_back(t);
    learn_inputs(first);
    learn<false>(1, hidden, hiddens, wide, d_sums, wide);
    learn<false>(3, hidden, hiddens + wide, wide, logits, outputs);
    learn<true>(2, 1, nullptr, 0, d_sums, wide);
    learn<true>(4, 1, nullptr, 0, logits, outputs);
    in.norms[i] = sqrtf(sum(square));
    std::memcpy(hiddens, hiddens + steps * wide, sizeof(float) * wide);
  }

  // One row times a matrix: to = start + a B, or + start2, in pieces of up to eight vectors.
  template <class F>
  ELMAN_INLINE void row_times(const float* a, const float* b, F&& finish) {
    for (int64_t from = 0; from < wide; from += 8 * kLanes)
      with_count<8>(static_cast<int>(smaller(8, (wide - from) / kLanes)), [&](auto vectors) {
        constexpr int V = decltype(vectors)::value;
        vec even[1][V] = {}, odd[1][V] = {};
        const int64_t half = hidden / 2;
        for (int64_t k = 0; k < half; ++k) {
          const vec x = all(a[2 * k]), y = all(a[2 * k + 1]);
          const float* row = b + 2 * k * wide + from;
#pragma GCC unroll 8
          for (int v = 0; v < V; ++v) {
            even[0][v] += x * load(row + v * kLanes);
            odd[0][v] += y * load(row + wide + v * kLanes);
          }
        }
        if (hidden % 2) multiply_rows<1, V>(even, a + hidden - 1, 0, 0, b + (hidden - 1) * wide + from, 0, 1);
        for (int v = 0; v < V; ++v) finish(from + v * kLanes, even[0][v] + odd[0][v]);
      });
  }

  void walk(int64_t t, const float* input) {
    float* after = hiddens + (t + 1) * wide;
    row_times(hiddens + t * wide, weights[1],
              [&](int64_t unit, vec sum) { store(after + unit, tanh(sum + load(input + unit) + load(weights[2] + unit))); });
  }

  void walk_back(int64_t t) {
    float* d = d_sums + t * wide;
    for (int64_t unit = 0; unit < wide; unit += kLanes) {
      const vec h = load(hiddens + (t + 1) * wide + unit);
      store(d + unit, (load(d_hiddens + t * wide + unit) + load(later + unit)) * (1.0f - h * h));
    }
    if (t) row_times(d, turned_hidden, [&](int64_t unit, vec sum) { store(later + unit, sum); });
  }

  // to[steps, width] = (start +) a[steps, depth] b[depth, width]
  void product(float* to, int64_t width, const float* start, const float* a, const float* b, int64_t stride, int64_t depth) {
    const int64_t a_stride = a == logits ? outputs : wide;
    for_tiles(width, steps, [&](int64_t column, auto vectors, int64_t row, auto rows) {
      constexpr int R = decltype(rows)::value, V = decltype(vectors)::value;
      vec sums[R][V];
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sums[r][v] = start ? load(start + column + v * kLanes) : vec{};
      multiply_rows<R, V>(sums, a + row * a_stride, a_stride, 1, b + column, stride, depth);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store(to + (row + r) * width + column + v * kLanes, sums[r][v]);
    });
  }

  template <class F>
  ELMAN_INLINE void for_tiles(int64_t width, int64_t height, F&& tile) {
    in_blocks(0, width / kLanes, kWide, [&](int64_t column, int count) {
      with_count<kWide>(count, [&](auto vectors) {
        in_blocks(0, height, rows_beside(kWide), [&](int64_t row, int several) {
          with_count<rows_beside(kWide)>(several, [&](auto rows) { tile(column * kLanes, vectors, row, rows); });
        });
      });
    });
  }

  // Minus log of the target's share; the row becomes the gradient of the loss.
  float softmax(float* row, int64_t target) {
    float top = row[0];
    for (int64_t s = 1; s < symbols; ++s)
      if (!(row[s] <= top)) top = row[s];
    const float chosen = row[target];
    for (int64_t s = symbols; s < outputs; ++s) row[s] = -INFINITY;
    vec total{};
    for (int64_t s = 0; s < outputs; s += kLanes) {
      const vec weight = exp_of_negative(load(row + s) - top);
      total += weight;
      store(row + s, weight);
    }
    const float whole = sum(total), share = (in.mean ? 1.0f / steps : 1.0f) / whole;
    for (int64_t s = 0; s < outputs; s += kLanes) store(row + s, load(row + s) * share);
    row[target] -= in.mean ? 1.0f / steps : 1.0f;
    return logf(whole) + top - chosen;
  }

  ELMAN_INLINE void adagrad(float* weight, float* total, vec gradient) {
    square += gradient * gradient;
    if (in.clip > 0) gradient = least(greatest(gradient, all(-in.clip)), all(in.clip));
    const vec sum = load(total) + gradient * gradient;
    store(total, sum);
    store(weight, load(weight) - rate * gradient * reciprocal_root(sum + in.epsilon));
  }

  // weights[which][height, width] from the gradient a^T b over the steps; kOnes: a is ones.
  template <bool kOnes>
  void learn(int which, int64_t height, const float* a, int64_t a_stride, const float* b, int64_t width) {
    static const float one = 1.0f;
    for_tiles(width, height, [&](int64_t column, auto vectors, int64_t row, auto rows) {
      constexpr int R = decltype(rows)::value, V = decltype(vectors)::value;
      vec sums[R][V] = {};
      if (kOnes)
        multiply_rows<R, V>(sums, &one, 0, 0, b + column, width, steps);
      else
        multiply_rows<R, V>(sums, a + row, 1, a_stride, b + column, width, steps);
      for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) {
          const int64_t at = (row + r) * width + column + v * kLanes;
          adagrad(weights[which] + at, sums_of_squares[which] + at, sums[r][v]);
        }
    });
  }

  // Only rows of W_x that were read have a gradient; a gradient of zero changes neither weight nor sum.
  void learn_inputs(int64_t first) {
    for (int64_t t = 0; t < steps; ++t) {
      const int64_t symbol = code(first + t);
      float* row = d_inputs + symbol * wide;
      for (int64_t unit = 0; unit < wide; unit += kLanes)
        store(row + unit, (touched[symbol] ? load(row + unit) : vec{}) + load(d_sums + t * wide + unit));
      touched[symbol] = 1;
    }
    for (int64_t symbol = 0; symbol < symbols; ++symbol) {
      if (!touched[symbol]) continue;
      touched[symbol] = 0;
      for (int64_t at = symbol * wide; at < (symbol + 1) * wide; at += kLanes)
        adagrad(weights[0] + at, sums_of_squares[0] + at, load(d_inputs + at));
    }
  }
};

void classic(const elman::Classic& call) { Training(call).run(); }

}  // namespace
