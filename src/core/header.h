// The header of Counterflow's schedule format: the `# key: value` lines above the rows.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "counterflow/schedule.h"
#include "text.h"

namespace counterflow {

inline constexpr std::string_view kMagic = "# counterflow schedule v1";

/// Collects the header's lines, then turns them into a schedule without actions.
class HeaderReader {
 public:
  explicit HeaderReader(const Source& source) : source_(source) {}

  /// Takes a line that starts with '#', not the first of the file. Throws ParseError.
  void add(std::string_view line);

  /// Judges the header as a whole; `end` is the offset at which it ends. Throws ParseError.
  Schedule finish(std::size_t end) const;

  /// Throws ParseError for a header that claims too much.
  [[noreturn]] void refuse_size(const std::string& excess) const;

 private:
  using Value = std::optional<std::string_view>;

  void set(Value& value, std::string_view key, std::string_view text);
  std::int32_t count(const Value& value, const char* key, std::int32_t most, std::size_t end) const;
  Direction direction(std::string_view text, std::int32_t ranks, std::int32_t stages,
                      std::int32_t first_micro_batch, std::int32_t micro_batches) const;
  std::vector<std::int32_t> rank_list(Cursor& cursor, std::int32_t ranks, std::int32_t stages) const;
  Passes passes() const;
  Claim claim(std::string_view text) const;

  const Source& source_;
  Value name_, ranks_, stages_, micro_batches_, passes_;
  std::vector<std::string_view> directions_, claims_;
};

/// The text of a name with its \xHH escapes undone. Throws ParseError.
std::string unescape(const Source& source, std::string_view text);

}  // namespace counterflow
