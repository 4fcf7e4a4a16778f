# Writes the page's files into a C++ source:
#   cmake -DOUTPUT=page.cpp -DHTML=page.html -DCSS=page.css "-DJS=a.js;b.js" -P embed_page.cmake
# Each file is a literal of its own: compilers limit how long one may be.
function(read_literal result file)
  file(READ ${file} text)
  set(${result} "R\"page(${text})page\"" PARENT_SCOPE)
endfunction()

read_literal(html ${HTML})
read_literal(css ${CSS})
set(js "")
foreach(name IN LISTS JS)
  read_literal(part ${name})
  string(APPEND js "    ${part},\n")
endforeach()
file(WRITE ${OUTPUT} "// Made by tools/cmake/embed_page.cmake.
#include \"page.h\"

namespace counterflow {

const std::string_view kPageHtml = ${html};

const std::string_view kPageCss = ${css};

static constexpr std::string_view kFiles[] = {
${js}};
const std::span<const std::string_view> kPageJs = kFiles;

}  // namespace counterflow
")
