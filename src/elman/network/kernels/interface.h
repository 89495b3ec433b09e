// What the two halves of the library agree on: arithmetic compiled once per instruction set, and the XLA calls compiled once.
// Plain pointers and sizes only: nothing here may be compiled differently in two places.
#pragma once

#include <cstddef>
#include <cstdint>

namespace elman {

enum Cell : int { kTanh = 0, kRelu = 1, kGru = 2, kLstm = 3 };

// Threads that work on one call. `run` calls `work(context, worker)` on the caller and, if they come in time, on helpers;
// it returns when nobody is inside any more. Work must be claimed, never assigned: a helper may come late or not at all.
struct Team {
  int threads;
  void* self;
  void (*run)(void* self, void (*work)(void* context, int worker), void* context);
};

// Memory of the calling thread, aligned to 64 bytes, kept for its next call: one block that a call shares among its workers
// (kShared), one that each worker has to itself (kPrivate).
enum Scratch : int { kShared = 0, kPrivate = 1 };
void* scratch(Scratch which, size_t bytes);

// One recurrent layer over a sequence. Arrays are contiguous, time first; what a call does not need is null.
struct Layer {
  int cell;
  int64_t steps, batch, inputs, hidden;  // inputs: width of x, or the number of symbols where x is integers
  const float* weight_inputs;            // [inputs, gates hidden]
  const float* weight_hidden;            // [hidden, gates hidden]
  const float* bias;                     // [gates hidden]
  const float* bias_candidate;           // [hidden], GRU only
  const float* xs;                       // [steps, batch, inputs], or null:
  const int32_t* codes;                  // [steps, batch]
  const float* carry;                    // [batch, carry]
  const int32_t* lengths;                // [batch] or null
  const float* mask;                     // [batch, hidden] or null
  float* hiddens;                        // [steps, batch, hidden]
  float* gates;                          // what the reverse loop needs again, [steps, batch, saved hidden]; null: not kept
  float* last;                           // [batch, carry]
};

// Its gradient. d_gates: GRU [r, z, n behind W_h, n before W_h], 4 hidden wide; else as wide as the gates.
struct LayerGradient {
  const float* d_hiddens;  // [steps, batch, hidden]
  const float* d_last;     // [batch, carry]
  float* d_gates;          // [steps, batch, gates (GRU: 4) hidden]
  float* d_carry;          // [batch, carry]
  float* d_weight_inputs;
  float* d_weight_hidden;
  float* d_bias;
  float* d_bias_candidate;
  float* d_xs;  // [steps, batch, inputs]
};

// The categorical head: softmax over `symbols`.
struct Head {
  int64_t rows, hidden, symbols;
  const float* hiddens;         // [rows, hidden]
  const float* weight;          // [hidden, symbols]
  const float* bias;            // [symbols]
  const int32_t* targets;       // [rows]
  float* losses;                // [rows]
  float* probabilities;         // [rows, symbols], or null: not kept
  const float* d_losses;        // [rows]
  float* d_logits;              // [rows, symbols]
  float* d_hiddens;             // [rows, hidden]
  float* d_weight;              // [hidden, symbols]
  float* d_bias;                // [symbols]
};

// Whole updates of the classic program, in place: one tanh layer of one stream, softmax, clipped Adagrad.
struct Classic {
  int64_t updates, unroll, hidden, symbols;
  const int32_t* codes;   // [updates, unroll + 1]
  const uint8_t* fresh;   // [updates]: the state starts at zero
  const float* rates;     // [updates]
  float clip;             // 0: none
  float epsilon;
  bool mean;              // the loss of an update is the mean of its steps, not their sum
  float* weights[5];      // W_x [symbols, hidden], W_h [hidden, hidden], b [hidden], W_y [hidden, symbols], b_y [symbols]
  float* sums[5];         // Adagrad's sums of squares, shaped alike
  float* state;           // [hidden]
  float* losses;          // [updates]
  float* norms;           // [updates]: of the gradient, before it is clipped
};

// One stream of samples from a stack of layers of one kind under a categorical head.
constexpr int kMostLayers = 16;
struct Sampling {
  int64_t layers, hidden, symbols, steps;
  Layer layer[kMostLayers];  // of one sequence; the first reads `drawn`, each other the hiddens of the one below
  const float* weight;       // the head's, [hidden, symbols]
  const float* bias;
  const float* uniforms;     // [steps]
  float sharpness;           // multiplies the logits: 1 / temperature
  int32_t* drawn;            // [steps + 1], the first is given
};

struct Kernels {
  const char* name;
  int lanes;
  void (*forward)(const Team&, const Layer&);
  void (*backward)(const Team&, const Layer&, const LayerGradient&);
  void (*weight_gradient)(const Team&, const Layer&, const LayerGradient&);
  void (*input_gradient)(const Team&, const Layer&, const LayerGradient&);
  void (*head_forward)(const Team&, const Head&);
  void (*head_backward)(const Team&, const Head&);
  void (*classic)(const Team&, const Classic&);
  void (*sample)(const Team&, const Sampling&);
};

inline int gate_blocks(int cell) { return cell == kGru ? 3 : cell == kLstm ? 4 : 1; }
inline int saved_blocks(int cell) { return cell == kGru ? 4 : cell == kLstm ? 5 : 0; }     // LSTM: i, f, g, o and c
inline int gradient_blocks(int cell) { return cell == kGru || cell == kLstm ? 4 : 1; }

}  // namespace elman
