# The simulator of tests/cusim: CUDA sources compiled by a plain C++ compiler and run on the CPU. Included by tests/ only.
#
# Two variants: "plain", built like everything else (so with sanitizers where those are asked for), and "check", in which the kernels
# call the simulator's checker before each access (GCC only; not together with sanitizers or coverage). CRNN_SIM_VARIANTS lists those
# there are; the list is empty where there is no C++ compiler.
option(CRNN_SIM "run the CUDA sources on the CPU in the tests, where there is a C++17 compiler" ON)
set(CRNN_SIM_VARIANTS "")
if(CRNN_SIM)
  include(CheckLanguage)
  check_language(CXX)
  if(CMAKE_CXX_COMPILER)
    enable_language(CXX)
    # Sanitizers of two compilers do not go into one program.
    if(NOT CRNN_SANITIZE OR CMAKE_CXX_COMPILER_ID STREQUAL CMAKE_C_COMPILER_ID)
      list(APPEND CRNN_SIM_VARIANTS plain)
    endif()
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT CRNN_SANITIZE AND NOT CRNN_COVERAGE)
      list(APPEND CRNN_SIM_VARIANTS check)
    endif()
  endif()
endif()
if(CRNN_SIM_VARIANTS)
  message(STATUS "Simulated GPU for tests: ${CRNN_SIM_VARIANTS}")
else()
  message(STATUS "Simulated GPU for tests: none (CRNN_SIM=OFF, or no C++ compiler that fits)")
endif()
set(CRNN_SIM_DIR ${CMAKE_SOURCE_DIR}/tests/cusim)

# CUDA's habit is int = threadIdx.x, which clang counts among conversions and g++ does not. Linked after crnn_options, so that it has
# the last word.
add_library(crnn_sim_options INTERFACE)
target_compile_options(crnn_sim_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-sign-conversion>)

# What all of a variant is compiled with.
function(crnn_sim_target target variant)
  set_target_properties(${target} PROPERTIES CXX_STANDARD 17 CXX_STANDARD_REQUIRED ON CXX_EXTENSIONS ON)
  # The simulator's headers take the place of NVIDIA's, so they come before those of any toolkit.
  target_include_directories(${target} BEFORE PUBLIC ${CRNN_SIM_DIR}/include)
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_compile_definitions(${target} PUBLIC CUSIM=1)
  target_compile_options(${target} PRIVATE -g)
  if(variant STREQUAL "plain")
    target_link_libraries(${target} PRIVATE crnn_options crnn_sim_options)
  else()
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_compile_options(${target} PRIVATE -O2 -Wall -Wextra -Wshadow -Wconversion -ffp-contract=off
      $<$<BOOL:${CRNN_WERROR}>:-Werror>)
  endif()
endfunction()

# crnn_sim_kernels(TARGET VARIANT FILE.cu...): a library of kernels that runs on cusim-VARIANT.
function(crnn_sim_kernels target variant)
  set_source_files_properties(${ARGN} PROPERTIES LANGUAGE CXX)
  add_library(${target} STATIC ${ARGN})
  crnn_sim_target(${target} ${variant})
  target_compile_options(${target} PRIVATE -Wno-unknown-pragmas)
  if(variant STREQUAL "check")
    # Compiled for ThreadSanitizer but never linked with it: the simulator answers the compiler's calls.
    target_compile_options(${target} PRIVATE -O1 -fsanitize=thread --param=tsan-distinguish-volatile=1)
  endif()
  target_link_libraries(${target} PUBLIC cusim-${variant})
endfunction()

foreach(variant ${CRNN_SIM_VARIANTS})
  file(GLOB sources CONFIGURE_DEPENDS ${CRNN_SIM_DIR}/sim/*.cpp)
  if(variant STREQUAL "plain")
    list(FILTER sources EXCLUDE REGEX "/check_[a-z]+\\.cpp$")
  endif()
  add_library(cusim-${variant} STATIC ${sources})
  crnn_sim_target(cusim-${variant} ${variant})
  target_link_libraries(cusim-${variant} PRIVATE crnn_uncounted)
  if(variant STREQUAL "check")
    target_compile_definitions(cusim-${variant} PRIVATE CUSIM_CHECK=1)
  endif()
  find_package(Threads REQUIRED)
  target_link_libraries(cusim-${variant} PUBLIC Threads::Threads m)

  # Stand-ins for NVIDIA's libraries.
  file(GLOB sources CONFIGURE_DEPENDS ${CRNN_SIM_DIR}/libs/*.cpp)
  add_library(cusim-libs-${variant} STATIC ${sources})
  crnn_sim_target(cusim-libs-${variant} ${variant})
  target_link_libraries(cusim-libs-${variant} PRIVATE crnn_uncounted)
  if(variant STREQUAL "check")
    target_compile_definitions(cusim-libs-${variant} PRIVATE CUSIM_CHECK=1)
  endif()
  target_link_libraries(cusim-libs-${variant} PUBLIC cusim-${variant})
endforeach()

# libcrnn with its CUDA backend on the simulated device, where there is a backend: crnn-sim-host holds all C sources, compiled once, and
# crnn-sim-VARIANT is what a test links in the place of crnn.
file(GLOB CRNN_SIM_BACKEND CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/cuda/*.c)
file(GLOB CRNN_SIM_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/cuda/*.cu)
if(CRNN_SIM_VARIANTS AND CRNN_SIM_BACKEND)
  set(sources ${CRNN_SOURCES} ${CRNN_SIM_BACKEND})
  list(REMOVE_DUPLICATES sources)
  add_library(crnn-sim-host STATIC ${sources})
  crnn_sim_target(crnn-sim-host plain)
  target_include_directories(crnn-sim-host PUBLIC ${CMAKE_SOURCE_DIR}/include)
  target_compile_definitions(crnn-sim-host PRIVATE CRNN_VERSION="${PROJECT_VERSION}" CRNN_HAVE_CUDA=1)
  target_link_libraries(crnn-sim-host PUBLIC ${CRNN_LIBRARIES})
  foreach(variant ${CRNN_SIM_VARIANTS})
    crnn_sim_kernels(crnn-sim-kernels-${variant} ${variant} ${CRNN_SIM_KERNELS})
    target_include_directories(crnn-sim-kernels-${variant} PRIVATE ${CMAKE_SOURCE_DIR}/include)
    add_library(crnn-sim-${variant} INTERFACE)
    target_link_libraries(crnn-sim-${variant} INTERFACE crnn-sim-host crnn-sim-kernels-${variant} cusim-libs-${variant})
  endforeach()
endif()
