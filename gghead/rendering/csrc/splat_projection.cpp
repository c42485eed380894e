// The projection of Gaussians as operators of torch: gghead_splat::project and its gradient,
// float32 on CPUs.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "splat_jobs.h"
#include "splat_project.h"

namespace splat {
namespace {

using at::Tensor;

constexpr int64_t kRange =
    512;  // Gaussians per job; fixed, so that sums do not depend on the number of threads

struct Contiguous {
  Tensor means, quats, scales, opacities, viewmats, Ks;
  int64_t batches, cameras, count;
};

Contiguous arranged(const Tensor& means, const Tensor& quats, const Tensor& scales,
                    const Tensor& opacities, const Tensor& viewmats, const Tensor& Ks) {
  TORCH_CHECK_VALUE(means.dim() == 3 && viewmats.dim() == 4,
                    "splat: means must be [B, N, 3] and viewmats [B, C, 4, 4],"
                    " but are ",
                    means.sizes(), " and ", viewmats.sizes(), ".");
  const int64_t B = means.size(0), N = means.size(1), C = viewmats.size(1);
  check(means, "means", {B, N, 3}, at::kFloat);
  check(quats, "quats", {B, N, 4}, at::kFloat);
  check(scales, "scales", {B, N, 3}, at::kFloat);
  check(opacities, "opacities", {B, N}, at::kFloat);
  check(viewmats, "viewmats", {B, C, 4, 4}, at::kFloat);
  check(Ks, "Ks", {B, C, 3, 3}, at::kFloat);
  return {means.contiguous(),
          quats.contiguous(),
          scales.contiguous(),
          opacities.contiguous(),
          viewmats.contiguous(),
          Ks.contiguous(),
          B,
          C,
          N};
}

Scene scene(const Contiguous& t, int64_t width, int64_t height, double near_plane, double far_plane,
            double eps2d, bool antialiased) {
  return {t.means.const_data_ptr<float>(),
          t.quats.const_data_ptr<float>(),
          t.scales.const_data_ptr<float>(),
          t.opacities.const_data_ptr<float>(),
          t.viewmats.const_data_ptr<float>(),
          t.Ks.const_data_ptr<float>(),
          t.batches,
          t.cameras,
          t.count,
          float(width),
          float(height),
          float(near_plane),
          float(far_plane),
          float(eps2d),
          antialiased};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> project(
    const Tensor& means, const Tensor& quats, const Tensor& scales, const Tensor& opacities,
    const Tensor& viewmats, const Tensor& Ks, int64_t width, int64_t height, double near_plane,
    double far_plane, double eps2d, bool antialiased) {
  const Contiguous t = arranged(means, quats, scales, opacities, viewmats, Ks);
  const Scene s = scene(t, width, height, near_plane, far_plane, eps2d, antialiased);
  const int64_t B = t.batches, C = t.cameras, N = t.count;
  const auto options = t.means.options();
  Tensor means2d = at::empty({B, C, N, 2}, options), depths = at::empty({B, C, N}, options),
         conics = at::empty({B, C, N, 3}, options), faded = at::empty({B, C, N}, options),
         radii = at::empty({B, C, N, 2}, options.dtype(at::kInt));
  const Projected out{means2d.mutable_data_ptr<float>(), depths.mutable_data_ptr<float>(),
                      conics.mutable_data_ptr<float>(), faded.mutable_data_ptr<float>(),
                      radii.mutable_data_ptr<int32_t>()};
  const int64_t ranges = (N + kRange - 1) / kRange;
  for_each_job(B * ranges, [&](int64_t j, int64_t) {
    const int64_t begin = j % ranges * kRange;
    project_range(s, j / ranges, begin, std::min(begin + kRange, N), out);
  });
  return {means2d, depths, conics, faded, radii};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> project_backward(
    const Tensor& v_means2d, const Tensor& v_depths, const Tensor& v_conics, const Tensor& v_faded,
    const Tensor& means, const Tensor& quats, const Tensor& scales, const Tensor& opacities,
    const Tensor& viewmats, const Tensor& Ks, int64_t width, int64_t height, double near_plane,
    double far_plane, double eps2d, bool antialiased, bool of_views) {
  const Contiguous t = arranged(means, quats, scales, opacities, viewmats, Ks);
  const Scene s = scene(t, width, height, near_plane, far_plane, eps2d, antialiased);
  const int64_t B = t.batches, C = t.cameras, N = t.count;
  check(v_means2d, "the gradient of means2d", {B, C, N, 2}, at::kFloat);
  check(v_depths, "the gradient of depths", {B, C, N}, at::kFloat);
  check(v_conics, "the gradient of conics", {B, C, N, 3}, at::kFloat);
  check(v_faded, "the gradient of opacities", {B, C, N}, at::kFloat);
  const Tensor g_means = v_means2d.contiguous(), g_depths = v_depths.contiguous(),
               g_conics = v_conics.contiguous(), g_faded = v_faded.contiguous();
  const ProjectedGradient in{g_means.const_data_ptr<float>(), g_depths.const_data_ptr<float>(),
                             g_conics.const_data_ptr<float>(), g_faded.const_data_ptr<float>()};
  const auto options = t.means.options();
  Tensor v_means = at::empty({B, N, 3}, options), v_quats = at::empty({B, N, 4}, options),
         v_scales = at::empty({B, N, 3}, options), v_opacities = at::empty({B, N}, options),
         v_views = at::zeros({B, C, 4, 4}, options);
  const SceneGradient out{v_means.mutable_data_ptr<float>(), v_quats.mutable_data_ptr<float>(),
                          v_scales.mutable_data_ptr<float>(),
                          v_opacities.mutable_data_ptr<float>()};
  const int64_t ranges = (N + kRange - 1) / kRange, share = C * kViewGradient;
  std::vector<float> views(of_views ? B * ranges * share : 0);
  for_each_job(B * ranges, [&](int64_t j, int64_t) {
    const int64_t begin = j % ranges * kRange;
    project_range_backward(s, j / ranges, begin, std::min(begin + kRange, N), in, out,
                           of_views ? views.data() + j * share : nullptr);
  });
  float* v = v_views.mutable_data_ptr<float>();
  for (int64_t image = 0; of_views && image < B * C; ++image) {
    for (int k = 0; k < kViewGradient; ++k) {
      double sum = 0.0;  // ranges in their order
      for (int64_t r = 0; r < ranges; ++r) {
        sum += views[(image / C * ranges + r) * share + image % C * kViewGradient + k];
      }
      v[16 * image + (k < 9 ? 4 * (k / 3) + k % 3 : 4 * (k - 9) + 3)] = float(sum);
    }
  }
  return {v_means, v_quats, v_scales, v_opacities, v_views};
}

}  // namespace
}  // namespace splat

TORCH_LIBRARY_FRAGMENT(gghead_splat, m) {
  m.def(
      "project(Tensor means, Tensor quats, Tensor scales, Tensor opacities, Tensor viewmats, "
      "Tensor Ks, int width, "
      "int height, float near_plane, float far_plane, float eps2d, bool antialiased) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "project_backward(Tensor v_means2d, Tensor v_depths, Tensor v_conics, Tensor v_opacities, "
      "Tensor means, "
      "Tensor quats, Tensor scales, Tensor opacities, Tensor viewmats, Tensor Ks, int width, int "
      "height, "
      "float near_plane, float far_plane, float eps2d, bool antialiased, bool of_views) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(gghead_splat, CPU, m) {
  m.impl("project", splat::project);
  m.impl("project_backward", splat::project_backward);
}
