#[[
Adds a CTest test that verifies a schedule and holds it to limits.

  counterflow_add_bubble_test(
    NAME name
    SCHEDULE file | GENERATOR name RANKS P MICRO_BATCHES M [STAGES_PER_RANK V]
    [COST f=1,i=1,w=1,fb=3] [P2P time] [COST_FILE file]
    [MAX_BUBBLE_RATIO x] [MAX_BUBBLE time] [MAX_MAKESPAN time] [MAX_ACTIVATIONS n])

SCHEDULE is a file, relative to the current source folder; GENERATOR is a name that `counterflow list` shows.
The test fails where the schedule is wrong or over a limit, and prints what `counterflow verify` says.
]]
set(_counterflow_bubble_test_script ${CMAKE_CURRENT_LIST_DIR}/counterflow_run_bubble_test.cmake)

function(counterflow_add_bubble_test)
  set(size RANKS MICRO_BATCHES STAGES_PER_RANK)
  set(limits COST P2P COST_FILE MAX_BUBBLE_RATIO MAX_BUBBLE MAX_MAKESPAN MAX_ACTIVATIONS)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME;SCHEDULE;GENERATOR;${size};${limits}" "")

  if(arg_UNPARSED_ARGUMENTS OR arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "counterflow_add_bubble_test: unknown argument or keyword without a value: "
                        "${arg_UNPARSED_ARGUMENTS} ${arg_KEYWORDS_MISSING_VALUES}")
  endif()
  if(NOT DEFINED arg_NAME)
    message(FATAL_ERROR "counterflow_add_bubble_test: expected NAME")
  endif()
  if(DEFINED arg_SCHEDULE AND DEFINED arg_GENERATOR OR NOT DEFINED arg_SCHEDULE AND NOT DEFINED arg_GENERATOR)
    message(FATAL_ERROR "counterflow_add_bubble_test(${arg_NAME}): expected either SCHEDULE or GENERATOR")
  endif()
  if(DEFINED arg_GENERATOR AND NOT (DEFINED arg_RANKS AND DEFINED arg_MICRO_BATCHES))
    message(FATAL_ERROR "counterflow_add_bubble_test(${arg_NAME}): GENERATOR needs RANKS and MICRO_BATCHES")
  endif()
  if(DEFINED arg_SCHEDULE AND (DEFINED arg_RANKS OR DEFINED arg_MICRO_BATCHES OR DEFINED arg_STAGES_PER_RANK))
    message(FATAL_ERROR "counterflow_add_bubble_test(${arg_NAME}): a SCHEDULE has its own size")
  endif()
  if(NOT TARGET counterflow::command)
    message(FATAL_ERROR "counterflow_add_bubble_test(${arg_NAME}): the program counterflow was not installed")
  endif()

  set(verify verify)
  foreach(limit IN LISTS limits)
    if(DEFINED arg_${limit})
      string(TOLOWER ${limit} option)
      string(REPLACE _ - option ${option})
      if(limit STREQUAL COST_FILE)
        cmake_path(ABSOLUTE_PATH arg_COST_FILE)
      endif()
      list(APPEND verify --${option} ${arg_${limit}})
    endif()
  endforeach()

  if(DEFINED arg_SCHEDULE)
    cmake_path(ABSOLUTE_PATH arg_SCHEDULE)
    add_test(NAME ${arg_NAME} COMMAND counterflow::command ${verify} ${arg_SCHEDULE})
    return()
  endif()

  set(generate generate ${arg_GENERATOR})
  foreach(number IN LISTS size)
    if(DEFINED arg_${number})
      string(TOLOWER ${number} option)
      string(REPLACE _ - option ${option})
      list(APPEND generate --${option} ${arg_${number}})
    endif()
  endforeach()
  add_test(NAME ${arg_NAME}
           COMMAND ${CMAKE_COMMAND} -Dcommand=$<TARGET_FILE:counterflow::command> "-Dgenerate=${generate}"
                   "-Dverify=${verify};-" -P ${_counterflow_bubble_test_script})
endfunction()
