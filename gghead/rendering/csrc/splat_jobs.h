// What the operators share: jobs on torch's threads, and the check of their tensors.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <atomic>
#include <initializer_list>

namespace splat {

// Runs f(job, worker) for jobs 0..n-1 on torch's thread pool; each worker (0..workers-1) takes the
// next job when it is done with one. With a single worker no thread is woken.
template <class F>
void for_each_job(int64_t n, int64_t workers, const F& f) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min(n, workers), 1, [&](int64_t worker, int64_t) {
    for (int64_t j = next++; j < n; j = next++) f(j, worker);
  });
}

// The same with as many workers as torch has threads at this moment.
template <class F>
void for_each_job(int64_t n, const F& f) {
  for_each_job(n, at::get_num_threads(), f);
}

inline void check(const at::Tensor& t, const char* name, std::initializer_list<int64_t> shape,
                  at::ScalarType type) {
  TORCH_CHECK_VALUE(
      t.device().is_cpu() && t.scalar_type() == type && t.sizes() == at::IntArrayRef(shape),
      "splat: ", name, " must be a CPU tensor of type ", type, " and shape ",
      at::IntArrayRef(shape), ", but is ", t.scalar_type(), " ", t.sizes(), " on ", t.device(),
      ".");
}

}  // namespace splat
