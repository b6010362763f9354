# What the tests of tests/trust share: two libraries that are preloaded into the program under test, built without sanitizers whatever the
# program is built with, and the trials.
foreach(name calls memory)
  add_library(crnn-trust-${name} MODULE trust/${name}.c)
  set_target_properties(crnn-trust-${name} PROPERTIES C_VISIBILITY_PRESET hidden)
  target_include_directories(crnn-trust-${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_compile_definitions(crnn-trust-${name} PRIVATE _GNU_SOURCE)
  target_compile_options(crnn-trust-${name} PRIVATE -O2 -Wall -Wextra -Wshadow -Wconversion $<$<BOOL:${CRNN_WERROR}>:-Werror>)
  target_link_libraries(crnn-trust-${name} PRIVATE ${CMAKE_DL_LIBS})
endforeach()
foreach(source ${CRNN_TEST_SOURCES})
  if(NOT source MATCHES "/trust/test_([a-z_]+)\\.c$")
    continue()
  endif()
  set(name ${CMAKE_MATCH_1})
  target_sources(test-trust-${name} PRIVATE trust/trust.c)
  add_dependencies(test-trust-${name} crnn-trust-calls crnn-trust-memory)
  set_property(TEST trust-${name} APPEND PROPERTY ENVIRONMENT
    "CRNN_TRUST_CALLS=$<TARGET_FILE:crnn-trust-calls>" "CRNN_TRUST_MEMORY=$<TARGET_FILE:crnn-trust-memory>")
  set_tests_properties(trust-${name} PROPERTIES LABELS trust)
endforeach()
target_sources(test-trust-crash PRIVATE trust/crash.c)
# So that the test can put its own ops between the model and the device.
target_link_options(test-trust-losses PRIVATE -Wl,--wrap=crnn_backend_open)
