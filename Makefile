# What there is to do here. How it is done stands in scripts/.
# Variables go on the command line: make install CNI_BIN_DIR=/usr/lib/cni

.PHONY: build install demo test test-unit lint fuzz bench clean help

build: ## build the plugins into bin/ (GOARCH, VERSION)
	scripts/build_linux.sh

install: ## copy what is built to CNI_BIN_DIR, default /opt/cni/bin (DESTDIR)
	scripts/install.sh

demo: ## see the plugins work, in namespaces of their own
	scripts/demo.sh

test: ## lint, and every test: unit, kernel, binaries
	scripts/lint.sh
	scripts/test.sh

test-unit: ## the packages whose tests need no namespaces
	scripts/test.sh unit

lint: ## gofmt, go vet, golangci-lint, shellcheck
	scripts/lint.sh

fuzz: ## every fuzz test for FUZZTIME, default 20s
	scripts/fuzz.sh

bench: ## every benchmark, or those that match BENCH
	scripts/bench.sh

clean: ## remove what was built
	rm -rf bin dist

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
