# What `cmake --install` puts where: the library, its headers, crnnConfig.cmake and crnn.pc. The program is installed where it is
# defined. libcrnn is static, so whoever links it needs what it is built on: both files bring that along.
include(CMakePackageConfigHelpers)

install(TARGETS crnn ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/crnn DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# gcc's libgomp or clang's libomp, as library names: a program that does not use OpenMP itself needs no flag of the compiler.
set(CRNN_OPENMP_NAMES ${OpenMP_C_LIB_NAMES})
list(REMOVE_ITEM CRNN_OPENMP_NAMES pthread)
list(TRANSFORM CRNN_OPENMP_NAMES PREPEND "-l" OUTPUT_VARIABLE CRNN_OPENMP_FLAGS)
string(REPLACE ";" " " CRNN_OPENMP_FLAGS "${CRNN_OPENMP_FLAGS}")

# What the CUDA backend adds: the static runtime, and what code by nvcc calls.
set(CRNN_CUDA_NAMES "")
if(CRNN_HAVE_CUDA)
  set(CRNN_CUDA_NAMES ${CUDAToolkit_LIBRARY_DIR}/libcudart_static.a dl rt stdc++)
endif()
list(TRANSFORM CRNN_CUDA_NAMES PREPEND "-l" REGEX "^[^/]" OUTPUT_VARIABLE CRNN_CUDA_FLAGS)
string(REPLACE ";" " " CRNN_CUDA_FLAGS "${CRNN_CUDA_FLAGS}")

set(CRNN_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/crnn)
configure_package_config_file(cmake/crnnConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/crnnConfig.cmake
  INSTALL_DESTINATION ${CRNN_CMAKE_DIR} PATH_VARS CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/crnnConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/crnnConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/crnnConfigVersion.cmake
  DESTINATION ${CRNN_CMAKE_DIR})

# The prefix is found from where crnn.pc lies, so that a moved tree and `cmake --install --prefix` work.
file(RELATIVE_PATH CRNN_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" CRNN_PC_TO_PREFIX "${CRNN_PC_TO_PREFIX}")
configure_file(cmake/crnn.pc.in ${CMAKE_CURRENT_BINARY_DIR}/crnn.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/crnn.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
