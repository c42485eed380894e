// Which Gaussians touch which 4x4 block, in depth order.
//
// An image is cut into bands of kBandRows block rows; a (image, band) pair is a job. Its Gaussians'
// records are written next to each other, in the order of their index, by one pass over the inputs
// from front to back; from then on a job works in a small layout of memory of its own: it sorts by
// depth, lists the Gaussians of each block, rasterises, and in the backward pass adds up gradients.
// Nothing is gathered from all over the inputs. The bands are fixed by the image height alone: no
// result depends on the number of threads.
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
constexpr int kAhead = 48;        // members of a band whose records are fetched ahead of their use
constexpr int64_t kChunk = 2048;  // Gaussians per job of the passes over the inputs
constexpr int kMaxSide = 32764;   // block index within a band has to fit 16 bits
// Entries of block lists that are in memory at a time, or those of one block. Few under sanitizers,
// so that lists come in many parts there.
#ifdef SPLAT_SANITIZED
constexpr int64_t kListed = 64;
#else
constexpr int64_t kListed = 1 << 22;
#endif

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

// What outlives the work on a job.
struct Job {
  int64_t members = 0;
  std::vector<uint64_t> keys;  // depth bits << 32 | position among the records
  std::vector<uint32_t>
      packed;  // the blocks' lists one after another, with the entries that some pixel takes
  std::vector<uint32_t> ends;  // of each block's packed list
};

// What does not: a worker takes it from job to job, and it stays near the processor.
struct WorkerScratch {
  std::vector<uint64_t> keys;
  std::vector<Segment> segments;  // in depth order; the first `runs` are in use
  int64_t runs = 0;
  std::vector<int32_t> counts;  // members of each block
  std::vector<uint32_t> ends,
      lists;  // the lists of some blocks one after another, and where each ends
};

// Where a job's records, and the Gaussians they belong to, are written.
struct RecordTarget {
  float* records;
  uint32_t* ids;
};

// Upper bound of log2(255 o) within 0.03, cheap and without branches.
inline float reach(float opacity) {
  const float x = 255.f * opacity;
  int32_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  const float f = float(bits & 0x7fffff) * 0x1p-23f;
  return float((bits >> 23) - 127) + f + 0.3398f * f * (1.f - f) + 0.018f;
}

// sigma in units of log2 around a mean, A (dx + h dy)^2 + q dy^2: this form cannot become negative,
// and for needles it keeps the digits that a dx^2 + 2 b dx dy + c dy^2 loses. The determinant is
// taken in double, exact enough.
struct Form {
  float A, h, q;
  bool definite;
};

inline Form form(float a, float b, float c) {
  const double determinant = double(a) * c - double(b) * b;
  const bool definite = (a >= kFlattest) & (c >= kFlattest) & (determinant > 0.0);
  const float divisor = definite ? a : 1.f;
  return {0.5f * kLog2e * a, b / divisor, float(0.5 * double(kLog2e) * determinant) / divisor,
          definite};
}

// Sixteen footprints A (dx + h dy)^2 + q dy^2 <= t, with a hundredth of a pixel of slack that makes
// culling safe against rounding. Plain loops over lanes, which compilers turn into vector code.
struct Footprints {
  float x[16], y[16], A[16], h[16], q[16], o[16], t[16];
  float half_width[16], half_height[16];
  float peak[16];     // dy of the rightmost point; that of the leftmost is -peak
  int32_t valid[16];  // 1: positive definite, and able to reach 1/255
};

// From the form and the opacity to the extents.
inline void compute_extents(Footprints& f) {
  for (int l = 0; l < 16; ++l) {
    const float t = reach(f.o[l]), positive = t > 0.f ? t : 0.f, over_q = positive / f.q[l];
    f.t[l] = positive;
    const float width = std::sqrt(positive / f.A[l] + f.h[l] * f.h[l] * over_q);
    f.half_width[l] = width + 0.01f;
    f.half_height[l] = std::sqrt(over_q) + 0.01f;
    f.peak[l] = width > 0.f ? -f.h[l] * over_q / width : 0.f;
  }
}

// Gaussians g, g + 1, ...; lanes beyond the last one repeat it.
inline void footprints(const Inputs& in, int64_t g, int lanes, Footprints& f) {
  float a[16], b[16], c[16];
  for (int l = 0; l < 16; ++l) {
    const int64_t i = g + std::min(l, lanes - 1);
    const float *m = in.means + 2 * i, *q = in.conics + 3 * i;
    f.x[l] = m[0];
    f.y[l] = m[1];
    a[l] = q[0];
    b[l] = q[1];
    c[l] = q[2];
    f.o[l] = in.opacities[i];
  }
  for (int l = 0; l < 16; ++l) {
    const Form e = form(a[l], b[l], c[l]);
    f.A[l] = e.A;
    f.h[l] = e.h;
    f.q[l] = e.q;
    f.valid[l] = int32_t(e.definite) & int32_t(f.o[l] >= kMinAlpha);
  }
}

// `low` for NaN, so that what is made of the result is an index whatever the inputs hold.
inline float clamp(float v, float low, float high) {
  const float raised = v > low ? v : low;
  return raised < high ? raised : high;
}

// First and last pixel whose centre lies beyond, or before, an edge; `size` and -1 where there is
// none.
inline int first_pixel(float edge, int size) {
  return int(std::ceil(clamp(edge - 0.5f, 0.f, float(size))));
}
inline int last_pixel(float edge, int size) {
  return int(std::floor(clamp(edge - 0.5f, -1.f, float(size - 1))));
}

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
             zero_if_finite(in.colors + in.channels * g, in.channels * n) ==
         0.f;
}

// Range of bands under each Gaussian begin <= g < end of an image, and how many each band gets;
// first > last for the culled, the non-finite and those whose conic is flat, not positive definite,
// or of an extent that comes out as NaN.
inline void find_bands(const Inputs& in, int64_t image, int64_t begin, int64_t end, uint16_t* first,
                       uint16_t* last, uint32_t* counts) {
  Footprints f;
  std::fill(counts, counts + in.bands, 0u);
  const int64_t base = image * in.count;
  for (int64_t g = base + begin; g < base + end; g += 16) {
    const int lanes = int(std::min<int64_t>(16, base + end - g));
    footprints(in, g, lanes, f);
    compute_extents(f);
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
    const bool finite = all_finite(in, g, lanes);
    for (int l = 0; l < lanes; ++l) {
      const int64_t i = g + l;
      const bool seen =
          (in.radii[2 * i] > 0) & (in.radii[2 * i + 1] > 0) & (finite || all_finite(in, i, 1));
      first[i] = uint16_t(seen ? low[l] : 1);
      last[i] = uint16_t(seen ? high[l] : 0);
      for (int b = first[i]; b <= last[i]; ++b) ++counts[b];
    }
  }
}

// Writes the records, ids and sorting keys of the same Gaussians; `position` says where the next
// one of a band goes. CHANNELS = 0: any number.
template <int CHANNELS>
void write_records(const Inputs& in, int64_t image, int64_t begin, int64_t end,
                   const uint16_t* first, const uint16_t* last, int64_t stride, uint32_t* position,
                   const RecordTarget* to, Job* jobs) {
  Footprints f;
  const int64_t base = image * in.count;
  for (int64_t g = base + begin; g < base + end; g += 16) {
    const int lanes = int(std::min<int64_t>(16, base + end - g));
    footprints(in, g, lanes, f);
    for (int l = 0; l < lanes; ++l) {
      const int64_t i = g + l;
      for (int b = first[i]; b <= last[i]; ++b) {
        const uint32_t p = position[b]++;
        float* r = to[b].records + stride * p;
        r[0] = f.x[l];
        r[1] = f.y[l];
        r[2] = f.A[l];
        r[3] = f.h[l];
        r[4] = f.q[l];
        r[5] = f.o[l];
        const int64_t channels = CHANNELS ? CHANNELS : in.channels, words = CHANNELS ? 16 : stride;
        for (int64_t c = 0; c < channels; ++c) r[kHeader + c] = in.colors[i * channels + c];
        for (int64_t c = kHeader + channels; c < words; ++c) r[c] = 0.f;
        to[b].ids[p] = uint32_t(i - base);
        jobs[b].keys[p] = (uint64_t(sortable(in.depths[i])) << 32) | p;
      }
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
    for (int64_t i = 0; i < n; ++i)
      ++bucket[((uint32_t(from[i] >> 32) - low) >> shift) & (kBuckets - 1)];
    uint32_t sum = 0;
    for (uint32_t& b : bucket) {
      const uint32_t size = b;
      b = sum;
      sum += size;
    }
    for (int64_t i = 0; i < n; ++i)
      to[bucket[((uint32_t(from[i] >> 32) - low) >> shift) & (kBuckets - 1)]++] = from[i];
    std::swap(from, to);
  }
  if (from != keys.data()) std::swap(keys, scratch);
}

// Sorts a band's members by depth, and finds their runs of blocks and the number of members of each
// block.
inline void bin_band(const Inputs& in, int band, const float* records, int64_t stride, Job& job,
                     WorkerScratch& scratch) {
  const int row0 = band * kBandRows;
  const int rows = std::min(kBandRows, (in.height + kBlock - 1) / kBlock - row0);
  const int64_t n = job.members, blocks = int64_t(rows) * in.block_columns;
  sort_by_depth(job.keys, scratch.keys, n);

  // Runs per block by differences: +1 where a run starts, -1 behind its end (a run never leaves its
  // row).
  scratch.counts.assign(blocks + 1, 0);
  int32_t* change = scratch.counts.data();
  int64_t filled = 0;
  Footprints f;
  for (int64_t begin = 0; begin < n; begin += 16) {
    const int lanes = int(std::min<int64_t>(16, n - begin));
    uint32_t local[16];
    for (int l = 0; l < 16; ++l) {
      __builtin_prefetch(records +
                         stride * uint32_t(job.keys[std::min(begin + l + kAhead, n - 1)]));
      local[l] = uint32_t(job.keys[begin + std::min(l, lanes - 1)]);
      const float* r = records + stride * local[l];
      f.x[l] = r[0];
      f.y[l] = r[1];
      f.A[l] = r[2];
      f.h[l] = r[3];
      f.q[l] = r[4];
      f.o[l] = r[5];
    }
    compute_extents(f);
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
        const float low = float((row0 + top[l] + k) * kBlock) + 0.5f - f.y[l],
                    high = low + float(kBlock - 1);
        const float right = clamp(f.peak[l], low, high), left = clamp(-f.peak[l], low, high);
        const float spare_right = f.t[l] - f.q[l] * right * right,
                    spare_left = f.t[l] - f.q[l] * left * left;
        const float inverse = 1.f / f.A[l];
        const float reach_right =
            std::sqrt((spare_right > 0.f ? spare_right : 0.f) * inverse) + 0.01f;
        const float reach_left = std::sqrt((spare_left > 0.f ? spare_left : 0.f) * inverse) + 0.01f;
        x0[k][l] = first_pixel(f.x[l] - f.h[l] * left - reach_left, in.width);
        x1[k][l] = last_pixel(f.x[l] - f.h[l] * right + reach_right, in.width);
      }
    }
    if (scratch.segments.size() < size_t(filled) + 16 * kBandRows)
      scratch.segments.resize(2 * filled + 64 * kBandRows);
    for (int l = 0; l < lanes; ++l) {
      for (int k = 0; k < count[l];
           ++k) {  // an empty run is written, then overwritten: cheaper than a branch
        const int kept = x0[k][l] <= x1[k][l], left = x0[k][l] / kBlock;
        const int length = kept ? x1[k][l] / kBlock - left + 1 : 0,
                  block = (top[l] + k) * in.block_columns + left;
        scratch.segments[filled] = {local[l], uint16_t(block), uint16_t(length)};
        filled += kept;
        change[block] += kept;
        change[block + length] -= kept;
      }
    }
  }
  scratch.runs = filled;
  for (int64_t b = 1; b < blocks; ++b) change[b] += change[b - 1];
}

// Lists the members of block `begin` and of as many behind it as fit kListed entries; returns the
// first block that does not. So memory does not grow with the number of pairs, which huge Gaussians
// make the product of their number and the picture's size.
inline int64_t list_blocks(WorkerScratch& scratch, int64_t begin, int64_t blocks) {
  if (scratch.ends.size() < size_t(blocks)) scratch.ends.resize(blocks);
  uint32_t* ends = scratch.ends.data();
  int64_t entries = 0, end = begin;
  while (end < blocks && (end == begin || entries + scratch.counts[end] <= kListed)) {
    ends[end] = uint32_t(entries);  // a list's head, which filling moves to the list's end
    entries += scratch.counts[end++];
  }
  if (scratch.lists.size() < size_t(entries)) scratch.lists.resize(entries);
  uint32_t* lists = scratch.lists.data();
  const bool everything = begin == 0 && end == blocks;
  for (int64_t s = 0; s < scratch.runs; ++s) {
    const Segment run = scratch.segments[s];
    int b = run.block, stop = b + run.length;
    if (!everything) b = std::max(b, int(begin)), stop = std::min(stop, int(end));
    for (; b < stop; ++b) lists[ends[b]++] = run.local;
  }
  return end;
}

}  // namespace splat
