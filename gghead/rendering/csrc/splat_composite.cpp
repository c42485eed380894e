// Compositing of projected Gaussians on CPUs, forward and analytic backward, float32.
//
// Rules (those of gsplat's classic rasteriser): pixel centres at +0.5; alpha = min(0.999, o
// exp(-sigma)); pairs with alpha < 1/255 are skipped; order by depth, ties by index; a pixel is
// finished before the Gaussian that would bring its transmittance T to 1e-4 or below. A Gaussian
// with a number that is not finite, or with a conic that is not positive definite (sigma < 0
// somewhere) or too flat for float, is left out and gets no gradient. 4x4 pixel blocks fill sixteen
// SIMD lanes; how blocks and bands are cut has no influence on the result.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <memory>
#include <mutex>
#include <numeric>
#include <tuple>
#include <type_traits>

#include "splat_bins.h"
#include "splat_blocks.h"
#include "splat_jobs.h"

namespace splat {
namespace {

int64_t round16(int64_t n) { return (n + 15) / 16 * 16; }
int64_t record_stride(int64_t channels) { return round16(kHeader + channels); }
// Gradient row: six moments of v_sigma on the even lanes, channels 0..7 on the odd ones; further
// channels in sixteens.
int64_t gradient_stride(int64_t channels) {
  return 16 + round16(std::max<int64_t>(channels - 8, 0));
}

// Where the parts of one job lie in the tensors that the forward pass leaves for the backward pass,
// in words.
struct JobLayout {
  int64_t gaussians, entries;   // how many of each
  int64_t ids, records, state;  // in the plan
  int64_t ends, lists;          // in the lists
};
constexpr int64_t kLayoutWords = sizeof(JobLayout) / sizeof(int32_t);
static_assert(sizeof(JobLayout) == 56, "a layout is fourteen int32 words of the plan");

// The plan, an int32 tensor as autograd wants to keep one, with the types of what lies in it. In
// this order: the layout of each job; where the records of each chunk of the inputs end in each
// band; then for each job its Gaussians' indices, their records, and the final state of each
// block's pixels (transmittance and end of the list, sixteen floats each).
template <class Word>  // int32_t, or const int32_t to read it
struct Plan {
  template <class T>
  using As = std::conditional_t<std::is_const_v<Word>, const T, T>;
  Word* words;

  As<uint32_t>* chunk_ends(int64_t jobs) const {
    return at<uint32_t>(round16(jobs * kLayoutWords));
  }
  As<uint32_t>* ids(const JobLayout& job) const { return at<uint32_t>(job.ids); }
  As<float>* records(const JobLayout& job) const { return at<float>(job.records); }
  As<float>* state(const JobLayout& job, int64_t block) const {
    return at<float>(job.state + 32 * block);
  }

 private:
  template <class T>
  As<T>* at(int64_t word) const {
    return reinterpret_cast<As<T>*>(words + word);
  }
};

// Buffers survive between calls: fresh pages cost more than the work done in them.
struct Workspace {
  std::vector<uint16_t> first, last;  // [image][Gaussian]: range of bands
  std::vector<uint32_t> positions;    // [image][chunk][band]: where the chunk's next record goes
  std::vector<RecordTarget> targets;
  std::vector<Job> jobs;
  std::vector<WorkerScratch> scratches;
  std::vector<Floats> gradients;
};

class PooledWorkspace {
 public:
  PooledWorkspace() {
    std::lock_guard<std::mutex> lock(mutex());
    if (pool().empty()) {
      space_ = std::make_unique<Workspace>();
    } else {
      space_ = std::move(pool().back());
      pool().pop_back();
    }
  }
  ~PooledWorkspace() {
#ifndef SPLAT_SANITIZED  // they find an overrun in buffers of the right size only
    std::lock_guard<std::mutex> lock(mutex());
    pool().push_back(std::move(space_));
#endif
  }
  PooledWorkspace(const PooledWorkspace&) = delete;
  PooledWorkspace& operator=(const PooledWorkspace&) = delete;
  Workspace* operator->() { return space_.get(); }

 private:
  static std::mutex& mutex() {
    static std::mutex m;
    return m;
  }
  static std::vector<std::unique_ptr<Workspace>>& pool() {
    static std::vector<std::unique_ptr<Workspace>> p;
    return p;
  }
  std::unique_ptr<Workspace> space_;
};

struct Frame {
  int width, height, columns, bands;
  int64_t channels;
  int rows(int band) const {
    return std::min(kBandRows, (height + kBlock - 1) / kBlock - band * kBandRows);
  }
};

// Calls f with the channel count as a compile-time constant where it is a common one.
template <class F>
void with_channels(int64_t channels, const F& f) {
  switch (channels) {
    case 1:
      return f(std::integral_constant<int, 1>());
    case 2:
      return f(std::integral_constant<int, 2>());
    case 3:
      return f(std::integral_constant<int, 3>());
    case 4:
      return f(std::integral_constant<int, 4>());
    case 5:
      return f(std::integral_constant<int, 5>());
    case 6:
      return f(std::integral_constant<int, 6>());
    case 7:
      return f(std::integral_constant<int, 7>());
    case 8:
      return f(std::integral_constant<int, 8>());
    default:
      return f(std::integral_constant<int, 0>());
  }
}

// Lists and blends the blocks of a band that has been binned; keeps the packed lists with the job.
void forward_band(const Frame& f, int64_t image, int band, const JobLayout& layout,
                  Plan<int32_t> plan, WorkerScratch& scratch, Job& job, bool save,
                  const float* background, float* colors, float* alphas) {
  const float* records = plan.records(layout);
  const int64_t stride = record_stride(f.channels), D = f.channels,
                blocks = int64_t(f.rows(band)) * f.columns;
  Floats sums(16 * std::max<int64_t>(D, 1));
  if (save) job.ends.resize(blocks);
  uint32_t kept =
      0;  // fits: a pixel takes 2344 Gaussians of alpha 1/255 at most before it is finished
  int64_t listed = 0, from = 0;
  with_channels(D, [&](auto count) {
    for (int b = 0; b < blocks; ++b) {
      if (b == listed) {
        from = listed;
        listed = list_blocks(scratch, from, blocks);
        const size_t most = size_t(kept) + scratch.ends[listed - 1];
        if (save && job.packed.size() < most) job.packed.resize(most);
      }
      const int x0 = b % f.columns * kBlock, y0 = (band * kBandRows + b / f.columns) * kBlock;
      const uint32_t begin = b > from ? scratch.ends[b - 1] : 0;
      uint32_t* list = scratch.lists.data() + begin;
      F16 transmittance, stop;
      const int64_t taken = forward_block<decltype(count)::value>(
          records, stride, D, list, scratch.ends[b] - begin, block_pixels(x0, y0), sums.data(),
          transmittance, stop);
      if (save) {
        float* state = plan.state(layout, b);
        store(state, transmittance);
        store(state + 16, stop);
        std::copy_n(list, taken, job.packed.data() + kept);
        job.ends[b] = kept += uint32_t(taken);
      }
      for (int64_t c = 0; background && c < D; ++c) {
        store(sums.data() + 16 * c,
              fma(transmittance, set(background[c]), load(sums.data() + 16 * c)));
      }
      alignas(64) float alpha[16];
      store(alpha, set(1.f) - transmittance);
      for (int y = 0; y < std::min(kBlock, f.height - y0); ++y) {
        const int64_t pixel = (image * f.height + y0 + y) * f.width + x0;
        for (int x = 0; x < std::min(kBlock, f.width - x0); ++x) {
          alphas[pixel + x] = alpha[kBlock * y + x];
          for (int64_t c = 0; c < D; ++c)
            colors[(pixel + x) * D + c] = sums[16 * c + kBlock * y + x];
        }
      }
    }
  });
}

// Gradient rows of one band; v_background gets this band's share.
void backward_band(const Frame& f, int64_t image, int band, const JobLayout& layout,
                   Plan<const int32_t> plan, const int32_t* lists_data, const float* background,
                   const float* v_colors, const float* v_alphas, Floats& rows,
                   float* v_background) {
  const float* records = plan.records(layout);
  const uint32_t* ends = reinterpret_cast<const uint32_t*>(lists_data + layout.ends);
  const uint32_t* lists = reinterpret_cast<const uint32_t*>(lists_data + layout.lists);
  const int64_t stride = record_stride(f.channels), row_stride = gradient_stride(f.channels),
                D = f.channels;
  prefetch_records(records, layout.gaussians * stride);
  rows.assign(layout.gaussians * row_stride, 0.f);
  BlockGradient g;
  g.color.resize(16 * std::max<int64_t>(D, 1));
  g.further.assign((row_stride - 16) * 16, 0.f);
  std::fill(g.basis, g.basis + 256, 0.f);
  for (int p = 0; p < 16; ++p) {
    const float u = 1.5f - float(kInterleaved[p] % kBlock),
                v = 1.5f - float(kInterleaved[p] / kBlock);
    const float monomials[6] = {1.f, u, v, u * u, u * v, v * v};
    for (int m = 0; m < 6; ++m) g.basis[16 * p + 2 * m] = monomials[m];
  }
  Floats background_lanes(16 * D, 0.f);
  with_channels(D, [&](auto count) {
    for (int b = 0; b < f.rows(band) * f.columns; ++b) {
      const int x0 = b % f.columns * kBlock, y0 = (band * kBandRows + b / f.columns) * kBlock;
      const uint32_t begin = b ? ends[b - 1] : 0;
      alignas(64) float v_alpha[16] = {};
      std::fill(g.color.begin(), g.color.end(), 0.f);
      for (int y = 0; y < std::min(kBlock, f.height - y0); ++y) {
        const int64_t pixel = (image * f.height + y0 + y) * f.width + x0;
        for (int x = 0; x < std::min(kBlock, f.width - x0); ++x) {
          v_alpha[kBlock * y + x] = v_alphas[pixel + x];
          for (int64_t c = 0; c < D; ++c)
            g.color[16 * c + kBlock * y + x] = v_colors[(pixel + x) * D + c];
        }
      }
      const float* state = plan.state(layout, b);
      const F16 transmittance = load(state), stop = load(state + 16);
      F16 rest = -load(v_alpha);
      for (int64_t c = 0; c < D; ++c) {
        const F16 v = load(g.color.data() + 16 * c);
        if (background) rest = fma(set(background[c]), v, rest);
        store(background_lanes.data() + 16 * c,
              fma(transmittance, v, load(background_lanes.data() + 16 * c)));
      }
      int64_t n = 0;
      for (int i = 0; i < 16; ++i) n = std::max<int64_t>(n, int64_t(stop[i]));
      if (n == 0) continue;
      for (int p = 0; p < 16; ++p) {
        for (int64_t c = 0; c < std::min<int64_t>(D, 8); ++c) {
          g.basis[16 * p + 2 * c + 1] = g.color[16 * c + kInterleaved[p]];
        }
        for (int64_t c = 8; c < D; ++c) {
          g.further[((c - 8) / 16 * 16 + p) * 16 + (c - 8) % 16] =
              g.color[16 * c + kInterleaved[p]];
        }
      }
      backward_block<decltype(count)::value>(records, stride, D, lists + begin, n,
                                             block_pixels(x0, y0), g, transmittance, stop,
                                             transmittance * rest, rows.data(), row_stride);
    }
  });
  for (int64_t c = 0; c < D; ++c) {
    float sum = 0.f;
    for (int i = 0; i < 16; ++i) sum += background_lanes[16 * c + i];
    v_background[c] = sum;
  }
}

// The largest job first, so that no thread is left with it at the end.
std::vector<int64_t> largest_first(const std::vector<JobLayout>& layouts,
                                   int64_t JobLayout::* size) {
  std::vector<int64_t> order(layouts.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return layouts[a].*size > layouts[b].*size; });
  return order;
}

struct Gradients {
  float *means, *conics, *opacities, *colors;
};

// Moments of v_sigma -> gradients of mean, conic and opacity; added to what is there.
inline void add_gradient(const float* record, const float* row, int64_t channels, int64_t g,
                         const Gradients& out) {
  const float v_x = record[2] * (2.f / kLog2e) * (row[2] + record[3] * row[4]);
  out.means[2 * g] += v_x;
  out.means[2 * g + 1] += record[3] * v_x + record[4] * (2.f / kLog2e) * row[4];
  out.conics[3 * g] += 0.5f * row[6];
  out.conics[3 * g + 1] += row[8];
  out.conics[3 * g + 2] += 0.5f * row[10];
  out.opacities[g] -= row[0] / record[5];
  for (int64_t k = 0; k < channels; ++k)
    out.colors[g * channels + k] += k < 8 ? row[2 * k + 1] : row[8 + k];
}

Frame frame(int64_t channels, int64_t width, int64_t height) {
  TORCH_CHECK_VALUE(width > 0 && height > 0 && width <= kMaxSide && height <= kMaxSide,
                    "splat: width and height must lie in 1..", kMaxSide, ", but are ", width,
                    " and ", height, ".");
  return {int(width), int(height), int((width + kBlock - 1) / kBlock),
          int((height + kBandPixels - 1) / kBandPixels), channels};
}

using at::Tensor;
using Background = std::optional<Tensor>;

// A tensor of sections, each of which begins at a multiple of sixteen words.
struct SectionLayout {
  int64_t words = 0;
  std::vector<int64_t> ends;
  int64_t take(int64_t n) {
    const int64_t at = words;
    ends.push_back(at + n);
    words += round16(n);
    return at;
  }
  Tensor allocate() const {
    Tensor t = at::empty({words}, at::TensorOptions().dtype(at::kInt));
    int32_t* data = t.mutable_data_ptr<int32_t>();
    for (int64_t end : ends)
      std::fill(data + end, data + round16(end), 0);  // what lies between sections
    return t;
  }
};

template <class T>
void grow(std::vector<T>& v, int64_t n) {
  if (int64_t(v.size()) < n) v.resize(n);
}

// One call of `composite`, in four steps: plan, bin, blend, pack. Bin and blend of a job follow
// each other on one worker, so that what binning finds is still near its processor.
class Forward {
 public:
  Forward(const Inputs& in, const Frame& f, bool save)
      : in_(in),
        f_(f),
        save_(save),
        jobs_(in.images * f.bands),
        chunks_((in.count + kChunk - 1) / kChunk),
        stride_(record_stride(in.channels)),
        layouts_(jobs_) {
    grow(space_->first, in.images * in.count);
    grow(space_->last, in.images * in.count);
    grow(space_->jobs, jobs_);
    grow(space_->positions, in.images * chunks_ * f.bands);
    grow(space_->targets, jobs_);
  }

  // In: the Gaussians. Out: the plan's tensor, with room for everything; each job's members
  // counted; for each chunk of the inputs the place of its first record in each band.
  Tensor plan() {
    uint32_t* positions = space_->positions.data();
    for_each_chunk([&](int64_t k, int64_t image, int64_t begin, int64_t end) {
      find_bands(in_, image, begin, end, space_->first.data(), space_->last.data(),
                 positions + k * f_.bands);
    });
    SectionLayout sections;
    sections.take(jobs_ * kLayoutWords);
    sections.take(in_.images * chunks_ * f_.bands);
    for (int64_t j = 0; j < jobs_; ++j) {
      uint32_t members = 0;  // counts become positions
      for (int64_t k = j / f_.bands * chunks_; k < (j / f_.bands + 1) * chunks_; ++k) {
        uint32_t& entry = positions[k * f_.bands + j % f_.bands];
        const uint32_t count = entry;
        entry = members;
        members += count;
      }
      space_->jobs[j].members = members;
      grow(space_->jobs[j].keys, members);
      JobLayout& layout = layouts_[j];
      layout.gaussians = members;
      layout.ids = sections.take(members);
      layout.records = sections.take(members * stride_);
      layout.state =
          sections.take(save_ ? 32 * int64_t(f_.rows(int(j % f_.bands))) * f_.columns : 0);
    }
    Tensor tensor = sections.allocate();
    plan_ = {tensor.mutable_data_ptr<int32_t>()};
    return tensor;
  }

  // In: the plan. Out: every job's records, indices and sorting keys, in the order of the inputs.
  void bin() {
    for (int64_t j = 0; j < jobs_; ++j)
      space_->targets[j] = {plan_.records(layouts_[j]), plan_.ids(layouts_[j])};
    uint32_t* positions = space_->positions.data();
    for_each_chunk([&](int64_t k, int64_t image, int64_t begin, int64_t end) {
      with_channels(in_.channels, [&](auto width) {
        write_records<decltype(width)::value>(
            in_, image, begin, end, space_->first.data(), space_->last.data(), stride_,
            positions + k * f_.bands, space_->targets.data() + image * f_.bands,
            space_->jobs.data() + image * f_.bands);
      });
    });
    std::copy_n(positions, in_.images * chunks_ * f_.bands, plan_.chunk_ends(jobs_));
  }

  // In: the records. Out: the images [I, H, W, D] and alphas [I, H, W, 1]; the jobs' packed lists
  // and final states.
  void blend(const float* background, float* colors, float* alphas) {
    const int64_t workers = at::get_num_threads();
    grow(space_->scratches, workers);
    const std::vector<int64_t> order = largest_first(layouts_, &JobLayout::gaussians);
    for_each_job(jobs_, workers, [&](int64_t k, int64_t worker) {
      const int64_t j = order[k], image = j / f_.bands, band = j % f_.bands;
      const float* records = plan_.records(layouts_[j]);
      Job& job = space_->jobs[j];
      WorkerScratch& scratch = space_->scratches[worker];
      prefetch_records(records, stride_ * job.members);
      bin_band(in_, int(band), records, stride_, job, scratch);
      forward_band(f_, image, int(band), layouts_[j], plan_, scratch, job, save_,
                   background ? background + image * in_.channels : nullptr, colors, alphas);
    });
  }

  // In: the packed lists of all jobs. Out: the tensor of lists; the plan gets its table of layouts.
  Tensor pack() {
    SectionLayout sections;
    for (int64_t j = 0; j < jobs_; ++j) {
      const Job& job = space_->jobs[j];
      layouts_[j].entries = job.ends.empty() ? 0 : job.ends.back();
      layouts_[j].ends = sections.take(int64_t(job.ends.size()));
      layouts_[j].lists = sections.take(layouts_[j].entries);
    }
    Tensor lists = sections.allocate();
    int32_t* data = lists.mutable_data_ptr<int32_t>();
    if (jobs_) std::memcpy(plan_.words, layouts_.data(), jobs_ * sizeof(JobLayout));
    for_each_job(jobs_, [&](int64_t j, int64_t) {
      const Job& job = space_->jobs[j];
      std::copy(job.ends.begin(), job.ends.end(), data + layouts_[j].ends);
      std::copy_n(job.packed.begin(), layouts_[j].entries, data + layouts_[j].lists);
    });
    return lists;
  }

 private:
  template <class F>
  void for_each_chunk(const F& f) {
    for_each_job(in_.images * chunks_, [&](int64_t k, int64_t) {
      const int64_t begin = k % chunks_ * kChunk;
      f(k, k / chunks_, begin, std::min(begin + kChunk, in_.count));
    });
  }

  const Inputs& in_;
  const Frame& f_;
  bool save_;
  int64_t jobs_, chunks_, stride_;
  std::vector<JobLayout> layouts_;
  Plan<int32_t> plan_{};
  PooledWorkspace space_;
};

// The layouts of all jobs, from a plan that a forward pass with save=True has left.
std::vector<JobLayout> read_layouts(const Tensor& plan, int64_t jobs) {
  TORCH_CHECK_VALUE(plan.scalar_type() == at::kInt && plan.is_contiguous() &&
                        plan.numel() >= jobs * kLayoutWords && (jobs == 0 || plan.numel() > 0),
                    "splat: the forward pass was run with save=False, so it has no backward pass.");
  std::vector<JobLayout> layouts(jobs);
  if (jobs) std::memcpy(layouts.data(), plan.const_data_ptr<int32_t>(), jobs * sizeof(JobLayout));
  return layouts;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> composite(const Tensor& means_, const Tensor& conics_,
                                                     const Tensor& opacities_,
                                                     const Tensor& colors_, const Tensor& depths_,
                                                     const Tensor& radii_,
                                                     const Background& background_, int64_t width,
                                                     int64_t height, bool save) {
  TORCH_CHECK_VALUE(colors_.dim() == 3, "splat: colors must have shape [I, N, D], but has ",
                    colors_.sizes(), ".");
  const int64_t I = colors_.size(0), N = colors_.size(1), D = colors_.size(2);
  check(means_, "means2d", {I, N, 2}, at::kFloat);
  check(conics_, "conics", {I, N, 3}, at::kFloat);
  check(opacities_, "opacities", {I, N}, at::kFloat);
  check(colors_, "colors", {I, N, D}, at::kFloat);
  check(depths_, "depths", {I, N}, at::kFloat);
  check(radii_, "radii", {I, N, 2}, at::kInt);
  if (background_) check(*background_, "backgrounds", {I, D}, at::kFloat);
  // Positions in a block's list are kept as floats, which are exact up to here.
  TORCH_CHECK_VALUE(N <= (1 << 24), "splat: an image can have 2^24 Gaussians at most, but has ", N,
                    ".");
  const Frame f = frame(D, width, height);
  const Tensor means = means_.contiguous(), conics = conics_.contiguous(),
               opacities = opacities_.contiguous(), colors = colors_.contiguous(),
               depths = depths_.contiguous(), radii = radii_.contiguous(),
               background = background_ ? background_->contiguous() : Tensor();
  const Inputs in{means.const_data_ptr<float>(),
                  conics.const_data_ptr<float>(),
                  opacities.const_data_ptr<float>(),
                  colors.const_data_ptr<float>(),
                  depths.const_data_ptr<float>(),
                  radii.const_data_ptr<int32_t>(),
                  I,
                  N,
                  D,
                  f.width,
                  f.height,
                  f.bands,
                  f.columns};

  Forward forward(in, f, save);
  Tensor plan = forward.plan();
  forward.bin();
  Tensor out = at::empty({I, height, width, D}, colors.options());
  Tensor alphas = at::empty({I, height, width, 1}, colors.options());
  forward.blend(background_ ? background.const_data_ptr<float>() : nullptr,
                out.mutable_data_ptr<float>(), alphas.mutable_data_ptr<float>());
  if (!save) return {out, alphas, at::empty({0}, plan.options()), at::empty({0}, plan.options())};
  Tensor lists = forward.pack();
  return {out, alphas, plan, lists};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> composite_backward(
    const Tensor& v_colors_, const Tensor& v_alphas_, const Tensor& plan, const Tensor& lists,
    const Background& background_, int64_t N) {
  TORCH_CHECK_VALUE(v_colors_.dim() == 4,
                    "splat: the colour gradient must have shape [I, H, W, D].");
  const int64_t I = v_colors_.size(0), H = v_colors_.size(1), W = v_colors_.size(2),
                D = v_colors_.size(3);
  check(v_colors_, "the colour gradient", {I, H, W, D}, at::kFloat);
  check(v_alphas_, "the alpha gradient", {I, H, W, 1}, at::kFloat);
  if (background_) check(*background_, "backgrounds", {I, D}, at::kFloat);
  const Frame f = frame(D, W, H);
  const int64_t jobs = I * f.bands;
  TORCH_CHECK_VALUE(lists.scalar_type() == at::kInt && lists.is_contiguous(),
                    "splat: lists must be int32.");
  const std::vector<JobLayout> layouts = read_layouts(plan, jobs);
  const Tensor v_colors = v_colors_.contiguous(), v_alphas = v_alphas_.contiguous(),
               background = background_ ? background_->contiguous() : Tensor();
  const float* bg = background_ ? background.const_data_ptr<float>() : nullptr;
  const float *vc = v_colors.const_data_ptr<float>(), *va = v_alphas.const_data_ptr<float>();
  const Plan<const int32_t> saved{plan.const_data_ptr<int32_t>()};
  const int32_t* lists_data = lists.const_data_ptr<int32_t>();

  const auto options = v_colors.options();
  Tensor v_means = at::empty({I, N, 2}, options), v_conics = at::empty({I, N, 3}, options),
         v_opacities = at::empty({I, N}, options), v_features = at::empty({I, N, D}, options),
         v_background = at::zeros({I, D}, options);
  const Gradients out{v_means.mutable_data_ptr<float>(), v_conics.mutable_data_ptr<float>(),
                      v_opacities.mutable_data_ptr<float>(), v_features.mutable_data_ptr<float>()};
  PooledWorkspace space;
  grow(space->gradients, jobs);
  std::vector<float> band_background(jobs * D);
  const int64_t stride = record_stride(D), row_stride = gradient_stride(D);
  const int64_t chunks = (N + kChunk - 1) / kChunk;
  const uint32_t* ends = saved.chunk_ends(jobs);
  const std::vector<int64_t> order = largest_first(layouts, &JobLayout::entries);
  for_each_job(jobs, [&](int64_t k, int64_t) {
    const int64_t j = order[k], image = j / f.bands;
    backward_band(f, image, int(j % f.bands), layouts[j], saved, lists_data,
                  bg ? bg + image * D : nullptr, vc, va, space->gradients[j],
                  band_background.data() + j * D);
  });
  // Each chunk of the inputs collects its rows, band after band, whichever thread does it.
  for_each_job(I * chunks, [&](int64_t k, int64_t) {
    const int64_t image = k / chunks, begin = k % chunks * kChunk,
                  count = std::min(kChunk, N - begin);
    const int64_t base = image * N + begin;
    std::fill_n(out.means + 2 * base, 2 * count, 0.f);
    std::fill_n(out.conics + 3 * base, 3 * count, 0.f);
    std::fill_n(out.opacities + base, count, 0.f);
    std::fill_n(out.colors + D * base, D * count, 0.f);
    for (int64_t b = 0; b < f.bands; ++b) {
      const int64_t j = image * f.bands + b, first = k % chunks ? ends[(k - 1) * f.bands + b] : 0;
      const float* records = saved.records(layouts[j]);
      const uint32_t* ids = saved.ids(layouts[j]);
      const float* rows = space->gradients[j].data();
      for (int64_t i = first; i < ends[k * f.bands + b]; ++i) {
        add_gradient(records + stride * i, rows + row_stride * i, D, image * N + ids[i], out);
      }
    }
  });
  float* v_bg = v_background.mutable_data_ptr<float>();
  for (int64_t j = 0; j < jobs; ++j) {
    for (int64_t c = 0; c < D; ++c) v_bg[j / f.bands * D + c] += band_background[j * D + c];
  }
  return {v_means, v_conics, v_opacities, v_features, v_background};
}

// Pairs of a Gaussian and a 4x4 block in which at least one pixel takes it: the work that no
// culling can avoid.
int64_t visits(const Tensor& plan, int64_t images, int64_t width, int64_t height) {
  const Frame f = frame(0, width, height);
  const int64_t jobs = images * f.bands;
  const std::vector<JobLayout> layouts = read_layouts(plan, jobs);
  const Plan<const int32_t> saved{plan.const_data_ptr<int32_t>()};
  int64_t total = 0;
  for (int64_t j = 0; j < jobs; ++j) {
    for (int64_t b = 0; b < int64_t(f.rows(int(j % f.bands))) * f.columns; ++b) {
      const float* ends = saved.state(layouts[j], b) + 16;
      total += int64_t(*std::max_element(ends, ends + 16));
    }
  }
  return total;
}

}  // namespace
}  // namespace splat

TORCH_LIBRARY_FRAGMENT(gghead_splat, m) {
  m.def("visits(Tensor plan, int images, int width, int height) -> int");
  m.def(
      "composite(Tensor means2d, Tensor conics, Tensor opacities, Tensor colors, Tensor depths, "
      "Tensor radii, "
      "Tensor? backgrounds, int width, int height, bool save) -> (Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "composite_backward(Tensor v_colors, Tensor v_alphas, Tensor plan, Tensor lists, Tensor? "
      "backgrounds, "
      "int count) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(gghead_splat, CPU, m) {
  m.impl("composite", splat::composite);
  m.impl("composite_backward", splat::composite_backward);
  m.impl("visits", splat::visits);
}
