// The page of the HTML view: the files of src/render/page, embedded when the library is built.
#pragma once

#include <span>
#include <string_view>

namespace counterflow {

extern const std::string_view kPageHtml;  ///< with {{title}}, {{style}}, {{data}} and {{script}} to fill in
extern const std::string_view kPageCss;
extern const std::span<const std::string_view> kPageJs;  ///< files, in the order in which they stand

}  // namespace counterflow
