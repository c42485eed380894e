// Sixteen float lanes = the 4x4 pixels of one block. AVX-512 has its own path because masks stay in mask registers
// there; everywhere else GCC/Clang vector extensions let the compiler split the lanes into what the machine has.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace simd16 {

typedef float F16 __attribute__((vector_size(64)));

inline F16 load(const float* p) {
  F16 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

inline void store(float* p, F16 v) { std::memcpy(p, &v, sizeof(v)); }

inline F16 set(float x) { return F16{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

// Order in which interleave_store() lays down the pixels (unpack instructions work within 128-bit quarters).
constexpr int kInterleaved[16] = {0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15};

#if defined(__AVX512F__)

using Mask = __mmask16;

inline F16 fma(F16 a, F16 b, F16 c) { return (F16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
inline F16 fnma(F16 a, F16 b, F16 c) { return (F16)_mm512_fnmadd_ps((__m512)a, (__m512)b, (__m512)c); }
inline F16 min(F16 a, F16 b) { return (F16)_mm512_min_ps((__m512)a, (__m512)b); }
inline F16 max(F16 a, F16 b) { return (F16)_mm512_max_ps((__m512)a, (__m512)b); }
inline Mask ge(F16 a, F16 b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GE_OQ); }
inline Mask gt(F16 a, F16 b) { return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ); }
inline Mask both(Mask a, Mask b) { return Mask(a & b); }
inline bool any(Mask m) { return m != 0; }
inline bool all(Mask m) { return m == 0xffff; }
inline F16 keep(Mask m, F16 a) { return (F16)_mm512_maskz_mov_ps(m, (__m512)a); }
inline F16 pick(Mask m, F16 a, F16 b) { return (F16)_mm512_mask_mov_ps((__m512)b, m, (__m512)a); }

// 1 / x to one unit in the last place: the 14-bit estimate and one Newton step.
inline F16 reciprocal(F16 x) {
  F16 r = (F16)_mm512_rcp14_ps((__m512)x);
  return fma(fnma(x, r, set(1.f)), r, r);
}

// 2^(n + f) for integral n.
inline F16 scale_by_power(F16 v, F16 n) { return (F16)_mm512_scalef_ps((__m512)v, (__m512)n); }
inline F16 round(F16 x) { return (F16)_mm512_roundscale_ps((__m512)x, 0x08); }
inline F16 ceiling(F16 x) { return (F16)_mm512_roundscale_ps((__m512)x, 0x0a); }
inline F16 square_root(F16 x) { return (F16)_mm512_sqrt_ps((__m512)x); }

// p[0], p[1] repeated eight times.
inline F16 repeat_pair(const float* p) {
  double d;
  std::memcpy(&d, p, sizeof(d));
  return (F16)_mm512_castpd_ps(_mm512_set1_pd(d));
}

inline void interleave_store(float* p, F16 a, F16 b) {
  _mm512_storeu_ps(p, _mm512_unpacklo_ps((__m512)a, (__m512)b));
  _mm512_storeu_ps(p + 16, _mm512_unpackhi_ps((__m512)a, (__m512)b));
}

#else

typedef int32_t Mask __attribute__((vector_size(64)));

inline F16 fma(F16 a, F16 b, F16 c) { return a * b + c; }
inline F16 fnma(F16 a, F16 b, F16 c) { return c - a * b; }
inline F16 min(F16 a, F16 b) { return a < b ? a : b; }
inline F16 max(F16 a, F16 b) { return a > b ? a : b; }
inline Mask ge(F16 a, F16 b) { return a >= b; }
inline Mask gt(F16 a, F16 b) { return a > b; }
inline Mask both(Mask a, Mask b) { return a & b; }
inline F16 keep(Mask m, F16 a) { return (F16)((Mask)a & m); }
inline F16 pick(Mask m, F16 a, F16 b) { return m ? a : b; }
inline F16 reciprocal(F16 x) { return set(1.f) / x; }

inline bool any(Mask m) {
  int32_t found = 0;
  for (int i = 0; i < 16; ++i) found |= m[i];
  return found != 0;
}

inline bool all(Mask m) {
  int32_t found = -1;
  for (int i = 0; i < 16; ++i) found &= m[i];
  return found != 0;
}

inline F16 ceiling(F16 x) {
  for (int i = 0; i < 16; ++i) x[i] = __builtin_ceilf(x[i]);
  return x;
}

inline F16 square_root(F16 x) {
  for (int i = 0; i < 16; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
}

inline F16 round(F16 x) {  // valid for |x| < 2^22: adding 1.5 * 2^23 pushes the fraction out of the mantissa
  const F16 magic = set(12582912.f);
  return (x + magic) - magic;
}

inline F16 scale_by_power(F16 v, F16 n) {
  const F16 magic = set(12582912.f);
  return v * (F16)(((Mask)(n + magic) - (Mask)magic + 127) << 23);
}

inline F16 repeat_pair(const float* p) {
  const float a = p[0], b = p[1];
  return F16{a, b, a, b, a, b, a, b, a, b, a, b, a, b, a, b};
}

inline void interleave_store(float* p, F16 a, F16 b) {
  for (int i = 0; i < 16; ++i) {
    p[2 * i] = a[kInterleaved[i]];
    p[2 * i + 1] = b[kInterleaved[i]];
  }
}

#endif

// 2^-s for s >= 0, relative error 8e-8: degree-6 minimax polynomial on [-1/2, 1/2] (own fit, Lawson iteration). Beyond
// s = 120 the value saturates, far below every threshold that is compared with it.
inline F16 exp2_negative(F16 s) {
  const F16 x = max(-s, set(-120.f));
  const F16 n = round(x);
  const F16 f = x - n;
  F16 p = set(0.0001534581242594868f);
  p = fma(p, f, set(0.0013399930903688073f));
  p = fma(p, f, set(0.009618489071726799f));
  p = fma(p, f, set(0.05550328642129898f));
  p = fma(p, f, set(0.24022646248340607f));
  p = fma(p, f, set(0.6931471824645996f));
  p = fma(p, f, set(1.f));
  return scale_by_power(p, n);
}

}  // namespace simd16
