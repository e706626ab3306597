// Package policyfile reads policies and rollouts from YAML, in the structure
// that the API has as JSON, and says of each fault in which line it is.
package policyfile

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"go.yaml.in/yaml/v3"

	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/yamlfile"
)

// The kinds of files, as the field kind at their head names them.
const (
	KindPolicy  = "policy"
	KindRollout = "rollout"
)

// Faults is all that is wrong with a file, in the order of its lines.
type Faults = yamlfile.Faults

// Kind returns the kind that a file's head names; none, where it names none, as
// configurations do. An error says what keeps the file from being read at all.
func Kind(data []byte) (string, error) {
	root, err := parse(data)
	if errors.Is(err, io.EOF) {
		return "", nil // an empty file
	}
	if err != nil {
		return "", err
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "kind" {
			return root.Content[i+1].Value, nil
		}
	}
	return "", nil
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
	roots, err := yamlfile.Documents(data)
	switch {
	case err != nil:
		return nil, err
	case len(roots) == 0:
		return nil, io.EOF
	case len(roots) > 1:
		return nil, fmt.Errorf("line %d: a second document: want one", roots[1].Line)
	}
	return roots[0], nil
}

// read decodes a file of one kind into v, and adds to the faults of its form
// those that check finds in its meaning, but for fields that have one already.
func read(name string, data []byte, kind string, v any, check func() error) error {
	root, err := parse(data)
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	var r yamlfile.Reader
	if !r.Document(root, kind, v) {
		return &Faults{File: name, Faults: r.Faults}
	}
	form := r.Faults
	if err := check(); err != nil {
		var invalid *canary.Invalid
		if !errors.As(err, &invalid) {
			return fmt.Errorf("check %s: %w", name, err)
		}
		for _, f := range invalid.Faults {
			if !yamlfile.Faulted(form, f.Field) {
				r.Faults = append(r.Faults, yamlfile.Fault{Line: r.Line(f.Field), Field: f.Field, Value: f.Value, Want: f.Want})
			}
		}
	}
	if len(r.Faults) == 0 {
		return nil
	}
	slices.SortStableFunc(r.Faults, func(a, b yamlfile.Fault) int { return a.Line - b.Line })
	return &Faults{File: name, Faults: r.Faults}
}
