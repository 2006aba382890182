package main

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/cni-netops/plugins/internal/attach"
	"github.com/cni-netops/plugins/internal/cni"
	"github.com/cni-netops/plugins/plugins/meta/host-routes/internal/jqexpr"
)

// Error codes of expressions.
const (
	codeFailed  uint = 103
	codeTimeout uint = 104
)

// Prepare evaluates the expression.
func (c config) Prepare(ctx context.Context, _ attach.PrepareInput) (attach.Planner, error) {
	if c.expression == nil && c.failure == nil {
		c.compile()
	}
	if c.failure != nil {
		return nil, c.failed(c.failure)
	}
	value, err := c.expression.Evaluate(ctx, c.input, c.request)
	if err != nil {
		return nil, c.failed(err)
	}
	err = c.take(value)
	return c, err
}

// Probe reports whether the expression could be compiled at all.
func (c config) Probe(context.Context) error { return c.failure }

func (c *config) compile() {
	c.expression, c.failure = jqexpr.Compile(c.source, protocolVariables(os.Environ(), c.request.Command))
}

// protocolVariables are those of an environment that the CNI protocol gives a
// plugin, for a command: "plan" shows what ADD would do.
func protocolVariables(environ []string, command string) []string {
	const verb = "CNI_COMMAND="
	variables := []string{verb + command}
	for _, variable := range environ {
		if strings.HasPrefix(variable, "CNI_") && !strings.HasPrefix(variable, verb) {
			variables = append(variables, variable)
		}
	}
	return variables
}

// failed is why there is no value, with the expression.
func (c config) failed(err error) error {
	switch {
	case errors.As(err, new(*jqexpr.CompileError)):
		return cni.Errorf(types.ErrInvalidNetworkConfig, "%s: %w", routing, err)
	case errors.Is(err, jqexpr.ErrFailed) && c.first:
		return cni.Errorf(codeFailed, "%s: %w (there is no prevResult: no plugin stands before this one)\n%s", routing, err, c.source)
	case errors.Is(err, jqexpr.ErrFailed):
		return cni.Errorf(codeFailed, "%s: %w\n%s", routing, err, c.source)
	case errors.Is(err, jqexpr.ErrTimeout):
		return cni.Errorf(codeTimeout, "%s: %w\n%s", routing, err, c.source)
	}
	return err
}
