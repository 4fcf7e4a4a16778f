#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "counterflow/error.h"
#include "counterflow/format.h"
#include "counterflow/generate.h"

namespace counterflow {
namespace {

namespace fs = std::filesystem;

/// A folder of the test's own, gone with it.
class FileTest : public ::testing::Test {
 protected:
  FileTest() { fs::create_directories(folder_); }
  ~FileTest() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  static std::string content(const std::string& path) {
    std::ostringstream out;
    out << std::ifstream(path, std::ios::binary).rdbuf();
    return out.str();
  }

  std::string only_file() const {
    std::string names;
    for (const auto& entry : fs::directory_iterator(folder_)) names += entry.path().filename().string() + " ";
    return names;
  }

  static std::string error_of(auto&& action) {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }

  const fs::path folder_ =
      fs::path(::testing::TempDir()) /
      ("counterflow_" + std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
};

TEST_F(FileTest, WritesAndReads) {
  write_file(path("a.csv"), "0F0,0B0\n");
  EXPECT_EQ(content(path("a.csv")), "0F0,0B0\n");
  const Schedule schedule = read_file(path("a.csv"));
  EXPECT_EQ(schedule.name, "a");
  EXPECT_EQ(format_torch(schedule), "0F0,0B0\n");
}

TEST_F(FileTest, ReadsWhatASpreadsheetSaved) {
  const Schedule schedule = generate("dualpipe", {4, 8});
  std::ostringstream saved;
  saved << "\xEF\xBB\xBF";
  std::istringstream lines(format(schedule) + "\n");
  constexpr std::ptrdiff_t kCells = 20;
  for (std::string line; std::getline(lines, line);)
    saved << line << std::string(kCells - 1 - std::count(line.begin(), line.end(), ','), ',') << "\r\n";
  write_file(path("a.csv"), saved.str());
  EXPECT_EQ(read_file(path("a.csv")), schedule);
}

TEST_F(FileTest, ReplacesWholeAndKeepsTheMode) {
  write_file(path("a"), "old");
  ASSERT_EQ(::chmod(path("a").c_str(), 0640), 0);
  write_file(path("a"), "new");
  EXPECT_EQ(content(path("a")), "new");
  EXPECT_EQ(fs::status(path("a")).permissions(), fs::perms(0640));
  EXPECT_EQ(only_file(), "a ");
}

TEST_F(FileTest, WritesThroughLinks) {
  write_file(path("a"), "old");
  fs::create_symlink("a", path("link"));
  write_file(path("link"), "new");
  EXPECT_TRUE(fs::is_symlink(path("link")));
  EXPECT_EQ(content(path("a")), "new");
}

TEST_F(FileTest, DoesNotReplaceDevices) {
  write_file("/dev/null", "text");
  EXPECT_TRUE(fs::is_character_file("/dev/null"));
}

TEST_F(FileTest, SaysWhyItCannotRead) {
  EXPECT_EQ(error_of([&] { read_file(path("none")); }),
            "cannot read " + path("none") + ": No such file or directory");
  EXPECT_EQ(error_of([&] { read_file(folder_.string()); }),
            "cannot read " + folder_.string() + ": Is a directory");
  write_file(path("bad"), "0F0\n0X0\n");
  EXPECT_EQ(error_of([&] { read_file(path("bad")); }),
            path("bad") + ":2:2: expected F, B, I or W after the stage, found \"X0\"");
}

TEST_F(FileTest, SaysWhyItCannotWrite) {
  EXPECT_EQ(error_of([&] { write_file(path("none/a"), "text"); }),
            "cannot write " + path("none/a") + ": No such file or directory");
  EXPECT_EQ(error_of([&] { write_file(folder_.string(), "text"); }),
            "cannot write " + folder_.string() + ": Is a directory");
  EXPECT_EQ(error_of([] { write_file("/dev/full", "text"); }),
            "cannot write /dev/full: No space left on device");
  EXPECT_EQ(only_file(), "");
}

}  // namespace
}  // namespace counterflow
