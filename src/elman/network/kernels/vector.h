// Vectors of the instruction set this file is compiled for, and the functions of them that a recurrent network needs.
// Everything is internal to the including file: the same names are compiled once for each instruction set.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#define ELMAN_LANES 16
#include <immintrin.h>
#elif defined(__AVX2__)
#define ELMAN_LANES 8
#include <immintrin.h>
#else
#define ELMAN_LANES 4
#endif

#define ELMAN_INLINE inline __attribute__((always_inline))

namespace {

constexpr int kLanes = ELMAN_LANES;
typedef float vec __attribute__((vector_size(4 * ELMAN_LANES), may_alias));
typedef float loose_vec __attribute__((vector_size(4 * ELMAN_LANES), may_alias, aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * ELMAN_LANES), may_alias));

// Vectors of columns in one panel, and rows that are multiplied with it at once: as many sums as fit the registers.
#if defined(__AVX512F__)
constexpr int kWide = 4;
constexpr int rows_beside(int vectors) { return vectors == 4 ? 6 : 8; }
#elif defined(__aarch64__)
constexpr int kWide = 4;
constexpr int rows_beside(int vectors) { return vectors == 4 ? 6 : 8; }
#else
constexpr int kWide = 2;
constexpr int rows_beside(int vectors) { return vectors == 4 ? 3 : vectors == 3 ? 4 : 6; }
#endif
constexpr int kMostRows = 8;
constexpr int kPanel = kWide * kLanes;

ELMAN_INLINE vec load(const float* p) { return *reinterpret_cast<const loose_vec*>(p); }
ELMAN_INLINE void store(float* p, vec x) { *reinterpret_cast<loose_vec*>(p) = x; }
// Ask for what the end of a tile reads or writes, so that it comes while the product is still being computed.
ELMAN_INLINE void prefetch(const float* p) { __builtin_prefetch(p, 0, 2); }
ELMAN_INLINE void prefetch_to_write(float* p) { __builtin_prefetch(p, 1, 2); }
ELMAN_INLINE vec all(float x) { return vec{} + x; }

// The first `count` lanes; zeros behind them. Sanitizers do not see through masks: they get the loop (ELMAN_WATCHED).
ELMAN_INLINE vec load(const float* p, int count) {
  if (count == kLanes) return load(p);
#if defined(__AVX512F__) && !defined(ELMAN_WATCHED)
  return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
#else
  vec x{};
  for (int i = 0; i < count; ++i) x[i] = p[i];
  return x;
#endif
}

ELMAN_INLINE void store(float* p, vec x, int count) {
  if (count == kLanes) return store(p, x);
#if defined(__AVX512F__) && !defined(ELMAN_WATCHED)
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), x);
#else
  for (int i = 0; i < count; ++i) p[i] = x[i];
#endif
}

// NaN stays NaN in both: the comparison is false for it, and what it then takes is x.
ELMAN_INLINE vec least(vec x, vec bound) { return bound < x ? bound : x; }
ELMAN_INLINE vec greatest(vec x, vec bound) { return bound > x ? bound : x; }

ELMAN_INLINE float sum(vec x) {
  float total = 0;
  for (int i = 0; i < kLanes; ++i) total += x[i];
  return total;
}

// The largest of `count` numbers, a multiple of the lanes; NaN may be passed over.
ELMAN_INLINE float largest(const float* p, int64_t count) {
  vec most = load(p);
  for (int64_t i = kLanes; i < count; i += kLanes) most = greatest(most, load(p + i));
  float top = most[0];
  for (int i = 1; i < kLanes; ++i)
    if (!(most[i] <= top)) top = most[i];
  return top;
}

// tanh as a quotient of polynomials: the coefficients of `elman.network.cells.tanh`, within 6 units in the last place.
ELMAN_INLINE vec tanh(vec x) {
  const vec limit = all(7.90531110763549805f);
  x = least(greatest(x, -limit), limit);
  const vec s = x * x;
  vec p = s * -2.76076847742355e-16f + 2.00018790482477e-13f;
  p = p * s + -8.60467152213735e-11f;
  p = p * s + 5.12229709037114e-08f;
  p = p * s + 1.48572235717979e-05f;
  p = p * s + 6.37261928875436e-04f;
  p = p * s + 4.89352455891786e-03f;
  vec q = s * 1.19825839466702e-06f + 1.18534705686654e-04f;
  q = q * s + 2.26843463243900e-03f;
  q = q * s + 4.89352518554385e-03f;
  return x * p / q;
}

ELMAN_INLINE vec sigmoid(vec x) { return tanh(x * 0.5f) * 0.5f + 0.5f; }

// exp for x <= 0 (0 below -87): 2^n by the exponent's bits times a polynomial of degree 6 on [-log 2 / 2, log 2 / 2], within 2
// units in the last place. Reduction in two parts as in Cody & Waite 1980; coefficients: Taylor's, scaled at the ends.
ELMAN_INLINE vec exp_of_negative(vec x) {
  const vec small = all(-87.0f);
  const ivec vanishes = x < small;
  x = greatest(x, small);
  const vec magic = all(12582912.0f);  // 1.5 * 2^23: adding it rounds to the nearest integer
  const vec shifted = x * 1.44269504088896341f + magic;
  const vec n = shifted - magic;
  vec r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  vec p = r * (1.0f / 720) + (1.0f / 120);
  p = p * r + (1.0f / 24);
  p = p * r + (1.0f / 6);
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  ivec exponent;
  std::memcpy(&exponent, &shifted, sizeof exponent);
  exponent = (exponent << 23) + (127 << 23);  // the integer stands in the low bits of `shifted`
  vec power;
  std::memcpy(&power, &exponent, sizeof power);
  const vec result = p * power;
  return vanishes ? vec{} : result;
}

// 1 / sqrt(x) for x > 0, within 2 units in the last place.
ELMAN_INLINE vec reciprocal_root(vec x) {
#if defined(__AVX512F__)
  // An estimate of 14 bits and one step of Newton's.
  const vec y = _mm512_maskz_rsqrt14_ps(0xffff, x);
  return y * (1.5f - 0.5f * x * y * y);
#else
  vec root;
  for (int i = 0; i < kLanes; ++i) root[i] = __builtin_sqrtf(x[i]);
  return 1.0f / root;
#endif
}

// Rows become columns.
ELMAN_INLINE void transpose_lanes(vec (&block)[kLanes]) {
#if defined(__AVX512F__)
  // Exchange halves of pairs of rows at distance 1, 2, 4, 8.
#pragma GCC unroll 4
  for (int distance = 1; distance < 16; distance *= 2) {
    alignas(64) int32_t low[16], high[16];
#pragma GCC unroll 16
    for (int lane = 0; lane < 16; ++lane) {
      low[lane] = lane & distance ? 16 + lane - distance : lane;
      high[lane] = lane & distance ? 16 + lane : lane + distance;
    }
    const __m512i take_low = _mm512_load_si512(low), take_high = _mm512_load_si512(high);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if (i & distance) continue;
      const __m512 a = block[i], b = block[i + distance];
      block[i] = _mm512_permutex2var_ps(a, take_low, b);
      block[i + distance] = _mm512_permutex2var_ps(a, take_high, b);
    }
  }
#else
  float square[kLanes][kLanes];
  for (int i = 0; i < kLanes; ++i)
    for (int j = 0; j < kLanes; ++j) square[j][i] = block[i][j];
  std::memcpy(block, square, sizeof square);
#endif
}

// to[c * to_stride + r] = from[r * from_stride + c], r < rows, c < columns; where rows end inside a vector, zeros fill it.
ELMAN_INLINE void transpose(float* to, int64_t to_stride, const float* from, int64_t from_stride, int64_t rows, int64_t columns) {
  for (int64_t row = 0; row < rows; row += kLanes)
    for (int64_t column = 0; column < columns; column += kLanes) {
      const int height = static_cast<int>(rows - row < kLanes ? rows - row : kLanes);
      const int width = static_cast<int>(columns - column < kLanes ? columns - column : kLanes);
      vec block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) block[i] = i < height ? load(from + (row + i) * from_stride + column, width) : vec{};
      transpose_lanes(block);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        if (i < width) store(to + (column + i) * to_stride + row, block[i]);
    }
}

template <int N>
struct number {
  static constexpr int value = N;
};

// Call `f` with a count that is known at run time as one that is known when compiling.
template <int Most, class F>
ELMAN_INLINE void with_count(int count, F&& f) {
  if constexpr (Most == 1) {
    f(number<1>{});
  } else {
    if (count == Most)
      f(number<Most>{});
    else
      with_count<Most - 1>(count, f);
  }
}

ELMAN_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
ELMAN_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
ELMAN_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

}  // namespace
