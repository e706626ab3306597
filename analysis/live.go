package analysis

import (
	"cmp"
	"slices"
)

// Live is what a rollout that is under way names.
type Live struct {
	Tenant           string
	App              string
	Change           string
	Canary, Baseline string
}

// Live returns the rollouts of all tenants that are under way: those that have
// not ended and were not rolled back. The edge keeps what they name, however
// short of room it is.
func (e *Engine) Live() []Live {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []Live
	for k, t := range e.fold.Tests {
		if r := &t.Rollout; !t.Latched && !t.Shadow() {
			all = append(all, Live{k.Tenant, r.App, r.Change, r.Canary, r.Baseline})
		}
	}
	slices.SortFunc(all, func(a, b Live) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.App, b.App), cmp.Compare(a.Change, b.Change), cmp.Compare(a.Canary, b.Canary), cmp.Compare(a.Baseline, b.Baseline))
	})
	return all
}
