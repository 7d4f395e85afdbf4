// The configuration of the tile registers. Included inside the anonymous namespace of a translation unit that uses AMX,
// after <immintrin.h>.

// To gcc 12 _tile_loadconfig and _tile_loadd read no memory, and _tile_stored writes none: stores meant for them would
// be dropped or come too late, and loads too early.
inline void finish_stores() {
  asm volatile("" ::: "memory");
}

// The operand of _tile_loadconfig: Intel SDM, "LDTILECFG".
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  constexpr void set(int tile, int n_rows, int n_row_bytes) {
    rows[tile] = static_cast<uint8_t>(n_rows);
    row_bytes[tile] = static_cast<uint16_t>(n_row_bytes);
  }
};
static_assert(sizeof(TileConfig) == 64);

inline void load_config(const TileConfig& config) {
  finish_stores();
  _tile_loadconfig(&config);
}
