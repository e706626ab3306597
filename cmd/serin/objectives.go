package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/openslo"
	"serin.dev/serin/analysis/slo"
	"serin.dev/serin/analysis/verdict"
	"serin.dev/serin/internal/tenant"
)

// objectives reads the OpenSLO files of all tenants, and reports all faults of all
// of them together. Notes are what is valid and likely not meant.
func (c *config) objectives() (analysis.Objectives, []openslo.Note, error) {
	all := analysis.Objectives{}
	var faults []error
	var notes []openslo.Note
	for i, t := range c.Tenants {
		if len(t.Objectives) == 0 {
			continue
		}
		of, told, err := readObjectives(t.Objectives)
		if err != nil {
			faults = append(faults, fmt.Errorf("tenants[%d].objectives:\n%w", i, err))
			continue
		}
		all[t.ID], notes = of, append(notes, told...)
	}
	return all, notes, errors.Join(faults...)
}

// states gives the newest states of an analysis' objectives to alerting. While it
// catches up with the journal it gives none: what they say may be over.
type states struct {
	engine *analysis.Engine
	s      *server
}

// EvaluateSLOs implements [evaluator].
func (s states) EvaluateSLOs(_ context.Context, fn func(*verdict.SLOState)) error {
	if !s.engine.Ready() {
		return nil
	}
	for _, one := range s.engine.SLOs(tenant.ID{}, "") {
		fn(&one)
	}
	return nil
}

// Conditions implements [evaluator].
func (s states) Conditions() (all []verdict.Condition, complete bool) {
	if !s.engine.Ready() {
		return nil, false
	}
	return append(s.s.unacknowledged(s.engine), s.engine.Ineffective()...), true
}

// readObjectives reads files, and all YAML files of folders, which may refer to
// one another.
func readObjectives(paths []string) ([]slo.Objective, []openslo.Note, error) {
	var files []*openslo.File
	names, err := yamlFiles(paths)
	faults := []error{err}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		f, err := openslo.Parse(name, text)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		files = append(files, f)
	}
	if err := errors.Join(faults...); err != nil {
		return nil, nil, err
	}
	return openslo.Compile(files...)
}
