// What the units with AMX share. Included inside their anonymous namespaces, after <immintrin.h>.

// The operand of _tile_loadconfig: Intel SDM, "LDTILECFG". As it is, all eight tiles are of 16 rows of 64 bytes.
struct TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64);

// To gcc 12 _tile_loadconfig and _tile_loadd read no memory: stores meant for them would be dropped or come too late.
inline void finish_stores() {
  asm volatile("" ::: "memory");
}
