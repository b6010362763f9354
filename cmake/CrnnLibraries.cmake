# What the host is built on. A missing one is named together with the package that brings it.
find_package(Threads REQUIRED)
find_package(OpenMP COMPONENTS C)
find_package(PkgConfig)
if(NOT OpenMP_C_FOUND)
  message(FATAL_ERROR "OpenMP is missing for ${CMAKE_C_COMPILER}: install libgomp1 (gcc) or libomp-dev (clang)")
endif()
if(NOT PkgConfig_FOUND)
  message(FATAL_ERROR "pkg-config is missing: apt-get install pkg-config")
endif()

function(crnn_require_module target module package)
  pkg_check_modules(${target} QUIET IMPORTED_TARGET ${module})
  if(NOT ${target}_FOUND)
    message(FATAL_ERROR "${module} is missing: apt-get install ${package} (./quickstart.sh does it)")
  endif()
endfunction()
crnn_require_module(CRNN_JANSSON jansson libjansson-dev)
crnn_require_module(CRNN_CRYPTO libcrypto libssl-dev)
crnn_require_module(CRNN_UTF8PROC libutf8proc libutf8proc-dev)

# oneDNN 2.x and 3.x install a CMake package under either name; Debian's has none of them in some versions.
find_path(CRNN_DNNL_INCLUDE oneapi/dnnl/dnnl.h)
find_library(CRNN_DNNL_LIBRARY dnnl)
if(NOT CRNN_DNNL_INCLUDE OR NOT CRNN_DNNL_LIBRARY)
  message(FATAL_ERROR "oneDNN is missing: apt-get install libdnnl-dev (./quickstart.sh does it)")
endif()
add_library(crnn_dnnl INTERFACE)
target_include_directories(crnn_dnnl SYSTEM INTERFACE ${CRNN_DNNL_INCLUDE})
target_link_libraries(crnn_dnnl INTERFACE ${CRNN_DNNL_LIBRARY})

set(CRNN_LIBRARIES crnn_dnnl PkgConfig::CRNN_JANSSON PkgConfig::CRNN_CRYPTO PkgConfig::CRNN_UTF8PROC OpenMP::OpenMP_C
    Threads::Threads m)
