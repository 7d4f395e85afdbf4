# cmake -DFOLDER=... -DFILES=a,b,c -DOUTPUT=... -P EmbedFiles.cmake: writes OUTPUT, a C++ source that holds the files' bytes
# and gives them by name, as server/page/page_files.h declares.
string(REPLACE "," ";" names "${FILES}")
set(arrays "")
set(rows "")
foreach(name IN LISTS names)
  file(READ ${FOLDER}/${name} hex HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" bytes "${hex}")
  string(MAKE_C_IDENTIFIER "k_${name}" array)
  string(APPEND arrays "constexpr char ${array}[] = \"${bytes}\";\n")
  string(APPEND rows "    {\"${name}\", {${array}, sizeof ${array} - 1}},\n")
endforeach()
file(WRITE ${OUTPUT} "#include \"server/page/page_files.h\"

namespace spate::server {
namespace {

${arrays}
constexpr PageFile kFiles[] = {
${rows}};

}  // namespace

std::span<const PageFile> page_files() {
  return kFiles;
}

}  // namespace spate::server
")
