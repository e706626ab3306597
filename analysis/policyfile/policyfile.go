// Package policyfile reads policies and rollouts from YAML, in the structure
// that the API has as JSON, and says of each fault in which line it is.
package policyfile

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/analysis/canary"
)

// The kinds of files, as the field kind at their head names them.
const (
	KindPolicy  = "policy"
	KindRollout = "rollout"
)

// MaxBytes is the largest file that is read.
const MaxBytes = 1 << 20

// Fault is one thing that is wrong, and where.
type Fault struct {
	Line int // from 1
	canary.Fault
}

// Faults is all that is wrong with a file, in the order of its lines.
type Faults struct {
	File   string
	Faults []Fault
}

// Error returns one fault a line, each as FILE:LINE: FIELD: VALUE: want what is
// allowed.
func (e *Faults) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = fmt.Sprintf("%s:%d: %s", e.File, f.Line, f.Fault.String())
	}
	return strings.Join(lines, "\n")
}

// Kind returns the kind that a file's head names, and whether it names one at
// all: configurations have none. What is no YAML has none either.
func Kind(data []byte) (kind string, ok bool) {
	root, err := parse(data)
	if err != nil {
		return "", false
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "kind" {
			return root.Content[i+1].Value, true
		}
	}
	return "", false
}

// Policy reads a policy, with defaults filled in. An error for faults in the
// file is a [*Faults], which has all of them; name is the file's, for the
// faults' sake.
func Policy(name string, data []byte) (canary.Policy, error) {
	var p canary.Policy
	err := read(name, data, KindPolicy, &p, p.Normalize)
	return p, err
}

// Rollout reads a rollout as [Policy] reads a policy. Where it names a policy
// of the server's, what that one says is not known here: stages may be left
// out, and what is left out has the defaults filled in.
func Rollout(name string, data []byte) (canary.Rollout, error) {
	var r canary.Rollout
	err := read(name, data, KindRollout, &r, func() error {
		err := r.Normalize()
		var invalid *canary.Invalid
		if r.Policy.Name == "" || r.Stages != nil || !errors.As(err, &invalid) {
			return err
		}
		invalid.Faults = slices.DeleteFunc(invalid.Faults, func(f canary.Fault) bool { return f.Field == "stages" })
		if len(invalid.Faults) == 0 {
			return nil
		}
		return invalid
	})
	return r, err
}

// RolloutAsWritten reads a rollout as [Rollout] does, and returns it as it is
// written, without the defaults: what it leaves out is for its policy to say.
func RolloutAsWritten(name string, data []byte) (canary.Rollout, error) {
	if _, err := Rollout(name, data); err != nil {
		return canary.Rollout{}, err
	}
	var r canary.Rollout
	err := read(name, data, KindRollout, &r, func() error { return nil })
	return r, err
}

func parse(data []byte) (*yaml.Node, error) {
	if len(data) > MaxBytes {
		return nil, fmt.Errorf("%d bytes: want at most %d", len(data), MaxBytes)
	}
	dec := yaml.NewDecoder(strings.NewReader(string(data)))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		return nil, err
	}
	var more yaml.Node
	if err := dec.Decode(&more); err == nil {
		return nil, fmt.Errorf("line %d: a second document: want one", more.Line)
	}
	return doc.Content[0], nil
}

// read decodes a file of one kind into v, and adds to the faults of its form
// those that check finds in its meaning, but for fields that have one already.
func read(name string, data []byte, kind string, v any, check func() error) error {
	root, err := parse(data)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	r := reader{lines: map[string]int{"": root.Line}}
	if !r.document(root, kind, v) {
		return &Faults{name, r.faults}
	}
	form := r.faults
	if err := check(); err != nil {
		var invalid *canary.Invalid
		if !errors.As(err, &invalid) {
			return fmt.Errorf("check %s: %w", name, err)
		}
		for _, f := range invalid.Faults {
			if !faulted(form, f.Field) {
				r.faults = append(r.faults, Fault{r.line(f.Field), f})
			}
		}
	}
	if len(r.faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int { return a.Line - b.Line })
	return &Faults{name, r.faults}
}

// line returns the line of a field, or of the nearest one above it that is
// there: a field that is absent has none of its own.
func (r *reader) line(field string) int {
	for {
		if l, ok := r.lines[field]; ok {
			return l
		}
		i := strings.LastIndexAny(field, ".[")
		if i < 0 {
			return r.lines[""]
		}
		field = field[:i]
	}
}

// faulted reports whether a field, or one above it, is among the faults.
func faulted(faults []Fault, field string) bool {
	return slices.ContainsFunc(faults, func(f Fault) bool {
		rest, ok := strings.CutPrefix(field, f.Field)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}
