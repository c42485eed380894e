// Projection of 3D Gaussians into pictures (EWA splatting, Zwicker et al. 2001) and its gradient,
// sixteen at a time.
//
// With A = J W R(q) S (two rows a, b; J the pinhole's Jacobian at the mean) the 2D covariance is A
// A^T + eps2d I. Its determinant is |a x b|^2 + eps2d (|a|^2 + |b|^2) + eps2d^2, which keeps its
// digits for needles.
//
// A Gaussian with anything projected that is not finite, or a conic too flat for float, gets the
// radii 0, so that nobody uses it. Its gradients are 0 then: whoever gets none for what is
// projected gives none.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "splat_blocks.h"

namespace splat {

using namespace simd16;

constexpr float kMaxExtent = 3.33f;  // half-width of a footprint in standard deviations
constexpr float kSlopeMargin =
    0.15f;  // ray slopes are clamped to the picture widened by this share on each side
constexpr float kMinCompensation = 1e-12f;  // floor under the antialiasing factor's root
constexpr float kTiny = 1.17549435e-38f;    // smallest normal float
constexpr float kMaxRadius = 1073741824.f;
constexpr int kViewGradient = 12;  // rotation row by row, then translation

struct Scene {
  const float *means, *quats, *scales, *opacities, *viewmats, *Ks;
  int64_t batches, cameras, count;
  float width, height, near_plane, far_plane, eps2d;
  bool antialiased;
};

struct Projected {
  float *means, *depths, *conics, *opacities;
  int32_t* radii;
};

struct ProjectedGradient {
  const float *means, *depths, *conics, *opacities;
};

struct SceneGradient {
  float *means, *quats, *scales, *opacities;
};

struct Camera {
  float r[3][3], t[3], fx, fy, cx, cy, low_x, high_x, low_y, high_y;
};

inline Camera camera(const Scene& s, int64_t image) {
  const float *v = s.viewmats + 16 * image, *k = s.Ks + 9 * image;
  Camera c;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 3; ++j) c.r[i][j] = v[4 * i + j];
    c.t[i] = v[4 * i + 3];
  }
  c.fx = k[0], c.fy = k[4], c.cx = k[2], c.cy = k[5];
  const float margin_x = kSlopeMargin * s.width, margin_y = kSlopeMargin * s.height;
  c.low_x = -(c.cx + margin_x) / c.fx, c.high_x = (s.width - c.cx + margin_x) / c.fx;
  c.low_y = -(c.cy + margin_y) / c.fy, c.high_y = (s.height - c.cy + margin_y) / c.fy;
  return c;
}

// -----------------------------------------------------------------------------------------------
// small vectors

struct Vec {
  F16 x, y, z;
};

SIMD_INLINE Vec operator*(F16 a, const Vec& v) { return {a * v.x, a * v.y, a * v.z}; }
SIMD_INLINE Vec operator+(const Vec& a, const Vec& b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
SIMD_INLINE Vec operator-(const Vec& a, const Vec& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
SIMD_INLINE F16 dot(const Vec& a, const Vec& b) { return fma(a.x, b.x, fma(a.y, b.y, a.z * b.z)); }
SIMD_INLINE Vec cross(const Vec& a, const Vec& b) {
  return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
SIMD_INLINE Vec multiply(const float (&m)[3][3], const Vec& v) {
  return {fma(set(m[0][0]), v.x, fma(set(m[0][1]), v.y, set(m[0][2]) * v.z)),
          fma(set(m[1][0]), v.x, fma(set(m[1][1]), v.y, set(m[1][2]) * v.z)),
          fma(set(m[2][0]), v.x, fma(set(m[2][1]), v.y, set(m[2][2]) * v.z))};
}
SIMD_INLINE Vec multiply_transposed(const float (&m)[3][3], const Vec& v) {
  return {fma(set(m[0][0]), v.x, fma(set(m[1][0]), v.y, set(m[2][0]) * v.z)),
          fma(set(m[0][1]), v.x, fma(set(m[1][1]), v.y, set(m[2][1]) * v.z)),
          fma(set(m[0][2]), v.x, fma(set(m[1][2]), v.y, set(m[2][2]) * v.z))};
}

// Component k of sixteen rows of `stride` floats; rows beyond `lanes` repeat the last one.
inline F16 gather(const float* p, int stride, int k, int lanes) {
  F16 v;
  if (lanes == 16) {
    for (int l = 0; l < 16; ++l) v[l] = p[stride * l + k];
  } else {
    for (int l = 0; l < 16; ++l) v[l] = p[stride * std::min(l, lanes - 1) + k];
  }
  return v;
}

inline void scatter(float* p, int stride, int k, int lanes, F16 v) {
  for (int l = 0; l < lanes; ++l) p[stride * l + k] = v[l];
}

inline float total(F16 v) {
  float sum = 0.f;
  for (int l = 0; l < 16; ++l) sum += v[l];
  return sum;
}

SIMD_INLINE F16 absolute(F16 v) { return max(v, -v); }
SIMD_INLINE Mask equal(F16 a, F16 b) { return both(ge(a, b), ge(b, a)); }
SIMD_INLINE F16 clamp16(F16 v, float low, float high) { return min(max(v, set(low)), set(high)); }

// ln(x) for normal x > 0, relative error 1e-7: atanh series of the mantissa, folded to [sqrt(1/2),
// sqrt(2)).
SIMD_INLINE F16 logarithm(F16 x) {
  F16 mantissa, exponent;
  for (int l = 0; l < 16; ++l) {
    const float value = x[l];
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    const uint32_t folded = bits - 0x3f3504f3u;  // bits of sqrt(1/2)
    exponent[l] = float(int32_t(folded) >> 23);
    bits = (folded & 0x7fffffu) + 0x3f3504f3u;
    float m;
    std::memcpy(&m, &bits, sizeof(m));
    mantissa[l] = m;
  }
  const F16 s = (mantissa - set(1.f)) / (mantissa + set(1.f)), q = s * s;
  F16 p = set(2.f / 9.f);
  p = fma(p, q, set(2.f / 7.f));
  p = fma(p, q, set(2.f / 5.f));
  p = fma(p, q, set(2.f / 3.f));
  p = fma(p, q, set(2.f));
  return fma(exponent, set(0.69314718056f), p * s);
}

// -----------------------------------------------------------------------------------------------
// one group

// What belongs to the Gaussians alone.
struct Shape {
  Vec mean, scale;
  F16 w, x, y, z;      // unit quaternion
  F16 inverse_length;  // of the given one
  Vec rotation[3];     // columns of R
  Vec axis[3];         // columns of R S
};

inline Shape shape(const Scene& s, int64_t g, int lanes) {
  const float *m = s.means + 3 * g, *q = s.quats + 4 * g, *d = s.scales + 3 * g;
  Shape o;
  o.mean = {gather(m, 3, 0, lanes), gather(m, 3, 1, lanes), gather(m, 3, 2, lanes)};
  o.scale = {gather(d, 3, 0, lanes), gather(d, 3, 1, lanes), gather(d, 3, 2, lanes)};
  const F16 w = gather(q, 4, 0, lanes), x = gather(q, 4, 1, lanes), y = gather(q, 4, 2, lanes),
            z = gather(q, 4, 3, lanes);
  o.inverse_length =
      set(1.f) / square_root(max(fma(w, w, fma(x, x, fma(y, y, z * z))), set(kTiny)));
  o.w = w * o.inverse_length, o.x = x * o.inverse_length, o.y = y * o.inverse_length,
  o.z = z * o.inverse_length;
  const F16 two = set(2.f), one = set(1.f);
  const F16 xx = o.x * o.x, yy = o.y * o.y, zz = o.z * o.z, xy = o.x * o.y, xz = o.x * o.z,
            yz = o.y * o.z;
  const F16 wx = o.w * o.x, wy = o.w * o.y, wz = o.w * o.z;
  o.rotation[0] = {one - two * (yy + zz), two * (xy + wz), two * (xz - wy)};
  o.rotation[1] = {two * (xy - wz), one - two * (xx + zz), two * (yz + wx)};
  o.rotation[2] = {two * (xz + wy), two * (yz - wx), one - two * (xx + yy)};
  o.axis[0] = o.scale.x * o.rotation[0];
  o.axis[1] = o.scale.y * o.rotation[1];
  o.axis[2] = o.scale.z * o.rotation[2];
  return o;
}

// The Gaussians as one camera sees them.
struct Seen {
  Vec point;                      // camera space
  Vec a, b;                       // rows of the projected axes
  Vec across_x, across_y, along;  // rows of the camera-space axes
  F16 inverse_z, slope_x, slope_y, clamped_x, clamped_y;
  F16 var_x, var_y, covariance, area, determinant;  // variances without the blur
  Mask in_range;
};

inline Seen look(const Scene& s, const Camera& c, const Shape& o) {
  Seen e;
  e.point = multiply(c.r, o.mean) + Vec{set(c.t[0]), set(c.t[1]), set(c.t[2])};
  e.in_range = both(ge(e.point.z, set(s.near_plane)), ge(set(s.far_plane), e.point.z));
  e.inverse_z = set(1.f) / pick(e.in_range, e.point.z, set(1.f));
  e.slope_x = e.point.x * e.inverse_z;
  e.slope_y = e.point.y * e.inverse_z;
  e.clamped_x = clamp16(e.slope_x, c.low_x, c.high_x);
  e.clamped_y = clamp16(e.slope_y, c.low_y, c.high_y);
  const Vec axes[3] = {multiply(c.r, o.axis[0]), multiply(c.r, o.axis[1]),
                       multiply(c.r, o.axis[2])};
  e.across_x = {axes[0].x, axes[1].x, axes[2].x};
  e.across_y = {axes[0].y, axes[1].y, axes[2].y};
  e.along = {axes[0].z, axes[1].z, axes[2].z};
  e.a = (set(c.fx) * e.inverse_z) * (e.across_x - e.clamped_x * e.along);
  e.b = (set(c.fy) * e.inverse_z) * (e.across_y - e.clamped_y * e.along);
  e.var_x = dot(e.a, e.a);
  e.var_y = dot(e.b, e.b);
  e.covariance = dot(e.a, e.b);
  const Vec n = cross(e.a, e.b);
  e.area = dot(n, n);
  e.determinant = fma(set(s.eps2d), e.var_x + e.var_y + set(s.eps2d), e.area);
  return e;
}

inline void project_group(const Scene& s, const Camera& c, const Shape& o, F16 opacity, int64_t i,
                          int lanes, const Projected& out) {
  const Seen e = look(s, c, o);
  const F16 x = fma(e.slope_x, set(c.fx), set(c.cx)), y = fma(e.slope_y, set(c.fy), set(c.cy));
  const F16 var_x = e.var_x + set(s.eps2d), var_y = e.var_y + set(s.eps2d),
            inverse = set(1.f) / e.determinant;
  if (s.antialiased) opacity = opacity * square_root(max(e.area * inverse, set(kMinCompensation)));
  scatter(out.means + 2 * i, 2, 0, lanes, x);
  scatter(out.means + 2 * i, 2, 1, lanes, y);
  scatter(out.depths + i, 1, 0, lanes, e.point.z);
  const F16 xx = var_y * inverse, xy = -e.covariance * inverse, yy = var_x * inverse;
  scatter(out.conics + 3 * i, 3, 0, lanes, xx);
  scatter(out.conics + 3 * i, 3, 1, lanes, xy);
  scatter(out.conics + 3 * i, 3, 2, lanes, yy);
  scatter(out.opacities + i, 1, 0, lanes, opacity);

  const F16 reach = max(opacity * set(255.f), set(1.f));
  const F16 extent = min(square_root(set(2.f) * logarithm(reach)), set(kMaxExtent));
  const F16 wide = ceiling(extent * square_root(var_x)),
            high = ceiling(extent * square_root(var_y));
  const Mask across = both(gt(x + wide, set(0.f)), gt(set(s.width), x - wide));
  const Mask along = both(gt(y + high, set(0.f)), gt(set(s.height), y - high));
  // Comparisons are false for NaN, and a centre at infinity is not across the picture. What is left
  // is infinity in the depth, the opacity and the conic; a determinant of 0 or infinity shows in
  // the latter as infinity, NaN or 0.
  const Mask definite = both(ge(xx, set(kFlattest)), ge(yy, set(kFlattest)));
  const Mask finite = ge(set(kLargest), max(max(xx, yy), max(e.point.z, opacity)));
  const Mask seen = both(both(e.in_range, both(definite, finite)),
                         both(both(across, along), ge(opacity, set(1.f / 255.f))));
  const F16 rx = min(keep(seen, wide), set(kMaxRadius)),
            ry = min(keep(seen, high), set(kMaxRadius));
  for (int l = 0; l < lanes; ++l) {
    out.radii[2 * (i + l)] = int32_t(rx[l]);
    out.radii[2 * (i + l) + 1] = int32_t(ry[l]);
  }
}

// Gradients of one group, summed over cameras.
struct GroupGradient {
  Vec mean, axis[3];
  F16 opacity;
};

// Adds camera c's part to `sum`, and to `view` (kViewGradient vectors) where it is not null.
inline void project_group_backward(const Scene& s, const Camera& c, const Shape& o, F16 opacity,
                                   int64_t i, int lanes, const ProjectedGradient& in,
                                   GroupGradient& sum, F16* view) {
  const F16 v_x = gather(in.means + 2 * i, 2, 0, lanes),
            v_y = gather(in.means + 2 * i, 2, 1, lanes);
  const F16 v_depth = gather(in.depths + i, 1, 0, lanes),
            v_o = gather(in.opacities + i, 1, 0, lanes);
  const float* conics = in.conics + 3 * i;
  const F16 v_xx = gather(conics, 3, 0, lanes), v_xy = gather(conics, 3, 1, lanes),
            v_yy = gather(conics, 3, 2, lanes);
  const F16 zero = set(0.f);
  F16 size = absolute(v_x) + absolute(v_y) + absolute(v_depth) + absolute(v_o) + absolute(v_xx) +
             absolute(v_xy) + absolute(v_yy);
  // Lanes without a gradient give none, whatever is in them (NaN, for one); nor do the repeats of
  // the last lane.
  for (int l = lanes; l < 16; ++l) size[l] = 0.f;
  const Mask idle = equal(size, zero);
  if (all(idle)) return;

  const Seen e = look(s, c, o);
  const F16 inverse = set(1.f) / e.determinant;
  // The conic is (var_y, -covariance, var_x) / determinant. Going through the determinant's own
  // formula, and not through -inverse(S) dS inverse(S), keeps the digits for needles.
  F16 v_var_x = v_yy * inverse, v_var_y = v_xx * inverse, v_opacity = v_o;
  const F16 v_covariance = -v_xy * inverse;
  F16 v_determinant =
      -inverse * inverse *
      (fma(v_xx, e.var_y + set(s.eps2d), v_yy * (e.var_x + set(s.eps2d))) - v_xy * e.covariance);
  F16 v_area = v_determinant;
  if (s.antialiased) {
    const F16 share = e.area * inverse, factor = square_root(max(share, set(kMinCompensation)));
    v_opacity = v_o * factor;
    const F16 v_share = keep(gt(share, set(kMinCompensation)), v_o * opacity / (set(2.f) * factor));
    const F16 through_determinant = -v_share * share * inverse;
    v_determinant = v_determinant + through_determinant;
    v_area = v_area + fma(v_share, inverse, through_determinant);
  }
  v_var_x = fma(set(s.eps2d), v_determinant, v_var_x);
  v_var_y = fma(set(s.eps2d), v_determinant, v_var_y);
  const Vec n = cross(e.a, e.b);
  const Vec v_a =
      (set(2.f) * v_var_x) * e.a + v_covariance * e.b + (set(2.f) * v_area) * cross(e.b, n);
  const Vec v_b =
      (set(2.f) * v_var_y) * e.b + v_covariance * e.a + (set(2.f) * v_area) * cross(n, e.a);
  const Vec from_x = (set(c.fx) * e.inverse_z) * v_a, from_y = (set(c.fy) * e.inverse_z) * v_b;
  const F16 free_x =
      keep(both(ge(e.slope_x, set(c.low_x)), ge(set(c.high_x), e.slope_x)), dot(e.along, from_x));
  const F16 free_y =
      keep(both(ge(e.slope_y, set(c.low_y)), ge(set(c.high_y), e.slope_y)), dot(e.along, from_y));
  const F16 v_slope_x = set(c.fx) * v_x - free_x, v_slope_y = set(c.fy) * v_y - free_y;
  // a and b are proportional to 1 / z: d/d(1/z) = (a . v_a + b . v_b) z, times d(1/z)/dz = -1 /
  // z^2.
  const F16 through_depth =
      e.inverse_z * (dot(e.a, v_a) + dot(e.b, v_b) + e.slope_x * v_slope_x + e.slope_y * v_slope_y);
  auto mine = [&](F16 v) { return pick(idle, zero, v); };
  const Vec v_point = {mine(v_slope_x * e.inverse_z), mine(v_slope_y * e.inverse_z),
                       mine(v_depth - keep(e.in_range, through_depth))};
  const Vec v_along = (-e.clamped_x) * from_x - e.clamped_y * from_y;
  const Vec v_axes[3] = {{mine(from_x.x), mine(from_y.x), mine(v_along.x)},
                         {mine(from_x.y), mine(from_y.y), mine(v_along.y)},
                         {mine(from_x.z), mine(from_y.z), mine(v_along.z)}};
  sum.mean = sum.mean + multiply_transposed(c.r, v_point);
  for (int k = 0; k < 3; ++k) sum.axis[k] = sum.axis[k] + multiply_transposed(c.r, v_axes[k]);
  sum.opacity = sum.opacity + mine(v_opacity);
  if (!view) return;
  auto component = [](const Vec& v, int k) { return k == 0 ? v.x : (k == 1 ? v.y : v.z); };
  for (int r = 0; r < 3; ++r) {
    for (int k = 0; k < 3; ++k) {
      F16 v = component(v_point, r) * mine(component(o.mean, k));
      for (int j = 0; j < 3; ++j)
        v = fma(component(v_axes[j], r), mine(component(o.axis[j], k)), v);
      view[3 * r + k] = view[3 * r + k] + v;
    }
    view[9 + r] = view[9 + r] + component(v_point, r);
  }
}

// From the gradients of mean and scaled axes to those of the attributes.
inline void write_gradient(const Shape& o, const GroupGradient& sum, int64_t g, int lanes,
                           const SceneGradient& out) {
  const F16 zero = set(0.f), two = set(2.f);
  F16 size = zero;
  for (const Vec& v : sum.axis) size = size + absolute(v.x) + absolute(v.y) + absolute(v.z);
  const Mask idle = equal(size, zero);
  auto mine = [&](F16 v) { return pick(idle, zero, v); };
  scatter(out.scales + 3 * g, 3, 0, lanes, mine(dot(o.rotation[0], sum.axis[0])));
  scatter(out.scales + 3 * g, 3, 1, lanes, mine(dot(o.rotation[1], sum.axis[1])));
  scatter(out.scales + 3 * g, 3, 2, lanes, mine(dot(o.rotation[2], sum.axis[2])));
  const Vec r0 = o.scale.x * sum.axis[0], r1 = o.scale.y * sum.axis[1],
            r2 = o.scale.z * sum.axis[2];
  const F16 v_w = two * (o.z * (r0.y - r1.x) + o.y * (r2.x - r0.z) + o.x * (r1.z - r2.y));
  const F16 v_x = two * (o.y * (r1.x + r0.y) + o.z * (r2.x + r0.z) + o.w * (r1.z - r2.y) -
                         two * o.x * (r1.y + r2.z));
  const F16 v_y = two * (o.x * (r1.x + r0.y) + o.z * (r2.y + r1.z) + o.w * (r2.x - r0.z) -
                         two * o.y * (r0.x + r2.z));
  const F16 v_z = two * (o.x * (r2.x + r0.z) + o.y * (r2.y + r1.z) + o.w * (r0.y - r1.x) -
                         two * o.z * (r0.x + r1.y));
  const F16 radial =
      o.w * v_w + o.x * v_x + o.y * v_y + o.z * v_z;  // the length of q has no influence
  scatter(out.quats + 4 * g, 4, 0, lanes, mine(o.inverse_length * (v_w - radial * o.w)));
  scatter(out.quats + 4 * g, 4, 1, lanes, mine(o.inverse_length * (v_x - radial * o.x)));
  scatter(out.quats + 4 * g, 4, 2, lanes, mine(o.inverse_length * (v_y - radial * o.y)));
  scatter(out.quats + 4 * g, 4, 3, lanes, mine(o.inverse_length * (v_z - radial * o.z)));
  scatter(out.means + 3 * g, 3, 0, lanes, sum.mean.x);
  scatter(out.means + 3 * g, 3, 1, lanes, sum.mean.y);
  scatter(out.means + 3 * g, 3, 2, lanes, sum.mean.z);
  scatter(out.opacities + g, 1, 0, lanes, sum.opacity);
}

// -----------------------------------------------------------------------------------------------
// ranges of a scene

inline void project_range(const Scene& s, int64_t batch, int64_t begin, int64_t end,
                          const Projected& out) {
  for (int64_t g = begin; g < end; g += 16) {
    const int lanes = int(std::min<int64_t>(16, end - g));
    const int64_t row = batch * s.count + g;
    const Shape o = shape(s, row, lanes);
    const F16 opacity = gather(s.opacities + row, 1, 0, lanes);
    for (int64_t k = 0; k < s.cameras; ++k) {
      const int64_t image = batch * s.cameras + k;
      project_group(s, camera(s, image), o, opacity, image * s.count + g, lanes, out);
    }
  }
}

// `views`: this range's share of the view matrices' gradients, [cameras][kViewGradient], or null.
inline void project_range_backward(const Scene& s, int64_t batch, int64_t begin, int64_t end,
                                   const ProjectedGradient& in, const SceneGradient& out,
                                   float* views) {
  std::vector<float> lanes_of_views(views ? s.cameras * kViewGradient * 16 : 0, 0.f);
  F16 view[kViewGradient];
  for (int64_t g = begin; g < end; g += 16) {
    const int lanes = int(std::min<int64_t>(16, end - g));
    const int64_t row = batch * s.count + g;
    const Shape o = shape(s, row, lanes);
    const F16 opacity = gather(s.opacities + row, 1, 0, lanes), zero = set(0.f);
    const Vec none = {zero, zero, zero};
    GroupGradient sum = {none, {none, none, none}, zero};
    for (int64_t k = 0; k < s.cameras; ++k) {
      const int64_t image = batch * s.cameras + k;
      float* kept = lanes_of_views.data() + k * kViewGradient * 16;
      for (int j = 0; views && j < kViewGradient; ++j) view[j] = load(kept + 16 * j);
      project_group_backward(s, camera(s, image), o, opacity, image * s.count + g, lanes, in, sum,
                             views ? view : nullptr);
      for (int j = 0; views && j < kViewGradient; ++j) store(kept + 16 * j, view[j]);
    }
    write_gradient(o, sum, row, lanes, out);
  }
  for (int64_t j = 0; views && j < s.cameras * kViewGradient; ++j)
    views[j] = total(load(lanes_of_views.data() + 16 * j));
}

}  // namespace splat
