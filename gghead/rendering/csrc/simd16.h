// Sixteen float lanes = the 4x4 pixels of one block, or sixteen Gaussians. On AVX-512 they are one
// register and masks live in mask registers; elsewhere they are two or four of the vectors that the
// machine has, through GCC/Clang vector extensions, so that AVX2, SSE and NEON share one text.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// These are single instructions or a few: a call would cost more, and pass vectors through memory.
#define SIMD_INLINE inline __attribute__((always_inline))
#define SIMD_LAMBDA __attribute__((always_inline))

namespace simd16 {

template <int I>
using Index = std::integral_constant<int, I>;

// Calls f(Index<0>()) … f(Index<K - 1>()).
template <class F, int... I>
SIMD_INLINE void each(const F& f, std::integer_sequence<int, I...>) {
  (f(Index<I>()), ...);
}
template <int K, class F>
SIMD_INLINE void each(const F& f) {
  each(f, std::make_integer_sequence<int, K>());
}

// K values. A single one is no array: compilers leave arrays of structures in memory.
template <class T, int K>
struct Several {
  T values[K];
  SIMD_INLINE T& operator[](int k) { return values[k]; }
};
template <class T>
struct Several<T, 1> {
  T value;
  SIMD_INLINE T& operator[](int) { return value; }
};

#if defined(__AVX512F__)

constexpr int kRegisters = 32;  // in units of F16
constexpr int kTogether = 8;    // independent chains of instructions that keep the processor busy

typedef float F16 __attribute__((vector_size(64)));
using Mask = __mmask16;

SIMD_INLINE F16 set(float x) { return (F16)_mm512_set1_ps(x); }
SIMD_INLINE F16 fma(F16 a, F16 b, F16 c) {
  return (F16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
SIMD_INLINE F16 fnma(F16 a, F16 b, F16 c) {
  return (F16)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
SIMD_INLINE F16 min(F16 a, F16 b) { return (F16)_mm512_min_ps((__m512)a, (__m512)b); }
SIMD_INLINE F16 max(F16 a, F16 b) { return (F16)_mm512_max_ps((__m512)a, (__m512)b); }
SIMD_INLINE Mask ge(F16 a, F16 b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ); }
SIMD_INLINE Mask gt(F16 a, F16 b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
SIMD_INLINE Mask both(Mask a, Mask b) { return Mask(a & b); }
SIMD_INLINE bool any(Mask m) { return m != 0; }
SIMD_INLINE bool all(Mask m) { return m == 0xffff; }
SIMD_INLINE F16 keep(Mask m, F16 a) { return (F16)_mm512_maskz_mov_ps(m, (__m512)a); }
SIMD_INLINE F16 pick(Mask m, F16 a, F16 b) {
  return (F16)_mm512_mask_mov_ps((__m512)b, m, (__m512)a);
}

// 1 / x to one unit in the last place: the 14-bit estimate and one Newton step.
SIMD_INLINE F16 reciprocal(F16 x) {
  F16 r = (F16)_mm512_rcp14_ps((__m512)x);
  return fma(fnma(x, r, set(1.f)), r, r);
}

SIMD_INLINE F16 load(const float* p) { return (F16)_mm512_loadu_ps(p); }
SIMD_INLINE void store(float* p, F16 v) { _mm512_storeu_ps(p, (__m512)v); }

// 2^(n + f) for integral n.
SIMD_INLINE F16 scale_by_power(F16 v, F16 n) { return (F16)_mm512_scalef_ps((__m512)v, (__m512)n); }
SIMD_INLINE F16 round(F16 x) { return (F16)_mm512_roundscale_ps((__m512)x, 0x08); }
SIMD_INLINE F16 ceiling(F16 x) { return (F16)_mm512_roundscale_ps((__m512)x, 0x0a); }
SIMD_INLINE F16 square_root(F16 x) { return (F16)_mm512_sqrt_ps((__m512)x); }

// p[0], p[1] repeated eight times.
SIMD_INLINE F16 repeat_pair(const float* p) {
  double d;
  std::memcpy(&d, p, sizeof(d));
  return (F16)_mm512_castpd_ps(_mm512_set1_pd(d));
}

// Lane order in which interleave_store() lays down its pairs: unpack instructions work within
// 128-bit quarters.
constexpr int kInterleaved[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};

SIMD_INLINE void interleave_store(float* p, F16 a, F16 b) {
  _mm512_storeu_ps(p, _mm512_unpacklo_ps((__m512)a, (__m512)b));
  _mm512_storeu_ps(p + 16, _mm512_unpackhi_ps((__m512)a, (__m512)b));
}

#else

#if defined(__AVX__)
constexpr int kWidth = 8, kRegisters = 8;  // registers in units of F16
#elif defined(__aarch64__)
constexpr int kWidth = 4, kRegisters = 8;
#else
constexpr int kWidth = 4, kRegisters = 4;
#endif
constexpr int kTogether = 1;  // the parts of a vector are independent already
constexpr int kParts = 16 / kWidth;

typedef float Part __attribute__((vector_size(4 * kWidth)));
typedef int32_t Bits __attribute__((vector_size(4 * kWidth)));
typedef double Pairs __attribute__((vector_size(4 * kWidth)));
typedef int64_t Words __attribute__((vector_size(4 * kWidth)));

// Members and not an array: compilers keep only those in registers.
template <class P, int N>
struct Parts {
  P p0, p1, p2, p3;
};
template <class P>
struct Parts<P, 2> {
  P p0, p1;
};

struct F16 : Parts<Part, kParts> {
  float& operator[](int i) { return reinterpret_cast<float*>(this)[i]; }
  float operator[](int i) const { return reinterpret_cast<const float*>(this)[i]; }
};

using Mask = Parts<Bits, kParts>;

template <class T, int I>
SIMD_INLINE auto at(const T& v, Index<I>) {
  if constexpr (I == 0) {
    return v.p0;
  } else if constexpr (I == 1) {
    return v.p1;
  } else if constexpr (I == 2) {
    return v.p2;
  } else {
    return v.p3;
  }
}

// Calls f for each part, and makes a value of what it returns.
template <int N = kParts, class F>
SIMD_INLINE void for_parts(const F& f) {
  f(Index<0>()), f(Index<1>());
  if constexpr (N == 4) f(Index<2>()), f(Index<3>());
}

template <int N = kParts, class F>
SIMD_INLINE auto parts(const F& f) {
  if constexpr (N == 2) {
    return Parts<decltype(f(Index<0>())), 2>{f(Index<0>()), f(Index<1>())};
  } else {
    return Parts<decltype(f(Index<0>())), 4>{f(Index<0>()), f(Index<1>()), f(Index<2>()),
                                             f(Index<3>())};
  }
}

SIMD_INLINE F16 set(float x) {
  return F16{parts([&](auto) SIMD_LAMBDA { return x - Part{}; })};
}
SIMD_INLINE F16 operator+(F16 a, F16 b) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return at(a, i) + at(b, i); })};
}
SIMD_INLINE F16 operator-(F16 a, F16 b) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return at(a, i) - at(b, i); })};
}
SIMD_INLINE F16 operator*(F16 a, F16 b) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return at(a, i) * at(b, i); })};
}
SIMD_INLINE F16 operator/(F16 a, F16 b) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return at(a, i) / at(b, i); })};
}
SIMD_INLINE F16 operator-(F16 a) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return -at(a, i); })};
}
SIMD_INLINE F16 fma(F16 a, F16 b, F16 c) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return at(a, i) * at(b, i) + at(c, i); })};
}
SIMD_INLINE F16 fnma(F16 a, F16 b, F16 c) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return at(c, i) - at(a, i) * at(b, i); })};
}
SIMD_INLINE Mask ge(F16 a, F16 b) {
  return parts([&](auto i) SIMD_LAMBDA { return (Bits)(at(a, i) >= at(b, i)); });
}
SIMD_INLINE Mask gt(F16 a, F16 b) {
  return parts([&](auto i) SIMD_LAMBDA { return (Bits)(at(a, i) > at(b, i)); });
}
SIMD_INLINE Mask both(Mask a, Mask b) {
  return parts([&](auto i) SIMD_LAMBDA { return at(a, i) & at(b, i); });
}
SIMD_INLINE F16 keep(Mask m, F16 a) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return (Part)((Bits)at(a, i) & at(m, i)); })};
}
SIMD_INLINE F16 pick(Mask m, F16 a, F16 b) {
  return F16{parts([&](auto i) SIMD_LAMBDA {
    return (Part)(((Bits)at(a, i) & at(m, i)) | ((Bits)at(b, i) & ~at(m, i)));
  })};
}
SIMD_INLINE F16 min(F16 a, F16 b) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return at(a, i) < at(b, i) ? at(a, i) : at(b, i); })};
}
SIMD_INLINE F16 max(F16 a, F16 b) {
  return F16{parts([&](auto i) SIMD_LAMBDA { return at(a, i) > at(b, i) ? at(a, i) : at(b, i); })};
}

SIMD_INLINE bool any(Mask m) {
  Bits joined = m.p0;
  for_parts([&](auto i) SIMD_LAMBDA { joined |= at(m, i); });
  const Words words = (Words)joined;
  int64_t found = 0;
  for (int i = 0; i < kWidth / 2; ++i) found |= words[i];
  return found != 0;
}

SIMD_INLINE bool all(Mask m) {
  Bits joined = m.p0;
  for_parts([&](auto i) SIMD_LAMBDA { joined &= at(m, i); });
  const Words words = (Words)joined;
  int64_t found = -1;
  for (int i = 0; i < kWidth / 2; ++i) found &= words[i];
  return found == -1;
}

SIMD_INLINE F16 reciprocal(F16 x) { return set(1.f) / x; }

SIMD_INLINE F16
round(F16 x) {  // valid for |x| < 2^22: adding 1.5 * 2^23 pushes the fraction out of the mantissa
  const F16 magic = set(12582912.f);
  return (x + magic) - magic;
}

SIMD_INLINE F16 ceiling(F16 x) {
  for (int i = 0; i < 16; ++i) x[i] = __builtin_ceilf(x[i]);
  return x;
}

SIMD_INLINE F16 square_root(F16 x) {
  for (int i = 0; i < 16; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

SIMD_INLINE F16 scale_by_power(F16 v, F16 n) {
  const Part magic = 12582912.f - Part{};
  return F16{parts([&](auto i) SIMD_LAMBDA {
    return at(v, i) * (Part)(((Bits)(at(n, i) + magic) - (Bits)magic + 127) << 23);
  })};
}

SIMD_INLINE F16 repeat_pair(const float* p) {
  double d;
  std::memcpy(&d, p, sizeof(d));
  const Part both_values = (Part)(d - Pairs{});
  return F16{parts([&](auto) SIMD_LAMBDA { return both_values; })};
}

#if defined(__AVX__)
constexpr int kInterleaved[16] = {0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15};
#else
constexpr int kInterleaved[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#endif

SIMD_INLINE void interleave_store(float* p, F16 a, F16 b) {
  for_parts([&](auto i) SIMD_LAMBDA {
#if defined(__AVX__)
    const Part low = __builtin_shufflevector(at(a, i), at(b, i), 0, 8, 1, 9, 4, 12, 5, 13);
    const Part high = __builtin_shufflevector(at(a, i), at(b, i), 2, 10, 3, 11, 6, 14, 7, 15);
#else
    const Part low = __builtin_shufflevector(at(a, i), at(b, i), 0, 4, 1, 5);
    const Part high = __builtin_shufflevector(at(a, i), at(b, i), 2, 6, 3, 7);
#endif
    std::memcpy(p + 2 * kWidth * i, &low, sizeof(low));
    std::memcpy(p + 2 * kWidth * i + kWidth, &high, sizeof(high));
  });
}

// Part by part: compilers copy a whole struct in pieces that the following vector load cannot be
// forwarded from.
SIMD_INLINE F16 load(const float* p) {
  return F16{parts([&](auto i) SIMD_LAMBDA {
    Part v;
    std::memcpy(&v, p + kWidth * i, sizeof(v));
    return v;
  })};
}

SIMD_INLINE void store(float* p, F16 v) {
  for_parts([&](auto i) SIMD_LAMBDA {
    const Part part = at(v, i);
    std::memcpy(p + kWidth * i, &part, sizeof(part));
  });
}

#endif

// 2^-s for s >= 0, relative error 8e-8: degree-6 minimax polynomial on [-1/2, 1/2] (own fit, Lawson
// iteration). Beyond s = 120 the value saturates, far below every threshold that is compared with
// it. K values at once, step by step.
template <int K>
SIMD_INLINE void exp2_negative(Several<F16, K>& s) {
  Several<F16, K> n, p;
  each<K>([&](auto k) SIMD_LAMBDA { s[k] = max(-s[k], set(-120.f)); });
  each<K>([&](auto k) SIMD_LAMBDA { n[k] = round(s[k]); });
  each<K>([&](auto k) SIMD_LAMBDA { s[k] = s[k] - n[k]; });
  each<K>([&](auto k) SIMD_LAMBDA {
    p[k] = fma(set(0.0001534581242594868f), s[k], set(0.0013399930903688073f));
  });
  each<K>([&](auto k) SIMD_LAMBDA { p[k] = fma(p[k], s[k], set(0.009618489071726799f)); });
  each<K>([&](auto k) SIMD_LAMBDA { p[k] = fma(p[k], s[k], set(0.05550328642129898f)); });
  each<K>([&](auto k) SIMD_LAMBDA { p[k] = fma(p[k], s[k], set(0.24022646248340607f)); });
  each<K>([&](auto k) SIMD_LAMBDA { p[k] = fma(p[k], s[k], set(0.6931471824645996f)); });
  each<K>([&](auto k) SIMD_LAMBDA { p[k] = fma(p[k], s[k], set(1.f)); });
  each<K>([&](auto k) SIMD_LAMBDA { s[k] = scale_by_power(p[k], n[k]); });
}

}  // namespace simd16
