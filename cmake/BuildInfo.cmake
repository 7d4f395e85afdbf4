# cmake -DSOURCE=... -DOUTPUT=... -P BuildInfo.cmake: writes OUTPUT, a C++ source that says which commit is being built, if
# it would change.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --abbrev=12 --exclude=*
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit "unknown")
endif()
set(text "#include \"app/build_info.h\"\n\nnamespace spate::app {\n\nconst char* build_commit() {\n  return \"${commit}\";\n}\n\n}  // namespace spate::app\n")
set(old "")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} old)
endif()
if(NOT old STREQUAL text)
  file(WRITE ${OUTPUT} "${text}")
endif()
