package canary

import (
	"errors"
	"fmt"
	"strings"
)

// ErrInvalid says that a rollout or policy as given cannot be. It is always an
// [Invalid], which names each field, its value and what is allowed.
var ErrInvalid = errors.New("invalid")

// Fault is one thing that is wrong with a rollout or policy.
type Fault struct {
	Field string // its path, such as policy.guardrails.lcp_good.margin or stages[1].weight
	Value string // as given
	Want  string // what is allowed
}

// String returns the fault on one line.
func (f Fault) String() string { return f.Field + ": " + f.Value + ": want " + f.Want }

// Invalid is all that is wrong with a rollout or policy.
type Invalid struct{ Faults []Fault }

// Error returns all faults, one a line.
func (e *Invalid) Error() string {
	var b strings.Builder
	b.WriteString(ErrInvalid.Error() + ":")
	for i, f := range e.Faults {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(" " + f.String())
	}
	return b.String()
}

// Is makes every Invalid an [ErrInvalid].
func (e *Invalid) Is(target error) bool { return target == ErrInvalid }

// checker gathers faults.
type checker struct{ faults []Fault }

// want notes a fault. Texts are quoted.
func (c *checker) want(field string, value any, format string, a ...any) {
	text := fmt.Sprint(value)
	if s, ok := value.(string); ok {
		text = fmt.Sprintf("%q", s)
	}
	c.faults = append(c.faults, Fault{field, text, fmt.Sprintf(format, a...)})
}

func (c *checker) err() error {
	if len(c.faults) == 0 {
		return nil
	}
	return &Invalid{c.faults}
}
