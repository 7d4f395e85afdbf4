#include "bench/step_work.h"

#include "model/all_weights.h"

namespace spate {

namespace {

Work of_matrix(const Weight& weight) {
  if (!weight) return {};
  Work work{.bytes = static_cast<double>(weight.n_rows * weight.row_bytes())};
  if (weight.n_rows == 1) return work;  // a norm or a bias
  const bool quantised = quant_traits(weight.type()).block_elems > 1;
  const double products = static_cast<double>(weight.n_rows) * static_cast<double>(weight.n_cols);
  (quantised ? work.quantised_multiply_adds : work.float_multiply_adds) = products;
  return work;
}

}  // namespace

Work& Work::operator+=(const Work& other) {
  bytes += other.bytes;
  quantised_multiply_adds += other.quantised_multiply_adds;
  float_multiply_adds += other.float_multiply_adds;
  return *this;
}

double read_share(const Work& work, double seconds, const DevicePeaks& peaks) {
  return work.bytes / peaks.read_bytes_per_s / seconds;
}

double math_share(const Work& work, double seconds, const DevicePeaks& peaks) {
  return (work.quantised_multiply_adds / peaks.quantised_multiply_adds_per_s +
          work.float_multiply_adds / peaks.float_multiply_adds_per_s) /
         seconds;
}

ModelWork::ModelWork(const Model& model)
    : head_(of_matrix(model.output())),
      embedding_row_bytes_(static_cast<double>(model.token_embedding().row_bytes())),
      kv_bytes_per_token_(sizeof(uint16_t) * static_cast<double>(model.spec().kv_elems_per_token())) {
  layers_ += of_matrix(model.output_norm());
  for (const LayerWeights& layer : model.layers())
    for (const Weight* weight : all_weights(layer)) layers_ += of_matrix(*weight);
}

Work ModelWork::of_step(const StepBatch& batch) const {
  const double n_tokens = batch.n_tokens(), n_rows = batch.n_rows();
  double kv_tokens = 0;
  for (const int32_t length : batch.kv_len) kv_tokens += length;
  return {
      .bytes = layers_.bytes + (n_rows > 0 ? head_.bytes : 0) + n_tokens * embedding_row_bytes_ +
               kv_tokens * kv_bytes_per_token_,
      .quantised_multiply_adds = n_tokens * layers_.quantised_multiply_adds + n_rows * head_.quantised_multiply_adds,
      .float_multiply_adds = n_tokens * layers_.float_multiply_adds + n_rows * head_.float_multiply_adds};
}

}  // namespace spate
