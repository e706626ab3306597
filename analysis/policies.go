package analysis

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"serin.dev/serin/analysis/canary"
)

// Policies are the policies that rollouts may name, by tenant and name.
type Policies map[string]map[string]canary.Policy

// Put adds a tenant's policy under its name.
func (p Policies) Put(tenant string, policy canary.Policy) {
	if p[tenant] == nil {
		p[tenant] = map[string]canary.Policy{}
	}
	p[tenant][policy.Name] = policy
}

// Of returns a tenant's policy of a name.
func (p Policies) Of(tenant, name string) (canary.Policy, bool) {
	policy, ok := p[tenant][name]
	return policy, ok
}

// resolve fills in what a rollout's policy leaves out from the one it names.
// What is recorded is the whole, so that a later change of the file moves no
// verdict. The error is a [canary.Invalid].
func (p Policies) resolve(tenant string, r *canary.Rollout) error {
	fault := func(field, value, want string) error {
		return &canary.Invalid{Faults: []canary.Fault{{Field: field, Value: value, Want: want}}}
	}
	if r.Policy.Name == "" {
		if r.Policy.Revision != 0 {
			return fault("policy.version", fmt.Sprint(r.Policy.Revision), "none without a name")
		}
		return nil
	}
	base, ok := p.Of(tenant, r.Policy.Name)
	if !ok {
		known := "a policy of the server's, which has none"
		if names := slices.Sorted(maps.Keys(p[tenant])); len(names) > 0 {
			known = "one of " + strings.Join(names, ", ")
		}
		return fault("policy.name", fmt.Sprintf("%q", r.Policy.Name), known)
	}
	if v := r.Policy.Revision; v != 0 && v != base.Revision {
		return fault("policy.version", fmt.Sprint(v), fmt.Sprintf("%d, which is what the server has of %s", base.Revision, base.Name))
	}
	r.Policy = r.Policy.Over(base)
	return nil
}
