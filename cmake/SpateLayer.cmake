# spate_layer(NAME [UNITY] [FOLDER folder] SOURCES ... [DEPS layers...] [LIBS targets...])
#
# One folder of src/ as a static library, spate_NAME. A layer's headers are reached as "folder/header.h" through an include
# root of its own that holds nothing but a link to that folder, so including a layer that is not among DEPS (or among
# theirs) fails to build. UNITY: where CMAKE_UNITY_BUILD is on (./demo and ./check set it), its files are compiled by the dozen,
# so what they hold in anonymous namespaces has names that are unique in the layer.
function(spate_layer name)
  cmake_parse_arguments(arg "UNITY" "FOLDER" "SOURCES;DEPS;LIBS" ${ARGN})
  if(NOT arg_FOLDER)
    set(arg_FOLDER ${name})
  endif()
  set(root ${CMAKE_BINARY_DIR}/include/${name})
  get_filename_component(parent ${root}/${arg_FOLDER} DIRECTORY)
  file(MAKE_DIRECTORY ${parent})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/src/${arg_FOLDER} ${root}/${arg_FOLDER} SYMBOLIC)

  add_library(spate_${name} STATIC ${arg_SOURCES})
  target_include_directories(spate_${name} PUBLIC ${root})
  spate_compile_options(spate_${name})
  if(arg_UNITY AND CMAKE_UNITY_BUILD)
    set_target_properties(spate_${name} PROPERTIES UNITY_BUILD ON)
  endif()
  list(TRANSFORM arg_DEPS PREPEND spate_)
  target_link_libraries(spate_${name} PUBLIC ${arg_DEPS} ${arg_LIBS})
endfunction()

# What every target of the project is compiled with.
function(spate_compile_options target)
  set_target_properties(${target} PROPERTIES UNITY_BUILD OFF)  # unless its layer can be
  set(warnings -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wundef -Werror)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    list(APPEND warnings -Wno-restrict)  # warns of std::string's own code (GCC bug 105651)
    # Sees uninitialised reads in moves and destructors of std::variant and std::optional where there are none (as in GCC
    # bug 80635).
    list(APPEND warnings -Wno-maybe-uninitialized)
  endif()
  if(CMAKE_UNITY_BUILD)
    list(APPEND warnings -Wno-subobject-linkage)  # takes every file but the one that includes it for a header
  endif()
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${warnings}>")
  # nvcc hands the host's half of a kernel file to the same compiler, with code of its own around it. fmt 9 mistrusts its
  # front end, which takes fmt's constant expressions by now.
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Werror;-DFMT_USE_CONSTEXPR=1>")
  if(SPATE_CUDA_LINEINFO)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo>)
  endif()
  # Results must not depend on what the compiler chooses to contract: kernels ask for fused multiply-adds by name.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>)
  if(SPATE_SANITIZE)
    # The sanitizers' own code makes every gcc see more of these.
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      target_compile_options(${target} PRIVATE -Wno-maybe-uninitialized)
    endif()
    target_compile_options(${target} PRIVATE -fsanitize=${SPATE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${SPATE_SANITIZE})
    # A sixth of the time to compile of -O2 -g, and half that of -O1: the sanitizers leave -O1 much to clean up.
    target_compile_options(${target} PRIVATE -Og -g1)
  endif()
endfunction()

# spate_test(NAME [UNITY] [ALONE] SOURCES ... DEPS layers...): one GoogleTest executable of LAYER, the folder's name below tests/. UNITY: as in
# spate_layer. ALONE: not beside other tests, for those that use every core.
#
# ctest runs each case in a process of its own, under the label LAYER-case. ./check has no time to start thousands of
# processes: `ctest -C Together --label-exclude 'case$'` shares the same cases out among a few, NAME.1, NAME.2, ..., under the
# label LAYER.
function(spate_test name)
  cmake_parse_arguments(arg "ALONE;UNITY" "" "SOURCES;DEPS;LIBS" ${ARGN})
  add_executable(${name}_test ${arg_SOURCES})
  spate_test_options(${name}_test)
  if(arg_UNITY AND CMAKE_UNITY_BUILD)
    set_target_properties(${name}_test PROPERTIES UNITY_BUILD ON)
  endif()
  target_precompile_headers(${name}_test REUSE_FROM spate_test_headers)
  list(TRANSFORM arg_DEPS PREPEND spate_)
  target_link_libraries(${name}_test PRIVATE ${arg_DEPS} ${arg_LIBS} spate_testing GTest::gtest GTest::gmock GTest::gtest_main)
  file(RELATIVE_PATH label ${CMAKE_SOURCE_DIR}/tests ${CMAKE_CURRENT_SOURCE_DIR})
  string(REGEX REPLACE "/.*" "" label ${label})
  gtest_discover_tests(${name}_test DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 120 TEST_PREFIX ${name}.
                       PROPERTIES TIMEOUT 600 LABELS ${label}-case
                       RUN_SERIAL ${arg_ALONE})

  cmake_host_system_information(RESULT n_shards QUERY NUMBER_OF_LOGICAL_CORES)
  if(arg_ALONE)
    set(n_shards 1)
  elseif(n_shards GREATER 8)
    set(n_shards 8)
  endif()
  math(EXPR last_shard "${n_shards} - 1")
  foreach(shard RANGE ${last_shard})
    math(EXPR number "${shard} + 1")
    add_test(NAME ${name}.${number} CONFIGURATIONS Together COMMAND ${name}_test)
    set_tests_properties(${name}.${number} PROPERTIES
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${n_shards};GTEST_SHARD_INDEX=${shard}" LABELS ${label} TIMEOUT 1200 RUN_SERIAL ${arg_ALONE})
  endforeach()
endfunction()

# What tests are compiled with: GoogleTest's macros are slow to optimise, and what a test calls is compiled elsewhere.
function(spate_test_options target)
  spate_compile_options(${target})
  if(SPATE_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  else()
    target_compile_options(${target} PRIVATE -O1)
  endif()
endfunction()
