package analysis

import (
	"cmp"
	"slices"
	"time"
)

// liveFor is how long after its last step a rollout counts as under way. There
// is no word for its end, and what it put out is in use, or gone, by then.
const liveFor = 30 * 24 * time.Hour

// Live is what a rollout that is under way names.
type Live struct {
	Tenant           string
	App              string
	Change           string
	Canary, Baseline string
}

// Live returns the rollouts of all tenants that are under way: those that were
// not rolled back and went a step within the last 30 days. The edge keeps what
// they name, however short of room it is.
func (e *Engine) Live() []Live {
	e.mu.Lock()
	defer e.mu.Unlock()
	since := e.o.Now().Add(-liveFor).UnixMilli()
	var all []Live
	for k, t := range e.fold.Tests {
		if r := &t.Rollout; !t.Latched && t.Staged >= since {
			all = append(all, Live{k.Tenant, r.App, r.Change, r.Canary, r.Baseline})
		}
	}
	slices.SortFunc(all, func(a, b Live) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.App, b.App), cmp.Compare(a.Change, b.Change), cmp.Compare(a.Canary, b.Canary), cmp.Compare(a.Baseline, b.Baseline))
	})
	return all
}
