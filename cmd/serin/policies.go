package main

import (
	"errors"
	"fmt"
	"os"

	"serin.dev/serin/analysis"
	"serin.dev/serin/analysis/policyfile"
)

// policies reads the policies of all tenants, and reports all faults of all
// files together.
func (c *config) policies() (analysis.Policies, error) {
	all := analysis.Policies{}
	var faults []error
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
		}
	}
	return all, errors.Join(faults...)
}
