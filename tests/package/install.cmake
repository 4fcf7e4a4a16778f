# Installs the tree in ${build} under ${prefix}, from nothing.
file(REMOVE_RECURSE ${prefix} ${moved})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${build} --prefix ${prefix} COMMAND_ERROR_IS_FATAL ANY)
