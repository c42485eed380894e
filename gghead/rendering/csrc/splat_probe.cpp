// What the machine can do at most: gghead_splat::fma_rate, multiply-adds of sixteen floats per
// second on torch's threads. Benchmarks divide by it, so that their ratios mean the same on every
// machine.
#include <ATen/Parallel.h>
#include <torch/library.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "simd16.h"

namespace splat {
namespace {

using namespace simd16;

constexpr int kChains =
    kRegisters / 2 > 4 ? 12 : 4;  // independent chains: enough to hide the latency

// Returns a number that depends on all the work, so that none of it can be left out.
float chains(int64_t rounds, float seed) {
  F16 a[kChains];
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) a[i] = set(seed + float(i));
  const F16 factor = set(0.999f), shift = set(0.001f * seed);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) a[i] = fma(a[i], factor, shift);
  }
  F16 sum = set(0.f);
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sum = sum + a[i];
  alignas(64) float out[16];
  store(out, sum);
  return out[0];
}

double fma_rate(double seconds) {
  const int64_t threads = at::get_num_threads(), rounds = 20000;
  std::vector<float> results(threads);
  double best = 0.0, spent = 0.0;
  while (spent < seconds) {
    const auto start = std::chrono::steady_clock::now();
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) results[t] = chains(rounds, float(t + 1));
    });
    const double took =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, double(threads * rounds * kChains) / took);
    spent += took;
  }
  return results[0] == 12345.f ? 0.0 : best;
}

}  // namespace
}  // namespace splat

TORCH_LIBRARY_FRAGMENT(gghead_splat, m) {
  m.def("fma_rate(float seconds) -> float", splat::fma_rate);
}
