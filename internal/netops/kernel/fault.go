package kernel

import (
	"context"
)

// A Fault is told each operation, as its command, "before" it is sent and
// "after" it was answered. The error that it returns before stands for the
// kernel's refusal: the operation is not sent. Tests use it to make every
// operation fail, or the process end, at every point.
type Fault func(ctx context.Context, at, command string) error

type faultKey struct{}

// WithFault makes every operation under ctx pass f.
func WithFault(ctx context.Context, f Fault) context.Context {
	return context.WithValue(ctx, faultKey{}, f)
}

// faultOfProcess is for every operation of a process that has faults. No plugin as
// it is released has any: see fault_process.go.
var faultOfProcess Fault

func faultOf(ctx context.Context) Fault {
	if f, ok := ctx.Value(faultKey{}).(Fault); ok {
		return f
	}
	return faultOfProcess
}
