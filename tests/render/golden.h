// Pictures kept as files. With COUNTERFLOW_UPDATE_GOLDEN=1 in the environment a test writes them anew: look
// at the difference before you commit it.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace counterflow::testing {

inline void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(COUNTERFLOW_TEST_DATA) + "/render/" + name;
  if (std::getenv("COUNTERFLOW_UPDATE_GOLDEN") != nullptr) std::ofstream(path, std::ios::binary) << text;
  std::ifstream file(path, std::ios::binary);
  ASSERT_TRUE(file) << "there is no " << path;
  std::ostringstream kept;
  kept << file.rdbuf();
  EXPECT_EQ(text, kept.str()) << path;
}

}  // namespace counterflow::testing
