# How everything here is compiled: one interface target, crnn_options.
add_library(crnn_options INTERFACE)
target_compile_definitions(crnn_options INTERFACE _GNU_SOURCE)
target_compile_options(crnn_options INTERFACE -Wall -Wextra -Wshadow -Wconversion)
# Contraction of a*b+c differs between compilers; the bits of a run may not depend on it.
target_compile_options(crnn_options INTERFACE -ffp-contract=off -fno-math-errno -fno-trapping-math)
if(CRNN_WERROR)
  target_compile_options(crnn_options INTERFACE -Werror)
  # A loop that clang could not turn into vectors is slower there, not wrong.
  if(CMAKE_C_COMPILER_ID MATCHES Clang)
    target_compile_options(crnn_options INTERFACE $<$<COMPILE_LANGUAGE:C>:-Wno-error=pass-failed>)
  endif()
endif()
if(CRNN_SANITIZE)
  target_compile_options(crnn_options INTERFACE -fsanitize=${CRNN_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer -g)
  target_link_options(crnn_options INTERFACE -fsanitize=${CRNN_SANITIZE})
endif()
if(CRNN_COVERAGE)
  target_compile_options(crnn_options INTERFACE --coverage -O0 -g)
  target_link_options(crnn_options INTERFACE --coverage)
endif()
