//go:build !linux

package plugin

// kernelCode is for what only Linux says.
func kernelCode(error) uint { return 0 }
