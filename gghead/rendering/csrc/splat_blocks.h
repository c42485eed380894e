// The pixel side: blends the depth-sorted list of one 4x4 block, and walks back through it for the
// gradients.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <new>
#include <vector>

#include "simd16.h"

namespace splat {

using namespace simd16;

constexpr int kBlock = 4;  // pixels along a block's side
constexpr float kMinAlpha = 1.f / 255.f;
constexpr float kMaxAlpha = 0.999f;
constexpr float kMinTransmittance = 1e-4f;
constexpr float kFlattest =
    1e-24f;  // entries of a conic's diagonal below it (10^12 pixels wide) are not used
constexpr float kLargest = std::numeric_limits<float>::max();
constexpr int kHeader = 6;  // x, y, A, h, q (see Form), opacity; then the channels

// Starts at a cache line, so that no vector of sixteen straddles two.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}
  T* allocate(size_t n) {
    return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64)));
  }
  void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
  bool operator==(const LineAllocator&) const { return true; }
};
using Floats = std::vector<float, LineAllocator<float>>;

struct Pixels {
  F16 x, y;
  float centre_x, centre_y;
};

inline Pixels block_pixels(int x0, int y0) {
  alignas(64) static constexpr float kColumns[16] = {0, 1, 2, 3, 0, 1, 2, 3,
                                                     0, 1, 2, 3, 0, 1, 2, 3};
  alignas(64) static constexpr float kRows[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  return {set(float(x0) + 0.5f) + load(kColumns), set(float(y0) + 0.5f) + load(kRows),
          float(x0 + 2), float(y0 + 2)};
}

// The one place where pairs are evaluated, so that forward and backward agree to the last bit. K
// entries at once, step by step: one pair is a chain of twenty dependent instructions, longer than
// a processor looks ahead.
template <int K>
SIMD_INLINE void evaluate(Several<const float*, K>& r, const Pixels& p, Several<F16, K>& raw,
                          Several<F16, K>& alpha, Several<Mask, K>& hit) {
  Several<F16, K> dx, dy;
  each<K>([&](auto k) SIMD_LAMBDA { dy[k] = set(r[k][1]) - p.y; });
  each<K>([&](auto k) SIMD_LAMBDA { dx[k] = set(r[k][0]) - p.x; });
  each<K>([&](auto k) SIMD_LAMBDA { dx[k] = fma(set(r[k][3]), dy[k], dx[k]); });
  each<K>([&](auto k) SIMD_LAMBDA { dy[k] = set(r[k][4]) * dy[k] * dy[k]; });
  each<K>([&](auto k) SIMD_LAMBDA { raw[k] = fma(set(r[k][2]) * dx[k], dx[k], dy[k]); });
  exp2_negative(raw);
  each<K>([&](auto k) SIMD_LAMBDA { raw[k] = set(r[k][5]) * raw[k]; });
  each<K>([&](auto k) SIMD_LAMBDA { alpha[k] = min(raw[k], set(kMaxAlpha)); });
  each<K>([&](auto k) SIMD_LAMBDA { hit[k] = ge(alpha[k], set(kMinAlpha)); });
}

constexpr int64_t kFetch = 12;  // entries of a block list whose records are fetched ahead
inline void prefetch(const float* p) { __builtin_prefetch(p, 0, 3); }

// Brings a band's records, which are used all over the place, nearer in the order in which they
// lie.
inline void prefetch_records(const float* records, int64_t words) {
  for (int64_t i = 0; i < words; i += 16) __builtin_prefetch(records + i, 0, 2);
}

// f(0) … f(CHANNELS - 1). Written out, what the channels need stays in registers; a loop leaves it
// in memory, which is better than spilling everything else where registers are few.
template <int CHANNELS, class F>
SIMD_INLINE void for_channels(const F& f) {
  if constexpr (kRegisters >= 32) {
    each<CHANNELS>(f);
  } else {
    for (int c = 0; c < CHANNELS; ++c) f(c);
  }
}

// Blends a list and packs it: entries that no pixel takes are dropped, so that the backward pass
// never meets them. `stop` is the end of each pixel's part of the packed list, whose length is
// returned. CHANNELS = 0: any number, with the sums in memory.
template <int CHANNELS>
int64_t forward_block(const float* records, int64_t stride, int64_t channels, uint32_t* list,
                      int64_t n, const Pixels& pixels, float* sums, F16& transmittance, F16& stop) {
  F16 acc[CHANNELS ? CHANNELS : 1];
  if constexpr (CHANNELS > 0) {
    for_channels<CHANNELS>([&](auto c) SIMD_LAMBDA { acc[c] = set(0.f); });
  } else {
    std::fill(sums, sums + 16 * channels, 0.f);
  }
  // `falling` keeps multiplying after a pixel is finished: it stays below the limit, so no mask has
  // to be carried on.
  F16 falling = set(1.f), kept = set(1.f), end = set(0.f);
  int64_t packed = 0;
  auto blend = [&](auto together, int64_t i) SIMD_LAMBDA {
    constexpr int K = decltype(together)::value;
    Several<const float*, K> r;
    Several<uint32_t, K> entry;
    Several<F16, K> raw, alpha;
    Several<Mask, K> hit;
    each<K>([&](auto k) SIMD_LAMBDA {
      prefetch(records + stride * list[std::min(i + k + kFetch, n - 1)]);
    });
    each<K>([&](auto k) SIMD_LAMBDA { entry[k] = list[i + k]; });
    each<K>([&](auto k) SIMD_LAMBDA { r[k] = records + stride * entry[k]; });
    evaluate(r, pixels, raw, alpha, hit);
    each<K>([&](auto k) SIMD_LAMBDA {
      alpha[k] = keep(hit[k], alpha[k]);
      const F16 next = fnma(alpha[k], falling, falling);
      const Mask live = gt(next, set(kMinTransmittance)), taken = both(hit[k], live);
      const F16 weight = keep(live, alpha[k] * falling);
      falling = next;
      kept = pick(live, next, kept);
      list[packed] = entry[k];
      packed += any(taken);
      end = pick(taken, set(float(packed)), end);
      if constexpr (CHANNELS > 0) {
        for_channels<CHANNELS>(
            [&](auto c) SIMD_LAMBDA { acc[c] = fma(weight, set(r[k][kHeader + c]), acc[c]); });
      } else {
        for (int64_t c = 0; c < channels; ++c) {
          store(sums + 16 * c, fma(weight, set(r[k][kHeader + c]), load(sums + 16 * c)));
        }
      }
    });
  };
  for (int64_t i = 0; i < n;) {
    if (i % 8 == 0) {
      if (!any(gt(falling, set(kMinTransmittance)))) break;
      falling = max(falling, set(1e-12f));  // far from denormals
    }
    if constexpr (kTogether > 1) {
      if (i + kTogether <= n) {
        blend(Index<kTogether>(), i);
        i += kTogether;
        continue;
      }
    }
    blend(Index<1>(), i);  // called in one place only, or else compilers keep it a function
    ++i;
  }
  if constexpr (CHANNELS > 0)
    for_channels<CHANNELS>([&](auto c) SIMD_LAMBDA { store(sums + 16 * c, acc[c]); });
  transmittance = kept;
  stop = end;
  return packed;
}

// Adds K Gaussians' gradient rows. Sums over the pixels of a block are a small matrix product:
// pairs holds v_sigma and the blending weight of each pixel, `basis` the monomials 1, u, v, u^2,
// uv, v^2 and the pixel's colour gradient. The monomials are about the block's centre (cx, cy);
// translating them to the Gaussian's centre comes after the sum.
template <int K>
inline void add_rows(const float* pairs, const float* const* records, float* const* rows,
                     const float* basis, float cx, float cy) {
  F16 acc[K];
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) acc[k] = set(0.f);
  for (int p = 0; p < 16; ++p) {
    const F16 b = load(basis + 16 * p);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) acc[k] = fma(repeat_pair(pairs + 32 * k + 2 * p), b, acc[k]);
  }
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) {
    const float dx = records[k][0] - cx, dy = records[k][1] - cy;
#if defined(__AVX512F__)
    // Horner steps of the translation: m[u] += dx m[1], m[uu] += dx m[u] ...; odd lanes (colours)
    // pass through.
    auto step = [&](float d, Mask lanes, __m512i source) {
      acc[k] = fma(set(d), (F16)_mm512_maskz_permutexvar_ps(lanes, source, (__m512)acc[k]), acc[k]);
    };
    step(dx, 1 << 2 | 1 << 6 | 1 << 8,
         _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0));
    step(dx, 1 << 6, _mm512_set1_epi32(2));
    step(dy, 1 << 4 | 1 << 8 | 1 << 10,
         _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0));
    step(dy, 1 << 10, _mm512_set1_epi32(4));
    store(rows[k], load(rows[k]) + acc[k]);
#else
    // In scalars after the sum, since single lanes of a vector can only be changed by way of
    // memory.
    store(rows[k], load(rows[k]) + acc[k]);
    alignas(64) float m[16];
    store(m, acc[k]);
    float* row = rows[k];
    row[6] += dx * (2.f * m[2] + dx * m[0]);
    row[8] += dx * m[4] + dy * m[2] + dx * dy * m[0];
    row[10] += dy * (2.f * m[4] + dy * m[0]);
    row[2] += dx * m[0];
    row[4] += dy * m[0];
#endif
  }
}

// Channels 8 and up: weights only, sixteen channels at a time.
inline void add_further_channels(const float* pairs, float* row, const float* gradients,
                                 int64_t groups) {
  for (int64_t g = 0; g < groups; ++g) {
    F16 acc = load(row + 16 + 16 * g);
    for (int p = 0; p < 16; ++p)
      acc = fma(set(pairs[2 * p + 1]), load(gradients + 16 * (16 * g + p)), acc);
    store(row + 16 + 16 * g, acc);
  }
}

struct BlockGradient {
  alignas(64) float basis[16 * 16];  // [pixel in interleaved order][gradient lane]
  Floats color;                      // [channel][pixel]
  Floats further;  // [group of sixteen channels from 8 on][pixel in interleaved order][channel]
};

template <int CHANNELS>
void backward_block(const float* records, int64_t stride, int64_t channels, const uint32_t* list,
                    int64_t n, const Pixels& pixels, const BlockGradient& g, F16 transmittance,
                    F16 stop, F16 rest, float* rows, int64_t row_stride) {
  constexpr int kWalk = std::max(kTogether / 2, 1);
  constexpr int kBatch = kRegisters / 4;  // sums of one matrix product that stay in registers
  alignas(64) float pairs[kBatch * 32];
  const float* batch_records[kBatch];
  float* batch_rows[kBatch];
  int filled = 0;
  const float cx = pixels.centre_x, cy = pixels.centre_y;
  const int64_t groups = (row_stride - 16) / 16;
  F16 color[CHANNELS ? CHANNELS : 1];
  if constexpr (CHANNELS > 0)
    for_channels<CHANNELS>([&](auto c) SIMD_LAMBDA { color[c] = load(g.color.data() + 16 * c); });
  F16 T = transmittance, R = rest;  // R: what lies behind, projected on the colour gradient
  // Entries last, last - 1, …
  auto walk = [&](auto together, int64_t last) SIMD_LAMBDA {
    constexpr int K = decltype(together)::value;
    Several<const float*, K> r;
    Several<F16, K> raw, alpha;
    Several<Mask, K> hit;
    each<K>([&](auto k) SIMD_LAMBDA {
      const uint32_t ahead = list[std::max<int64_t>(last - k - kFetch, 0)];
      prefetch(records + stride * ahead);
      prefetch(rows + row_stride * ahead);
    });
    each<K>([&](auto k) SIMD_LAMBDA { r[k] = records + stride * list[last - k]; });
    evaluate(r, pixels, raw, alpha, hit);
    Several<F16, K> inverse, cv;
    each<K>([&](auto k) SIMD_LAMBDA {
      hit[k] = both(hit[k], gt(stop, set(float(last - k))));
      alpha[k] = keep(hit[k], alpha[k]);
    });
    each<K>([&](auto k) SIMD_LAMBDA { inverse[k] = reciprocal(set(1.f) - alpha[k]); });
    each<K>([&](auto k) SIMD_LAMBDA {
      cv[k] = set(0.f);
      if constexpr (CHANNELS > 0) {
        for_channels<CHANNELS>(
            [&](auto c) SIMD_LAMBDA { cv[k] = fma(set(r[k][kHeader + c]), color[c], cv[k]); });
      } else {
        for (int64_t c = 0; c < channels; ++c)
          cv[k] = fma(set(r[k][kHeader + c]), load(g.color.data() + 16 * c), cv[k]);
      }
    });
    each<K>([&](auto k) SIMD_LAMBDA {
      T = T * inverse[k];
      const F16 weight = alpha[k] * T, v_alpha = fnma(R, inverse[k], T * cv[k]);
      R = fma(weight, cv[k], R);
      const Mask free =
          both(hit[k], ge(set(kMaxAlpha), raw[k]));  // no gradient through a clamped alpha
      interleave_store(pairs + 32 * filled, keep(free, -alpha[k] * v_alpha), weight);
      batch_records[filled] = r[k];
      batch_rows[filled] = rows + row_stride * list[last - k];
      if (groups)
        add_further_channels(pairs + 32 * filled, batch_rows[filled], g.further.data(), groups);
      if (++filled == kBatch) {
        add_rows<kBatch>(pairs, batch_records, batch_rows, g.basis, cx, cy);
        filled = 0;
      }
    });
  };
  int64_t left = n;
  if constexpr (kWalk > 1) {
    for (; left >= kWalk; left -= kWalk) walk(Index<kWalk>(), left - 1);
  }
  for (; left > 0; --left) walk(Index<1>(), left - 1);
  for (int k = 0; k < filled; ++k)
    add_rows<1>(pairs + 32 * k, batch_records + k, batch_rows + k, g.basis, cx, cy);
}

}  // namespace splat
