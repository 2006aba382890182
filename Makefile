# What there is to do here. How it is done stands in scripts/.
# Variables go on the command line: make install CNI_BIN_DIR=/usr/lib/cni

.PHONY: build build-all install demo test sweeps check cover test-unit e2e e2e-kubernetes stress lint fuzz bench image release reproducible clean help

build: ## build the plugins into bin/ (GOARCH, VERSION)
	scripts/build_linux.sh

build-all: ## build for every processor into bin/linux-*/, and flannel for Windows (ARCHES, VERSION)
	scripts/build_all.sh

install: ## copy what is built to CNI_BIN_DIR, default /opt/cni/bin (DESTDIR)
	scripts/install.sh

demo: ## see the plugins work, in namespaces of their own
	scripts/demo.sh

test: ## unit, kernel and binary tests, and a sample of each sweep: some minutes
	scripts/test.sh

sweeps: ## what make test has a sample of, whole; manifests, releases, the image (SKIP)
	scripts/sweeps.sh

check: lint test sweeps ## these three: before a pull request

cover: ## what of the code make test runs, processes that tests start included
	scripts/cover.sh

test-unit: ## the packages whose tests need no namespaces
	scripts/test.sh unit

e2e: ## have podman, containerd and cnitool call the plugins, as root (CONTAINERD)
	scripts/e2e.sh

e2e-kubernetes: ## put up a Kubernetes node and have it call the plugins, as root (OLD, MULTUS, CONTAINERD)
	scripts/e2e_kubernetes.sh

stress: ## a hundred attachments come and go, with faults, for DURATION, default 30m
	scripts/stress.sh

lint: ## gofmt, go vet, golangci-lint, shellcheck
	scripts/lint.sh

fuzz: ## every fuzz test for FUZZTIME, default 20s
	scripts/fuzz.sh

bench: ## every benchmark, or those that match BENCH
	scripts/bench.sh

image: ## build the installer's image without a daemon (IMAGE, VERSION, ARCHES)
	scripts/image.sh

release: ## make the archives of VERSION in dist/, with checksums and SBOMs (ARCHES)
	scripts/release.sh

reproducible: ## make the release of the last commit twice, and compare
	scripts/reproducible.sh

clean: ## remove what was built
	rm -rf bin dist

help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16
