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

namespace splat {

constexpr int kBlock = 4;                        // pixels along a block's side
constexpr int kBandRows = 8;                     // block rows in a band
constexpr int kBandPixels = kBlock * kBandRows;  // pixel rows in a band
constexpr float kLog2e = 1.44269504088896341f;
constexpr float kMinAlpha = 1.f / 255.f;
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
  int64_t segments_used = 0;
  int64_t entries = 0;  // sum of block_count
};

constexpr uint32_t kShared = 0x80000000u;

// Upper bound of log2(255 o) within 0.03, cheap and without branches; <= 0 means that no pixel can reach 1/255.
inline float reach(float opacity) {
  const float x = 255.f * opacity;
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const float f = float(bits & 0x7fffff) * 0x1p-23f;
  return float((bits >> 23) - 127) + f + 0.3398f * f * (1.f - f) + 0.018f;
}

// The ellipse A dx^2 + B dx dy + C dy^2 <= t (in units of log2) around a mean, with the few hundredths of slack that make
// culling safe against rounding. A form that is not clearly positive definite counts as unbounded.
struct Ellipse {
  float x, y, A, B, C, t, k, half_width, half_height;
};

inline Ellipse ellipse(float x, float y, float a, float b, float c, float opacity) {
  Ellipse e;
  e.x = x;
  e.y = y;
  e.A = 0.5f * kLog2e * a;
  e.B = kLog2e * b;
  e.C = 0.5f * kLog2e * c;
  e.t = reach(opacity);
  e.k = 4.f * e.A * e.C - e.B * e.B;
  const bool bounded = e.A > 0.f && e.C > 0.f && e.k > 4e-6f * e.A * e.C;
  const float scale = 4.f * e.t / (bounded ? e.k : 1.f);
  e.half_width = bounded ? std::sqrt(std::max(scale * e.C, 0.f)) + 0.01f : 1e9f;
  e.half_height = bounded ? std::sqrt(std::max(scale * e.A, 0.f)) + 0.01f : 1e9f;
  return e;
}

inline int first_pixel(float edge, int size) {
  return int(std::ceil(std::min(std::max(edge - 0.5f, 0.f), float(size))));
}

inline int last_pixel(float edge, int size) {
  return int(std::floor(std::min(std::max(edge - 0.5f, -1.f), float(size - 1))));
}

// Bits whose unsigned order is the order of the floats, with -0 equal to +0.
inline uint32_t sortable(float depth) {
  depth += 0.f;
  uint32_t bits;
  std::memcpy(&bits, &depth, sizeof(bits));
  return bits ^ ((bits >> 31) ? 0xffffffffu : 0x80000000u);
}

// Range of bands under each Gaussian of [begin, end) (flat over images); first > last for the culled and the non-finite.
inline void find_bands(const Inputs& in, int64_t begin, int64_t end, uint32_t* key, uint16_t* first, uint16_t* last) {
  for (int64_t g = begin; g < end; ++g) {
    const float *m = in.means + 2 * g, *q = in.conics + 3 * g;
    const float o = in.opacities[g], z = in.depths[g];
    float zero = 0.f * (m[0] + m[1]) + 0.f * (q[0] + q[1] + q[2]) + 0.f * o + 0.f * z;
    const Ellipse e = ellipse(m[0], m[1], q[0], q[1], q[2], o);
    const int y0 = first_pixel(e.y - e.half_height, in.height), y1 = last_pixel(e.y + e.half_height, in.height);
    const int x0 = first_pixel(e.x - e.half_width, in.width), x1 = last_pixel(e.x + e.half_width, in.width);
    const bool seen = (zero == 0.f) & (in.radii[2 * g] > 0) & (in.radii[2 * g + 1] > 0) & (o >= kMinAlpha) &
                      (x0 <= x1) & (y0 <= y1);
    key[g] = sortable(z);
    first[g] = seen ? uint16_t(y0 / kBandPixels) : uint16_t(1);
    last[g] = seen ? uint16_t(y1 / kBandPixels) : uint16_t(0);
  }
  for (int64_t g = begin; g < end; ++g) {  // apart, to keep the loop above free of an inner one
    const float* c = in.colors + g * in.channels;
    float zero = 0.f;
    for (int64_t k = 0; k < in.channels; ++k) zero += 0.f * c[k];
    if (!(zero == 0.f)) {
      first[g] = 1;
      last[g] = 0;
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

  job.block_count.assign(size_t(rows) * in.block_columns, 0u);
  int64_t filled = 0, entries = 0;
  for (int64_t begin = 0; begin < n; begin += 16) {
    const int lanes = int(std::min<int64_t>(16, n - begin));
    Ellipse e[16];
    int top[16], bottom[16];
    for (int l = 0; l < lanes; ++l) {
      const int64_t g = base + (job.ids[begin + l] & ~kShared);
      const float *m = in.means + 2 * g, *q = in.conics + 3 * g;
      e[l] = ellipse(m[0], m[1], q[0], q[1], q[2], in.opacities[g]);
      top[l] = std::max(first_pixel(e[l].y - e[l].half_height, in.height) / kBlock - row0, 0);
      bottom[l] = std::min(last_pixel(e[l].y + e[l].half_height, in.height) / kBlock - row0, rows - 1);
    }
    if (job.segments.size() < size_t(filled) + 16 * kBandRows) job.segments.resize(2 * filled + 64 * kBandRows);
    for (int l = 0; l < lanes; ++l) {
      const Ellipse& q = e[l];
      const bool bounded = q.half_width < 1e8f;
      const float slope = bounded ? q.B / (2.f * q.A) : 0.f;
      const float inverse = bounded ? 1.f / (2.f * q.A) : 0.f;
      // The rightmost point of the ellipse lies at dy = peak, the leftmost at -peak (there 2C dy + B dx = 0).
      const float peak = bounded ? -q.B / (2.f * q.C) * q.half_width : 0.f;
      for (int r = top[l]; r <= bottom[l]; ++r) {
        const float low = float((row0 + r) * kBlock) + 0.5f - q.y, high = low + float(kBlock - 1);
        const float right = std::min(std::max(peak, low), high), left = std::min(std::max(-peak, low), high);
        const float reach_right = std::sqrt(std::max(4.f * q.A * q.t - q.k * right * right, 0.f)) * inverse;
        const float reach_left = std::sqrt(std::max(4.f * q.A * q.t - q.k * left * left, 0.f)) * inverse;
        const float slack = bounded ? 0.01f : 1e9f;
        const int x0 = first_pixel(q.x - slope * left - reach_left - slack, in.width);
        const int x1 = last_pixel(q.x - slope * right + reach_right + slack, in.width);
        if (x1 < x0) continue;
        const int length = x1 / kBlock - x0 / kBlock + 1, block = r * in.block_columns + x0 / kBlock;
        job.segments[filled++] = {uint32_t(begin + l), uint16_t(block), uint16_t(length)};
        for (int b = 0; b < length; ++b) ++job.block_count[block + b];
        entries += length;
      }
    }
  }
  job.entries = entries;
  job.segments_used = filled;
}

}  // namespace splat
