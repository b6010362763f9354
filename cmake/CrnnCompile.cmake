# How everything here is compiled: one interface target, crnn_options.
add_library(crnn_options INTERFACE)
target_compile_definitions(crnn_options INTERFACE _GNU_SOURCE)
set(CRNN_HOST_CODE $<COMPILE_LANGUAGE:C,CXX>) # nvcc has options of its own
target_compile_options(crnn_options INTERFACE $<${CRNN_HOST_CODE}:-Wall -Wextra -Wshadow -Wconversion>)
# Contraction of a*b+c differs between compilers; the bits of a run may not depend on it.
target_compile_options(crnn_options INTERFACE $<${CRNN_HOST_CODE}:-ffp-contract=off -fno-math-errno -fno-trapping-math>)
if(CRNN_WERROR)
  target_compile_options(crnn_options INTERFACE $<${CRNN_HOST_CODE}:-Werror>)
  # A loop that clang could not turn into vectors is slower there, not wrong.
  if(CMAKE_C_COMPILER_ID MATCHES Clang)
    target_compile_options(crnn_options INTERFACE $<$<COMPILE_LANGUAGE:C>:-Wno-error=pass-failed>)
  endif()
endif()
if(CRNN_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID MATCHES Clang)
    message(FATAL_ERROR "CRNN_FUZZ needs clang: cmake --preset fuzz")
  endif()
  set(CRNN_SANITIZE address,undefined)
  # A fuzzer cannot guess a SHA-256: what lies behind it is reached without.
  target_compile_definitions(crnn_options INTERFACE CRNN_FUZZ_NO_DIGEST)
  target_compile_options(crnn_options INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(CRNN_SANITIZE)
  target_compile_options(crnn_options INTERFACE
    $<${CRNN_HOST_CODE}:-fsanitize=${CRNN_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer -g>)
  target_link_options(crnn_options INTERFACE -fsanitize=${CRNN_SANITIZE})
endif()
if(CRNN_COVERAGE)
  target_compile_options(crnn_options INTERFACE $<${CRNN_HOST_CODE}:-fprofile-arcs -ftest-coverage -O0 -g>)
  target_link_options(crnn_options INTERFACE --coverage)
endif()
# Linked after crnn_options by what is no part of src: in a build for coverage it is not counted, and need not be slow.
add_library(crnn_uncounted INTERFACE)
if(CRNN_COVERAGE)
  target_compile_options(crnn_uncounted INTERFACE $<${CRNN_HOST_CODE}:-O2 -fno-profile-arcs -fno-test-coverage>)
endif()
