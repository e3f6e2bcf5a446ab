# Two functions that every module uses, and the flags that hold everywhere.
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)

# Bits must repeat on every machine: no contraction of a*b+c, no -ffast-math anywhere.
add_compile_options(-ffp-contract=off -Wall -Wextra -Wpedantic -Wshadow $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor> -Wno-psabi)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  add_compile_options(-Wno-restrict)  # GCC 12 reports "text" + std::string as an overlap (GCC bug 105651)
endif()
# Most of the code waits for sockets, disks and kernels: -O2 there, and -O3 where the loops are (covey_module HOT).
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
# A program takes from a library what it calls, not what shares an object file with it: the coordinator has no trainer.
add_compile_options($<$<CONFIG:Release>:-ffunction-sections> $<$<CONFIG:Release>:-fdata-sections>)
add_link_options($<$<CONFIG:Release>:-Wl,--gc-sections>)
if(CMAKE_UNITY_BUILD)
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-Wno-subobject-linkage>)  # a unity file is no header, but GCC takes what it includes for one
endif()
if(COVEY_WERROR)
  add_compile_options(-Werror)
endif()
if(COVEY_ASSERTS)
  add_compile_definitions(COVEY_ASSERTS=1)
endif()
if(COVEY_SANITIZE)
  add_compile_options(-fsanitize=${COVEY_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_compile_options(-Wno-maybe-uninitialized)  # GCC 12 sees one in std::regex there (GCC bug 105562)
  add_link_options(-fsanitize=${COVEY_SANITIZE})
endif()

if(COVEY_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # coverage, which libFuzzer steers by
endif()

# covey_module(NAME [HOT] SOURCES a.cpp ... DEPENDS base wire ... [LIBRARIES external ...])
# One static library `covey_NAME`. DEPENDS is the layering of the design: tests/layering_test.py reads the includes
# and this list and fails where they differ from it. Pass no sources for a module that is headers only.
function(covey_module name)
  cmake_parse_arguments(M "HOT" "" "SOURCES;DEPENDS;LIBRARIES;PRIVATE_LIBRARIES" ${ARGN})
  if(M_SOURCES)
    add_library(covey_${name} STATIC ${M_SOURCES})
    set(scope PUBLIC)
  else()
    add_library(covey_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(covey_${name} ${scope} ${CMAKE_SOURCE_DIR})
  foreach(dep IN LISTS M_DEPENDS)
    target_link_libraries(covey_${name} ${scope} covey_${dep})
  endforeach()
  target_link_libraries(covey_${name} ${scope} ${M_LIBRARIES} Threads::Threads)
  if(M_HOT)
    target_compile_options(covey_${name} PRIVATE $<$<CONFIG:Release>:-O3>)
  endif()
  if(M_SOURCES)
    target_link_libraries(covey_${name} PRIVATE ${M_PRIVATE_LIBRARIES})
  endif()
endfunction()

# covey_registry(TARGET FOLDER name ...): what can be chosen by name, each in FOLDER/name.cpp. TARGET builds these files and
# includes "FOLDER.inc" for its table: COVEY_ENTRY(name) for each, in this order.
function(covey_registry target folder)
  set(entries "")
  foreach(name IN LISTS ARGN)
    target_sources(${target} PRIVATE ${folder}/${name}.cpp)
    string(APPEND entries "COVEY_ENTRY(${name})\n")
  endforeach()
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/registry/${folder}.inc CONTENT "${entries}" @ONLY)
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/registry)
endfunction()

# covey_program(covey-x SOURCES x_main.cpp ... DEPENDS modules ... [LIBRARIES external ...])
function(covey_program name)
  cmake_parse_arguments(M "" "" "SOURCES;DEPENDS;LIBRARIES" ${ARGN})
  add_executable(${name} ${M_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  target_compile_definitions(${name} PRIVATE COVEY_VERSION="${PROJECT_VERSION}")
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)  # commands and tables; what works is in the modules
  list(TRANSFORM M_DEPENDS PREPEND covey_)
  target_link_libraries(${name} PRIVATE ${M_DEPENDS} ${M_LIBRARIES})
endfunction()

add_custom_target(parser_tests)
add_custom_target(interop_tests)

# covey_test(NAME SOURCES t.cpp ... DEPENDS modules ... LABELS fast|slow|sim|e2e|arm64|... [LIBRARIES ...] [TIMEOUT s])
# One doctest executable with the shared main of tests/support. Every test gets COVEY_SOURCE_DIR in its environment.
function(covey_test name)
  cmake_parse_arguments(M "" "TIMEOUT" "SOURCES;DEPENDS;LABELS;LIBRARIES" ${ARGN})
  add_executable(${name} ${M_SOURCES})
  list(TRANSFORM M_DEPENDS PREPEND covey_)
  target_link_libraries(${name} PRIVATE covey_test_support ${M_DEPENDS} ${M_LIBRARIES})
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)  # quicker to compile; what is tested keeps its own
  if(NOT COVEY_FUZZ AND NOT M_SOURCES MATCHES "\\.c(;|$)")  # CMake would want the header for C as well
    target_precompile_headers(${name} REUSE_FROM covey_test_support)
  endif()
  add_test(NAME ${name} COMMAND ${name})
  if("parser" IN_LIST M_LABELS)  # what tests/run.sh also runs under AddressSanitizer
    add_dependencies(parser_tests ${name})
  endif()
  if("interop" IN_LIST M_LABELS)  # all that `tests/run.sh --interop` builds
    add_dependencies(interop_tests ${name})
  endif()
  if(NOT M_TIMEOUT)
    set(M_TIMEOUT 120)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${M_LABELS}" TIMEOUT ${M_TIMEOUT}
    SKIP_REGULAR_EXPRESSION "COVEY_SKIP_ALL" ENVIRONMENT "COVEY_SOURCE_DIR=${CMAKE_SOURCE_DIR};COVEY_BIN_DIR=${CMAKE_BINARY_DIR}/bin")
endfunction()

# covey_embed(TARGET SYMBOL FILE): the file's bytes as `extern "C" const char SYMBOL[], SYMBOL_end[]` inside TARGET.
function(covey_embed target symbol file)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.S)
  file(GENERATE OUTPUT ${source} CONTENT
    ".section .rodata\n.global ${symbol}\n.global ${symbol}_end\n${symbol}:\n.incbin \"${file}\"\n${symbol}_end:\n.byte 0\n.section .note.GNU-stack,\"\",%progbits\n")
  set_source_files_properties(${source} PROPERTIES GENERATED TRUE OBJECT_DEPENDS ${file})
  target_sources(${target} PRIVATE ${source})
endfunction()
