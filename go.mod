module github.com/cni-netops/plugins

go 1.26.0

require (
	github.com/containernetworking/cni v1.3.1
	github.com/google/go-cmp v0.7.0
	golang.org/x/sys v0.49.0
	gopkg.in/natefinch/lumberjack.v2 v2.2.1
)

require (
	github.com/vishvananda/netns v0.0.4 // indirect
	golang.org/x/net v0.30.0 // indirect
	golang.org/x/tools v0.26.0 // indirect
)
