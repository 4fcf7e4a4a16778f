# The versions of libtorch that the runtime is built with.
#
# The autograd graph that the runtime takes apart is libtorch's own business, which changes from version to version:
# only those that the tests have run with are taken.
set(COUNTERFLOW_LIBTORCH_VERSIONS 2.11...<2.12)
