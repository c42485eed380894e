// Which Gaussians touch which 4x4 block, in depth order.
//
// An image is cut into bands of kBandRows block rows; a (image, band) pair is a job. Each job keeps its own compact,
// depth-sorted list of Gaussians, so that sorting, binning, rasterising and gradient accumulation of different jobs
// share nothing. The bands are fixed by the image height alone: no result depends on the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "splat_blocks.h"

namespace splat {

constexpr int kBandRows = 8;                     // block rows in a band
constexpr int kBandPixels = kBlock * kBandRows;  // pixel rows in a band
constexpr float kLog2e = 1.44269504088896341f;
constexpr int kAhead = 24;  // Gaussians whose scattered attributes are fetched ahead of their use
constexpr int kMaxSide = 32764;  // block index within a band has to fit 16 bits

struct Inputs {
  const float *means, *conics, *opacities, *colors, *depths;
  const int32_t* radii;
  int64_t images, count, channels;
  int width, height, bands, block_columns;
};

// A run of blocks of one block row under one Gaussian's footprint.
struct Segment {
  uint32_t local;
  uint16_t block, length;
};

struct Job {
  std::vector<uint64_t> keys, scratch;  // depth bits << 32 | index
  std::vector<uint32_t> ids;            // Gaussian of each local index; kShared set if it touches other bands too
  std::vector<Segment> segments;
  std::vector<uint32_t> block_count;
  std::vector<int32_t> change;
  int64_t segments_used = 0;
  int64_t entries = 0;  // sum of block_count
};

constexpr uint32_t kShared = 0x80000000u;

// Upper bound of log2(255 o) within 0.03, cheap and without branches.
inline float reach(float opacity) {
  const float x = 255.f * opacity;
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const float f = float(bits & 0x7fffff) * 0x1p-23f;
  return float((bits >> 23) - 127) + f + 0.3398f * f * (1.f - f) + 0.018f;
}

// sigma in units of log2 around a mean, A (dx + h dy)^2 + q dy^2: this form cannot become negative, and for needles it
// keeps the digits that a dx^2 + 2 b dx dy + c dy^2 loses. The determinant is taken in double, exact enough.
struct Form {
  float A, h, q;
  bool definite;
};

inline Form form(float a, float b, float c) {
  const double determinant = double(a) * c - double(b) * b;
  const bool definite = (a > 0.f) & (c > 0.f) & (determinant > 0.0);
  const float divisor = definite ? a : 1.f;
  return {0.5f * kLog2e * a, b / divisor, float(0.5 * double(kLog2e) * determinant) / divisor, definite};
}

// Sixteen footprints A (dx + h dy)^2 + q dy^2 <= t, with a hundredth of a pixel of slack that makes culling safe
// against rounding. Plain loops over lanes, which compilers turn into vector code.
struct Footprints {
  float x[16], y[16], A[16], h[16], q[16], t[16];
  float half_width[16], half_height[16];
  float peak[16];  // dy of the rightmost point; that of the leftmost is -peak
  int32_t valid[16];  // 1: positive definite, and able to reach 1/255
};

inline void footprints(const Inputs& in, const int64_t* gaussians, Footprints& f) {
  float a[16], b[16], c[16], o[16];
  for (int l = 0; l < 16; ++l) {
    const float *m = in.means + 2 * gaussians[l], *q = in.conics + 3 * gaussians[l];
    f.x[l] = m[0];
    f.y[l] = m[1];
    a[l] = q[0];
    b[l] = q[1];
    c[l] = q[2];
    o[l] = in.opacities[gaussians[l]];
  }
  for (int l = 0; l < 16; ++l) {
    const Form e = form(a[l], b[l], c[l]);
    const float t = reach(o[l]), positive = t > 0.f ? t : 0.f;
    f.A[l] = e.A;
    f.h[l] = e.h;
    f.q[l] = e.q;
    f.t[l] = positive;
    f.valid[l] = int32_t(e.definite) & int32_t(o[l] >= kMinAlpha);
    const float width = std::sqrt(positive * c[l] / (a[l] * e.q));
    f.half_width[l] = width + 0.01f;
    f.half_height[l] = std::sqrt(positive / e.q) + 0.01f;
    f.peak[l] = -b[l] / c[l] * width;
  }
}

inline float clamp(float v, float low, float high) { return v < low ? low : (v > high ? high : v); }

// First and last pixel whose centre lies beyond, or before, an edge; `size` and -1 where there is none.
inline int first_pixel(float edge, int size) { return int(std::ceil(clamp(edge - 0.5f, 0.f, float(size)))); }
inline int last_pixel(float edge, int size) { return int(std::floor(clamp(edge - 0.5f, -1.f, float(size - 1)))); }

// Bits whose unsigned order is the order of the floats, with -0 equal to +0.
inline uint32_t sortable(float depth) {
  depth += 0.f;
  uint32_t bits;
  std::memcpy(&bits, &depth, sizeof(bits));
  return bits ^ ((bits >> 31) ? 0xffffffffu : 0x80000000u);
}

// 0 * x is 0 for a finite x and NaN otherwise.
inline float zero_if_finite(const float* values, int64_t n) {
  float sum[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int l = 0; l < 16; ++l) sum[l] += 0.f * values[i + l];
  }
  for (; i < n; ++i) sum[i % 16] += 0.f * values[i];
  float total = 0.f;
  for (float v : sum) total += v;
  return total;
}

inline bool all_finite(const Inputs& in, int64_t g, int64_t n) {
  return zero_if_finite(in.means + 2 * g, 2 * n) + zero_if_finite(in.conics + 3 * g, 3 * n) +
             zero_if_finite(in.opacities + g, n) + zero_if_finite(in.depths + g, n) +
             zero_if_finite(in.colors + in.channels * g, in.channels * n) == 0.f;
}

// Range of bands under each Gaussian of [begin, end) (flat over images); first > last for the culled, the non-finite
// and those whose conic is not positive definite.
inline void find_bands(const Inputs& in, int64_t begin, int64_t end, uint32_t* key, uint16_t* first, uint16_t* last) {
  Footprints f;
  for (int64_t g = begin; g < end; g += 16) {
    const int lanes = int(std::min<int64_t>(16, end - g));
    int64_t index[16];
    for (int l = 0; l < 16; ++l) index[l] = g + std::min(l, lanes - 1);
    footprints(in, index, f);
    int low[16], high[16];
    for (int l = 0; l < 16; ++l) {
      const int y0 = first_pixel(f.y[l] - f.half_height[l], in.height);
      const int y1 = last_pixel(f.y[l] + f.half_height[l], in.height);
      const int x0 = first_pixel(f.x[l] - f.half_width[l], in.width);
      const int x1 = last_pixel(f.x[l] + f.half_width[l], in.width);
      const int seen = f.valid[l] & int(x0 <= x1) & int(y0 <= y1);
      low[l] = seen ? y0 / kBandPixels : 1;
      high[l] = seen ? y1 / kBandPixels : 0;
    }
    for (int l = 0; l < lanes; ++l) {
      const int64_t i = g + l;
      const bool seen = (in.radii[2 * i] > 0) & (in.radii[2 * i + 1] > 0);
      key[i] = sortable(in.depths[i]);
      first[i] = uint16_t(seen ? low[l] : 1);
      last[i] = uint16_t(seen ? high[l] : 0);
    }
    if (all_finite(in, g, lanes)) continue;
    for (int l = 0; l < lanes; ++l) {
      if (all_finite(in, g + l, 1)) continue;
      first[g + l] = 1;
      last[g + l] = 0;
    }
  }
}

// Stable radix sort by the upper 32 bits; only digits that differ cost a pass.
inline void sort_by_depth(std::vector<uint64_t>& keys, std::vector<uint64_t>& scratch, int64_t n) {
  constexpr int kBits = 11, kBuckets = 1 << kBits;
  uint32_t low = 0xffffffffu, high = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t k = uint32_t(keys[i] >> 32);
    low = std::min(low, k);
    high = std::max(high, k);
  }
  if (n < 2 || low == high) return;
  scratch.resize(std::max<size_t>(scratch.size(), n));
  uint64_t *from = keys.data(), *to = scratch.data();
  uint32_t bucket[kBuckets];
  for (int shift = 0; shift < 32 && ((high - low) >> shift) != 0; shift += kBits) {
    std::fill(bucket, bucket + kBuckets, 0u);
    for (int64_t i = 0; i < n; ++i) ++bucket[((uint32_t(from[i] >> 32) - low) >> shift) & (kBuckets - 1)];
    uint32_t sum = 0;
    for (uint32_t& b : bucket) {
      const uint32_t size = b;
      b = sum;
      sum += size;
    }
    for (int64_t i = 0; i < n; ++i) to[bucket[((uint32_t(from[i] >> 32) - low) >> shift) & (kBuckets - 1)]++] = from[i];
    std::swap(from, to);
  }
  if (from != keys.data()) std::swap(keys, scratch);
}

// Depth-sorted members of a band, their runs of blocks, and how many entries each block gets.
inline void bin_band(const Inputs& in, int64_t image, int band, const uint32_t* key, const uint16_t* first,
                     const uint16_t* last, Job& job) {
  const int64_t base = image * in.count;
  const int row0 = band * kBandRows;
  const int rows = std::min(kBandRows, (in.height + kBlock - 1) / kBlock - row0);
  job.keys.resize(std::max<size_t>(job.keys.size(), in.count + 1));
  int64_t n = 0;
  for (int64_t g = 0; g < in.count; ++g) {
    const int f = first[base + g], l = last[base + g];
    const uint32_t tag = uint32_t(g) | (f != l ? kShared : 0u);
    job.keys[n] = (uint64_t(key[base + g]) << 32) | tag;
    n += (f <= band) & (band <= l);
  }
  sort_by_depth(job.keys, job.scratch, n);
  job.ids.resize(n);
  for (int64_t i = 0; i < n; ++i) job.ids[i] = uint32_t(job.keys[i]);

  // Runs per block by differences: +1 where a run starts, -1 behind its end (a run never leaves its row).
  job.block_count.resize(size_t(rows) * in.block_columns);
  job.change.assign(job.block_count.size() + 1, 0);
  int32_t* change = job.change.data();
  int64_t filled = 0, entries = 0;
  Footprints f;
  for (int64_t begin = 0; begin < n; begin += 16) {
    const int lanes = int(std::min<int64_t>(16, n - begin));
    for (int l = 0; l < lanes; ++l) {
      const int64_t next = base + (job.ids[std::min(begin + l + kAhead, n - 1)] & ~kShared);
      __builtin_prefetch(in.means + 2 * next);
      __builtin_prefetch(in.conics + 3 * next);
      __builtin_prefetch(in.opacities + next);
    }
    int64_t index[16];
    for (int l = 0; l < 16; ++l) index[l] = base + (job.ids[begin + std::min(l, lanes - 1)] & ~kShared);
    footprints(in, index, f);
    int top[16], count[16], x0[kBandRows][16], x1[kBandRows][16], tallest = 0;
    for (int l = 0; l < 16; ++l) {
      const int y0 = first_pixel(f.y[l] - f.half_height[l], in.height);
      const int y1 = last_pixel(f.y[l] + f.half_height[l], in.height);
      top[l] = std::max(y0 / kBlock - row0, 0);
      count[l] = std::min(y1 / kBlock - row0, rows - 1) - top[l] + 1;
      tallest = std::max(tallest, count[l]);
    }
    for (int k = 0; k < tallest; ++k) {
      for (int l = 0; l < 16; ++l) {
        const float low = float((row0 + top[l] + k) * kBlock) + 0.5f - f.y[l], high = low + float(kBlock - 1);
        const float right = clamp(f.peak[l], low, high), left = clamp(-f.peak[l], low, high);
        const float spare_right = f.t[l] - f.q[l] * right * right, spare_left = f.t[l] - f.q[l] * left * left;
        const float inverse = 1.f / f.A[l];
        const float reach_right = std::sqrt((spare_right > 0.f ? spare_right : 0.f) * inverse) + 0.01f;
        const float reach_left = std::sqrt((spare_left > 0.f ? spare_left : 0.f) * inverse) + 0.01f;
        x0[k][l] = first_pixel(f.x[l] - f.h[l] * left - reach_left, in.width);
        x1[k][l] = last_pixel(f.x[l] - f.h[l] * right + reach_right, in.width);
      }
    }
    if (job.segments.size() < size_t(filled) + 16 * kBandRows) job.segments.resize(2 * filled + 64 * kBandRows);
    for (int l = 0; l < lanes; ++l) {
      for (int k = 0; k < count[l]; ++k) {  // an empty run is written, then overwritten: cheaper than a branch
        const int kept = x0[k][l] <= x1[k][l], left = x0[k][l] / kBlock;
        const int length = kept ? x1[k][l] / kBlock - left + 1 : 0, block = (top[l] + k) * in.block_columns + left;
        job.segments[filled] = {uint32_t(begin + l), uint16_t(block), uint16_t(length)};
        filled += kept;
        entries += length;
        change[block] += kept;
        change[block + length] -= kept;
      }
    }
  }
  int32_t covering = 0;
  for (size_t b = 0; b + 1 < job.change.size(); ++b) job.block_count[b] = uint32_t(covering += change[b]);
  job.entries = entries;
  job.segments_used = filled;
}

}  // namespace splat
