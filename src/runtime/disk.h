// Files whose writes are on the disk when a call returns. Errors are thrown as Error, with the file's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace counterflow::runtime {

/// An open file.
class DiskFile {
 public:
  static DiskFile open(const std::string& path);    ///< to read
  static DiskFile create(const std::string& path);  ///< to write; it must not be there yet

  DiskFile(DiskFile&& other) noexcept;
  DiskFile& operator=(DiskFile&&) = delete;
  ~DiskFile();

  std::uint64_t size() const;

  /// Throws where the file ends before `size` bytes.
  void read(std::uint64_t offset, void* bytes, std::size_t size) const;

  void write(std::string_view bytes);

  /// Waits until what was written is on the disk, and closes the file.
  void finish();

 private:
  DiskFile(std::string path, int descriptor) : path_(std::move(path)), descriptor_(descriptor) {}
  [[noreturn]] void fail(const char* verb, int error) const;

  std::string path_;
  int descriptor_;
};

/// Has the names in a folder on the disk.
void sync_folder(const std::string& path);

/// Writes a file, whole or not at all: `write` fills one beside it, which is then moved into its place.
void replace_file(const std::string& path, const std::function<void(DiskFile&)>& write);

/// Moves a file or folder. Where a folder is at the target already, it is swapped in at once if the file
/// system can do that, and the old one is then at `from`.
void move_into_place(const std::string& from, const std::string& to);

}  // namespace counterflow::runtime
