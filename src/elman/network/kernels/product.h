// The matrix product, in three pieces: a block of rows times a packed panel of columns in registers, the packing of panels, and
// the product of a transposed matrix with another (weight gradients).
#pragma once

#include <math.h>

#include "stages.h"

namespace {

// Whether R rows of V vectors are added up in two sets of sums, however rows are cut into blocks elsewhere: only then may the rows be
// shared among more threads and their sums stay the same. The fewest rows into which `in_blocks` cuts more of them are half a block.
template <int R, int V>
constexpr bool kTwoSets = R * V < 8 && (V == 1 || R < (rows_beside(V > kWide ? V : kWide) + 1) / 2);

// sums[r][v] += sum over k of a[r][k] * panel[k][v]: R rows, V vectors of columns, all sums in registers. fixed: blocks of rows are
// the same with any number of threads.
template <int R, int V>
ELMAN_INLINE void multiply(vec (&sums)[R][V], const float* const (&a)[R], const float* panel, int64_t depth, bool fixed = true) {
  if (R * V < 8 && (fixed || kTwoSets<R, V>)) {
    // Few sums: a second set, so that one multiplication need not wait for the one before it.
    vec others[R][V] = {};
    int64_t k = 0;
    for (; k + 2 <= depth; k += 2) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const vec x = all(a[r][k]), y = all(a[r][k + 1]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
          sums[r][v] += x * *reinterpret_cast<const vec*>(panel + (k * V + v) * kLanes);
          others[r][v] += y * *reinterpret_cast<const vec*>(panel + ((k + 1) * V + v) * kLanes);
        }
      }
    }
    if (k < depth) {
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const vec x = all(a[r][k]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] += x * *reinterpret_cast<const vec*>(panel + (k * V + v) * kLanes);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] += others[r][v];
  } else {
    for (int64_t k = 0; k < depth; ++k) {
      vec b[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) b[v] = *reinterpret_cast<const vec*>(panel + (k * V + v) * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const vec x = all(a[r][k]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sums[r][v] += x * b[v];
      }
    }
  }
}

// Rows `first` to `end` in blocks of at most `most`, as equal as can be: f(row, count).
template <class F>
ELMAN_INLINE void in_blocks(int64_t first, int64_t end, int most, F&& f) {
  const int64_t rows = end - first, blocks = ceil_div(rows, most);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t from = first + block * rows / blocks, to = first + (block + 1) * rows / blocks;
    f(from, static_cast<int>(to - from));
  }
}

// Columns in panels of `Wide` vectors but the last, which has as many as are left.
template <int Wide>
struct PanelsOf {
  static constexpr int64_t kColumns = Wide * kLanes;
  int64_t columns;
  int64_t count() const { return ceil_div(columns, kColumns); }
  int vectors(int64_t panel) const {
    return static_cast<int>(smaller(Wide, ceil_div(columns - panel * kColumns, kLanes)));
  }
  int64_t floats(int64_t depth) const { return ceil_div(columns, kLanes) * kLanes * depth; }
  static int64_t offset(int64_t panel, int64_t depth) { return panel * kColumns * depth; }
};
using Panels = PanelsOf<kWide>;

// Panel `panel` of matrix[depth, columns], rows `stride` apart.
template <int Wide>
ELMAN_INLINE void pack(float* to, const float* matrix, int64_t stride, int64_t depth, PanelsOf<Wide> panels, int64_t panel) {
  const int vectors = panels.vectors(panel);
  for (int v = 0; v < vectors; ++v) {
    const int64_t column = panel * panels.kColumns + v * kLanes;
    const int count = static_cast<int>(smaller(kLanes, panels.columns - column));
    for (int64_t k = 0; k < depth; ++k)
      *reinterpret_cast<vec*>(to + (k * vectors + v) * kLanes) = load(matrix + k * stride + column, count);
  }
}

// Panel `panel` of the transpose of matrix[columns, depth], rows `stride` apart.
inline void pack_transposed(float* to, const float* matrix, int64_t stride, int64_t depth, Panels panels, int64_t panel) {
  const int64_t first = panel * Panels::kColumns;
  transpose(to, panels.vectors(panel) * kLanes, matrix + first * stride, stride, smaller(Panels::kColumns, panels.columns - first),
            depth);
}

// Rows `first` to `end` times all packed panels: `a(row)` is a row's first number, `start(column)` what a vector of sums begins with, and
// `finish(row, column, sum)` takes it. Of the numbers of a row the first `depth` count, but for `gap` that are left out behind `before`.
template <class A, class Start, class Finish>
ELMAN_INLINE void rows_times_panels(int64_t first, int64_t end, const A& a, const float* packed, const Panels& panels, int64_t depth,
                                    int64_t before, int64_t gap, const Start& start, const Finish& finish) {
  constexpr int kRows = rows_beside(kWide);
  for (int64_t panel = 0; panel < panels.count(); ++panel)
    with_count<kWide>(panels.vectors(panel), [&](auto vectors) {
      constexpr int V = decltype(vectors)::value;
      const float* at = packed + Panels::offset(panel, depth);
      in_blocks(first, end, kRows, [&](int64_t row, int count) {
        with_count<kRows>(count, [&](auto several) {
          constexpr int R = decltype(several)::value;
          const float* rows[R];
          vec sums[R][V];
          for (int r = 0; r < R; ++r) {
            rows[r] = a(row + r);
            for (int v = 0; v < V; ++v) sums[r][v] = start(panel * kPanel + v * kLanes);
          }
          multiply<R, V>(sums, rows, at, before);
          if (before < depth) {
            for (int r = 0; r < R; ++r) rows[r] += before + gap;
            multiply<R, V>(sums, rows, at + before * V * kLanes, depth - before);
          }
          for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) finish(row + r, panel * kPanel + v * kLanes, sums[r][v]);
        });
      });
    });
}

// A row of logits becomes exp(logit - the largest); the sum of these, and in `loss` minus log of the target's share of it.
ELMAN_INLINE float exponentials(float* row, int64_t width, int64_t target, float& loss) {
  const float top = largest(row, width), chosen = row[target];
  vec total{};
  for (int64_t s = 0; s < width; s += kLanes) {
    const vec weight = exp_of_negative(load(row + s) - top);
    total += weight;
    store(row + s, weight);
  }
  const float whole = sum(total);
  loss = logf(whole) + top - chosen;
  return whole;
}

// Rows of A [depth, rows] that one transposed product takes together, and where its result goes.
struct Rows {
  const float* source;  // source[k * stride + i]
  int64_t stride, count;
  float* result;  // result[i * result_stride + column]
  int64_t result_stride;
  const float* first_source;  // for the first `first_depth` of k, in place of `source` (the carry before the hiddens)
  int64_t first_stride, first_depth;
  const float* scale;  // [scale_rows, count], multiplies row k % scale_rows; null: none
  int64_t scale_rows;
};

// result = A^T B for several A with the same columns of one B: the gradients of all weights that meet the same gate gradients.
// One task is a tile of the result; it packs what it needs, chunk by chunk of the depth, and adds up in its own memory.
struct TransposedProduct {
  // Three vectors of columns, so that a block has eight (four) rows: half a cache line of A, which packs without crossing lines.
  static constexpr int kVectors = 3;
  static constexpr int kRows = rows_beside(kVectors);
  using Columns = PanelsOf<kVectors>;
  static constexpr int64_t kDepth = 192, kTileRows = 192, kTileColumns = 4 * Columns::kColumns, kAhead = 8;

  const float* b;  // b[k * stride + column]
  int64_t stride, columns, depth;
  Rows rows[2];
  int kinds = 0;
  float* column_sums = nullptr;  // where given: the sum of all rows of B
  const int32_t* codes = nullptr;  // where given: scattered[codes[k]] += row k of B
  float* scattered = nullptr;
  int64_t scattered_stride = 0, symbols = 0;
  int64_t tile_rows = 0, tile_columns = 0;

  int64_t total_rows() const {
    int64_t total = 0;
    for (int i = 0; i < kinds; ++i) total += rows[i].count;
    return total;
  }

  // Tiles as large as the cache likes them; smaller only where a thread would have none.
  void plan(int threads) {
    const int64_t total = larger(1, total_rows()), all_blocks = ceil_div(total, kRows);
    int64_t parts = ceil_div(total, kTileRows);
    tile_columns = smaller(kTileColumns, ceil_div(columns, kLanes) * kLanes);
    const int64_t column_tiles = ceil_div(columns, tile_columns);
    if (parts * column_tiles < threads && total * columns * depth > (1 << 18))
      parts = smaller(all_blocks, ceil_div(threads, column_tiles));
    tile_rows = ceil_div(all_blocks, parts) * kRows;
  }

  int64_t tasks() const { return ceil_div(larger(1, total_rows()), tile_rows) * ceil_div(columns, tile_columns); }

  static int64_t scratch_floats() { return kDepth * kTileColumns + kTileRows * kDepth + kTileRows * kTileColumns; }

  void run(int64_t task, float* memory) const {
    const int64_t row_tiles = ceil_div(larger(1, total_rows()), tile_rows);
    const int64_t first_row = task % row_tiles * tile_rows, end_row = smaller(total_rows(), first_row + tile_rows);
    const int64_t first_column = task / row_tiles * tile_columns;
    const Columns panels{smaller(tile_columns, columns - first_column)};
    const int64_t blocks = ceil_div(larger(0, end_row - first_row), kRows);
    float* packed_b = memory;
    float* packed_a = packed_b + kDepth * kTileColumns;
    float* sums = packed_a + kTileRows * kDepth;
    const int64_t sums_stride = ceil_div(panels.columns, kLanes) * kLanes;
    if (blocks) std::memset(sums, 0, sizeof(float) * blocks * kRows * sums_stride);
    const bool scatters = codes && first_row == 0, summed = column_sums && first_row == 0;
    if (scatters)
      for (int64_t s = 0; s < symbols; ++s)
        std::memset(scattered + s * scattered_stride + first_column, 0, sizeof(float) * panels.columns);
    for (int64_t from = 0; from < depth; from += kDepth) {
      const int64_t count = smaller(kDepth, depth - from);
      if (scatters) scatter(from, count, first_column, panels.columns);
      if (!blocks && !summed) continue;
      pack_columns(packed_b, b + from * stride + first_column, count, panels);
      if (summed) sum_columns(packed_b, first_column, count, panels, from == 0);
      pack_rows(packed_a, first_row, end_row, from, count);
      for (int64_t p = 0; p < panels.count(); ++p)
        with_count<kVectors>(panels.vectors(p), [&](auto vectors) {
          for (int64_t block = 0; block < blocks; ++block)
            add_block<decltype(vectors)::value>(sums + block * kRows * sums_stride + p * panels.kColumns, sums_stride,
                                                packed_a + block * kRows * count,
                                                packed_b + Columns::offset(p, count), count);
        });
    }
    for (int64_t row = first_row; row < end_row; ++row) {
      int64_t at = row;
      const Rows* kind = rows;
      while (at >= kind->count) at -= (kind++)->count;
      std::memcpy(kind->result + at * kind->result_stride + first_column, sums + (row - first_row) * sums_stride,
                  sizeof(float) * panels.columns);
    }
  }

 private:
  template <int V>
  static ELMAN_INLINE void add_block(float* sums, int64_t sums_stride, const float* a, const float* panel, int64_t depth) {
    vec block[kRows][V];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) block[r][v] = load(sums + r * sums_stride + v * kLanes);
    for (int64_t k = 0; k < depth; ++k) {
      vec b[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) b[v] = *reinterpret_cast<const vec*>(panel + (k * V + v) * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const vec x = all(a[k * kRows + r]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) block[r][v] += x * b[v];
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(sums + r * sums_stride + v * kLanes, block[r][v]);
  }

  // All panels of a tile at once, row by row: a row of B is read from one end to the other.
  void pack_columns(float* to, const float* from, int64_t count, Columns panels) const {
    const int64_t whole = panels.columns / panels.kColumns;
    for (int64_t k = 0; k < count; ++k) {
      const float* row = from + k * stride;
      if (k + kAhead < count)  // rows lie far apart, and no processor guesses where the next one is
        for (int64_t c = 0; c < panels.columns; c += 16) prefetch(row + kAhead * stride + c);
      for (int64_t p = 0; p < whole; ++p) {
        float* target = to + Columns::offset(p, count) + k * panels.kColumns;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) store(target + v * kLanes, load(row + p * panels.kColumns + v * kLanes));
      }
    }
    if (whole < panels.count()) pack(to + Columns::offset(whole, count), from, stride, count, panels, whole);
  }

  // Rows of A in blocks of kRows side by side: to[(block * count + k) * kRows + r]; zeros behind the last.
  void pack_rows(float* to, int64_t first, int64_t end, int64_t from, int64_t count) const {
    for (int64_t row = first; row < end;) {
      int64_t at = row;
      const Rows* kind = rows;
      while (at >= kind->count) at -= (kind++)->count;
      const int64_t whole = smaller(kind->count - at, end - row) / kRows;
      if (whole > 0) {
        pack_blocks(to, *kind, at, whole, from, count);
        to += whole * kRows * count;
        row += whole * kRows;
        continue;
      }
      // A block of rows of several kinds, or of too few.
      for (int r = 0; r < kRows; ++r, ++row) {
        at = row;
        kind = rows;
        while (row < end && at >= kind->count) at -= (kind++)->count;
        for (int64_t k = 0; k < count; ++k) {
          float value = row < end ? place(*kind, from + k)[at] : 0.0f;
          if (row < end && kind->scale) value *= kind->scale[(from + k) % kind->scale_rows * kind->count + at];
          to[k * kRows + r] = value;
        }
      }
      to += kRows * count;
    }
  }

  static void pack_blocks(float* to, const Rows& kind, int64_t at, int64_t blocks, int64_t from, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
      const float* source = place(kind, from + k) + at;
      const float* scale = kind.scale ? kind.scale + (from + k) % kind.scale_rows * kind.count + at : nullptr;
      if (k + kAhead < count) {
        const float* later = place(kind, from + k + kAhead) + at;
        for (int64_t c = 0; c < blocks * kRows; c += 16) prefetch(later + c);
      }
      for (int64_t block = 0; block < blocks; ++block) {
        float* target = to + (block * count + k) * kRows;
        const int64_t i = block * kRows;
        typedef float row_vec __attribute__((vector_size(4 * kRows), may_alias, aligned(4)));
        row_vec x = *reinterpret_cast<const row_vec*>(source + i);
        if (scale) x *= *reinterpret_cast<const row_vec*>(scale + i);
        *reinterpret_cast<row_vec*>(target) = x;
      }
    }
  }

  static ELMAN_INLINE const float* place(const Rows& rows, int64_t k) {
    return k < rows.first_depth ? rows.first_source + k * rows.first_stride
                                : rows.source + (k - rows.first_depth) * rows.stride;
  }

  void sum_columns(const float* packed, int64_t first_column, int64_t count, Columns panels, bool first) const {
    for (int64_t p = 0; p < panels.count(); ++p)
      for (int v = 0, vectors = panels.vectors(p); v < vectors; ++v) {
        const int64_t column = p * panels.kColumns + v * kLanes;
        const int width = static_cast<int>(smaller(kLanes, panels.columns - column));
        float* to = column_sums + first_column + column;
        vec total = first ? vec{} : load(to, width);
        for (int64_t k = 0; k < count; ++k) total += load(packed + Columns::offset(p, count) + (k * vectors + v) * kLanes);
        store(to, total, width);
      }
  }

  void scatter(int64_t from, int64_t count, int64_t first_column, int64_t width) const {
    for (int64_t k = from; k < from + count; ++k) {
      int64_t code = codes[k];
      if (code < 0) code += symbols;
      if (code < 0 || code >= symbols) continue;
      const float* source = b + k * stride + first_column;
      float* target = scattered + code * scattered_stride + first_column;
      int64_t c = 0;
      for (; c + kLanes <= width; c += kLanes) store(target + c, load(target + c) + load(source + c));
      for (; c < width; ++c) target[c] += source[c];
    }
  }
};

}  // namespace
