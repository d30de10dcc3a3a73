// FlashInfer's own planner of a paged prefill, host code, for ctypes: see flashinfer_planner.py.
#include <flashinfer/attention/scheduler.cuh>

// `items` gets (request, tile of queries, chunk of KV) of each work item; `plan` gets
// split_kv, cta_tile_q, kv_chunk_size. Returns the number of items, or -1 if the planner refuses
// or `capacity` items do not suffice. `max_items_if_split` stands for the device: blocks / KV heads.
extern "C" int64_t llm42_plan_prefill(int32_t* qo_indptr, int32_t* kv_indptr, uint32_t requests,
                                      uint32_t qo_heads, uint32_t kv_heads, uint32_t head_dim,
                                      uint32_t page_size, uint32_t max_items_if_split,
                                      int32_t fixed_split_size, bool disable_split_kv,
                                      int64_t* plan, int32_t* items, int64_t capacity) {
  try {
    auto [split_kv, count, padded, cta_tile_q, kv_chunk_size, request, tile, chunk, merge, o] =
        flashinfer::PrefillSplitQOKVIndptr<int32_t>(
            qo_indptr, kv_indptr, qo_indptr[requests], requests, qo_heads, kv_heads, head_dim,
            page_size, max_items_if_split, /*enable_cuda_graph=*/false, /*window_left=*/-1,
            fixed_split_size, disable_split_kv, /*uniform_q_len=*/0);
    if (int64_t(count) > capacity) return -1;
    for (uint32_t i = 0; i < count; ++i) {
      items[3 * i] = request[i];
      items[3 * i + 1] = tile[i];
      items[3 * i + 2] = chunk[i];
    }
    plan[0] = split_kv;
    plan[1] = cta_tile_q;
    plan[2] = kv_chunk_size;
    return count;
  } catch (const flashinfer::Error&) {
    return -1;
  }
}
