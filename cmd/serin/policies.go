package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/canary"
	"serin.dev/serin/analysis/policyfile"
)

// policies reads the policies of all tenants, and reports all faults of all
// files together.
func (c *config) policies() (analysis.Policies, error) {
	all := analysis.Policies{}
	var faults []error
	named := map[string][]namedBy{}
	for i, t := range c.Tenants {
		for j, name := range t.Policies {
			where := fmt.Sprintf("tenants[%d].policies[%d]", i, j)
			data, err := os.ReadFile(name)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", where, err))
				continue
			}
			p, err := policyfile.Policy(name, data)
			if err != nil {
				faults = append(faults, err)
				continue
			}
			if _, ok := all.Of(t.ID, p.Name); ok {
				faults = append(faults, fmt.Errorf("%s: %q: want each name once; %s has one that was named before", where, p.Name, name))
				continue
			}
			all.Put(t.ID, p)
			named[t.ID] = append(named[t.ID], namedBy{name, p})
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return all, c.checkObjectives(named)
}

// namedBy is a policy and the file that it is in.
type namedBy struct {
	file   string
	policy canary.Policy
}

// checkObjectives reports the policies that name objectives which their tenant has
// not. Objectives with faults of their own are not looked at: those are told where
// they are read.
func (c *config) checkObjectives(named map[string][]namedBy) error {
	if !slices.ContainsFunc(slices.Concat(slices.Collect(maps.Values(named))...), func(n namedBy) bool { return len(n.policy.SLOs) > 0 || n.policy.Budget != nil }) {
		return nil
	}
	objectives, _, err := c.objectives()
	if err != nil {
		return nil
	}
	var faults []error
	for _, t := range c.Tenants {
		var names []string
		for _, o := range objectives[t.ID] {
			names = append(names, o.Name)
		}
		for _, n := range named[t.ID] {
			asked := map[string]string{}
			for i, name := range n.policy.SLOs {
				asked[fmt.Sprintf("slos[%d]", i)] = name
			}
			if n.policy.Budget != nil {
				asked["budget.slo"] = n.policy.Budget.SLO
			}
			for _, field := range slices.Sorted(maps.Keys(asked)) {
				if !slices.Contains(names, asked[field]) {
					faults = append(faults, fmt.Errorf("%s: %s: %q: want one of the objectives of %s, %q", n.file, field, asked[field], t.ID, names))
				}
			}
		}
	}
	return errors.Join(faults...)
}
