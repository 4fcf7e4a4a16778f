# A test of counterflow_add_bubble_test() with a generator: `counterflow ${generate} | counterflow ${verify}`.
execute_process(COMMAND ${command} ${generate} COMMAND ${command} ${verify} RESULTS_VARIABLE results)
if(NOT results STREQUAL "0;0")
  list(JOIN generate " " generate)
  list(JOIN verify " " verify)
  message(FATAL_ERROR "exit status ${results} of\n  counterflow ${generate} | counterflow ${verify}")
endif()
