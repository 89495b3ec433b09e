// Sharing work without assigning it. A stage is a number of tasks; whoever is there claims the next free one, beginning at its own
// place so that a task of the next step finds its weights in the same cache. Nobody ever waits for a thread that has not started:
// one waits only for tasks that somebody has claimed, and he is running. What a task computes does not depend on who runs it.
#pragma once

#include <sched.h>

#if defined(ELMAN_WATCHED)
#include <sanitizer/asan_interface.h>
#endif

#include "interface.h"
#include "vector.h"

namespace {

using elman::Team;

ELMAN_INLINE void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#endif
}

constexpr int kPatience = 4000;  // turns of waiting before one gives the processor away: some fifty microseconds

struct Stage {
  int32_t* claimed;  // one flag per task
  int32_t* done;     // a count

  static int64_t words(int64_t tasks) { return tasks + 1; }
  static Stage at(int32_t* memory, int64_t) { return {memory + 1, memory}; }

  // Returns whether one had to wait long for another: then he has lost his processor to something else.
  template <class F>
  ELMAN_INLINE bool run(int64_t tasks, int worker, int workers, F&& task) const {
    if (workers == 1) {
      for (int64_t i = 0; i < tasks; ++i) task(i);
      return false;
    }
    const int64_t first = worker * tasks / workers;
    for (int64_t i = 0; i < tasks; ++i) {
      const int64_t mine = first + i < tasks ? first + i : first + i - tasks;
      if (__atomic_load_n(claimed + mine, __ATOMIC_RELAXED)) continue;
      if (__atomic_exchange_n(claimed + mine, 1, __ATOMIC_ACQ_REL)) continue;
      task(mine);
      __atomic_fetch_add(done, 1, __ATOMIC_ACQ_REL);
    }
    int spins = 0;
    for (; __atomic_load_n(done, __ATOMIC_ACQUIRE) < tasks; ++spins) {
      if (spins < kPatience)
        pause_briefly();
      else
        sched_yield();
    }
    return spins > kPatience;
  }
};

// Run `work(worker)` on a team.
template <class F>
void on_team(const Team& team, F& work) {
  if (team.threads == 1) return work(0);
  team.run(team.self, [](void* context, int worker) { (*static_cast<F*>(context))(worker); }, &work);
}

// A piece of memory cut into pieces: first measured with no memory, then taken.
struct Cutter {
  char* base;
  size_t used = 0;

  template <class T>
  T* take(int64_t count) {
    const size_t at = used;
    used += (count * sizeof(T) + 63) / 64 * 64;
#if defined(ELMAN_WATCHED)  // a fence behind every piece (`benchmarks/sanitizing.py`)
    used += 64;
    if (base) ASAN_POISON_MEMORY_REGION(base + at + count * sizeof(T), used - at - count * sizeof(T));
#endif
    return base ? reinterpret_cast<T*>(base + at) : nullptr;
  }
};

}  // namespace
