// What tells one cell from another: the gates of one vector of units, forward and backward. The equations are those of
// `elman.network.cells`; gate blocks in its order.
#pragma once

#include "interface.h"
#include "vector.h"

namespace {

using elman::kGru;
using elman::kLstm;
using elman::kRelu;
using elman::kTanh;

// Vectors that one panel of W_h holds for a cell: all gates of one vector of units, or several vectors of units of a plain cell.
template <int C>
constexpr int kPanelVectors = C == kGru ? 3 : C == kLstm ? 4 : kWide;
template <int C>
constexpr bool kGated = C == kGru || C == kLstm;
template <int C>
constexpr int kSaved = C == kGru ? 4 : C == kLstm ? 5 : 0;
template <int C>
constexpr int kGradients = C == kGru || C == kLstm ? 4 : 1;

// One vector of units going backward: what is known of it, and the gradients that come out.
struct Unit {
  vec d_hidden;    // of h_t, from above and from the step behind
  vec d_memory;    // LSTM: of c_t; becomes that of c_{t-1}
  vec d_direct;    // of h_{t-1}, past the product
  vec d_gates[4];  // of the gates before their squashing
};

template <int C>
ELMAN_INLINE void backward_unit(Unit& u, [[maybe_unused]] int cell, [[maybe_unused]] vec hidden, [[maybe_unused]] vec previous,
                                 [[maybe_unused]] vec previous_memory, [[maybe_unused]] const vec (&saved)[5]) {
  u.d_direct = vec{};
  if constexpr (C == kTanh) {
    u.d_gates[0] = cell == kTanh ? u.d_hidden * (1.0f - hidden * hidden) : hidden > 0.0f ? u.d_hidden : vec{};
  } else if constexpr (C == kGru) {
    const vec reset = saved[0], keep = saved[1], candidate = saved[2], recurrent = saved[3];
    const vec d_candidate = u.d_hidden * (1.0f - keep) * (1.0f - candidate * candidate);
    u.d_gates[0] = d_candidate * recurrent * reset * (1.0f - reset);
    u.d_gates[1] = u.d_hidden * (previous - candidate) * keep * (1.0f - keep);
    u.d_gates[2] = d_candidate * reset;
    u.d_gates[3] = d_candidate;
    u.d_direct = u.d_hidden * keep;
  } else {
    const vec input = saved[0], forget = saved[1], candidate = saved[2], output = saved[3];
    const vec squashed = tanh(saved[4]);
    const vec d_memory = u.d_memory + u.d_hidden * output * (1.0f - squashed * squashed);
    u.d_gates[0] = d_memory * candidate * input * (1.0f - input);
    u.d_gates[1] = d_memory * previous_memory * forget * (1.0f - forget);
    u.d_gates[2] = d_memory * input * (1.0f - candidate * candidate);
    u.d_gates[3] = u.d_hidden * squashed * output * (1.0f - output);
    u.d_memory = d_memory * forget;
  }
}

}  // namespace
