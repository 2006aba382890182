# shellcheck shell=bash
# Sourced by what runs tests: go_test is go test for these.

export CGO_ENABLED=0 # as plugins are released

# What passed before says nothing about the kernel of today. Tests wait for
# processes and for the kernel now and then: one package more than there are
# processors keeps these busy, and two more cost more than they bring. With -trimpath
# packages are not compiled anew that the plugins were built from; go vet is
# scripts/lint.sh's.
go_test() { go test -count=1 -timeout 40m -trimpath -vet=off -p "$(($(nproc) + 1))" "$@"; }
